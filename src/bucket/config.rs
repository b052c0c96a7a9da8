//! The bucket's configuration: Thanos' YAML with Thanos' keys.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_yaml_ng::Value;

use super::BucketError;
use super::s3::{Lookup, S3Settings, ServerSideEncryption};

/// Where the bucket is and how it is reached. Its debug form shows no secrets.
#[derive(Debug, Clone)]
pub struct BucketConfig {
    pub(super) backend: Backend,
    /// What stands before every key on S3, without slashes at its ends.
    pub(super) prefix: String,
}

#[derive(Debug, Clone)]
pub(super) enum Backend {
    Filesystem { directory: PathBuf },
    S3(Box<S3Settings>),
}

/// A text that debug output does not show.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct Secret(pub(super) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { "<secret>" })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    config: Value,
    #[serde(default)]
    prefix: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FilesystemYaml {
    directory: PathBuf,
}

/// Thanos' keys for S3. Keys of type `IgnoredAny` are accepted because nothing depends on them here.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct S3Yaml {
    bucket: String,
    endpoint: String,
    region: String,
    aws_sdk_auth: bool,
    access_key: String,
    secret_key: Secret,
    session_token: Secret,
    insecure: bool,
    signature_version2: bool,
    put_user_metadata: std::collections::BTreeMap<String, String>,
    http_config: HttpYaml,
    list_objects_version: String,
    bucket_lookup_type: String,
    disable_multipart: bool,
    part_size: Option<u64>,
    sse_config: SseYaml,
    sts_endpoint: String,
    max_retries: Option<usize>,
    #[serde(rename = "trace")]
    _trace: IgnoredAny,
    #[serde(rename = "disable_dualstack")]
    _disable_dualstack: IgnoredAny,
    send_content_md5: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HttpYaml {
    idle_conn_timeout: Option<String>,
    insecure_skip_verify: bool,
    max_idle_conns_per_host: Option<usize>,
    tls_config: TlsYaml,
    #[serde(rename = "response_header_timeout")]
    _response_header_timeout: IgnoredAny,
    #[serde(rename = "tls_handshake_timeout")]
    _tls_handshake_timeout: IgnoredAny,
    #[serde(rename = "expect_continue_timeout")]
    _expect_continue_timeout: IgnoredAny,
    #[serde(rename = "max_idle_conns")]
    _max_idle_conns: IgnoredAny,
    #[serde(rename = "max_conns_per_host")]
    _max_conns_per_host: IgnoredAny,
    #[serde(rename = "disable_compression")]
    _disable_compression: IgnoredAny,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TlsYaml {
    ca_file: Option<PathBuf>,
    cert_file: String,
    key_file: String,
    server_name: String,
    insecure_skip_verify: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SseYaml {
    #[serde(rename = "type")]
    kind: String,
    kms_key_id: String,
    kms_encryption_context: std::collections::BTreeMap<String, String>,
    encryption_key: String,
}

impl BucketConfig {
    /// Reads Thanos' object storage YAML. Types are FILESYSTEM and S3.
    ///
    /// # Errors
    /// Anything that is not understood, by its key and with what is allowed.
    pub fn from_yaml(text: &str) -> Result<Self, BucketError> {
        let document: Document = serde_yaml_ng::from_str(text).map_err(|e| refused(e.to_string()))?;
        let prefix = check_prefix(&document.prefix)?;
        let backend = match document.kind.to_ascii_uppercase().as_str() {
            "FILESYSTEM" => {
                let yaml: FilesystemYaml = read_section(document.config)?;
                if yaml.directory.as_os_str().is_empty() {
                    return Err(refused("config.directory is empty: name a folder"));
                }
                Backend::Filesystem { directory: yaml.directory.join(&prefix) }
            }
            "S3" => Backend::S3(Box::new(read_section::<S3Yaml>(document.config)?.check()?)),
            "GCS" | "AZURE" => {
                return Err(refused(format!(
                    "type {:?} is not supported yet: FILESYSTEM and S3 are allowed",
                    document.kind
                )));
            }
            _ => {
                return Err(refused(format!(
                    "type {:?} is unknown: FILESYSTEM and S3 are allowed",
                    document.kind
                )));
            }
        };
        Ok(Self { backend, prefix })
    }

    /// Returns the configuration of a bucket in a local folder.
    #[must_use]
    pub fn filesystem(directory: impl AsRef<Path>) -> Self {
        let directory = directory.as_ref().to_owned();
        Self { backend: Backend::Filesystem { directory }, prefix: String::new() }
    }
}

impl fmt::Display for BucketConfig {
    /// Says where the bucket is, without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.backend {
            Backend::Filesystem { directory } => write!(f, "FILESYSTEM {}", directory.display()),
            Backend::S3(settings) => {
                write!(f, "S3 {}", settings.bucket)?;
                if !self.prefix.is_empty() {
                    write!(f, "/{}", self.prefix)?;
                }
                if !settings.endpoint.is_empty() {
                    write!(f, " at {}", settings.endpoint)?;
                }
                Ok(())
            }
        }
    }
}

