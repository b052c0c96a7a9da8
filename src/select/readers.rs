//! Open blocks, and their bytes through the caches.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};

use super::budget::QueryBudget;
use super::cache::{Kind, ReadCache};
use super::error::SelectError;
use super::local_blocks::{LocalBlocks, read_file};
use crate::block::{
    Admission, BlockError, BlockReader, ExemplarReader, MetadataReader, RangeRead, ReadFailure,
    expected_index_bytes, join_ranges,
};
use crate::bucket::{Bucket, ObjectKey};
use crate::catalog::BlockEntry;
use crate::model::{ErrorKind, MetadataEntry, TenantId, Ulid};
use crate::runtime::Cpu;

/// Memory for open blocks of exemplars.
const EXEMPLAR_READERS_BYTES_MAX: u64 = 8 << 20;

/// Memory for what blocks of metadata hold.
const METADATA_BYTES_MAX: u64 = 32 << 20;

/// So many ranges of one block are fetched at once by one query.
const REQUESTS_AT_ONCE: usize = 16;

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
    /// Fetches ranges side by side, each in a request of its own.
    fn read_ranges<'a>(&'a self, ranges: &'a [Range<u64>]) -> BoxFuture<'a, Result<Vec<Bytes>, ReadFailure>> {
        let get = async |range: &Range<u64>| {
            let read = self.bucket.get_ranges(&self.key, std::slice::from_ref(range)).await;
            let read = read.map_err(|e| {
                // What a catalog names and is not there leaves an answer incomplete; the query itself was right.
                let kind = if e.kind() == ErrorKind::NotFound { ErrorKind::Incomplete } else { e.kind() };
                ReadFailure { kind, source: Box::new(e) }
            })?;
            Ok(read.into_iter().next().unwrap_or_default())
        };
        let gets = ranges.iter().map(get).collect::<Vec<_>>();
        Box::pin(futures::stream::iter(gets).buffered(REQUESTS_AT_ONCE).try_collect())
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

/// A block's object as one query or one opening reads it: through the caches, within the query's budget.
#[derive(Debug)]
struct CachedObject {
    object: BlockObject,
    cache: Arc<ReadCache>,
    id: Ulid,
    size_bytes: u64,
    kind: Kind,
    budget: Option<Arc<QueryBudget>>,
}

impl CachedObject {
    async fn fetch(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, ReadFailure> {
        if let Some(budget) = &self.budget {
            budget.fetch(ranges.iter().map(|r| r.end - r.start).sum())?;
        }
        self.object.read_ranges(ranges).await
    }

    async fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, ReadFailure> {
        // A small block is in memory as a whole.
        let held = ranges.iter().map(|range| self.cache.in_memory_range(self.id, range));
        match held.collect::<Option<Vec<Bytes>>>() {
            Some(held) => Ok(held),
            None => self.fetch(ranges).await,
        }
    }

    async fn read_index(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, ReadFailure> {
        let (mut answer, mut missing) = (Vec::with_capacity(ranges.len()), Vec::new());
        for range in ranges {
            let kept = self.cache.get(self.id, range, self.kind).await;
            if kept.is_none() {
                missing.push(range.clone());
            }
            answer.push(kept);
        }
        let joined = join_ranges(missing);
        let fetched = self.fetch(&joined).await?;
        for (extent, bytes) in joined.iter().zip(&fetched) {
            if bytes.len() as u64 == extent.end - extent.start {
                let whole = *extent == (0..self.size_bytes);
                self.cache.keep(self.id, extent.clone(), bytes, (self.kind, whole)).await;
            }
        }
        let cut = |(range, kept): (&Range<u64>, Option<Bytes>)| {
            kept.or_else(|| {
                let at = joined.partition_point(|extent| extent.start <= range.start).checked_sub(1)?;
                let from = usize::try_from(range.start - joined[at].start).ok()?;
                let to = from.checked_add(usize::try_from(range.end - range.start).ok()?)?;
                (to <= fetched.get(at)?.len()).then(|| fetched[at].slice(from..to))
            })
        };
        let answer: Option<Vec<Bytes>> = ranges.iter().zip(answer).map(cut).collect();
        answer.ok_or_else(|| ReadFailure {
            kind: ErrorKind::Unavailable,
            source: "the storage returned fewer bytes than asked for".into(),
        })
    }
}

impl RangeRead for CachedObject {
    fn read_ranges<'a>(&'a self, ranges: &'a [Range<u64>]) -> BoxFuture<'a, Result<Vec<Bytes>, ReadFailure>> {
        Box::pin(self.read(ranges))
    }

    fn read_index_ranges<'a>(
        &'a self,
        ranges: &'a [Range<u64>],
    ) -> BoxFuture<'a, Result<Vec<Bytes>, ReadFailure>> {
        Box::pin(self.read_index(ranges))
    }
}

/// Opens blocks once and keeps them open.
#[derive(Debug, Clone)]
pub(super) struct BlockReaders {
    bucket: Bucket,
    cpu: Cpu,
    local: Option<Arc<LocalBlocks>>,
    cache: Arc<ReadCache>,
    exemplars: moka::future::Cache<Ulid, ExemplarReader>,
    metadata: moka::future::Cache<Ulid, Arc<Vec<MetadataEntry>>>,
}

impl BlockReaders {
    pub(super) fn new(bucket: Bucket, cpu: Cpu, cache: Arc<ReadCache>) -> Self {
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
        Self { bucket, cpu, local: None, cache, exemplars, metadata }
    }

    /// Reads these blocks from their files.
    pub(super) fn with_local_blocks(self, local: Arc<LocalBlocks>) -> Self {
        Self { local: Some(local), ..self }
    }

    fn source(
        &self,
        tenant: &TenantId,
        entry: &BlockEntry,
        kind: Kind,
        budget: Option<&Arc<QueryBudget>>,
    ) -> Arc<dyn RangeRead> {
        let object = BlockObject::new(self.bucket.clone(), ObjectKey::block(tenant, entry.id));
        if let Some(path) = self.local.as_ref().and_then(|local| local.path(tenant, entry.id)) {
            return Arc::new(LocalObject { path, object, cpu: self.cpu.clone() });
        }
        let (id, size_bytes, budget) = (entry.id, entry.size_bytes, budget.cloned());
        Arc::new(CachedObject { object, cache: Arc::clone(&self.cache), id, size_bytes, kind, budget })
    }

    /// Returns the reader of a block for one query, opening it if needed.
    pub(super) async fn open(
        &self,
        tenant: &TenantId,
        entry: &BlockEntry,
        budget: Option<&Arc<QueryBudget>>,
    ) -> Result<BlockReader, SelectError> {
        let source = self.source(tenant, entry, Kind::Footer, None);
        let index_bytes = expected_index_bytes(entry.samples, entry.rows, entry.label_columns.len());
        let opening = BlockReader::open_expecting(source, self.cpu.clone(), entry.size_bytes, index_bytes);
        let opened = self.cache.opened(entry.id, opening).await;
        let opened = opened.map_err(|error| not_opened(entry.id, &error))?;
        let admission = budget.map(|budget| Arc::clone(budget) as Arc<dyn Admission>);
        Ok(opened.for_query(self.source(tenant, entry, Kind::Labels, budget), admission))
    }

    /// Returns the reader of a block of exemplars for one query, opening it if needed.
    pub(super) async fn open_exemplars(
        &self,
        tenant: &TenantId,
        entry: &BlockEntry,
        budget: Option<&Arc<QueryBudget>>,
    ) -> Result<ExemplarReader, SelectError> {
        let opening = async {
            let object = self.source(tenant, entry, Kind::Footer, None);
            ExemplarReader::open(object, self.cpu.clone(), entry.size_bytes).await
        };
        let opened = self.exemplars.try_get_with(entry.id, opening).await;
        let opened = opened.map_err(|error| not_opened(entry.id, &error))?;
        let admission = budget.map(|budget| Arc::clone(budget) as Arc<dyn Admission>);
        Ok(opened.for_query(self.source(tenant, entry, Kind::Labels, budget), admission))
    }

    /// Returns the entries of a block of metadata, reading it if needed.
    pub(super) async fn metadata(
        &self,
        tenant: &TenantId,
        entry: &BlockEntry,
    ) -> Result<Arc<Vec<MetadataEntry>>, SelectError> {
        let reading = async {
            let object = self.source(tenant, entry, Kind::Labels, None);
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
