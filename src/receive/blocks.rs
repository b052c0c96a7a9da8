//! From a frozen head to committed blocks.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use ulid::Ulid;

use super::pending::CreateProbe;
use super::written_metadata::{Said, WrittenMetadata};
use crate::block::{BlockError, HashingWriter};
use crate::bucket::{BucketError, Created, ObjectKey};
use crate::catalog::{BlockEntry, CatalogError, Catalogs, CoverChange, Snapshot};
use crate::model::{BlockKind, ErrorKind, Labels, TenantId};
use crate::runtime::{Clock, Cpu, CpuError, Random, crash_point};
use crate::select::LocalBlocks;

/// A block file up to this size is read once, so that the bytes that were compared are those that are stored.
const BLOCK_BYTES_HELD_MAX: u64 = 8 << 20;

/// Why a head did not become blocks yet.
#[derive(Debug, thiserror::Error)]
pub enum CutError {
    /// A block file could not be written.
    #[error("cannot write {path}: {source}; make room or mend the disk, the cut is tried again")]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
    /// A block file is not what was written into it.
    #[error("{0} has changed since it was written: check the disk; the block is built again")]
    Changed(PathBuf),
    /// A block could not be built.
    #[error("cannot build a block: {0}")]
    Block(#[from] BlockError),
    /// The object store refused or failed.
    #[error("cannot store a block: {0}")]
    Bucket(#[from] BucketError),
    /// The catalog refused or failed.
    #[error("cannot commit to the catalog: {0}")]
    Catalog(#[from] CatalogError),
    /// A compute job panicked.
    #[error(transparent)]
    Cpu(#[from] CpuError),
    /// A file that waited for its upload cannot be committed, and its head is gone.
    #[error("{0}; its samples are in the log: the process ends, and its next start takes them from there")]
    Restart(#[source] Box<CutError>),
    /// The process is stopping.
    #[error("the process is stopping")]
    Stopped,
}

impl CutError {
    /// Returns what the failure asks of the caller.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::File { .. } | Self::Stopped => ErrorKind::Unavailable,
            Self::Changed(_) => ErrorKind::Corrupt,
            Self::Restart(cause) => cause.kind(),
            Self::Block(error) => error.kind(),
            Self::Bucket(error) => error.kind(),
            Self::Catalog(error) => error.kind(),
            Self::Cpu(_) => ErrorKind::Internal,
        }
    }
}

/// Where blocks go and what they are marked with.
#[derive(Debug, Clone)]
pub struct BlockTarget {
    /// The catalogs, and with them the bucket.
    pub catalogs: Arc<Catalogs>,
    /// Where block files wait for their upload.
    pub pending_dir: PathBuf,
    /// The blocks that readers are served from there.
    pub local: Arc<LocalBlocks>,
    /// Whether the bucket is fit for commits.
    pub probe: CreateProbe,
    /// The labels that identify this producer.
    pub external_labels: Labels,
    /// The name of this receiver.
    pub receiver: String,
    /// Compute threads.
    pub cpu: Cpu,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where ids come from.
    pub random: Random,
    /// Which metadata is in blocks already.
    pub written_metadata: WrittenMetadata,
}

/// A block file that waits for its upload.
#[derive(Debug, Clone)]
pub(super) struct PendingBlock {
    pub(super) path: PathBuf,
    pub(super) entry: BlockEntry,
}

/// Which labels get columns.
#[derive(Debug)]
pub(super) enum Columns {
    /// Those of the newest catalog, and what the head's series bring.
    Extended(Vec<String>),
    /// These, where the newest catalog is not known.
    Only(Vec<String>),
}

/// The blocks of one head and the label columns that they need.
#[derive(Debug, Clone)]
pub(super) struct PendingBlocks {
    pub(super) label_columns: Vec<String>,
    /// What the head said about metric families, in these blocks or in earlier ones.
    pub(super) said: Said,
    pub(super) blocks: Vec<PendingBlock>,
}

impl BlockTarget {
    /// Removes block files of an earlier process: the log still has their samples.
    ///
    /// # Errors
    /// The directory cannot be emptied or made.
    pub fn clear_pending(&self) -> Result<(), CutError> {
        let failed = |source| CutError::File { path: self.pending_dir.clone(), source };
        match std::fs::remove_dir_all(&self.pending_dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        std::fs::create_dir_all(&self.pending_dir).map_err(failed)
    }

    /// Stores a block file after comparing it with what was written: its samples leave the log once it is committed.
    async fn upload(&self, key: &ObjectKey, block: &PendingBlock) -> Result<(), CutError> {
        let (path, wanted) = (block.path.clone(), block.entry.sha256.clone());
        let failed = |source| CutError::File { path: block.path.clone(), source };
        let small = block.entry.size_bytes <= BLOCK_BYTES_HELD_MAX;
        let read = self.cpu.run(move || -> io::Result<(Vec<u8>, String)> {
            let (mut file, mut held) = (File::open(&path)?, Vec::new());
            let mut hash = HashingWriter::new(io::sink());
            if small {
                file.read_to_end(&mut held)?;
                hash.write_all(&held)?;
            } else {
                io::copy(&mut file, &mut hash)?;
            }
            Ok((held, hash.finish().2))
        });
        let (held, sha256) = read.await?.map_err(failed)?;
        if sha256 != wanted {
            return Err(CutError::Changed(block.path.clone()));
        }
        let bucket = self.catalogs.bucket();
        if !small {
            return Ok(bucket.create_from_file(key, &block.path).await?);
        }
        match bucket.create(key, Bytes::from(held)).await? {
            Created::Stored => Ok(()),
            Created::Conflict(_) => Err(BucketError::Occupied { key: key.to_string() }.into()),
        }
    }

    /// Uploads the blocks and commits them together with what they cover of the log.
    pub(super) async fn commit(
        &self,
        tenant: &TenantId,
        pending: &PendingBlocks,
        (covered, forget_epochs): (Vec<CoverChange>, Vec<Ulid>),
    ) -> Result<Arc<Snapshot>, CutError> {
        self.probe.pass(self.catalogs.bucket(), &self.random).await?;
        for block in &pending.blocks {
            self.upload(&ObjectKey::block(tenant, block.entry.id), block).await?;
            crash_point("cut.after_upload");
        }
        let catalog = self.catalogs.of(tenant);
        let mut change = catalog.new_change();
        change.add = pending.blocks.iter().map(|b| b.entry.clone()).collect();
        change.label_columns = pending.label_columns.clone();
        change.covered = covered;
        change.forget_epochs = forget_epochs;
        crash_point("cut.before_commit");
        let snapshot = catalog.commit(&change).await?;
        crash_point("cut.after_commit");
        self.written_metadata.note(tenant, &pending.said);
        Ok(snapshot)
    }
}

/// Removes a block file; one that stays is removed at the next start.
fn remove_pending(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(%error, path = %path.display(), "cannot remove a block file");
    }
}

impl PendingBlocks {
    /// Removes the files.
    pub(super) fn discard(&self) {
        self.blocks.iter().for_each(|b| remove_pending(&b.path));
    }

    /// Returns each block with its file.
    pub(super) fn files(&self) -> impl Iterator<Item = (BlockEntry, PathBuf)> {
        self.blocks.iter().map(|b| (b.entry.clone(), b.path.clone()))
    }

    pub(super) fn ids(&self) -> Vec<Ulid> {
        self.blocks.iter().map(|b| b.entry.id).collect()
    }

    /// Returns the number of samples, floats and histograms.
    pub(super) fn samples(&self) -> u64 {
        let kinds = [BlockKind::Samples, BlockKind::Histograms];
        self.blocks.iter().filter(|b| kinds.contains(&b.entry.kind)).map(|b| b.entry.samples).sum()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.blocks.iter().map(|b| b.entry.size_bytes).sum()
    }

    pub(super) fn count(&self) -> usize {
        self.blocks.len()
    }
}