impl S3Yaml {
    fn check(self) -> Result<S3Settings, BucketError> {
        if self.bucket.is_empty() {
            return Err(refused("config.bucket is empty: name the S3 bucket"));
        }
        if self.endpoint.contains("://") || self.endpoint.contains('/') {
            return Err(refused(format!(
                "config.endpoint {:?} must be host or host:port without scheme and path; insecure: true selects http",
                self.endpoint
            )));
        }
        if self.access_key.is_empty() != self.secret_key.0.is_empty() {
            return Err(refused(
                "config.access_key and config.secret_key go together: give both, or neither to use the \
                 environment's credentials",
            ));
        }
        if self.aws_sdk_auth && !self.access_key.is_empty() {
            return Err(refused("config.aws_sdk_auth: true excludes access_key: leave one of them out"));
        }
        self.refuse_unsupported()?;
        let part_bytes = self.part_size.filter(|size| *size > 0);
        if part_bytes.is_some_and(|size| !(5 << 20..=1 << 30).contains(&size)) {
            return Err(refused("config.part_size must lie between 5242880 (5 MiB) and 1073741824 (1 GiB)"));
        }
        let idle_timeout_ms = match self.http_config.idle_conn_timeout.as_deref() {
            None => None,
            Some(text) => Some(
                crate::model::parse_duration_ms(text)
                    .map_err(|e| refused(format!("config.http_config.idle_conn_timeout: {e}")))?,
            ),
        };
        Ok(S3Settings {
            lookup: check_lookup(&self.bucket_lookup_type)?,
            encryption: self.sse_config.check()?,
            bucket: self.bucket,
            endpoint: self.endpoint,
            region: self.region,
            access_key: self.access_key,
            secret_key: self.secret_key,
            session_token: self.session_token,
            insecure: self.insecure,
            skip_verify: self.http_config.insecure_skip_verify
                || self.http_config.tls_config.insecure_skip_verify,
            ca_file: self.http_config.tls_config.ca_file.filter(|file| !file.as_os_str().is_empty()),
            idle_timeout_ms,
            idle_connections_max: self.http_config.max_idle_conns_per_host.filter(|max| *max > 0),
            part_bytes,
            // A SHA-256 does what the MD5 is for: some stores demand one, and a few refuse any.
            checksums: self.send_content_md5.unwrap_or(true),
            retries_max: self.max_retries.filter(|max| *max > 0),
        })
    }

    /// Refuses what Thanos knows and this does not do, where leaving it out would change what happens.
    fn refuse_unsupported(&self) -> Result<(), BucketError> {
        let tls = &self.http_config.tls_config;
        let unsupported = [
            (self.signature_version2, "signature_version2", "only version 4 signatures are made; set false"),
            (!self.put_user_metadata.is_empty(), "put_user_metadata", "leave it out"),
            (self.disable_multipart, "disable_multipart", "large blocks go in parts; set false"),
            (
                !self.sts_endpoint.is_empty(),
                "sts_endpoint",
                "set AWS_ENDPOINT_URL_STS in the environment instead",
            ),
            (!matches!(self.list_objects_version.as_str(), "" | "v2"), "list_objects_version", "use v2"),
            (!tls.cert_file.is_empty(), "http_config.tls_config.cert_file", "leave it out"),
            (!tls.key_file.is_empty(), "http_config.tls_config.key_file", "leave it out"),
            (!tls.server_name.is_empty(), "http_config.tls_config.server_name", "leave it out"),
        ];
        match unsupported.iter().find(|(used, ..)| *used) {
            None => Ok(()),
            Some((_, key, advice)) => Err(refused(format!("config.{key} is not supported: {advice}"))),
        }
    }
}

impl SseYaml {
    fn check(self) -> Result<ServerSideEncryption, BucketError> {
        if !self.encryption_key.is_empty() || !self.kms_encryption_context.is_empty() {
            return Err(refused(
                "config.sse_config.encryption_key and kms_encryption_context are not supported: use type SSE-S3 \
                 or SSE-KMS with kms_key_id",
            ));
        }
        match self.kind.as_str() {
            "" => Ok(ServerSideEncryption::StoreDefault),
            "SSE-S3" => Ok(ServerSideEncryption::S3),
            "SSE-KMS" if self.kms_key_id.is_empty() => {
                Err(refused("config.sse_config.kms_key_id is missing"))
            }
            "SSE-KMS" => Ok(ServerSideEncryption::Kms(self.kms_key_id)),
            other => Err(refused(format!(
                "config.sse_config.type {other:?} is refused: SSE-S3 and SSE-KMS are allowed"
            ))),
        }
    }
}

fn check_lookup(text: &str) -> Result<Lookup, BucketError> {
    match text {
        "" | "auto" => Ok(Lookup::Auto),
        "path" => Ok(Lookup::Path),
        "virtual-hosted" => Ok(Lookup::VirtualHosted),
        _ => Err(refused(format!(
            "config.bucket_lookup_type {text:?} is refused: auto, virtual-hosted and path are allowed"
        ))),
    }
}

fn check_prefix(text: &str) -> Result<String, BucketError> {
    let prefix = text.trim_matches('/');
    let allowed = |segment: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'=');
        !matches!(segment, "" | "." | "..") && segment.bytes().all(plain)
    };
    if prefix.is_empty() || prefix.split('/').all(allowed) {
        Ok(prefix.to_owned())
    } else {
        Err(refused(format!(
            "prefix {text:?} is refused: segments of A-Z a-z 0-9 _ . - = with one slash between are allowed"
        )))
    }
}

fn read_section<T: DeserializeOwned>(section: Value) -> Result<T, BucketError> {
    let section = if section.is_null() { Value::Mapping(serde_yaml_ng::Mapping::new()) } else { section };
    serde_yaml_ng::from_value(section).map_err(|e| refused(format!("config: {e}")))
}

fn refused(reason: impl Into<String>) -> BucketError {
    BucketError::Config { reason: reason.into() }
}
