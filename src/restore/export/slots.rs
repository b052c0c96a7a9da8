//! The blocks of one span while they are written.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::ExportError;
use super::order::Batch;
use crate::model::{TimeRange, Ulid};
use crate::tsdb::block::{BlockBuilder, BlockFile, BlockFiles, BlockOptions, SeriesChunks};

/// Writes go to the system in pieces of this size.
const BUFFER_BYTES: usize = 1 << 20;

/// A block that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedBlock {
    /// Its id, the name of its folder.
    pub id: Ulid,
    /// Time of its first sample.
    pub min_time_ms: i64,
    /// The first millisecond after its last sample.
    pub max_time_ms: i64,
    /// Series in it.
    pub series: u64,
    /// Samples in it.
    pub samples: u64,
    /// Chunks in it.
    pub chunks: u64,
    /// Size of its files.
    pub size_bytes: u64,
}

/// A block's folder; every file is durable when it is closed.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    size_bytes: u64,
}

impl BlockFiles for Folder {
    type File = BufWriter<File>;

    fn create(&mut self, file: BlockFile) -> io::Result<Self::File> {
        let path = self.path.join(file.to_string());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        Ok(BufWriter::with_capacity(BUFFER_BYTES, File::create_new(path)?))
    }

    fn close(&mut self, _: BlockFile, mut written: Self::File) -> io::Result<()> {
        written.flush()?;
        let file = written.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        self.size_bytes += file.metadata()?.len();
        Ok(())
    }
}

/// A slot and its block, of which nothing is on disk before its first sample.
#[derive(Debug)]
struct Slot {
    range: TimeRange,
    id: Ulid,
    builder: BlockBuilder<Folder>,
    has_samples: bool,
}

/// Splits series over the blocks of a span.
#[derive(Debug)]
pub(super) struct SlotWriter {
    slots: Vec<Slot>,
    chunks: SeriesChunks,
}

impl SlotWriter {
    /// Prepares blocks in folders below `folder`; slots come oldest first.
    pub(super) fn new(folder: &Path, slots: impl IntoIterator<Item = (TimeRange, Ulid)>) -> Self {
        let slots = slots.into_iter().map(|(range, id)| {
            let files = Folder { path: folder.join(id.to_string()), size_bytes: 0 };
            let builder = BlockBuilder::new(files, BlockOptions::level_one(id));
            Slot { range, id, builder, has_samples: false }
        });
        Self { slots: slots.collect(), chunks: SeriesChunks::new() }
    }

    /// Writes series, which follow those written before; returns how many samples they have.
    pub(super) fn append(&mut self, batch: &Batch) -> Result<u64, ExportError> {
        let mut written = 0;
        for (labels, data) in batch {
            for slot in &mut self.slots {
                let floats = within(&data.samples, slot.range, |sample| sample.ts_ms);
                let histograms = within(&data.histograms, slot.range, |sample| sample.ts_ms);
                if floats.is_empty() && histograms.is_empty() {
                    continue;
                }
                self.chunks.clear();
                let pushed = self.chunks.push_all(floats, histograms);
                pushed.map_err(|e| ExportError::Histogram { labels: labels.to_string(), source: e })?;
                slot.builder.add(labels, &mut self.chunks).map_err(ExportError::Block)?;
                slot.has_samples = true;
                written += (floats.len() + histograms.len()) as u64;
            }
        }
        Ok(written)
    }

    /// Completes the blocks that have samples.
    pub(super) fn finish(self) -> Result<Vec<ExportedBlock>, ExportError> {
        let slots = self.slots.into_iter().filter(|slot| slot.has_samples);
        let blocks = slots.map(|slot| {
            let (files, meta) = slot.builder.finish().map_err(ExportError::Block)?;
            Ok(ExportedBlock {
                id: slot.id,
                min_time_ms: meta.min_time_ms,
                max_time_ms: meta.max_time_ms,
                series: meta.stats.num_series,
                samples: meta.stats.num_samples,
                chunks: meta.stats.num_chunks,
                size_bytes: files.size_bytes,
            })
        });
        blocks.collect()
    }
}

/// Returns the samples inside a range; they are sorted.
fn within<T>(samples: &[T], range: TimeRange, time_ms: impl Fn(&T) -> i64) -> &[T] {
    let start = samples.partition_point(|sample| time_ms(sample) < range.start_ms);
    let count = samples[start..].partition_point(|sample| time_ms(sample) < range.end_ms);
    &samples[start..start + count]
}
