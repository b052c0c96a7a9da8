//! Protection of stored objects from deletion: S3 Object Lock and versioning.
//!
//! Owns what the object store crate cannot say: locks on objects, their extension, versions, and what a bucket
//! offers of these. It talks to S3 with Amazon's SDK, over its own connections, with the very settings and
//! credentials of the bucket. A bucket without a lock never starts this client.
//!
//! Vocabulary: a *lock* keeps an object from being deleted or overwritten until a time. In *compliance* mode nobody
//! can end it earlier, not the owner of the account either; in *governance* mode a special permission can. Where
//! *versioning* is on, a delete only hides an object behind a *delete marker*, and its *versions* stay.
//!
//! How a locked object comes to be:
//! 1. [`Bucket::with_lock`] makes sure that the bucket has Object Lock;
//! 2. every create then is one request: put if absent, with a mode and a time. It runs in the same loop of the
//!    verified create as all others; where the object turns out to be there already its lock is extended;
//! 3. a large file goes up in parts as usual and is locked as soon as it is complete.
//!
//! **Invariants**
//! - A create on a bucket with a lock succeeds only once the object is locked.
//! - A lock is never shortened and its mode never changed: [`Bucket::extend_lock`] looks first, and the store refuses it.
//! - Only garbage collection deletes versions, by [`Bucket::delete_versions`]; no other role needs the permission.
//!
//! **Crash consistency** A process that dies between the last part of a large file and its lock leaves the object
//! unlocked. The next create of the same file locks it, and so does the job that extends locks.
//!
//! What it does not do: turn on versioning or Object Lock, which belongs to whoever makes the bucket, or end a lock.

mod access;
mod requests;

use std::fmt;
use std::sync::Arc;

use crate::runtime::Clock;

use super::instruments::Operation;
use super::{Bucket, BucketError, ObjectKey};

pub(super) use access::S3Access;

/// S3 keeps whole seconds in places, and a lock must not end early.
const SECOND_MS: i64 = 1_000;

/// Who can end a lock before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Nobody.
    Compliance,
    /// Those with the permission to bypass it.
    Governance,
}

impl fmt::Display for LockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compliance => "COMPLIANCE",
            Self::Governance => "GOVERNANCE",
        })
    }
}

/// The lock of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// Who can end it.
    pub mode: LockMode,
    /// When it ends by itself, in milliseconds since the Unix epoch.
    pub until_ms: i64,
}

/// How the objects of a bucket are locked when they are created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockSettings {
    /// Who can end a lock.
    pub mode: LockMode,
    /// How long a lock lasts from the creation on.
    pub retain_ms: i64,
}

/// What a bucket does for its objects by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protection {
    /// Whether deleted and overwritten objects stay as versions; nothing where that cannot be found out.
    pub versioning: Option<bool>,
    /// Whether objects can be locked.
    pub object_lock: ObjectLock,
}

/// Whether objects of a bucket can be locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectLock {
    /// The store knows no locks.
    Unsupported,
    /// The bucket was made without Object Lock.
    Off,
    /// Objects can be locked; the rule applies to those stored without a lock of their own.
    On(Option<LockDefault>),
    /// The store does not tell these credentials.
    Unknown,
}

/// The lock that a bucket gives to objects without one of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockDefault {
    /// Who can end it.
    pub mode: LockMode,
    /// How long it lasts.
    pub days: u32,
}

/// The lock that every create sets.
#[derive(Debug, Clone)]
pub(super) struct CreateLock {
    settings: LockSettings,
    clock: Arc<dyn Clock>,
}

impl CreateLock {
    fn now(&self) -> Lock {
        let until_ms = self.clock.now_ms().saturating_add(self.settings.retain_ms);
        Lock { mode: self.settings.mode, until_ms }
    }
}

impl Bucket {
    /// Asks the store what it does for the objects.
    ///
    /// # Errors
    /// The store's failure; a question that the store refuses to answer is none.
    pub async fn protection(&self) -> Result<Protection, BucketError> {
        let Some(s3) = &self.s3 else {
            return Ok(Protection { versioning: None, object_lock: ObjectLock::Unsupported });
        };
        let failed = |e| BucketError::of(Operation::Protection, self.location(), e);
        let client = s3.client().await?;
        let versioning = self.instruments.observe(Operation::Protection, s3.versioning(&client)).await;
        let object_lock = self.instruments.observe(Operation::Protection, s3.object_lock(&client)).await;
        let object_lock = object_lock.map_err(failed)?;
        let versioning = match &object_lock {
            ObjectLock::On(_) => Some(true),
            _ => versioning.map_err(failed)?,
        };
        Ok(Protection { versioning, object_lock })
    }

    /// Returns the bucket with a lock on every object that is created from now on.
    ///
    /// # Errors
    /// [`BucketError::NoObjectLock`] where the bucket has none, a duration of nothing, or the store's failure.
    pub async fn with_lock(self, settings: LockSettings, clock: Arc<dyn Clock>) -> Result<Self, BucketError> {
        let locked = self.with_unchecked_lock(settings, clock)?;
        locked.check_lock().await?;
        Ok(locked)
    }

