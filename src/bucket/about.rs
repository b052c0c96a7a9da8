//! What a bucket is and does for its objects: a line of the log at start, a metric, and `perennial bucket info`.

use serde::Serialize;

use crate::model::error_chain;

use super::instruments::AboutLabels;
use super::protection::{ObjectLock, Protection};
use super::{Bucket, BucketError};

/// What is known of a bucket, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BucketInfo {
    /// `FILESYSTEM`, `S3`, `GCS`, `AZURE`, or `MEMORY`.
    pub provider: &'static str,
    /// Where it is.
    pub location: String,
    /// The storage class of what is stored from now on; nothing where the store chooses.
    pub storage_class: Option<String>,
    /// Whether deleted and overwritten objects stay as versions: `on`, `off` or `unknown`.
    pub versioning: &'static str,
    /// Whether objects can be locked: `on`, `off`, `unsupported` or `unknown`.
    pub object_lock: &'static str,
    /// The lock that objects get without one of their own.
    pub default_lock: Option<String>,
}

impl Bucket {
    /// Asks the store what it does for the objects.
    ///
    /// # Errors
    /// The store's failure; a question that the store refuses to answer is none.
    pub async fn info(&self) -> Result<BucketInfo, BucketError> {
        let Protection { versioning, object_lock } = self.protection().await?;
        let default_lock = match &object_lock {
            ObjectLock::On(Some(rule)) => Some(format!("{} for {} days", rule.mode, rule.days)),
            _ => None,
        };
        Ok(BucketInfo {
            provider: self.provider(),
            location: self.location().to_owned(),
            storage_class: self.s3.as_ref().and_then(|s3| s3.storage_class().map(str::to_owned)),
            versioning: match versioning {
                Some(true) => "on",
                Some(false) => "off",
                None => "unknown",
            },
            object_lock: match object_lock {
                ObjectLock::On(_) => "on",
                ObjectLock::Off => "off",
                ObjectLock::Unsupported => "unsupported",
                ObjectLock::Unknown => "unknown",
            },
            default_lock,
        })
    }

    /// Says in the log and in a metric what the bucket is. A store that does not answer is not waited for by anybody, as
    /// long as this runs beside the rest.
    pub async fn announce(&self) {
        let info = match self.info().await {
            Ok(info) => info,
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(
                    bucket = self.location(),
                    error,
                    "cannot find out what the bucket does for its objects"
                );
                return;
            }
        };
        let BucketInfo { provider, location, storage_class, versioning, object_lock, default_lock } = &info;
        let storage_class = storage_class.as_deref().unwrap_or("default");
        tracing::info!(
            bucket = location,
            provider,
            versioning,
            object_lock,
            default_lock = default_lock.as_deref().unwrap_or("none"),
            storage_class,
            "bucket opened"
        );
        self.instruments.show(&AboutLabels {
            provider,
            versioning,
            object_lock,
            storage_class: storage_class.to_owned(),
        });
    }

    fn provider(&self) -> &'static str {
        let scheme = self.root.split_once("://").map(|(scheme, _)| scheme);
        match scheme {
            Some("s3") => "S3",
            Some("gs") => "GCS",
            Some("az") => "AZURE",
            Some(_) => "MEMORY",
            None => "FILESYSTEM",
        }
    }
}
