//! Blocks that are not restored as they were: some of their series only, or chunks in a form that an older version
//! reads.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::RestoreError;
use super::head::{FilesInFolder, block_id, push};
use super::request::{Selector, ServerVersion};
use super::tombstones::{FileAt, block_error, read_tombstones};
use super::workplace::{make_dir, remove_all, sync_dirs};
use crate::model::{TimeRange, Ulid};
use crate::tsdb::block::{
    BlockBuilder, BlockChunks, BlockMeta, BlockOptions, IndexReader, SeriesChunks, SeriesEntry,
};
use crate::tsdb::chunk::{Encoding, decode_chunk};

/// The first version that reads index version 3.
const READS_INDEX_3: ServerVersion = ServerVersion::new(2, 55);

/// The first version that reads XOR2 chunks.
const READS_XOR2: ServerVersion = ServerVersion::new(3, 11);

/// The first version that reads histogram chunks with start timestamps.
pub(super) const READS_EVERYTHING: ServerVersion = ServerVersion::new(3, 14);

/// How a block is rewritten.
#[derive(Debug, Clone)]
pub(super) struct Rewrite {
    /// Where its files lie.
    pub(super) from: PathBuf,
    /// The data directory.
    pub(super) data: PathBuf,
    pub(super) id: Ulid,
    pub(super) selectors: Vec<Selector>,
    pub(super) until_ms: Option<i64>,
    pub(super) version: Option<ServerVersion>,
    pub(super) seed: String,
}

/// A block that is read for rewriting.
struct Source {
    meta: BlockMeta,
    index: IndexReader<FileAt>,
    chunks: Vec<FileAt>,
    hidden: HashMap<u64, Vec<(i64, i64)>>,
}

impl Rewrite {
    /// Brings the block into the data directory. One without any wanted series is left out. Returns whether the files
    /// are as they were, so that its tombstones are still to be completed.
    pub(super) fn run(&self) -> Result<bool, RestoreError> {
        let source = Source::open(&self.from)?;
        if self.selectors.is_empty() && self.is_readable(&source)? {
            return self.link().map(|()| true);
        }
        let id = block_id(&self.seed, &format!("block {}", self.id), self.id.timestamp_ms() as i64);
        let folder = self.data.join(id.to_string());
        let meta = &source.meta;
        let options = BlockOptions {
            ulid: id,
            level: meta.compaction.level,
            sources: meta.compaction.sources.clone(),
            parents: Vec::new(),
            hints: meta.compaction.hints.clone(),
            // The range stays, so that the server's replay begins where it did.
            time_range: Some(TimeRange { start_ms: meta.min_time_ms, end_ms: meta.max_time_ms }),
        };
        let mut builder = BlockBuilder::new(FilesInFolder::create(&folder)?, options);
        let mut chunks =
            BlockChunks::open(&source.chunks).map_err(|source| block_error(&self.from, source))?;
        let wanted = self.wanted(&source)?;
        let mut run = SeriesChunks::new();
        for entry in source.index.series() {
            let entry = entry.map_err(|source| block_error(&self.from, source))?;
            if wanted.as_ref().is_some_and(|wanted| !wanted.contains(&entry.reference)) {
                continue;
            }
            run.clear();
            self.copy(&source, &mut chunks, &entry, &mut run)?;
            builder.add(&entry.labels, &mut run).map_err(|source| block_error(&self.from, source))?;
        }
        let (_, written) = builder.finish().map_err(|source| block_error(&folder, source))?;
        if written.stats.num_series == 0 {
            remove_all(&folder)?;
        } else {
            sync_dirs(&folder)?;
        }
        Ok(false)
    }

    fn wanted(&self, source: &Source) -> Result<Option<HashSet<u32>>, RestoreError> {
        if self.selectors.is_empty() {
            return Ok(None);
        }
        let mut wanted = HashSet::new();
        for selector in &self.selectors {
            let matching = source.index.series_matching(selector.matchers());
            wanted.extend(matching.map_err(|source| block_error(&self.from, source))?);
        }
        Ok(Some(wanted))
    }

