//! The blocks of a Prometheus data directory, read only.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::SelectError;
use crate::model::{
    HistogramSample, Labels, Matcher, NativeHistogram, Sample, SeriesData, TimeRange, Ulid, normalize_samples,
};
use crate::tsdb::block::{
    BlockChunks, BlockError, BlockFile, BlockMeta, ChunkMeta, IndexReader, ReadAt, SeriesEntry, Tombstone,
    decode_tombstones,
};
use crate::tsdb::chunk::{ChunkSample, SampleValue, decode_chunk};

#[cfg(test)]
mod tests;

/// Prometheus ends a chunk after twice its 120 samples at the latest.
const CHUNK_SAMPLES_MAX: u64 = 240;

/// `meta.json` and `tombstones` are read whole; larger ones are refused.
const SMALL_FILE_BYTES_MAX: u64 = 256 << 20;

/// A file that stays open and is read at any place.
#[derive(Debug)]
struct DiskFile {
    file: File,
    size_bytes: u64,
}

impl DiskFile {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let size_bytes = file.metadata()?.len();
        Ok(Self { file, size_bytes })
    }
}

impl ReadAt for DiskFile {
    fn read_at(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        if range.start > range.end || range.end > self.size_bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let length = usize::try_from(range.end - range.start).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, range.start)?;
        Ok(Cow::Owned(bytes))
    }

    fn len(&self) -> u64 {
        self.size_bytes
    }
}

/// One block.
#[derive(Debug)]
pub(super) struct TsdbBlock {
    id: Ulid,
    range: TimeRange,
    index: IndexReader<DiskFile>,
    chunks: Vec<DiskFile>,
    /// What queries leave out of a series, both ends included.
    tombstones: HashMap<u32, Vec<(i64, i64)>>,
}

/// A series that was found: labels, place in the index, samples at most.
pub(super) type TsdbSeries = (Labels, u32, u64);

impl TsdbBlock {
    fn open(folder: &Path, id: Ulid, meta: &BlockMeta) -> Result<Self, SelectError> {
        let failed = |source| SelectError::TsdbBlock { id, source };
        let open = |file: BlockFile| {
            let path = folder.join(file.to_string());
            DiskFile::open(&path).map_err(|source| {
                failed(BlockError::Io { doing: format!("open {}", path.display()), source })
            })
        };
        let index = IndexReader::open(open(BlockFile::Index)?).map_err(failed)?;
        let mut chunks = Vec::new();
        for number in 0.. {
            if !folder.join(BlockFile::Chunks(number).to_string()).exists() {
                break;
            }
            chunks.push(open(BlockFile::Chunks(number))?);
        }
        BlockChunks::open(&chunks).map_err(failed)?;
        let bytes = read_small(&folder.join(BlockFile::Tombstones.to_string())).or_else(|error| {
            // Prometheus takes a missing file for an empty one.
            if error.kind() == io::ErrorKind::NotFound { Ok(None) } else { Err(error) }
        });
        let bytes =
            bytes.map_err(|source| failed(BlockError::Io { doing: "read tombstones".to_owned(), source }))?;
        let tombstones = match bytes {
            Some(bytes) => by_series(&decode_tombstones(&bytes).map_err(failed)?),
            None => HashMap::new(),
        };
        let range = TimeRange { start_ms: meta.min_time_ms, end_ms: meta.max_time_ms };
        Ok(Self { id, range, index, chunks, tombstones })
    }

    pub(super) const fn range(&self) -> TimeRange {
        self.range
    }

    /// Returns the matching series with chunks that touch the range and are not deleted.
    pub(super) fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<TsdbSeries>, SelectError> {
        let mut found = Vec::new();
        let mut keep = |entry: SeriesEntry| {
            let chunks = entry.chunks.iter().filter(|chunk| self.is_visible(entry.reference, chunk, range));
            let samples_max = chunks.count() as u64 * CHUNK_SAMPLES_MAX;
            if samples_max > 0 {
                found.push((entry.labels, entry.reference, samples_max));
            }
        };
        let outcome = if matchers.is_empty() {
            self.index.series().try_for_each(|entry| entry.map(&mut keep))
        } else {
            let references = self.index.series_matching(matchers);
            references
                .and_then(|list| list.into_iter().try_for_each(|r| self.index.series_at(r).map(&mut keep)))
        };
        outcome.map_err(|source| SelectError::TsdbBlock { id: self.id, source })?;
        Ok(found)
    }

    /// Returns whether a chunk touches a range and some of what it has there may not be deleted.
    fn is_visible(&self, reference: u32, chunk: &ChunkMeta, range: TimeRange) -> bool {
        if !touches(chunk, range) {
            return false;
        }
        let from_ms = chunk.min_time_ms.max(range.start_ms);
        let to_ms = chunk.max_time_ms.min(range.end_ms.saturating_sub(1));
        let deleted = self.tombstones.get(&reference).into_iter().flatten();
        !deleted.into_iter().any(|(first_ms, last_ms)| *first_ms <= from_ms && to_ms <= *last_ms)
    }

    /// Reads some series within a range, deleted samples left out, in the order asked for.
    pub(super) fn read(&self, references: &[u32], range: TimeRange) -> Result<Vec<SeriesData>, SelectError> {
        let failed = |source| SelectError::TsdbBlock { id: self.id, source };
        let mut chunks = BlockChunks::open(&self.chunks).map_err(failed)?;
        let series = references.iter().map(|reference| {
            let entry = self.index.series_at(*reference)?;
            self.read_series(&entry, &mut chunks, range)
        });
        series.collect::<Result<_, _>>().map_err(failed)
    }

