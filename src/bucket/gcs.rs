//! Opening a bucket of Google Cloud Storage.

use std::sync::Arc;

use object_store::Attributes;
use object_store::gcp::GoogleCloudStorageBuilder;

use super::BucketError;
use super::config::{HttpSettings, RetrySettings, Secret, no_retries};
use super::instruments::Instruments;
use super::open::Remote;
use super::transport::Connector;

/// The checked settings of a bucket of Google Cloud Storage.
#[derive(Debug, Clone)]
pub(super) struct GcsSettings {
    pub(super) bucket: String,
    /// The content of a key file; empty means the environment's credentials.
    pub(super) service_account: Secret,
    /// Whether the key file names an address without TLS.
    pub(super) plain_http: bool,
    pub(super) http: HttpSettings,
    pub(super) retries: RetrySettings,
    pub(super) part_bytes: Option<u64>,
}

/// Opens the bucket. Nothing is sent yet.
pub(super) fn open(settings: &GcsSettings, instruments: &Instruments) -> Result<Remote, BucketError> {
    // What the credentials hold is not told.
    let refused = |e: object_store::Error| BucketError::Config {
        reason: format!("config.service_account or the environment's credentials cannot be used: {e}"),
    };
    let builder = match settings.service_account.0.as_str() {
        "" => GoogleCloudStorageBuilder::from_env(),
        key => GoogleCloudStorageBuilder::new().with_service_account_key(key),
    };
    let builder = builder
        .with_bucket_name(&settings.bucket)
        .with_client_options(settings.http.client_options(settings.plain_http)?);
    let connector = Connector {
        instruments: instruments.clone(),
        answer_within: settings.http.answer_within(&settings.retries),
        judged: true,
        traced: false,
    };
    let single = builder.clone().with_retry(no_retries()).with_http_connector(connector.clone());
    let store = single.build().map_err(refused)?;
    let in_parts = builder
        .with_credentials(Arc::clone(store.credentials()))
        .with_retry(settings.retries.of_uploads())
        .with_http_connector(Connector { judged: false, ..connector });
    let uploads = in_parts.build().map_err(refused)?;
    Ok(Remote {
        store: Arc::new(store),
        uploads: Arc::new(uploads),
        root: format!("gs://{}/", settings.bucket),
        part_bytes: settings.part_bytes,
        attributes: Attributes::default(),
        patience: settings.http.patience(&settings.retries),
    })
}