    /// Copies the samples of a series that are neither deleted nor after the target.
    fn copy(
        &self,
        source: &Source,
        chunks: &mut BlockChunks<'_, FileAt>,
        entry: &SeriesEntry,
        run: &mut SeriesChunks,
    ) -> Result<(), RestoreError> {
        let hidden = source.hidden.get(&u64::from(entry.reference)).map_or(&[][..], Vec::as_slice);
        let until_ms = self.until_ms.unwrap_or(i64::MAX);
        for chunk in entry.chunks.iter().filter(|chunk| chunk.min_time_ms <= until_ms) {
            let stored = chunks.read(chunk.reference).map_err(|source| block_error(&self.from, source))?;
            let whole = chunk.max_time_ms <= until_ms
                && !hidden
                    .iter()
                    .any(|(first, last)| *first <= chunk.max_time_ms && *last >= chunk.min_time_ms);
            if whole && reads(self.version, stored.encoding) {
                run.push_encoded(stored.encoding, chunk.min_time_ms, chunk.max_time_ms, stored.data);
                continue;
            }
            for sample in decode_chunk(stored.encoding, stored.data) {
                let sample = sample.map_err(|error| block_error(&self.from, error.into()))?;
                let is_hidden = hidden.iter().any(|(first, last)| (*first..=*last).contains(&sample.t_ms));
                if sample.t_ms <= until_ms && !is_hidden {
                    push(run, sample.t_ms, &sample.value, self.version)?;
                }
            }
        }
        Ok(())
    }

    /// Returns whether the wanted version reads everything in the block as it is.
    fn is_readable(&self, source: &Source) -> Result<bool, RestoreError> {
        let Some(version) = self.version.filter(|version| *version < READS_EVERYTHING) else {
            return Ok(true);
        };
        if source.index.version() > 2 && version < READS_INDEX_3 {
            return Ok(false);
        }
        let mut chunks =
            BlockChunks::open(&source.chunks).map_err(|source| block_error(&self.from, source))?;
        for entry in source.index.series() {
            let entry = entry.map_err(|source| block_error(&self.from, source))?;
            for chunk in &entry.chunks {
                let stored =
                    chunks.read(chunk.reference).map_err(|source| block_error(&self.from, source))?;
                if !reads(self.version, stored.encoding) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Takes the block over as it is.
    fn link(&self) -> Result<(), RestoreError> {
        let folder = self.data.join(self.id.to_string());
        make_dir(&folder)?;
        make_dir(&folder.join("chunks"))?;
        for path in files_below(&self.from)? {
            let to = folder.join(path.strip_prefix(&self.from).unwrap_or(&path));
            std::fs::hard_link(&path, &to).map_err(RestoreError::file(&to))?;
        }
        Ok(())
    }
}

fn reads(version: Option<ServerVersion>, encoding: Encoding) -> bool {
    let Some(version) = version else { return true };
    match encoding {
        Encoding::Xor | Encoding::Histogram | Encoding::FloatHistogram => true,
        Encoding::Xor2 => version >= READS_XOR2,
        Encoding::HistogramStart | Encoding::FloatHistogramStart => version >= READS_EVERYTHING,
    }
}

impl Source {
    fn open(folder: &Path) -> Result<Self, RestoreError> {
        let meta = read_meta(folder)?;
        let index_path = folder.join("index");
        let index = IndexReader::open(FileAt::open(&index_path)?);
        let index = index.map_err(|source| block_error(&index_path, source))?;
        let mut names = files_below(&folder.join("chunks"))?;
        names.sort();
        let chunks = names.iter().map(|path| FileAt::open(path)).collect::<Result<_, _>>()?;
        let mut hidden: HashMap<u64, Vec<(i64, i64)>> = HashMap::new();
        for stone in read_tombstones(&folder.join("tombstones"))? {
            hidden.entry(stone.reference).or_default().push((stone.min_time_ms, stone.max_time_ms));
        }
        Ok(Self { meta, index, chunks, hidden })
    }
}

/// Reads the meta.json of a block.
pub(super) fn read_meta(folder: &Path) -> Result<BlockMeta, RestoreError> {
    let path = folder.join("meta.json");
    let bytes = std::fs::read(&path).map_err(RestoreError::file(&path))?;
    BlockMeta::decode(&bytes).map_err(|source| block_error(&path, source))
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>, RestoreError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(RestoreError::file(folder))? {
        let entry = entry.map_err(RestoreError::file(folder))?;
        if entry.file_type().map_err(RestoreError::file(folder))?.is_dir() {
            files.extend(files_below(&entry.path())?);
        } else {
            files.push(entry.path());
        }
    }
    Ok(files)
}