    fn read_series(
        &self,
        entry: &SeriesEntry,
        chunks: &mut BlockChunks<'_, DiskFile>,
        range: TimeRange,
    ) -> Result<SeriesData, BlockError> {
        let mut data = SeriesData::default();
        let deleted = self.tombstones.get(&entry.reference).map_or(&[][..], Vec::as_slice);
        let is_deleted = |t_ms: i64| deleted.iter().any(|(first, last)| (*first..=*last).contains(&t_ms));
        for chunk in entry.chunks.iter().filter(|chunk| self.is_visible(entry.reference, chunk, range)) {
            let found = chunks.read(chunk.reference)?;
            for sample in decode_chunk(found.encoding, found.data) {
                let sample = sample?;
                if range.contains(sample.t_ms) && !is_deleted(sample.t_ms) {
                    push(&mut data, sample);
                }
            }
        }
        // Blocks of other writers may have chunks that overlap.
        normalize_samples(&mut data.samples);
        Ok(SeriesData::merge(vec![data]))
    }
}

fn push(data: &mut SeriesData, sample: ChunkSample) {
    let (ts_ms, start_ms) = (sample.t_ms, sample.start_ms.unwrap_or(0));
    let histogram = match sample.value {
        SampleValue::Float(bits) => {
            data.samples.push(Sample { ts_ms, value: f64::from_bits(bits), start_ms });
            return;
        }
        SampleValue::Histogram(value) => NativeHistogram::Int(value),
        SampleValue::FloatHistogram(value) => NativeHistogram::Float(value),
    };
    data.histograms.push(HistogramSample { ts_ms, start_ms, histogram });
}

fn touches(chunk: &ChunkMeta, range: TimeRange) -> bool {
    chunk.min_time_ms < range.end_ms && range.start_ms <= chunk.max_time_ms
}

fn by_series(tombstones: &[Tombstone]) -> HashMap<u32, Vec<(i64, i64)>> {
    let mut by_series: HashMap<u32, Vec<(i64, i64)>> = HashMap::new();
    for tombstone in tombstones {
        // The index has no series beyond 32 bits.
        if let Ok(reference) = u32::try_from(tombstone.reference) {
            let intervals = by_series.entry(reference).or_default();
            intervals.push((tombstone.min_time_ms, tombstone.max_time_ms));
        }
    }
    by_series.values_mut().for_each(join_intervals);
    by_series
}

/// Joins intervals that overlap or follow each other, so that one of them can cover a chunk.
fn join_intervals(intervals: &mut Vec<(i64, i64)>) {
    intervals.sort_unstable();
    intervals.dedup_by(|next, kept| {
        let joins = next.0 <= kept.1.saturating_add(1);
        if joins {
            kept.1 = kept.1.max(next.1);
        }
        joins
    });
}

/// Reads a file that must be small; nothing where it is a special file.
fn read_small(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let found = fs::metadata(path)?;
    if !found.is_file() || found.len() > SMALL_FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no file, or too large"));
    }
    fs::read(path).map(Some)
}

/// The blocks of a Prometheus data directory, opened for reading. Nothing in the directory is changed.
///
/// The head is not served: directories are restored for this with the head as a block.
#[derive(Debug)]
pub struct TsdbBlocks {
    blocks: Vec<Arc<TsdbBlock>>,
}

impl TsdbBlocks {
    /// Opens every block that Prometheus would load: not those that another one replaces, nor those marked deletable.
    ///
    /// # Errors
    /// A directory without blocks, files that cannot be read, and damage in indexes and tombstones. Chunks are
    /// verified when they are read.
    pub fn open(folder: &Path) -> Result<Self, SelectError> {
        let found = read_metas(folder)?;
        let parents = found.iter().flat_map(|(_, meta)| &meta.compaction.parents);
        let replaced: HashSet<Ulid> = parents.map(|parent| parent.ulid).collect();
        let mut blocks = Vec::new();
        for (path, meta) in &found {
            if !replaced.contains(&meta.ulid) && !meta.compaction.deletable {
                blocks.push(Arc::new(TsdbBlock::open(path, meta.ulid, meta)?));
            }
        }
        if blocks.is_empty() {
            return Err(SelectError::NoTsdbBlocks(folder.to_owned()));
        }
        blocks.sort_by_key(|block| (block.range.start_ms, block.id));
        Ok(Self { blocks })
    }

    /// Returns how many blocks there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.blocks.len()
    }

    /// Returns the time that the blocks cover.
    #[must_use]
    pub fn range(&self) -> TimeRange {
        let start_ms = self.blocks.iter().map(|block| block.range.start_ms).min().unwrap_or(0);
        let end_ms = self.blocks.iter().map(|block| block.range.end_ms).max().unwrap_or(0);
        TimeRange { start_ms, end_ms }
    }

    pub(super) fn of_range(&self, range: TimeRange) -> impl Iterator<Item = &Arc<TsdbBlock>> {
        self.blocks.iter().filter(move |block| block.range().overlaps(&range))
    }
}

/// Finds folders that are named like blocks and reads their `meta.json`.
fn read_metas(folder: &Path) -> Result<Vec<(PathBuf, BlockMeta)>, SelectError> {
    let failed = |source| SelectError::DataDirectory { path: folder.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(id) = Ulid::from_string(name).ok().filter(|id| id.to_string() == name) else { continue };
        let failed = |source| SelectError::TsdbBlock { id, source };
        let meta = read_small(&path.join(BlockFile::Meta.to_string()));
        let meta =
            meta.map_err(|source| failed(BlockError::Io { doing: "read meta.json".to_owned(), source }))?;
        let meta = BlockMeta::decode(&meta.unwrap_or_default()).map_err(failed)?;
        found.push((path, meta));
    }
    Ok(found)
}
