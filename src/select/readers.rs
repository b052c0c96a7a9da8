//! Open blocks: footers and page indexes, kept within a budget.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::error::SelectError;
use super::local_blocks::{LocalBlocks, read_file};
use crate::block::{BlockError, BlockReader, RangeRead, ReadFailure};
use crate::bucket::{Bucket, ObjectKey};
use crate::catalog::BlockEntry;
use crate::model::{ErrorKind, TenantId, Ulid};
use crate::runtime::Cpu;

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
}

impl BlockReaders {
    pub(super) fn new(bucket: Bucket, cpu: Cpu, memory_bytes_max: u64) -> Self {
        let open = moka::future::Cache::builder()
            .max_capacity(memory_bytes_max)
            .weigher(|_, reader: &BlockReader| u32::try_from(reader.memory_bytes()).unwrap_or(u32::MAX))
            .build();
        Self { bucket, cpu, local: None, open }
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
            let key = ObjectKey::block(tenant, entry.id);
            let object = BlockObject::new(self.bucket.clone(), key);
            let local = self.local.as_ref().and_then(|local| local.path(tenant, entry.id));
            let object: Arc<dyn RangeRead> = match local {
                Some(path) => Arc::new(LocalObject { path, object, cpu: self.cpu.clone() }),
                None => Arc::new(object),
            };
            BlockReader::open(object, self.cpu.clone(), entry.size_bytes).await
        };
        let opened = self.open.try_get_with(entry.id, opening).await;
        opened.map_err(|error: Arc<BlockError>| SelectError::Open {
            id: entry.id,
            reason: error.to_string(),
            kind: error.kind(),
        })
    }
}
