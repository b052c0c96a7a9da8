//! Writes a whole block: chunks as series come, then index, meta.json and tombstones.

use ulid::Ulid;

use super::chunk_files::ChunkWriter;
use super::files::{BlockFile, BlockFiles};
use super::index::{ChunkMeta, IndexWriter};
use super::meta::{BlockCompaction, BlockMeta, BlockParent, BlockStats};
use super::series_chunks::SeriesChunks;
use super::tombstones::encode_tombstones;
use super::{BlockError, Tombstone};
use crate::model::{Labels, TimeRange};

use std::io::Write;

/// What a block says about itself.
#[derive(Debug, Clone)]
pub struct BlockOptions {
    /// Its id, which is to be its folder's name.
    pub ulid: Ulid,
    /// 1 for samples straight from a head.
    pub level: u32,
    /// The level-1 blocks inside of it; empty stands for the block itself.
    pub sources: Vec<Ulid>,
    /// Blocks that Prometheus is to delete when it loads this one.
    pub parents: Vec<BlockParent>,
    /// Further facts, such as [`super::HINT_FROM_OUT_OF_ORDER`].
    pub hints: Vec<String>,
    /// The range that it covers; `None` for that of its samples.
    pub time_range: Option<TimeRange>,
}

impl BlockOptions {
    /// Describes a level-1 block that covers what its samples do.
    #[must_use]
    pub fn level_one(ulid: Ulid) -> Self {
        Self { ulid, level: 1, sources: vec![], parents: vec![], hints: vec![], time_range: None }
    }
}

/// Takes series in order of labels and writes a block.
#[derive(Debug)]
pub struct BlockBuilder<F: BlockFiles> {
    files: F,
    chunks: ChunkWriter<F::File>,
    index: IndexWriter,
    options: BlockOptions,
    stats: BlockStats,
    times: Option<(i64, i64)>,
    metas: Vec<ChunkMeta>,
}

impl<F: BlockFiles> BlockBuilder<F> {
    /// Starts a block. Nothing is created before the first series.
    #[must_use]
    pub fn new(files: F, options: BlockOptions) -> Self {
        Self {
            files,
            chunks: ChunkWriter::default(),
            index: IndexWriter::new(),
            options,
            stats: BlockStats::default(),
            times: None,
            metas: Vec::new(),
        }
    }

    #[cfg(test)]
    pub(super) fn with_file_bytes_max(mut self, bytes: u64) -> Self {
        self.chunks.file_bytes_max = bytes;
        self
    }

    /// Writes the chunks of the next series; one without samples is left out.
    ///
    /// # Errors
    /// Series or samples out of order, or a failure to write.
    pub fn add(&mut self, labels: &Labels, chunks: &mut SeriesChunks) -> Result<(), BlockError> {
        chunks.finish();
        if chunks.is_empty() {
            return Ok(());
        }
        if let Some((previous_ms, t_ms)) = chunks.disorder() {
            return Err(BlockError::SampleOrder { labels: labels.to_string(), t_ms, previous_ms });
        }
        self.metas.clear();
        self.chunks.write(&mut self.files, chunks, &mut self.metas)?;
        self.index.add(labels, &self.metas)?;
        for entry in chunks.entries() {
            let samples = u64::from(entry.samples);
            let of_kind = if entry.is_float {
                &mut self.stats.num_float_samples
            } else {
                &mut self.stats.num_histogram_samples
            };
            *of_kind += samples;
            self.stats.num_samples += samples;
        }
        self.stats.num_series += 1;
        self.stats.num_chunks += self.metas.len() as u64;
        if let (Some(first), Some(last)) = (self.metas.first(), self.metas.last()) {
            let (min_ms, max_ms) = self.times.unwrap_or((first.min_time_ms, last.max_time_ms));
            self.times = Some((min_ms.min(first.min_time_ms), max_ms.max(last.max_time_ms)));
        }
        Ok(())
    }

    /// Writes index, meta.json and tombstones, and returns the files and what meta.json says. A block without
    /// series is not worth keeping: its `num_series` is 0.
    ///
    /// # Errors
    /// A failure to write, or more than the format can hold.
    pub fn finish(mut self) -> Result<(F, BlockMeta), BlockError> {
        self.chunks.close(&mut self.files)?;
        let mut file = self.create(BlockFile::Index)?;
        std::mem::take(&mut self.index).finish(&mut file)?;
        self.close(BlockFile::Index, file)?;
        let meta = self.meta();
        self.write(BlockFile::Meta, &meta.encode())?;
        // Without this file Prometheus' snapshots fail.
        self.write(BlockFile::Tombstones, &encode_tombstones(&[] as &[Tombstone]))?;
        Ok((self.files, meta))
    }

    fn meta(&self) -> BlockMeta {
        let (min_ms, max_ms) = self.times.unwrap_or((0, 0));
        let range = self.options.time_range.unwrap_or_else(|| TimeRange::from_inclusive(min_ms, max_ms));
        let options = &self.options;
        let sources = if options.sources.is_empty() { vec![options.ulid] } else { options.sources.clone() };
        BlockMeta {
            ulid: options.ulid,
            min_time_ms: range.start_ms,
            max_time_ms: range.end_ms,
            stats: self.stats.clone(),
            compaction: BlockCompaction {
                level: options.level,
                sources,
                parents: options.parents.clone(),
                hints: options.hints.clone(),
                ..BlockCompaction::default()
            },
            version: 1,
            thanos: None,
            extra: serde_json::Map::new(),
        }
    }

    fn create(&mut self, file: BlockFile) -> Result<F::File, BlockError> {
        self.files.create(file).map_err(BlockError::io(format!("create {file}")))
    }

    fn close(&mut self, file: BlockFile, written: F::File) -> Result<(), BlockError> {
        self.files.close(file, written).map_err(BlockError::io(format!("close {file}")))
    }

    fn write(&mut self, file: BlockFile, bytes: &[u8]) -> Result<(), BlockError> {
        let mut out = self.create(file)?;
        out.write_all(bytes).map_err(BlockError::io(format!("write {file}")))?;
        self.close(file, out)
    }
}
