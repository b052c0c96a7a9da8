//! Object storage: the only state that outlives a process.
//!
//! Owns the connection to the bucket (a local folder, S3, Google Cloud Storage or Azure, configured with Thanos' YAML),
//! the layout of its keys, and the one operation that everything above rests on: the *verified create*.
//!
//! Vocabulary: the *bucket* is the storage as a whole, an *object key* names one object in it, a *create* stores an
//! object only where none is, a *put* overwrites.
//!
//! How a create runs:
//! 1. put-if-absent;
//! 2. on "already exists", on a failed precondition, on a timeout or an unknown error: read the key back;
//! 3. nothing there: try again; our bytes there: it was stored and the reply was lost; other bytes: a conflict.
//!
//! How a request to a store over a network runs: `attempts` tries it again within a time and a number of attempts, which
//! all operations share in part; `hedge` sends a second one where the first answer of a read is late; `transport` counts
//! what goes over the wire and turns refusals into something that can be judged.
//!
//! **Invariants**
//! - A read returns all bytes asked for or fails: an answer that ends early is a failure, which is tried again.
//! - A create that succeeded is durable: on a local folder the file, its folder and every folder up to the root were
//!   fsynced. A folder whose fsync failed once takes nothing more in this process.
//! - Objects that are created are never changed. Only the `latest` hints of the catalog are overwritten.
//! - Contents of created objects are unique (they carry random ids), so that equal bytes mean our own create.
//! - Keys are made by [`ObjectKey`] alone, and what does not parse as one is never deleted.
//!
//! **Crash consistency** A process that dies in the middle of a put on a local folder leaves a staging file, named
//! `<name>#<digits>`. Listings and reads do not see such names; [`Bucket::open`] removes those older than an hour. On S3 and
//! Google Cloud Storage an unfinished multipart upload may stay: a lifecycle rule of the bucket clears it.
//!
//! Objects can be locked on S3: `protection` tells how.
//!
//! What it does not do: cache, encrypt, rate-limit, or know what the bytes mean.

mod about;
mod archive_key;
mod attempts;
mod azure;
mod config;
mod create;
mod durable;
mod error;
mod gcs;
mod hedge;
mod instruments;
mod key;
mod open;
mod protection;
mod read;
mod s3;
mod store_clock;
mod transport;
mod upload;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path as StorePath;
use object_store::{Attributes, ObjectStore, ObjectStoreExt, PutOptions};

pub use about::BucketInfo;
pub use archive_key::{ArchiveObject, FileOwner, LogKind, file_name};
pub use config::BucketConfig;
pub use create::Created;
pub use error::BucketError;
pub use key::ObjectKey;
pub use protection::{Lock, LockDefault, LockMode, LockSettings, ObjectLock, Protection};
pub use read::RangesRead;

use attempts::Attempts;
use durable::DurableFiles;
use hedge::Hedges;
use instruments::{Instruments, Operation};
use protection::{CreateLock, S3Access};

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The key as text; [`ObjectKey::parse`] says whether it is one of ours.
    pub key: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// When it was stored, by the store's own clock, in milliseconds since the Unix epoch.
    pub last_modified_ms: i64,
}

/// The bucket; clones share the connection.
#[derive(Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    /// For uploads in parts: this client tries each part again by itself.
    uploads: Arc<dyn ObjectStore>,
    /// Set where the bucket is a local folder: what was created there can be confirmed as durable.
    files: Option<DurableFiles>,
    /// What stands before a key for a reader from outside: a folder or an address such as `s3://…`, with its last slash.
    root: Arc<str>,
    part_bytes: u64,
    /// Whether files larger than that are refused instead of going up in parts.
    whole_puts_only: bool,
    /// What every object is stored with beside its bytes.
    attributes: Attributes,
    attempts: Attempts,
    hedges: Hedges,
    /// Set where the bucket is on S3: locks and versions.
    s3: Option<Arc<S3Access>>,
    /// Set where every create locks.
    lock: Option<CreateLock>,
    instruments: Instruments,
}

impl Bucket {
    /// Returns where an object lies for a reader from outside: an absolute path or an address such as `s3://…`.
    #[must_use]
    pub fn locate(&self, key: &ObjectKey) -> String {
        format!("{}{key}", self.root)
    }

    /// Returns whether the bucket is a local folder.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.files.is_some()
    }

    /// Returns where the bucket is, for people.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.root
    }

    /// Stores an object, over what was there. Only for what may be lost or outdated: the `latest` hints.
    ///
    /// # Errors
    /// The store's failure; whether the object was stored is then unknown.
    pub async fn put(&self, key: &ObjectKey, bytes: Bytes) -> Result<(), BucketError> {
        let size = bytes.len() as u64;
        let path = key.path();
        let limit = self.attempts.patience.sending(size);
        let put = self.attempts.run(Operation::Put, limit, || {
            let options = PutOptions { attributes: self.attributes.clone(), ..PutOptions::default() };
            self.store.put_opts(&path, bytes.clone().into(), options)
        });
        self.instruments
            .observe(Operation::Put, Box::pin(put))
            .await
            .map_err(|e| BucketError::of(Operation::Put, key, e))?;
        self.instruments.count_bytes(Operation::Put, size);
        Ok(())
    }

    /// Deletes an object; one that is not there counts as deleted.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn delete(&self, key: &ObjectKey) -> Result<(), BucketError> {
        let path: StorePath = key.path();
        let limit = self.attempts.patience.answer_within;
        let delete = self.attempts.run(Operation::Delete, limit, || self.store.delete(&path));
        match self.instruments.observe(Operation::Delete, Box::pin(delete)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(BucketError::of(Operation::Delete, key, e)),
        }
    }

    /// Makes sure that an object which was seen is also durable: a create whose last fsync failed leaves one that
    /// is visible and not durable. Does nothing over a network.
    ///
    /// # Errors
    /// The fsync's failure, now or earlier in this process.
    pub async fn confirm_durable(&self, key: &ObjectKey) -> Result<(), BucketError> {
        match &self.files {
            None => Ok(()),
            Some(files) => {
                files.confirm(&key.path()).await.map_err(|e| BucketError::of(Operation::Create, key, e))
            }
        }
    }
}

impl ObjectInfo {
    fn from_meta(meta: &object_store::ObjectMeta) -> Self {
        Self {
            key: meta.location.to_string(),
            size_bytes: meta.size,
            last_modified_ms: meta.last_modified.timestamp_millis(),
        }
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({})", self.root)
    }
}
