//! Opening a container of Azure Blob Storage.

use std::sync::Arc;

use object_store::Attributes;
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};

use super::BucketError;
use super::config::{HttpSettings, RetrySettings, Secret, no_retries};
use super::instruments::Instruments;
use super::open::Remote;
use super::transport::Connector;

/// The checked settings of a container.
#[derive(Debug, Clone)]
pub(super) struct AzureSettings {
    pub(super) account: String,
    /// The account's address, with its scheme.
    pub(super) url: String,
    pub(super) container: String,
    pub(super) credentials: AzureCredentials,
    pub(super) http: HttpSettings,
    pub(super) retries: RetrySettings,
}

/// What requests are signed with.
#[derive(Debug, Clone)]
pub(super) enum AzureCredentials {
    /// The account's key.
    Key(Secret),
    /// A shared access signature.
    Signature(Secret),
    /// An application with a secret.
    Client { tenant: String, id: String, secret: Secret },
    /// An identity that is assigned to the machine, by its client id.
    ManagedIdentity(String),
    /// What the environment says: workload identity, an application, or the machine's identity.
    Environment,
}

/// Opens the container. Nothing is sent yet.
pub(super) fn open(settings: &AzureSettings, instruments: &Instruments) -> Result<Remote, BucketError> {
    let refused = |e: object_store::Error| BucketError::Config { reason: e.to_string() };
    let own = MicrosoftAzureBuilder::new;
    let builder = match &settings.credentials {
        AzureCredentials::Key(key) => own().with_access_key(&key.0),
        AzureCredentials::Signature(signature) => own().with_config(AzureConfigKey::SasKey, &signature.0),
        AzureCredentials::Client { tenant, id, secret } => {
            own().with_client_secret_authorization(id, &secret.0, tenant)
        }
        AzureCredentials::ManagedIdentity(id) => own().with_client_id(id),
        AzureCredentials::Environment => MicrosoftAzureBuilder::from_env(),
    };
    let plain_http = settings.url.starts_with("http://");
    let builder = builder
        .with_account(&settings.account)
        .with_container_name(&settings.container)
        .with_endpoint(settings.url.clone())
        .with_allow_http(plain_http)
        .with_client_options(settings.http.client_options(plain_http)?);
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
        root: format!("az://{}/", settings.container),
        part_bytes: None,
        attributes: Attributes::default(),
        patience: settings.http.patience(&settings.retries),
    })
}
