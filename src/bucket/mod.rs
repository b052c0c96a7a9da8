//! Object storage: the only state that outlives a process.
//!
//! Owns the connection to the bucket (a local folder or S3, configured with Thanos' YAML), the layout of its keys,
//! and the one operation that everything above rests on: the *verified create*.
//!
//! Vocabulary: the *bucket* is the storage as a whole, an *object key* names one object in it, a *create* stores an
//! object only where none is, a *put* overwrites.
//!
//! How a create runs:
//! 1. put-if-absent;
//! 2. on "already exists", on a failed precondition, on a timeout or an unknown error: read the key back;
//! 3. nothing there: try again; our bytes there: it was stored and the reply was lost; other bytes: a conflict.
//!
//! **Invariants**
//! - A create that succeeded is durable: on a local folder the file, its folder and every folder up to the root were
//!   fsynced. A folder whose fsync failed once takes nothing more in this process.
//! - Objects that are created are never changed. Only the `latest` hints of the catalog are overwritten.
//! - Contents of created objects are unique (they carry random ids), so that equal bytes mean our own create.
//! - Keys are made by [`ObjectKey`] alone, and what does not parse as one is never deleted.
//!
//! **Crash consistency** A process that dies in the middle of a put on a local folder leaves a staging file, named
//! `<name>#<digits>`. Listings and reads do not see such names; [`Bucket::open`] removes those older than an hour. On S3 an
//! unfinished multipart upload may stay: a lifecycle rule of the bucket clears it.
//!
//! Objects can be locked on S3: `protection` tells how.
//!
//! What it does not do: cache, encrypt, rate-limit, or know what the bytes mean.

mod archive_key;
mod config;
mod create;
mod durable;
mod error;
mod instruments;
mod key;
mod protection;
mod s3;
mod upload;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path as StorePath;
use object_store::prefix::PrefixStore;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, PutOptions};

use crate::runtime::Metrics;

pub use archive_key::{ArchiveObject, FileOwner, LogKind, file_name};
pub use config::BucketConfig;
pub use create::Created;
pub use error::BucketError;
pub use key::ObjectKey;
pub use protection::{Lock, LockDefault, LockMode, LockSettings, ObjectLock, Protection};

use config::Backend;
use durable::DurableFiles;
use instruments::{Instruments, Operation};
use protection::{CreateLock, S3Access};

/// The most that [`Bucket::get`] reads: no object that is read whole comes near it.
const OBJECT_BYTES_MAX: u64 = 256 << 20;

/// The size of one part of a large upload; S3 allows 10,000 parts of at least 5 MiB.
const PART_BYTES_DEFAULT: u64 = 16 << 20;

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
    /// Set where the bucket is a local folder: what was created there can be confirmed as durable.
    files: Option<DurableFiles>,
    /// What stands before a key for a reader from outside: a folder or an `s3://` address, with its last slash.
    root: Arc<str>,
    part_bytes: u64,
    /// Set where the bucket is on S3: locks and versions.
    s3: Option<Arc<S3Access>>,
    /// Set where every create locks.
    lock: Option<CreateLock>,
    instruments: Instruments,
}

impl Bucket {
    /// Opens the bucket that the configuration names. A local folder is created where it is missing.
    ///
    /// # Errors
    /// A folder that cannot be created or written, and settings that the store refuses.
    pub fn open(config: &BucketConfig, metrics: &Metrics) -> Result<Self, BucketError> {
        let instruments = Instruments::registered(metrics);
        match &config.backend {
            Backend::Filesystem { directory } => {
                let files = DurableFiles::open(directory)?;
                let root = format!("{}/", files.root().display());
                Ok(Self {
                    store: Arc::new(files.clone()),
                    files: Some(files),
                    root: Arc::from(root),
                    part_bytes: PART_BYTES_DEFAULT,
                    s3: None,
                    lock: None,
                    instruments,
                })
            }
            Backend::S3(settings) => {
                let (store, s3) = s3::open(settings, &config.prefix)?;
                let s3 = Some(Arc::new(s3));
                let (store, root): (Arc<dyn ObjectStore>, String) = match config.prefix.as_str() {
                    "" => (Arc::new(store), format!("s3://{}/", settings.bucket)),
                    prefix => {
                        let root = format!("s3://{}/{prefix}/", settings.bucket);
                        (Arc::new(PrefixStore::new(store, prefix)), root)
                    }
                };
                let part_bytes = settings.part_bytes.unwrap_or(PART_BYTES_DEFAULT);
                Ok(Self {
                    store,
                    files: None,
                    root: Arc::from(root),
                    part_bytes,
                    s3,
                    lock: None,
                    instruments,
                })
            }
        }
    }

