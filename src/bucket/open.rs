//! Opening a bucket.

use std::sync::Arc;

use object_store::prefix::PrefixStore;
use object_store::{Attributes, ObjectStore};

use crate::runtime::{Metrics, Random, random_from_seed};

use super::attempts::{Attempts, Patience};
use super::config::{Backend, BucketConfig};
use super::durable::DurableFiles;
use super::hedge::{HedgeSettings, Hedges};
use super::instruments::Instruments;
use super::read::OBJECT_BYTES_MAX;
use super::{Bucket, BucketError, azure, gcs, s3};

/// The size of one part of a large upload; S3 allows 10,000 parts of at least 5 MiB.
const PART_BYTES_DEFAULT: u64 = 16 << 20;

/// A store over a network, before a prefix is put on it.
pub(super) struct Remote {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) uploads: Arc<dyn ObjectStore>,
    /// The address of the bucket itself, with its last slash.
    pub(super) root: String,
    pub(super) part_bytes: Option<u64>,
    pub(super) attributes: Attributes,
    pub(super) patience: Patience,
}

impl Bucket {
    /// Opens the bucket that the configuration names. A local folder is created where it is missing; to a store over a
    /// network nothing is sent yet.
    ///
    /// # Errors
    /// A folder that cannot be created or written, and settings that the store refuses.
    pub fn open(config: &BucketConfig, metrics: &Metrics) -> Result<Self, BucketError> {
        let instruments = Instruments::registered(metrics);
        let (remote, s3, whole_puts_only) = match &config.backend {
            Backend::Filesystem { directory } => {
                let files = DurableFiles::open(directory)?;
                let root = format!("{}/", files.root().display());
                let store: Arc<dyn ObjectStore> = Arc::new(files.clone());
                let local = Self::assemble(
                    store,
                    Patience::LOCAL,
                    HedgeSettings::OFF,
                    (instruments, Random::from_os()),
                );
                return Ok(Self { files: Some(files), root: Arc::from(root), ..local });
            }
            Backend::S3(settings) => {
                let (remote, s3) = s3::open(settings, &config.prefix, &instruments)?;
                (remote, Some(Arc::new(s3)), settings.whole_puts_only)
            }
            Backend::Gcs(settings) => (gcs::open(settings, &instruments)?, None, false),
            Backend::Azure(settings) => (azure::open(settings, &instruments)?, None, false),
        };
        let Remote { store, uploads, root, part_bytes, attributes, patience } = remote;
        let store = prefixed(store, &config.prefix);
        let bucket = Self::assemble(store, patience, config.hedging, (instruments, Random::from_os()));
        let root = match config.prefix.as_str() {
            "" => root,
            prefix => format!("{root}{prefix}/"),
        };
        // A file that has to go up as one put is verified as one object, which has its limit.
        let part_bytes =
            if whole_puts_only { OBJECT_BYTES_MAX } else { part_bytes.unwrap_or(PART_BYTES_DEFAULT) };
        Ok(Self {
            uploads: prefixed(uploads, &config.prefix),
            root: Arc::from(root),
            part_bytes,
            whole_puts_only,
            attributes,
            s3,
            ..bucket
        })
    }

    /// Wraps a store that is already there, such as one in memory. Nothing but a create is tried again.
    #[must_use]
    pub fn from_store(store: Arc<dyn ObjectStore>) -> Self {
        let made = (Instruments::default(), random_from_seed(0));
        Self::assemble(store, Patience::LOCAL, HedgeSettings::OFF, made)
    }

    /// Wraps a store that behaves like one behind a network: requests are tried again, and reads hedged.
    #[cfg(any(test, feature = "failpoints"))]
    #[must_use]
    pub fn from_remote_store(store: Arc<dyn ObjectStore>, random: Random) -> Self {
        Self::assemble(store, Patience::REMOTE, HedgeSettings::DEFAULT, (Instruments::default(), random))
    }

    pub(super) fn assemble(
        store: Arc<dyn ObjectStore>,
        patience: Patience,
        hedging: HedgeSettings,
        (instruments, random): (Instruments, Random),
    ) -> Self {
        Self {
            uploads: Arc::clone(&store),
            store,
            files: None,
            root: Arc::from("memory:///"),
            part_bytes: PART_BYTES_DEFAULT,
            whole_puts_only: false,
            attributes: Attributes::default(),
            attempts: Attempts::new(patience, random, instruments.clone()),
            hedges: Hedges::new(hedging, instruments.clone()),
            s3: None,
            lock: None,
            instruments,
        }
    }
}

fn prefixed(store: Arc<dyn ObjectStore>, prefix: &str) -> Arc<dyn ObjectStore> {
    match prefix {
        "" => store,
        prefix => Arc::new(PrefixStore::new(store, prefix)),
    }
}
