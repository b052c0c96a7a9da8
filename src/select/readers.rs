//! Open blocks: footers and page indexes, kept within a budget.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::error::SelectError;
use super::local_blocks::{LocalBlocks, read_file};
use crate::block::{BlockError, BlockReader, ExemplarReader, MetadataReader, RangeRead, ReadFailure};
use crate::bucket::{Bucket, ObjectKey};
use crate::catalog::BlockEntry;
use crate::model::{ErrorKind, MetadataEntry, TenantId, Ulid};
use crate::runtime::Cpu;

/// Memory for open blocks of exemplars.
const EXEMPLAR_READERS_BYTES_MAX: u64 = 8 << 20;

/// Memory for what blocks of metadata hold.
const METADATA_BYTES_MAX: u64 = 32 << 20;

/// A block's object in the bucket.
#[derive(Debug)]
pub struct BlockObject {
    bucket: Bucket,
    key: ObjectKey,
}

impl BlockObject {
    /// Names an object to read ranges of.
    #[must_use]
    pub fn new(bucket: Bucket, key: ObjectKey) -> Self {
        Self { bucket, key }
    }
}

impl RangeRead for BlockObject {
    fn read_ranges<'a>(&'a self, ranges: &'a [Range<u64>]) -> BoxFuture<'a, Result<Vec<Bytes>, ReadFailure>> {
        Box::pin(async move {
            let bytes = self.bucket.get_ranges(&self.key, ranges).await;
            bytes.map_err(|error| ReadFailure { kind: error.kind(), source: Box::new(error) })
        })
    }
}

/// A block whose file is still on this machine; once it is gone, its object is read.
#[derive(Debug)]
struct LocalObject {
    path: PathBuf,
    object: BlockObject,
    cpu: Cpu,
}

impl RangeRead for LocalObject {
    fn read_ranges<'a>(&'a self, ranges: &'a [Range<u64>]) -> BoxFuture<'a, Result<Vec<Bytes>, ReadFailure>> {
        Box::pin(async move {
            let (path, asked) = (self.path.clone(), ranges.to_vec());
            let read = self.cpu.run(move || read_file(&path, &asked)).await;
            let read = read.map_err(|e| ReadFailure { kind: ErrorKind::Internal, source: Box::new(e) })?;
            match read? {
                Some(bytes) => Ok(bytes),
                None => self.object.read_ranges(ranges).await,
            }
        })
    }
}

/// Opens blocks once and keeps them open.
#[derive(Debug, Clone)]
pub(super) struct BlockReaders {
    bucket: Bucket,
    cpu: Cpu,
    local: Option<Arc<LocalBlocks>>,
    open: moka::future::Cache<Ulid, BlockReader>,
    exemplars: moka::future::Cache<Ulid, ExemplarReader>,
    metadata: moka::future::Cache<Ulid, Arc<Vec<MetadataEntry>>>,
}

impl BlockReaders {
    pub(super) fn new(bucket: Bucket, cpu: Cpu, memory_bytes_max: u64) -> Self {
        let open = moka::future::Cache::builder()
            .max_capacity(memory_bytes_max)
            .weigher(|_, reader: &BlockReader| u32::try_from(reader.memory_bytes()).unwrap_or(u32::MAX))
            .build();
        let exemplars = moka::future::Cache::builder()
            .max_capacity(EXEMPLAR_READERS_BYTES_MAX)
            .weigher(|_, reader: &ExemplarReader| u32::try_from(reader.memory_bytes()).unwrap_or(u32::MAX))
            .build();
        let metadata = moka::future::Cache::builder()
            .max_capacity(METADATA_BYTES_MAX)
            .weigher(|_, entries: &Arc<Vec<MetadataEntry>>| {
                u32::try_from(metadata_bytes(entries)).unwrap_or(u32::MAX)
            })
            .build();
        Self { bucket, cpu, local: None, open, exemplars, metadata }
    }

    /// Reads these blocks from their files.
    pub(super) fn with_local_blocks(self, local: Arc<LocalBlocks>) -> Self {
        Self { local: Some(local), ..self }
    }

    /// Returns the reader of a block, opening it if needed.
    pub(super) async fn open(
        &self,
        tenant: &TenantId,
        entry: &BlockEntry,
    ) -> Result<BlockReader, SelectError> {
        let opening = async {
            let object = self.object(tenant, entry);
            BlockReader::open(object, self.cpu.clone(), entry.size_bytes).await
        };
        let opened = self.open.try_get_with(entry.id, opening).await;
        opened.map_err(|error| not_opened(entry.id, &error))
    }

    /// Returns what reads ranges of a block's bytes.
    fn object(&self, tenant: &TenantId, entry: &BlockEntry) -> Arc<dyn RangeRead> {
        let object = BlockObject::new(self.bucket.clone(), ObjectKey::block(tenant, entry.id));
        match self.local.as_ref().and_then(|local| local.path(tenant, entry.id)) {
            Some(path) => Arc::new(LocalObject { path, object, cpu: self.cpu.clone() }),
            None => Arc::new(object),
        }
    }

    /// Returns the reader of a block of exemplars, opening it if needed.
    pub(super) async fn open_exemplars(
        &self,
        tenant: &TenantId,
        entry: &BlockEntry,
    ) -> Result<ExemplarReader, SelectError> {
        let opening = async {
            let object = self.object(tenant, entry);
            ExemplarReader::open(object, self.cpu.clone(), entry.size_bytes).await
        };
        let opened = self.exemplars.try_get_with(entry.id, opening).await;
        opened.map_err(|error| not_opened(entry.id, &error))
    }

    /// Returns the entries of a block of metadata, reading it if needed.
    pub(super) async fn metadata(
        &self,
        tenant: &TenantId,
        entry: &BlockEntry,
    ) -> Result<Arc<Vec<MetadataEntry>>, SelectError> {
        let reading = async {
            let object = self.object(tenant, entry);
            let reader = MetadataReader::open(object, self.cpu.clone(), entry.size_bytes).await?;
            reader.entries().await.map(Arc::new)
        };
        let read = self.metadata.try_get_with(entry.id, reading).await;
        read.map_err(|error| not_opened(entry.id, &error))
    }
}

fn not_opened(id: Ulid, error: &Arc<BlockError>) -> SelectError {
    SelectError::Open { id, reason: error.to_string(), kind: error.kind() }
}

fn metadata_bytes(entries: &[MetadataEntry]) -> usize {
    let text =
        |entry: &MetadataEntry| entry.family.len() + entry.metadata.help.len() + entry.metadata.unit.len();
    entries.iter().map(|entry| size_of::<MetadataEntry>() + text(entry)).sum()
}
