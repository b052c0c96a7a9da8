//! The requests, with answers and failures as the object store crate would give them. The futures of the SDK take many KiB
//! each, so all are boxed: creates pass here on their way, locked or not.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::Config;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types as s3;
use bytes::Bytes;
use object_store::Error as StoreError;

use crate::model::error_chain;

use super::super::ObjectKey;
use super::super::s3::ServerSideEncryption;
use super::{Lock, LockDefault, LockMode, ObjectLock, S3Access};

/// More versions of one object than any life of it makes: an object is created once.
const VERSIONS_MAX: usize = 10_000;

const DAYS_A_YEAR: u32 = 365;

impl S3Access {
    /// Stores an object where none is, locked.
    pub(in crate::bucket) async fn put_if_absent(
        &self,
        key: &ObjectKey,
        bytes: Bytes,
        lock: Lock,
    ) -> Result<(), StoreError> {
        let client = self.client().await.map_err(|e| generic(e.into()))?;
        let (encryption, kms_key_id) = match &self.settings.encryption {
            ServerSideEncryption::StoreDefault => (None, None),
            ServerSideEncryption::S3 => (Some(s3::ServerSideEncryption::Aes256), None),
            ServerSideEncryption::Kms(id) => (Some(s3::ServerSideEncryption::AwsKms), Some(id.clone())),
            ServerSideEncryption::Customer(_) => {
                return Err(StoreError::NotSupported { source: "SSE-C does not go with locks".into() });
            }
        };
        let metadata = self.settings.user_metadata.clone().into_iter().collect();
        // The verified create decides itself whether another attempt is due.
        let once = Config::builder().retry_config(RetryConfig::disabled());
        let put = client
            .put_object()
            .bucket(&self.settings.bucket)
            .key(self.full_key(key))
            .if_none_match("*")
            .object_lock_mode(match lock.mode {
                LockMode::Compliance => s3::ObjectLockMode::Compliance,
                LockMode::Governance => s3::ObjectLockMode::Governance,
            })
            .object_lock_retain_until_date(DateTime::from_millis(lock.until_ms))
            .set_server_side_encryption(encryption)
            .set_ssekms_key_id(kms_key_id)
            .set_storage_class(self.storage_class().map(s3::StorageClass::from))
            .set_metadata(Some(metadata))
            .body(bytes.into())
            .customize()
            .config_override(once);
        Box::pin(put.send()).await.map(drop).map_err(|e| store_error(&self.full_key(key), e))
    }