    /// Wraps a store that is already there, such as one in memory.
    #[must_use]
    pub fn from_store(store: Arc<dyn ObjectStore>) -> Self {
        Self {
            store,
            files: None,
            root: Arc::from("memory:///"),
            part_bytes: PART_BYTES_DEFAULT,
            s3: None,
            lock: None,
            instruments: Instruments::default(),
        }
    }

    /// Returns where an object lies for a reader from outside: an absolute path or an `s3://` address.
    #[must_use]
    pub fn locate(&self, key: &ObjectKey) -> String {
        format!("{}{key}", self.root)
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
        let put = self.store.put_opts(&path, bytes.into(), PutOptions::default());
        self.instruments
            .observe(Operation::Put, put)
            .await
            .map_err(|e| BucketError::of(Operation::Put, key, e))?;
        self.instruments.count_bytes(Operation::Put, size);
        Ok(())
    }

    /// Reads a whole object.
    ///
    /// # Errors
    /// [`BucketError::NotFound`], the store's failure, or an object beyond 256 MiB.
    pub async fn get(&self, key: &ObjectKey) -> Result<Bytes, BucketError> {
        let path = key.path();
        let read = async {
            let found = self.store.get_opts(&path, GetOptions::default()).await?;
            if found.meta.size > OBJECT_BYTES_MAX {
                return Ok(Err(found.meta.size));
            }
            found.bytes().await.map(Ok)
        };
        let read = self
            .instruments
            .observe(Operation::Get, read)
            .await
            .map_err(|e| BucketError::of(Operation::Get, key, e))?;
        let bytes = read.map_err(|size_bytes| BucketError::TooLarge {
            key: key.to_string(),
            size_bytes,
            limit_bytes: OBJECT_BYTES_MAX,
        })?;
        self.instruments.count_bytes(Operation::Get, bytes.len() as u64);
        Ok(bytes)
    }

    /// Reads ranges of an object, in the order asked for; near ones share a request.
    ///
    /// # Errors
    /// [`BucketError::NotFound`], a range beyond the end, or the store's failure.
    pub async fn get_ranges(
        &self,
        key: &ObjectKey,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, BucketError> {
        let path = key.path();
        let read = self.store.get_ranges(&path, ranges);
        let parts = self
            .instruments
            .observe(Operation::GetRanges, read)
            .await
            .map_err(|e| BucketError::of(Operation::GetRanges, key, e))?;
        self.instruments.count_bytes(Operation::GetRanges, parts.iter().map(|b| b.len() as u64).sum());
        Ok(parts)
    }

    /// Returns an object's size and time, or nothing where there is no such object.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectInfo>, BucketError> {
        let path = key.path();
        match self.instruments.observe(Operation::Head, self.store.head(&path)).await {
            Ok(meta) => Ok(Some(ObjectInfo::from_meta(&meta))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(BucketError::of(Operation::Head, key, e)),
        }
    }

    /// Lists all objects under a folder, sorted by key.
    ///
    /// # Errors
    /// A folder name that is not allowed, or the store's failure.
    pub async fn list(&self, folder: &str) -> Result<Vec<ObjectInfo>, BucketError> {
        let path = key::folder_path(folder)?;
        let listing = self.store.list(Some(&path)).map_ok(|meta| ObjectInfo::from_meta(&meta)).try_collect();
        let mut objects: Vec<ObjectInfo> = self
            .instruments
            .observe(Operation::List, listing)
            .await
            .map_err(|e| BucketError::of(Operation::List, folder, e))?;
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    /// Lists the names of the folders directly under a folder, sorted.
    ///
    /// # Errors
    /// A folder name that is not allowed, or the store's failure.
    pub async fn list_folders(&self, folder: &str) -> Result<Vec<String>, BucketError> {
        let path = key::folder_path(folder)?;
        let listing = self
            .instruments
            .observe(Operation::List, self.store.list_with_delimiter(Some(&path)))
            .await
            .map_err(|e| BucketError::of(Operation::List, folder, e))?;
        let mut names: Vec<String> = listing
            .common_prefixes
            .iter()
            .filter_map(|prefix| prefix.parts().next_back().map(|name| name.as_ref().to_owned()))
            .collect();
        names.sort();
        Ok(names)
    }

    /// Deletes an object; one that is not there counts as deleted.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn delete(&self, key: &ObjectKey) -> Result<(), BucketError> {
        let path: StorePath = key.path();
        match self.instruments.observe(Operation::Delete, self.store.delete(&path)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(BucketError::of(Operation::Delete, key, e)),
        }
    }

    /// Makes sure that an object which was seen is also durable: a create whose last fsync failed leaves one that
    /// is visible and not durable. Does nothing on S3.
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
