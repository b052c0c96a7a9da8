//! Thanos' keys for Azure Blob Storage.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::super::BucketError;
use super::super::azure::{AzureCredentials, AzureSettings};
use super::http::{HttpYaml, RetrySettings, read_duration};
use super::{Secret, refused};

const ENDPOINT_DEFAULT: &str = "blob.core.windows.net";

/// Keys of type `IgnoredAny` are accepted because nothing depends on them here.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AzureYaml {
    az_tenant_id: String,
    client_id: String,
    client_secret: Secret,
    storage_account: String,
    storage_account_key: Secret,
    storage_connection_string: Secret,
    storage_create_container: bool,
    container: String,
    endpoint: String,
    user_assigned_id: String,
    max_retries: u32,
    pipeline_config: PipelineYaml,
    http_config: HttpYaml,
    #[serde(rename = "reader_config")]
    _reader_config: ReaderYaml,
    #[serde(rename = "msi_resource")]
    _msi_resource: IgnoredAny,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ReaderYaml {
    #[serde(rename = "max_retry_requests")]
    _max_retry_requests: IgnoredAny,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PipelineYaml {
    max_tries: u32,
    try_timeout: Option<String>,
    retry_delay: Option<String>,
    max_retry_delay: Option<String>,
}

/// What a connection string says.
#[derive(Default)]
struct Connection {
    account: String,
    key: String,
    sas: String,
    url: Option<String>,
}

impl AzureYaml {
    pub(super) fn check(self) -> Result<AzureSettings, BucketError> {
        self.check_names()?;
        self.check_one_credential()?;
        let host = if self.endpoint.is_empty() { ENDPOINT_DEFAULT } else { &self.endpoint };
        let mut account = self.storage_account.clone();
        let mut url = format!("https://{account}.{host}");
        let credentials = if !self.storage_connection_string.0.is_empty() {
            let found = read_connection_string(&self.storage_connection_string.0)?;
            url = found.url.unwrap_or_else(|| format!("https://{}.{host}", found.account));
            account = found.account;
            match found.key.is_empty() {
                false => AzureCredentials::Key(Secret(found.key)),
                true => AzureCredentials::Signature(Secret(found.sas)),
            }
        } else if !self.storage_account_key.0.is_empty() {
            AzureCredentials::Key(self.storage_account_key.clone())
        } else if !self.client_id.is_empty() {
            AzureCredentials::Client {
                tenant: self.az_tenant_id.clone(),
                id: self.client_id.clone(),
                secret: self.client_secret.clone(),
            }
        } else if !self.user_assigned_id.is_empty() {
            AzureCredentials::ManagedIdentity(self.user_assigned_id.clone())
        } else {
            AzureCredentials::Environment
        };
        Ok(AzureSettings {
            account,
            url,
            container: self.container.clone(),
            credentials,
            retries: self.pipeline_config.check(self.max_retries)?,
            http: self.http_config.check()?,
        })
    }

    fn check_names(&self) -> Result<(), BucketError> {
        if self.container.is_empty() {
            return Err(refused("config.container is empty: name the container"));
        }
        if self.storage_account.is_empty() && self.storage_connection_string.0.is_empty() {
            return Err(refused("config.storage_account is empty: name the storage account"));
        }
        if self.endpoint.contains("://") || self.endpoint.contains('/') {
            return Err(refused(format!(
                "config.endpoint {:?} must be a host name without scheme and account, such as {ENDPOINT_DEFAULT}",
                self.endpoint
            )));
        }
        if self.storage_create_container {
            return Err(refused(
                "config.storage_create_container: true is not supported: create the container and set false",
            ));
        }
        Ok(())
    }

    fn check_one_credential(&self) -> Result<(), BucketError> {
        let client = [&self.az_tenant_id, &self.client_id, &self.client_secret.0];
        if client.iter().any(|part| part.is_empty()) && client.iter().any(|part| !part.is_empty()) {
            return Err(refused(
                "config.az_tenant_id, client_id and client_secret go together: give all three",
            ));
        }
        let given = [
            (!self.storage_connection_string.0.is_empty(), "storage_connection_string"),
            (!self.storage_account_key.0.is_empty(), "storage_account_key"),
            (!self.client_id.is_empty(), "client_id"),
            (!self.user_assigned_id.is_empty(), "user_assigned_id"),
        ];
        let given: Vec<&str> = given.iter().filter(|(used, _)| *used).map(|(_, key)| *key).collect();
        if given.len() > 1 {
            return Err(refused(format!("config: {} exclude each other: give one", given.join(" and "))));
        }
        Ok(())
    }
}

impl PipelineYaml {
    fn check(self, max_retries: u32) -> Result<RetrySettings, BucketError> {
        let retries_max = if self.max_tries > 0 { self.max_tries } else { max_retries };
        Ok(RetrySettings {
            retries_max: (retries_max > 0).then_some(retries_max),
            answer_within: read_duration(self.try_timeout, "pipeline_config.try_timeout")?,
            pause_first: read_duration(self.retry_delay, "pipeline_config.retry_delay")?,
            pause_max: read_duration(self.max_retry_delay, "pipeline_config.max_retry_delay")?,
        })
    }
}

/// Reads `Key=Value;Key=Value`. Values are never shown, they hold the account's key.
fn read_connection_string(text: &str) -> Result<Connection, BucketError> {
    let mut found = Connection::default();
    let (mut scheme, mut suffix) = ("https", "core.windows.net");
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let Some((key, value)) = part.split_once('=') else {
            return Err(refused(
                "config.storage_connection_string must be Key=Value pairs with ; between them",
            ));
        };
        match key {
            "AccountName" => value.clone_into(&mut found.account),
            "AccountKey" => value.clone_into(&mut found.key),
            "SharedAccessSignature" => value.clone_into(&mut found.sas),
            "BlobEndpoint" => found.url = Some(value.trim_end_matches('/').to_owned()),
            "DefaultEndpointsProtocol" => scheme = value,
            "EndpointSuffix" => suffix = value,
            "QueueEndpoint" | "TableEndpoint" | "FileEndpoint" => {}
            _ => {
                return Err(refused(format!(
                    "config.storage_connection_string has the unknown key {key}: AccountName, AccountKey, \
                     SharedAccessSignature, BlobEndpoint, DefaultEndpointsProtocol and EndpointSuffix are allowed"
                )));
            }
        }
    }
    if found.account.is_empty() || found.key.is_empty() == found.sas.is_empty() {
        return Err(refused(
            "config.storage_connection_string needs AccountName, and one of AccountKey and SharedAccessSignature",
        ));
    }
    if !matches!(scheme, "http" | "https") {
        return Err(refused(
            "config.storage_connection_string: DefaultEndpointsProtocol must be https or http",
        ));
    }
    found.url.get_or_insert_with(|| format!("{scheme}://{}.blob.{suffix}", found.account));
    Ok(found)
}