    /// Returns whether versions are kept, or nothing where the store does not say.
    pub(super) async fn versioning(&self, client: &Client) -> Result<Option<bool>, StoreError> {
        let request = client.get_bucket_versioning().bucket(&self.settings.bucket);
        let answer = Box::pin(request.send()).await;
        // Some stores wrap their answer in another element than Amazon does.
        if let Err(error) = &answer
            && error.raw_response().is_some_and(|response| response.status().is_success())
        {
            tracing::warn!(bucket = self.settings.bucket, "cannot read what the store says of versioning");
            return Ok(None);
        }
        match answer.map_err(|e| store_error(&self.settings.bucket, e)) {
            Ok(answer) => Ok(Some(answer.status() == Some(&s3::BucketVersioningStatus::Enabled))),
            Err(StoreError::NotSupported { .. } | StoreError::PermissionDenied { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns whether objects can be locked.
    pub(super) async fn object_lock(&self, client: &Client) -> Result<ObjectLock, StoreError> {
        let request = client.get_object_lock_configuration().bucket(&self.settings.bucket);
        let answer = Box::pin(request.send()).await;
        if let Err(SdkError::ServiceError(refusal)) = &answer
            && refusal.err().code() == Some("ObjectLockConfigurationNotFoundError")
        {
            return Ok(ObjectLock::Off);
        }
        let answer = match answer.map_err(|e| store_error(&self.settings.bucket, e)) {
            Ok(answer) => answer,
            Err(StoreError::NotSupported { .. }) => return Ok(ObjectLock::Unsupported),
            Err(StoreError::PermissionDenied { .. }) => return Ok(ObjectLock::Unknown),
            Err(error) => return Err(error),
        };
        let Some(found) = answer.object_lock_configuration() else { return Ok(ObjectLock::Off) };
        if found.object_lock_enabled() != Some(&s3::ObjectLockEnabled::Enabled) {
            return Ok(ObjectLock::Off);
        }
        let rule = found.rule().and_then(|rule| rule.default_retention());
        Ok(ObjectLock::On(rule.and_then(lock_default)))
    }

    /// Returns the lock of an object or of one version of it. It is read from the object's head, for which the
    /// permission to read suffices nearly everywhere.
    pub(super) async fn lock_of(
        &self,
        client: &Client,
        key: &ObjectKey,
        version: Option<&str>,
    ) -> Result<Option<Lock>, StoreError> {
        let (bucket, key) = (&self.settings.bucket, self.full_key(key));
        let head = client.head_object().bucket(bucket).key(&key).set_version_id(version.map(str::to_owned));
        let found = Box::pin(head.send()).await.map_err(|e| store_error(&key, e))?;
        let mode = match found.object_lock_mode() {
            Some(s3::ObjectLockMode::Compliance) => LockMode::Compliance,
            Some(s3::ObjectLockMode::Governance) => LockMode::Governance,
            _ => return Ok(None),
        };
        let until = found.object_lock_retain_until_date().and_then(|date| date.to_millis().ok());
        Ok(until.map(|until_ms| Lock { mode, until_ms }))
    }

    /// Sets the lock of an object.
    pub(super) async fn extend_lock(
        &self,
        client: &Client,
        key: &ObjectKey,
        lock: Lock,
    ) -> Result<(), StoreError> {
        let retention = s3::ObjectLockRetention::builder()
            .mode(match lock.mode {
                LockMode::Compliance => s3::ObjectLockRetentionMode::Compliance,
                LockMode::Governance => s3::ObjectLockRetentionMode::Governance,
            })
            .retain_until_date(DateTime::from_millis(lock.until_ms))
            .build();
        let (bucket, key) = (&self.settings.bucket, self.full_key(key));
        let request = client.put_object_retention().bucket(bucket).key(&key).retention(retention);
        Box::pin(request.send()).await.map(drop).map_err(|e| store_error(&key, e))
    }

    /// Returns the ids of all versions and delete markers of an object, the object's own first.
    pub(super) async fn versions(&self, client: &Client, key: &ObjectKey) -> Result<Vec<String>, StoreError> {
        let key = self.full_key(key);
        let (mut versions, mut markers) = (Vec::new(), Vec::new());
        let (mut key_marker, mut version_marker) = (None, None);
        loop {
            let request = client
                .list_object_versions()
                .bucket(&self.settings.bucket)
                .prefix(&key)
                .set_key_marker(key_marker)
                .set_version_id_marker(version_marker);
            let page = Box::pin(request.send()).await.map_err(|e| store_error(&key, e))?;
            let of_key = page.versions().iter().filter(|v| v.key() == Some(key.as_str()));
            versions.extend(of_key.filter_map(|v| v.version_id().map(str::to_owned)));
            let of_key = page.delete_markers().iter().filter(|v| v.key() == Some(key.as_str()));
            markers.extend(of_key.filter_map(|v| v.version_id().map(str::to_owned)));
            key_marker = page.next_key_marker().map(str::to_owned);
            version_marker = page.next_version_id_marker().map(str::to_owned);
            // Other objects that begin with this name come after it.
            let more = page.is_truncated() == Some(true) && key_marker.as_ref() == Some(&key);
            if !more || versions.len() + markers.len() > VERSIONS_MAX {
                break;
            }
        }
        versions.append(&mut markers);
        Ok(versions)
    }

    /// Deletes one version of an object for good.
    pub(super) async fn delete_version(
        &self,
        client: &Client,
        key: &ObjectKey,
        version: &str,
    ) -> Result<(), StoreError> {
        let (bucket, key) = (&self.settings.bucket, self.full_key(key));
        let request = client.delete_object().bucket(bucket).key(&key).version_id(version);
        Box::pin(request.send()).await.map(drop).map_err(|e| store_error(&key, e))
    }
}

fn lock_default(rule: &s3::DefaultRetention) -> Option<LockDefault> {
    let mode = match rule.mode()? {
        s3::ObjectLockRetentionMode::Compliance => LockMode::Compliance,
        s3::ObjectLockRetentionMode::Governance => LockMode::Governance,
        _ => return None,
    };
    let number = |n: Option<i32>| n.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let days = number(rule.days()).saturating_add(number(rule.years()).saturating_mul(DAYS_A_YEAR));
    (days > 0).then_some(LockDefault { mode, days })
}

/// Turns a failure of the SDK into the one that the object store crate has for it, on which creates decide.
fn store_error<E>(path: &str, error: SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code).map(str::to_owned);
    let text = match (error.as_service_error(), &code) {
        (Some(refusal), Some(code)) => {
            let message = refusal.message().unwrap_or_default();
            format!("the store answered {} {code}: {message}", status.unwrap_or(0))
        }
        _ => match status {
            Some(status) => format!("the store answered {status}: {}", error_chain(&error)),
            None => error_chain(&error),
        },
    };
    let (path, source) = (path.to_owned(), text.into());
    match (status, code.as_deref()) {
        (Some(412), _) => StoreError::AlreadyExists { path, source },
        (Some(404), _) => StoreError::NotFound { path, source },
        (Some(401), _) => StoreError::Unauthenticated { path, source },
        (Some(403), _) => StoreError::PermissionDenied { path, source },
        (Some(405 | 501), _) | (Some(400), Some("InvalidRequest" | "NotImplemented")) => {
            StoreError::NotSupported { source }
        }
        _ => generic(source),
    }
}

fn generic(source: Box<dyn std::error::Error + Send + Sync>) -> StoreError {
    StoreError::Generic { store: "S3", source }
}
