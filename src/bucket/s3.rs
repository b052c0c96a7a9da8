//! Opening an S3 bucket.

use std::path::PathBuf;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::{BackoffConfig, Certificate, ClientOptions, RetryConfig};

use super::BucketError;
use super::config::Secret;
use super::protection::S3Access;

/// Retries of one request; together with [`RETRY_BUDGET`] this ends before a cut of the head gives up.
pub(super) const RETRIES_MAX: usize = 8;

/// The time that all attempts of one request may take.
pub(super) const RETRY_BUDGET: Duration = Duration::from_secs(60);

/// The checked settings of an S3 bucket.
#[derive(Debug, Clone)]
pub(super) struct S3Settings {
    pub(super) bucket: String,
    /// `host` or `host:port`; empty means Amazon's own for the region.
    pub(super) endpoint: String,
    pub(super) region: String,
    /// Empty means the environment's credentials.
    pub(super) access_key: String,
    pub(super) secret_key: Secret,
    pub(super) session_token: Secret,
    pub(super) insecure: bool,
    pub(super) skip_verify: bool,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) idle_timeout_ms: Option<i64>,
    pub(super) idle_connections_max: Option<usize>,
    pub(super) part_bytes: Option<u64>,
    pub(super) retries_max: Option<usize>,
    pub(super) lookup: Lookup,
    pub(super) encryption: ServerSideEncryption,
    /// Whether each request carries a checksum of its body, which a bucket with a default lock demands.
    pub(super) checksums: bool,
}

/// Where the bucket's name stands in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lookup {
    Auto,
    VirtualHosted,
    Path,
}

/// How the store encrypts what it keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ServerSideEncryption {
    StoreDefault,
    S3,
    Kms(String),
}

/// Opens the bucket: the store, and what reaches its locks and versions. Nothing is sent yet.
pub(super) fn open(settings: &S3Settings, prefix: &str) -> Result<(AmazonS3, S3Access), BucketError> {
    let builder = builder(settings)?;
    let region = builder.get_config_value(&AmazonS3ConfigKey::Region);
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
    let store = builder.build().map_err(|e| BucketError::Config { reason: e.to_string() })?;
    let s3 = S3Access::new(settings, prefix, region, endpoint, &store);
    Ok((store, s3))
}

fn builder(settings: &S3Settings) -> Result<AmazonS3Builder, BucketError> {
    let refused = |e: object_store::Error| BucketError::Config { reason: e.to_string() };
    let own_credentials = !settings.access_key.is_empty();
    // Credentials of the configuration and of the environment never mix.
    let mut builder = if own_credentials {
        let builder = AmazonS3Builder::new()
            .with_access_key_id(&settings.access_key)
            .with_secret_access_key(&settings.secret_key.0);
        if settings.session_token.0.is_empty() {
            builder
        } else {
            builder.with_token(&settings.session_token.0)
        }
    } else {
        AmazonS3Builder::from_env()
    };
    let virtual_hosted = settings.is_virtual_hosted();
    if let Some(url) = settings.endpoint_url(virtual_hosted) {
        builder = builder.with_endpoint(url);
    }
    if let Some(region) = settings.region() {
        builder = builder.with_region(region);
    }
    builder = match &settings.encryption {
        ServerSideEncryption::StoreDefault => builder,
        ServerSideEncryption::S3 => match "aws_server_side_encryption".parse::<AmazonS3ConfigKey>() {
            Ok(key) => builder.with_config(key, "AES256"),
            Err(e) => return Err(refused(e)),
        },
        ServerSideEncryption::Kms(key_id) => builder.with_sse_kms_encryption(key_id),
    };
    if settings.checksums {
        builder = builder.with_checksum_algorithm(Checksum::SHA256);
    }
    Ok(builder
        .with_bucket_name(&settings.bucket)
        .with_virtual_hosted_style_request(virtual_hosted)
        .with_allow_http(settings.insecure)
        .with_client_options(client_options(settings)?)
        .with_retry(retry_config(settings)))
}

impl S3Settings {
    /// Amazon's endpoints take the bucket as host name, all others in the path, unless told otherwise. A name with
    /// dots has no certificate as a host name.
    pub(super) fn is_virtual_hosted(&self) -> bool {
        match self.lookup {
            Lookup::VirtualHosted => true,
            Lookup::Path => false,
            Lookup::Auto => {
                let amazon = self.endpoint.is_empty() || self.endpoint.ends_with(".amazonaws.com");
                amazon && !self.bucket.contains('.')
            }
        }
    }

    pub(super) fn endpoint_url(&self, virtual_hosted: bool) -> Option<String> {
        if self.endpoint.is_empty() {
            return None;
        }
        let scheme = if self.insecure { "http" } else { "https" };
        let host = if virtual_hosted { format!("{}.", self.bucket) } else { String::new() };
        Some(format!("{scheme}://{host}{}", self.endpoint))
    }

    /// The region as configured, or as Amazon's endpoint names it.
    fn region(&self) -> Option<String> {
        if !self.region.is_empty() {
            return Some(self.region.clone());
        }
        let host = self.endpoint.strip_suffix(".amazonaws.com")?;
        let region = host.strip_prefix("s3.dualstack.").or_else(|| host.strip_prefix("s3."))?;
        Some(region.to_owned())
    }
}

fn client_options(settings: &S3Settings) -> Result<ClientOptions, BucketError> {
    let mut options = ClientOptions::new()
        .with_allow_http(settings.insecure)
        .with_allow_invalid_certificates(settings.skip_verify);
    if let Some(ms) = settings.idle_timeout_ms {
        options = options.with_pool_idle_timeout(Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
    }
    if let Some(max) = settings.idle_connections_max {
        options = options.with_pool_max_idle_per_host(max);
    }
    if let Some(file) = &settings.ca_file {
        let refused = |reason: String| BucketError::Config {
            reason: format!("config.http_config.tls_config.ca_file {}: {reason}", file.display()),
        };
        let pem = std::fs::read(file).map_err(|e| refused(e.to_string()))?;
        for certificate in Certificate::from_pem_bundle(&pem).map_err(|e| refused(e.to_string()))? {
            options = options.with_root_certificate(certificate);
        }
    }
    Ok(options)
}

fn retry_config(settings: &S3Settings) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: settings.retries_max.unwrap_or(RETRIES_MAX),
        retry_timeout: RETRY_BUDGET,
    }
}
