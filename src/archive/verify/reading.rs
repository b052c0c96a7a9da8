//! Reads objects again, several at once, within a budget of memory.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use xxhash_rust::xxh64::xxh64;

use super::inventory::{Inventory, Named};
use super::{VerifyProgress, VerifyReport};
use crate::archive::chain::decode;
use crate::archive::{Archive, ArchiveError, Manifest, Sha256Hash, StoredBlock};
use crate::bucket::ObjectKey;
use crate::model::SourceName;
use crate::runtime::Cpu;

/// So many objects are read at once.
pub(super) const READS_AT_ONCE: usize = 8;

/// After so many objects that the store did not give, the run ends.
pub(super) const UNAVAILABLE_MAX: usize = 16;

/// The memory that all objects being decoded may take, in units of 1 MiB.
const BUDGET_UNITS: u32 = 384;
const UNIT_BYTES: u64 = 1 << 20;

/// What came of decoding one object or file.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    pub(super) findings: Vec<(String, String)>,
    pub(super) errors: Vec<(String, ArchiveError)>,
    pub(super) read_objects: u64,
    pub(super) read_bytes: u64,
    pub(super) records: u64,
    pub(super) samples: u64,
    pub(super) blocks: u64,
}

impl Decoded {
    pub(super) fn add(&mut self, key: impl std::fmt::Display, what: impl Into<String>) {
        self.findings.push((key.to_string(), what.into()));
    }

    pub(super) fn into_report(self, report: &mut VerifyReport) -> Result<(), ArchiveError> {
        report.read_objects += self.read_objects;
        report.read_bytes += self.read_bytes;
        report.records += self.records;
        report.samples += self.samples;
        report.blocks += self.blocks;
        self.findings.into_iter().for_each(|(key, what)| report.add(key, what));
        self.errors.into_iter().try_for_each(|(key, error)| report.add_error(key, error))
    }
}

/// Reads and decodes objects of one archive.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) archive: &'a Archive,
    pub(super) cpu: &'a Cpu,
    pub(super) progress: &'a VerifyProgress,
    budget: Arc<Semaphore>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(archive: &'a Archive, cpu: &'a Cpu, progress: &'a VerifyProgress) -> Self {
        Self { archive, cpu, progress, budget: Arc::new(Semaphore::new(BUDGET_UNITS as usize)) }
    }

    pub(super) fn source(&self) -> &SourceName {
        self.archive.source()
    }

    /// Waits until so much memory is free. A larger object waits until it has all of it.
    pub(super) async fn reserve(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(BUDGET_UNITS).clamp(1, BUDGET_UNITS);
        Arc::clone(&self.budget).acquire_many_owned(units).await.ok()
    }

    /// Reads an object and checks its hash.
    pub(super) async fn stored(&self, key: &ObjectKey, sha256: Sha256Hash) -> Result<Bytes, ArchiveError> {
        let stored = self.archive.read_stored(key).await?;
        self.progress.read(stored.len() as u64);
        let hashed = stored.clone();
        let found = self.cpu.run(move || Sha256Hash::of(&hashed)).await?;
        if found == sha256 {
            return Ok(stored);
        }
        let reason = format!("its SHA-256 is {found} and not {sha256}");
        Err(ArchiveError::Damaged { key: key.to_string(), reason })
    }

    /// Reads a manifest, encrypted or not.
    pub(super) async fn manifest(&self, block: &StoredBlock) -> Result<Manifest, ArchiveError> {
        let key = block.manifest_key(self.source());
        let bytes = self.archive.read(&key, block.manifest_sha256).await?;
        let manifest: Manifest = decode(&key, &bytes)?;
        if manifest.block == block.id {
            return Ok(manifest);
        }
        let reason = format!("it is the manifest of block {}", manifest.block);
        Err(ArchiveError::Damaged { key: key.to_string(), reason })
    }

    /// Hashes the objects whose turn it is: those whose key falls into one of `share` equal parts.
    pub(super) async fn hash_share(
        &self,
        inventory: &Inventory,
        (share, turn): (u64, u64),
        report: &mut VerifyReport,
    ) -> Result<(), ArchiveError> {
        let is_due = |object: &Named| xxh64(object.key.to_string().as_bytes(), 0) % share == turn;
        let due: Vec<Named> = inventory.objects(self.source()).filter(is_due).collect();
        self.progress.plan(due.iter().filter_map(|object| object.bytes).sum());
        let reads = due.into_iter().map(|object| async move {
            let _room = self.reserve(object.bytes.unwrap_or(UNIT_BYTES)).await;
            let read = self.stored(&object.key, object.sha256).await;
            (object, read.map(|bytes| bytes.len() as u64))
        });
        let mut reads = futures::stream::iter(reads).buffer_unordered(READS_AT_ONCE);
        while let Some((object, read)) = reads.next().await {
            match read {
                Ok(bytes) => {
                    report.read_objects += 1;
                    report.read_bytes += bytes;
                }
                // Found by the listing already.
                Err(ArchiveError::Missing { .. }) => {}
                Err(error) => report.add_error(&object.key, error)?,
            }
        }
        Ok(())
    }
}
