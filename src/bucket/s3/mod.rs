//! Opening an S3 bucket.
//!
//! Owns the settings of S3, the two clients of the object store crate (one for single requests, which the bucket's own
//! attempts try again, and one for uploads in parts, which tries each part by itself), and where credentials come from:
//! the configuration, else the environment (keys, web identity, container), else the shared credentials file, else the
//! machine's role.

mod credentials;

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::{Attribute, Attributes};

use super::BucketError;
use super::config::{HttpSettings, RetrySettings, Secret, no_retries};
use super::instruments::Instruments;
use super::open::Remote;
use super::protection::S3Access;
use super::transport::Connector;

use credentials::SharedFile;

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
    pub(super) sts_endpoint: String,
    pub(super) insecure: bool,
    pub(super) http: HttpSettings,
    pub(super) retries: RetrySettings,
    pub(super) part_bytes: Option<u64>,
    /// Whether a file goes up as one put, whatever its size.
    pub(super) whole_puts_only: bool,
    pub(super) lookup: Lookup,
    pub(super) encryption: ServerSideEncryption,
    /// Whether each request carries a checksum of its body, which a bucket with a default lock demands.
    pub(super) checksums: bool,
    /// The class of every object; none leaves it to the store.
    pub(super) storage_class: Option<String>,
    /// What every object is stored with beside its bytes.
    pub(super) user_metadata: BTreeMap<String, String>,
    /// Whether each request is logged.
    pub(super) traced: bool,
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
    /// With a key that comes with each request, as base64.
    Customer(Secret),
}

/// Opens the bucket: the clients, and what reaches its locks and versions. Nothing is sent yet.
pub(super) fn open(
    settings: &S3Settings,
    prefix: &str,
    instruments: &Instruments,
) -> Result<(Remote, S3Access), BucketError> {
    let refused = |e: object_store::Error| BucketError::Config { reason: e.to_string() };
    let builder = builder(settings)?;
    let region = builder.get_config_value(&AmazonS3ConfigKey::Region);
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
    let connector = Connector {
        instruments: instruments.clone(),
        answer_within: settings.http.answer_within(&settings.retries),
        judged: true,
        traced: settings.traced,
    };
    let single = builder.clone().with_retry(no_retries()).with_http_connector(connector.clone());
    let store = single.build().map_err(refused)?;
    let in_parts = builder
        .with_credentials(Arc::clone(store.credentials()))
        .with_retry(settings.retries.of_uploads())
        .with_http_connector(Connector { judged: false, ..connector });
    let uploads = in_parts.build().map_err(refused)?;
    let s3 = S3Access::new(settings, prefix, region, endpoint, Arc::clone(store.credentials()));
    let remote = Remote {
        store: Arc::new(store),
        uploads: Arc::new(uploads),
        root: format!("s3://{}/", settings.bucket),
        part_bytes: settings.part_bytes,
        attributes: settings.attributes(),
        patience: settings.http.patience(&settings.retries),
    };
    Ok((remote, s3))
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
        let builder = match settings.sts_endpoint.as_str() {
            "" => AmazonS3Builder::from_env(),
            address => AmazonS3Builder::from_env().with_config(AmazonS3ConfigKey::StsEndpoint, address),
        };
        match SharedFile::of_environment()? {
            Some(file) => builder.with_credentials(Arc::new(file)),
            None => builder,
        }
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
        ServerSideEncryption::Customer(key) => builder.with_ssec_encryption(&key.0),
    };
    if settings.checksums {
        builder = builder.with_checksum_algorithm(Checksum::SHA256);
    }
    Ok(builder
        .with_bucket_name(&settings.bucket)
        .with_virtual_hosted_style_request(virtual_hosted)
        .with_allow_http(settings.insecure)
        .with_client_options(settings.http.client_options(settings.insecure)?))
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

    /// Returns what every object is stored with.
    fn attributes(&self) -> Attributes {
        let mut attributes = Attributes::new();
        for (key, value) in &self.user_metadata {
            attributes.insert(Attribute::Metadata(key.clone().into()), value.clone().into());
        }
        if let Some(class) = &self.storage_class {
            attributes.insert(Attribute::StorageClass, class.clone().into());
        }
        attributes
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