    /// Returns the bucket with a lock on every object that is created from now on, without asking the store for that:
    /// [`Bucket::check_lock`] does, before anything is created.
    ///
    /// # Errors
    /// A duration of nothing, or a bucket with keys of the customer (SSE-C).
    pub fn with_unchecked_lock(
        self,
        settings: LockSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BucketError> {
        if settings.retain_ms <= 0 {
            let reason = "an object lock needs a duration above 0".to_owned();
            return Err(BucketError::Config { reason });
        }
        if self.s3.as_ref().is_some_and(|s3| s3.has_customer_key()) {
            let reason = "an object lock does not go with sse_config.type SSE-C: use SSE-KMS".to_owned();
            return Err(BucketError::Config { reason });
        }
        Ok(Self { lock: Some(CreateLock { settings, clock }), ..self })
    }

    /// Makes sure that the store can lock, where objects are to be locked.
    ///
    /// # Errors
    /// [`BucketError::NoObjectLock`] where the bucket has none, or the store's failure.
    pub async fn check_lock(&self) -> Result<(), BucketError> {
        if self.lock.is_none() {
            return Ok(());
        }
        match self.protection().await?.object_lock {
            ObjectLock::On(_) | ObjectLock::Unknown => Ok(()),
            ObjectLock::Off | ObjectLock::Unsupported => Err(self.no_object_lock()),
        }
    }

    /// Returns the lock of an object, or nothing where it is not locked.
    ///
    /// # Errors
    /// [`BucketError::NotFound`], or the store's failure.
    pub async fn lock_of(&self, key: &ObjectKey) -> Result<Option<Lock>, BucketError> {
        let Some(s3) = &self.s3 else {
            let found = self.head(key).await?;
            return found.map(|_| None).ok_or_else(|| BucketError::NotFound { key: key.to_string() });
        };
        let client = s3.client().await?;
        let read = s3.lock_of(&client, key, None);
        let lock = self.instruments.observe(Operation::Head, read).await;
        lock.map_err(|e| BucketError::of(Operation::Head, key, e))
    }

    /// Makes sure that an object is locked at least until a time, and returns the lock that it has then. A longer
    /// lock stays, and so does the mode of one that is there.
    ///
    /// # Errors
    /// [`BucketError::NotFound`], [`BucketError::NoObjectLock`], or the store's failure.
    pub async fn extend_lock(&self, key: &ObjectKey, lock: Lock) -> Result<Lock, BucketError> {
        let Some(s3) = &self.s3 else { return Err(self.no_object_lock()) };
        let until_ms = whole_second(lock.until_ms);
        let mode = match self.lock_of(key).await? {
            Some(found) if found.until_ms >= until_ms => return Ok(found),
            Some(found) => found.mode,
            None => lock.mode,
        };
        let lock = Lock { mode, until_ms };
        let client = s3.client().await?;
        let request = s3.extend_lock(&client, key, lock);
        let extended = self.instruments.observe(Operation::Lock, request).await;
        extended.map_err(|e| match e {
            object_store::Error::NotSupported { .. } => self.no_object_lock(),
            e => BucketError::of(Operation::Lock, key, e),
        })?;
        Ok(lock)
    }

    /// Deletes an object with all its versions and delete markers; one that is not there counts as deleted. For
    /// garbage collection only: what was deleted so is gone.
    ///
    /// # Errors
    /// [`BucketError::Held`] where a version is locked, or the store's failure; some versions may then be gone.
    pub async fn delete_versions(&self, key: &ObjectKey) -> Result<(), BucketError> {
        let Some(s3) = &self.s3 else { return self.delete(key).await };
        let client = s3.client().await?;
        let listed = self.instruments.observe(Operation::List, s3.versions(&client, key)).await;
        let versions = match listed {
            Ok(versions) => versions,
            Err(object_store::Error::NotSupported { .. }) => return self.delete(key).await,
            Err(e) => return Err(BucketError::of(Operation::List, key, e)),
        };
        for version in versions {
            let request = s3.delete_version(&client, key, &version);
            let Err(error) = self.instruments.observe(Operation::Delete, request).await else { continue };
            match error {
                object_store::Error::NotFound { .. } => {}
                object_store::Error::PermissionDenied { .. } => {
                    return Err(match s3.lock_of(&client, key, Some(&version)).await {
                        Ok(Some(lock)) => BucketError::Held { key: key.to_string(), until_ms: lock.until_ms },
                        _ => BucketError::of(Operation::Delete, key, error),
                    });
                }
                error => return Err(BucketError::of(Operation::Delete, key, error)),
            }
        }
        Ok(())
    }

    /// Locks an object that a create found to be stored already, where creates lock.
    pub(super) async fn confirm_lock(&self, key: &ObjectKey) -> Result<(), BucketError> {
        match &self.lock {
            Some(lock) => self.extend_lock(key, lock.now()).await.map(drop),
            None => Ok(()),
        }
    }

    /// Returns the connection and the lock with which objects are created, where creates lock.
    pub(super) fn locking(&self) -> Option<(&S3Access, Lock)> {
        let (s3, lock) = (self.s3.as_ref()?, self.lock.as_ref()?.now());
        Some((s3, Lock { until_ms: whole_second(lock.until_ms), ..lock }))
    }

    fn no_object_lock(&self) -> BucketError {
        BucketError::NoObjectLock { location: self.location().to_owned() }
    }
}

fn whole_second(ms: i64) -> i64 {
    ms.saturating_add(SECOND_MS - 1).div_euclid(SECOND_MS).saturating_mul(SECOND_MS)
}
