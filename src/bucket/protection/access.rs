//! The client of Amazon's SDK, made of the same settings and credentials as the bucket.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, Config, Credentials, Region, SharedHttpClient};
use aws_smithy_http_client::{Builder as HttpBuilder, tls};
use object_store::aws::{AwsCredential, AwsCredentialProvider};

use super::super::attempts::{BUDGET, RETRIES_MAX};
use super::super::s3::{S3Settings, ServerSideEncryption};
use super::super::{BucketError, Operation};

const REGION_DEFAULT: &str = "us-east-1";

/// What reaches the bucket beyond the object store crate. Nothing is opened before the first use.
pub(in crate::bucket) struct S3Access {
    pub(super) settings: S3Settings,
    /// What stands before a key, with its slash.
    prefix: String,
    region: String,
    /// Where the environment names an endpoint and the configuration does not.
    endpoint_unknown: bool,
    credentials: AwsCredentialProvider,
    config: OnceLock<Config>,
    current: Mutex<Option<(Arc<AwsCredential>, Client)>>,
}

impl S3Access {
    pub(in crate::bucket) fn new(
        settings: &S3Settings,
        prefix: &str,
        region: Option<String>,
        endpoint: Option<String>,
        credentials: AwsCredentialProvider,
    ) -> Self {
        Self {
            settings: settings.clone(),
            prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            region: region.unwrap_or_else(|| REGION_DEFAULT.to_owned()),
            endpoint_unknown: settings.endpoint.is_empty() && endpoint.is_some(),
            credentials,
            config: OnceLock::new(),
            current: Mutex::new(None),
        }
    }

    /// Returns the storage class of what is stored.
    pub(in crate::bucket) fn storage_class(&self) -> Option<&str> {
        self.settings.storage_class.as_deref()
    }

    /// Returns whether the store is sent a key to encrypt with.
    pub(super) fn has_customer_key(&self) -> bool {
        matches!(self.settings.encryption, ServerSideEncryption::Customer(_))
    }

    /// Returns the key as the store knows it.
    pub(super) fn full_key(&self, key: &super::ObjectKey) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Returns a client with the credentials of now. Clients share their connections.
    pub(super) async fn client(&self) -> Result<Client, BucketError> {
        let credential = self
            .credentials
            .get_credential()
            .await
            .map_err(|e| BucketError::of(Operation::Protection, &self.settings.bucket, e))?;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, client)) = &*current
            && Arc::ptr_eq(of, &credential)
        {
            return Ok(client.clone());
        }
        let config = self.config()?.to_builder().credentials_provider(Credentials::new(
            &credential.key_id,
            &credential.secret_key,
            credential.token.clone(),
            None,
            "bucket",
        ));
        let client = Client::from_conf(config.build());
        *current = Some((credential, client.clone()));
        Ok(client)
    }

    fn config(&self) -> Result<Config, BucketError> {
        if let Some(config) = self.config.get() {
            return Ok(config.clone());
        }
        let made = self.make_config()?;
        Ok(self.config.get_or_init(|| made).clone())
    }

    fn make_config(&self) -> Result<Config, BucketError> {
        let settings = &self.settings;
        if self.endpoint_unknown {
            return Err(refused(
                "object locks and versions need the endpoint in config.endpoint; it is only in the environment",
            ));
        }
        let retries = settings.retries.retries_max.unwrap_or(RETRIES_MAX);
        let timeouts = TimeoutConfig::builder()
            .operation_timeout(BUDGET)
            .operation_attempt_timeout(settings.http.answer_within(&settings.retries));
        let mut config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(self.region.clone()))
            .force_path_style(!settings.is_virtual_hosted())
            .retry_config(RetryConfig::standard().with_max_attempts(retries.saturating_add(1)))
            .timeout_config(timeouts.build())
            .http_client(http_client(settings)?);
        // The client puts the bucket's name into the host by itself.
        if let Some(url) = settings.endpoint_url(false) {
            config = config.endpoint_url(url);
        }
        Ok(config.build())
    }
}

impl fmt::Debug for S3Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Access({})", self.settings.bucket)
    }
}

fn http_client(settings: &S3Settings) -> Result<SharedHttpClient, BucketError> {
    if settings.http.skip_verify && !settings.insecure {
        return Err(refused(
            "insecure_skip_verify does not go with object locks and versions: name the authority's certificate \
             in config.http_config.tls_config.ca_file",
        ));
    }
    let mut trusted = tls::TrustStore::default();
    if let Some(file) = &settings.http.ca_file {
        let pem = std::fs::read(file)
            .map_err(|e| refused(format!("config.http_config.tls_config.ca_file {}: {e}", file.display())))?;
        trusted = trusted.with_pem_certificate(pem);
    }
    let context = tls::TlsContext::builder()
        .with_trust_store(trusted)
        .build()
        .map_err(|e| refused(format!("config.http_config.tls_config: {e}")))?;
    Ok(HttpBuilder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
        .tls_context(context)
        .build_https())
}

fn refused(reason: impl Into<String>) -> BucketError {
    BucketError::Config { reason: reason.into() }
}
