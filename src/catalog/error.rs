//! What can go wrong with the catalog.

use crate::bucket::BucketError;
use crate::model::{ErrorKind, TenantId, Ulid};

/// A failure of the catalog.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The bucket failed.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// Stored bytes are not what they should be.
    #[error("the catalog object {key} is damaged: {reason}; restore it from a copy of the bucket")]
    Damaged {
        /// The object's key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// A newer program wrote this.
    #[error(
        "the catalog object {key} has format {found} and this program reads up to {known}: update this program"
    )]
    NewerFormat {
        /// The object's key.
        key: String,
        /// Its format.
        found: u32,
        /// The newest format known.
        known: u32,
    },
    /// A newer program asks older ones not to write.
    #[error(
        "the catalog of tenant {tenant} may be written by writers from {needed} on and this is {ours}: update \
         this program"
    )]
    NewerWriter {
        /// Whose catalog.
        tenant: TenantId,
        /// The least writer.
        needed: u32,
        /// This writer.
        ours: u32,
    },
    /// There is no such version.
    #[error(
        "the catalog of tenant {tenant} has no version {version}: it was never made, or is older than the history"
    )]
    NoSuchVersion {
        /// Whose catalog.
        tenant: TenantId,
        /// The version asked for.
        version: u64,
    },
    /// A change contradicts itself.
    #[error("the change is refused: {reason}")]
    BadChange {
        /// What is wrong.
        reason: String,
    },
    /// The log entries of a change do not follow those in the catalog.
    #[error(
        "epoch {epoch} is covered through {covered} and the change starts after {after_seq}: somebody else has \
         committed its entries, read the catalog again"
    )]
    Fenced {
        /// The epoch of the log.
        epoch: Ulid,
        /// What the catalog covers.
        covered: u64,
        /// What the change expects.
        after_seq: u64,
    },
    /// Somebody else owns the rest of an epoch.
    #[error("epoch {epoch} was sealed by receiver {by:?}: its former owner commits nothing more")]
    Sealed {
        /// The epoch of the log.
        epoch: Ulid,
        /// Who sealed it.
        by: String,
    },
    /// A block is there already.
    #[error("block {id} is in the catalog already")]
    BlockTwice {
        /// The block.
        id: Ulid,
    },
    /// A block to be removed is not there.
    #[error("block {id} is not in the catalog: somebody else has removed it, read the catalog again")]
    BlockMissing {
        /// The block.
        id: Ulid,
    },
    /// A change names an object that will be deleted.
    #[error("{key} is listed for deletion: store it again under a new id")]
    DoomedKey {
        /// The object's key.
        key: String,
    },
    /// Two label columns differ in case only, or a block has a column that the tenant has not.
    #[error(
        "label column {column:?} does not fit the tenant's columns ({reason}): write the block again with the \
         columns of the newest version"
    )]
    LabelColumn {
        /// The column.
        column: String,
        /// What is wrong.
        reason: String,
    },
    /// The tombstones are not those that a change was made for.
    #[error("somebody else has changed the tombstones of tenant {tenant}: read the catalog again")]
    TombstonesChanged {
        /// Whose catalog.
        tenant: TenantId,
    },
    /// Others were faster too often.
    #[error(
        "the catalog of tenant {tenant} changed {attempts} times while a change was made: try again later"
    )]
    Contended {
        /// Whose catalog.
        tenant: TenantId,
        /// How often it was tried.
        attempts: u32,
    },
    /// A version breaks an invariant.
    #[error("version {version} of the catalog is inconsistent: {reason}; this is a defect, please report it")]
    Inconsistent {
        /// The version.
        version: u64,
        /// What is wrong.
        reason: String,
    },
}

impl CatalogError {
    /// Returns what the failure asks of the caller.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Bucket(error) => error.kind(),
            Self::Damaged { .. } => ErrorKind::Corrupt,
            Self::NewerFormat { .. } | Self::NewerWriter { .. } => ErrorKind::Unsupported,
            Self::NoSuchVersion { .. } => ErrorKind::NotFound,
            Self::BadChange { .. } => ErrorKind::Invalid,
            Self::Fenced { .. }
            | Self::Sealed { .. }
            | Self::BlockTwice { .. }
            | Self::BlockMissing { .. }
            | Self::DoomedKey { .. }
            | Self::LabelColumn { .. }
            | Self::TombstonesChanged { .. } => ErrorKind::Conflict,
            Self::Contended { .. } => ErrorKind::Unavailable,
            Self::Inconsistent { .. } => ErrorKind::Internal,
        }
    }
}
