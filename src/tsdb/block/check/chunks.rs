//! The chunk files of a block under check: every entry once, in the order of the index.

use super::super::chunk_files::{ChunkEntry, ChunkFile};
use super::super::files::{BlockFile, ReadAt};
use super::super::index::ChunkMeta;
use super::CheckReport;
use crate::tsdb::XorDecoder;
use crate::tsdb::chunk::{Encoding, SampleValue, decode_chunk};

/// The files, and how far each was read without a gap.
#[derive(Debug)]
pub(super) struct ChunkCheck<'a, R> {
    files: Vec<Option<Progress<'a, R>>>,
    last_reference: Option<u64>,
}

#[derive(Debug)]
struct Progress<'a, R> {
    file: ChunkFile<'a, R>,
    read_to: u64,
}

impl<'a, R: ReadAt> ChunkCheck<'a, R> {
    pub(super) fn open(sources: &'a [R], report: &mut CheckReport) -> Self {
        let open = |(number, source): (usize, &'a R)| match ChunkFile::open(source) {
            Ok(file) => Some(Progress { read_to: file.first_offset(), file }),
            Err(error) => {
                report.add_error(BlockFile::Chunks(number as u32), &error);
                None
            }
        };
        Self { files: sources.iter().enumerate().map(open).collect(), last_reference: None }
    }

    /// Reads the chunk that the index describes and compares.
    pub(super) fn check(&mut self, series_at: u64, meta: &ChunkMeta, report: &mut CheckReport) {
        if self.last_reference.is_some_and(|last| meta.reference <= last) {
            let what = "a chunk of the series does not stand after the last one of the series before";
            report.add(BlockFile::Index, series_at, what);
        }
        self.last_reference = Some(meta.reference);
        let (number, offset) = (meta.reference >> 32, meta.reference & u64::from(u32::MAX));
        let Some(slot) = self.files.get_mut(number as usize) else {
            let name = BlockFile::Chunks(number as u32);
            report.add(
                BlockFile::Index,
                series_at,
                format!("a chunk of the series is in {name}, which is missing"),
            );
            return;
        };
        let Some(progress) = slot else { return };
        let name = BlockFile::Chunks(number as u32);
        if offset > progress.read_to {
            progress.walk(offset, name, report);
        }
        match progress.file.entry_at(offset) {
            Ok(entry) => {
                progress.read_to = progress.read_to.max(entry.end);
                compare(&entry, meta, name, report);
            }
            Err(error) => {
                report.add_error(name, &error);
                // What follows is found by the next reference.
                progress.read_to = progress.read_to.max(offset + 1);
            }
        }
    }

    /// Reads what no series names at the ends of the files.
    pub(super) fn finish(&mut self, report: &mut CheckReport) {
        for (number, slot) in self.files.iter_mut().enumerate() {
            if let Some(progress) = slot {
                let end = progress.file.len();
                progress.walk(end, BlockFile::Chunks(number as u32), report);
            }
        }
    }
}

impl<R: ReadAt> Progress<'_, R> {
    /// Reads entries that no series names, up to an offset: they do no harm if they are whole.
    fn walk(&mut self, to: u64, name: BlockFile, report: &mut CheckReport) {
        while self.read_to < to {
            match self.file.entry_at(self.read_to) {
                Ok(entry) => self.read_to = entry.end,
                Err(error) => {
                    report.add_error(name, &error);
                    self.read_to = to;
                }
            }
        }
    }
}

/// Decodes a chunk and compares it with what the index says.
fn compare(entry: &ChunkEntry<'_>, meta: &ChunkMeta, name: BlockFile, report: &mut CheckReport) {
    report.chunks += 1;
    let mut times: Option<(i64, i64)> = None;
    let mut ascends = true;
    let mut take = |t_ms: i64| {
        ascends &= times.is_none_or(|(_, last_ms)| last_ms < t_ms);
        times = Some((times.map_or(t_ms, |(first_ms, _)| first_ms), t_ms));
    };
    if entry.encoding == Encoding::Xor {
        for sample in XorDecoder::new(entry.data) {
            match sample {
                Ok((t_ms, _)) => take(t_ms),
                Err(error) => return report.add(name, entry.offset, error.to_string()),
            }
            report.samples += 1;
            report.float_samples += 1;
        }
    } else {
        for sample in decode_chunk(entry.encoding, entry.data) {
            let sample = match sample {
                Ok(sample) => sample,
                Err(error) => return report.add(name, entry.offset, error.to_string()),
            };
            take(sample.t_ms);
            report.samples += 1;
            report.float_samples += u64::from(matches!(sample.value, SampleValue::Float(_)));
        }
    }
    if !ascends {
        report.add(name, entry.offset, "the samples of the chunk do not ascend in time");
    }
    let Some((min_ms, max_ms)) = times else {
        return report.add(name, entry.offset, "the chunk holds no sample");
    };
    if (min_ms, max_ms) != (meta.min_time_ms, meta.max_time_ms) {
        let (from, to) = (meta.min_time_ms, meta.max_time_ms);
        let what = format!("the chunk reaches from {min_ms} to {max_ms} ms, the index says {from} to {to}");
        report.add(name, entry.offset, what);
    }
    let (first_ms, last_ms) = report.times_ms.unwrap_or((min_ms, max_ms));
    report.times_ms = Some((first_ms.min(min_ms), last_ms.max(max_ms)));
}
