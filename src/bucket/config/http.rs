//! The keys about connections that all stores share: Thanos' `http_config`.

use std::path::PathBuf;
use std::time::Duration;

use object_store::{BackoffConfig, Certificate, ClientOptions, RetryConfig};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::super::BucketError;
use super::super::attempts::{ANSWER_WITHIN, BUDGET, Patience, RETRIES_MAX};
use super::refused;

/// Keys of type `IgnoredAny` are accepted because nothing depends on them here.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct HttpYaml {
    idle_conn_timeout: Option<String>,
    response_header_timeout: Option<String>,
    insecure_skip_verify: bool,
    tls_handshake_timeout: Option<String>,
    max_idle_conns: Option<usize>,
    max_idle_conns_per_host: Option<usize>,
    tls_config: TlsYaml,
    #[serde(rename = "expect_continue_timeout")]
    _expect_continue_timeout: IgnoredAny,
    #[serde(rename = "max_conns_per_host")]
    _max_conns_per_host: IgnoredAny,
    #[serde(rename = "disable_compression")]
    _disable_compression: IgnoredAny,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TlsYaml {
    ca_file: Option<PathBuf>,
    cert_file: String,
    key_file: String,
    server_name: String,
    insecure_skip_verify: bool,
}

/// How the store is connected to.
#[derive(Debug, Clone, Default)]
pub(in crate::bucket) struct HttpSettings {
    pub(in crate::bucket) skip_verify: bool,
    pub(in crate::bucket) ca_file: Option<PathBuf>,
    idle_timeout: Option<Duration>,
    connect_timeout: Option<Duration>,
    answer_within: Option<Duration>,
    idle_connections_max: Option<usize>,
}

/// How often and how patiently requests are tried, where the configuration says so.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::bucket) struct RetrySettings {
    pub(in crate::bucket) retries_max: Option<u32>,
    pub(in crate::bucket) answer_within: Option<Duration>,
    pub(in crate::bucket) pause_first: Option<Duration>,
    pub(in crate::bucket) pause_max: Option<Duration>,
}

impl HttpYaml {
    pub(super) fn check(self) -> Result<HttpSettings, BucketError> {
        let tls = self.tls_config;
        let unsupported = [
            (!tls.cert_file.is_empty(), "cert_file"),
            (!tls.key_file.is_empty(), "key_file"),
            (!tls.server_name.is_empty(), "server_name"),
        ];
        if let Some((_, key)) = unsupported.iter().find(|(used, _)| *used) {
            return Err(refused(format!(
                "config.http_config.tls_config.{key} is not supported: leave it out; a proxy beside this process \
                 can speak TLS as the store wants it"
            )));
        }
        let duration = |text: Option<String>, key: &str| read_duration(text, &format!("http_config.{key}"));
        Ok(HttpSettings {
            skip_verify: self.insecure_skip_verify || tls.insecure_skip_verify,
            ca_file: tls.ca_file.filter(|file| !file.as_os_str().is_empty()),
            idle_timeout: duration(self.idle_conn_timeout, "idle_conn_timeout")?,
            connect_timeout: duration(self.tls_handshake_timeout, "tls_handshake_timeout")?,
            answer_within: duration(self.response_header_timeout, "response_header_timeout")?,
            idle_connections_max: self.max_idle_conns_per_host.or(self.max_idle_conns).filter(|max| *max > 0),
        })
    }
}

impl HttpSettings {
    /// Returns how long an answer may take.
    pub(in crate::bucket) fn answer_within(&self, retries: &RetrySettings) -> Duration {
        retries.answer_within.or(self.answer_within).unwrap_or(ANSWER_WITHIN)
    }

    /// Returns the options of the client. It bounds connecting only: the bucket's own attempts bound the rest.
    pub(in crate::bucket) fn client_options(&self, plain_http: bool) -> Result<ClientOptions, BucketError> {
        let mut options = ClientOptions::new()
            .with_timeout_disabled()
            .with_allow_http(plain_http)
            .with_allow_invalid_certificates(self.skip_verify);
        if let Some(timeout) = self.connect_timeout {
            options = options.with_connect_timeout(timeout);
        }
        if let Some(timeout) = self.idle_timeout {
            options = options.with_pool_idle_timeout(timeout);
        }
        if let Some(max) = self.idle_connections_max {
            options = options.with_pool_max_idle_per_host(max);
        }
        if let Some(file) = &self.ca_file {
            let refused = |reason: String| {
                refused(format!("config.http_config.tls_config.ca_file {}: {reason}", file.display()))
            };
            let pem = std::fs::read(file).map_err(|e| refused(e.to_string()))?;
            for certificate in Certificate::from_pem_bundle(&pem).map_err(|e| refused(e.to_string()))? {
                options = options.with_root_certificate(certificate);
            }
        }
        Ok(options)
    }

    /// Returns how patient the bucket is with the store.
    pub(in crate::bucket) fn patience(&self, retries: &RetrySettings) -> Patience {
        let default = Patience::REMOTE;
        let attempts_max = retries.retries_max.map_or(default.attempts_max, |max| max.saturating_add(1));
        Patience {
            attempts_max,
            creates_max: attempts_max,
            answer_within: Some(self.answer_within(retries)),
            pause_first: retries.pause_first.unwrap_or(default.pause_first),
            pause_max: retries.pause_max.unwrap_or(default.pause_max),
            ..default
        }
    }
}

impl RetrySettings {
    /// Returns what the object store crate does by itself: only for uploads in parts.
    pub(in crate::bucket) fn of_uploads(&self) -> RetryConfig {
        let default = BackoffConfig::default();
        let backoff = BackoffConfig {
            init_backoff: self.pause_first.unwrap_or(default.init_backoff),
            max_backoff: self.pause_max.unwrap_or(default.max_backoff),
            ..default
        };
        let max_retries = usize::try_from(self.retries_max.unwrap_or(RETRIES_MAX)).unwrap_or(usize::MAX);
        RetryConfig { backoff, max_retries, retry_timeout: BUDGET }
    }
}

/// The object store crate tries nothing again by itself where the bucket's own attempts do.
pub(in crate::bucket) fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, retry_timeout: Duration::ZERO, ..RetryConfig::default() }
}

/// Reads a duration; none and 0 stand for the default.
pub(super) fn read_duration(text: Option<String>, key: &str) -> Result<Option<Duration>, BucketError> {
    let Some(text) = text else { return Ok(None) };
    let ms = crate::model::parse_duration_ms(&text).map_err(|e| refused(format!("config.{key}: {e}")))?;
    Ok(u64::try_from(ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis))
}
