//! What the catalog names.

use std::collections::BTreeMap;

use futures::StreamExt;

use super::VerifyReport;
use super::reading::{READS_AT_ONCE, Reader};
use crate::archive::roll_up::entries_of;
use crate::archive::{
    ArchiveError, DigestEntry, Link, Manifest, PieceEntry, Sha256Hash, StoredBlock, StoredFile,
};
use crate::bucket::{ArchiveObject, ObjectKey};
use crate::model::{ErrorKind, SourceName, Ulid};

/// An object with what is known of its stored bytes.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) key: ObjectKey,
    pub(super) bytes: Option<u64>,
    pub(super) sha256: Sha256Hash,
}

/// A block whose manifest could not be opened.
#[derive(Debug, Clone)]
pub(super) struct SealedBlock {
    pub(super) folder: String,
    pub(super) manifest: String,
    pub(super) stored_bytes: u64,
}

/// A stored block with its files, the tombstones not among them.
#[derive(Debug, Clone)]
pub(super) struct KnownBlock {
    pub(super) block: StoredBlock,
    pub(super) files: Vec<StoredFile>,
}

/// Everything that the catalog names, each object once.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    pub(super) pieces: Vec<PieceEntry>,
    stored: BTreeMap<Ulid, StoredBlock>,
    pub(super) blocks: Vec<KnownBlock>,
    pub(super) sealed: Vec<SealedBlock>,
    /// Files of checkpoints.
    pub(super) checkpoints: Vec<StoredFile>,
    pub(super) tombstones: Vec<StoredFile>,
    pub(super) digests: Vec<DigestEntry>,
}

impl Inventory {
    pub(super) fn of(links: &[Link]) -> Self {
        let mut inventory = Self::default();
        let mut checkpoints = BTreeMap::new();
        let mut tombstones = BTreeMap::new();
        for entry in entries_of(links) {
            inventory.pieces.extend(entry.pieces);
            inventory.digests.extend(entry.digests);
            let Some(base) = entry.base else { continue };
            for block in base.blocks.into_iter().flat_map(|block| block.stored) {
                if let Some(file) = &block.tombstones {
                    tombstones.entry(file.upload).or_insert_with(|| file.clone());
                }
                inventory.stored.entry(block.upload).or_insert(block);
            }
            for file in base.checkpoint.into_iter().flat_map(|checkpoint| checkpoint.files) {
                checkpoints.entry((file.upload, file.path.clone())).or_insert(file);
            }
        }
        inventory.checkpoints = checkpoints.into_values().collect();
        inventory.tombstones = tombstones.into_values().collect();
        inventory
    }

    /// Reads the manifests, which name the parts of the blocks.
    pub(super) async fn read_manifests(
        &mut self,
        reader: &Reader<'_>,
        report: &mut VerifyReport,
    ) -> Result<(), ArchiveError> {
        let stored = self.stored.values().cloned();
        let reads = stored.map(|block| async move { (reader.manifest(&block).await, block) });
        let mut reads = futures::stream::iter(reads).buffered(READS_AT_ONCE);
        let source = reader.source();
        while let Some((manifest, block)) = reads.next().await {
            let key = block.manifest_key(source);
            match manifest {
                Ok(Manifest { files, .. }) => {
                    for file in &files {
                        if file.part_key(source, 0).is_none() {
                            report
                                .add(&key, format!("it names the file {:?}, which no block has", file.path));
                        }
                    }
                    self.blocks.push(KnownBlock { block, files });
                }
                Err(ArchiveError::Envelope { source: error, .. }) if error.kind() == ErrorKind::Invalid => {
                    report.sealed_manifests += 1;
                    let manifest = key.to_string();
                    let folder = manifest.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
                    let stored_bytes = block.stored_bytes;
                    self.sealed.push(SealedBlock { folder, manifest, stored_bytes });
                }
                // A missing one is found by the listing.
                Err(ArchiveError::Missing { .. }) => {}
                Err(error) => report.add_error(&key, error)?,
            }
        }
        Ok(())
    }

    /// Iterates over all objects but those of the catalog itself.
    pub(super) fn objects<'a>(&'a self, source: &'a SourceName) -> impl Iterator<Item = Named> + 'a {
        let pieces = self.pieces.iter().map(|piece| Named {
            key: piece.key(source),
            bytes: Some(piece.stored_bytes),
            sha256: piece.stored_sha256,
        });
        let manifests = self.stored.values().map(|block| Named {
            key: block.manifest_key(source),
            bytes: None,
            sha256: block.manifest_sha256,
        });
        let files = self.blocks.iter().flat_map(|block| &block.files);
        let files = files.chain(&self.checkpoints).chain(&self.tombstones);
        let parts = files.flat_map(|file| {
            file.parts.iter().enumerate().filter_map(|(number, part)| {
                let key = file.part_key(source, u32::try_from(number).ok()?)?;
                Some(Named { key, bytes: Some(part.stored_bytes), sha256: part.stored_sha256 })
            })
        });
        let digests = self.digests.iter().map(|digest| Named {
            key: ObjectKey::archive(source, ArchiveObject::Digest { id: digest.id }),
            bytes: Some(digest.stored_bytes),
            sha256: digest.stored_sha256,
        });
        pieces.chain(manifests).chain(parts).chain(digests)
    }
}
