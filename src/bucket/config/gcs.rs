//! Thanos' keys for Google Cloud Storage.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::super::BucketError;
use super::super::gcs::GcsSettings;
use super::http::{HttpYaml, RetrySettings};
use super::{PART_BYTES_ALLOWED, Secret, refused};

/// Keys of type `IgnoredAny` are accepted because nothing depends on them here: everything goes over HTTP.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct GcsYaml {
    bucket: String,
    service_account: Secret,
    http_config: HttpYaml,
    chunk_size_bytes: u64,
    max_retries: u32,
    #[serde(rename = "use_grpc")]
    _use_grpc: IgnoredAny,
    #[serde(rename = "grpc_conn_pool_size")]
    _grpc_conn_pool_size: IgnoredAny,
}

impl GcsYaml {
    pub(super) fn check(self) -> Result<GcsSettings, BucketError> {
        if self.bucket.is_empty() {
            return Err(refused("config.bucket is empty: name the bucket of Google Cloud Storage"));
        }
        let account = self.service_account.0.trim();
        let plain_http = match account {
            "" => false,
            _ => {
                let account: serde_json::Value = serde_json::from_str(account).map_err(|e| {
                    refused(format!(
                        "config.service_account is no JSON ({e}): give the content of the key file"
                    ))
                })?;
                let address = account.get("gcs_base_url").and_then(|url| url.as_str());
                address.is_some_and(|url| url.starts_with("http://"))
            }
        };
        let (least, most) = (*PART_BYTES_ALLOWED.start(), *PART_BYTES_ALLOWED.end());
        let part_bytes = (self.chunk_size_bytes > 0).then(|| self.chunk_size_bytes.clamp(least, most));
        Ok(GcsSettings {
            bucket: self.bucket,
            service_account: Secret(account.to_owned()),
            plain_http,
            http: self.http_config.check()?,
            part_bytes,
            // Here, as in Thanos, the number counts attempts: 1 is no retry.
            retries: RetrySettings {
                retries_max: self.max_retries.checked_sub(1),
                ..RetrySettings::default()
            },
        })
    }
}
