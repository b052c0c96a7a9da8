//! Reads one block whole and lists everything that is wrong with it.
//!
//! Every checksum, every order and every number that the files say twice is verified: sections and padding of the
//! index, postings against series, chunk times and counts against decoded samples, totals against meta.json.
//! Bytes that no checksum covers (headers, lengths, padding) are held to their only right value, so that one
//! flipped bit anywhere is found.

mod chunks;
mod index;

use ulid::Ulid;

use super::files::{BlockFile, ReadAt};
use super::meta::BlockMeta;
use super::{BlockError, IndexReader, Tombstone, decode_tombstones};
use crate::model::error_chain;
use chunks::ChunkCheck;
use index::IndexCheck;

/// More findings tell nothing new and a block has millions of bytes.
const FINDINGS_MAX: usize = 1_000;

/// The files of a block.
#[derive(Debug, Clone, Copy)]
pub struct BlockParts<'a, R> {
    /// The id that the folder's name says.
    pub ulid: Option<Ulid>,
    /// The content of meta.json.
    pub meta: &'a [u8],
    /// The content of the tombstones file, if there is one.
    pub tombstones: Option<&'a [u8]>,
    /// The index.
    pub index: &'a R,
    /// The chunk files, in the order of their numbers.
    pub chunks: &'a [R],
}

/// Something that is wrong with a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// In which file.
    pub file: BlockFile,
    /// Where in it.
    pub offset: Option<u64>,
    /// What it is.
    pub what: String,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// What is wrong; nothing for a sound block.
    pub findings: Vec<Finding>,
    /// How many more there are than `findings` lists.
    pub omitted: u64,
    /// Series read.
    pub series: u64,
    /// Chunks read.
    pub chunks: u64,
    /// Samples decoded.
    pub samples: u64,
    /// Of them floats.
    pub float_samples: u64,
    /// Times of the first and last sample.
    pub times_ms: Option<(i64, i64)>,
}

impl CheckReport {
    /// Returns whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    fn add(&mut self, file: BlockFile, offset: impl Into<Option<u64>>, what: impl Into<String>) {
        if self.findings.len() == FINDINGS_MAX {
            self.omitted += 1;
            return;
        }
        self.findings.push(Finding { file, offset: offset.into(), what: what.into() });
    }

    fn add_error(&mut self, file: BlockFile, error: &BlockError) {
        self.add(file, error.offset(), error_chain(error));
    }
}

/// Reads a block whole and lists what is wrong.
#[must_use]
pub fn check_block<R: ReadAt>(parts: &BlockParts<'_, R>) -> CheckReport {
    let mut report = CheckReport::default();
    let meta = check_meta(parts, &mut report);
    let tombstones = check_tombstones(parts, &mut report);
    let mut chunks = ChunkCheck::open(parts.chunks, &mut report);
    match IndexReader::open(parts.index) {
        Ok(reader) => {
            let mut index = IndexCheck::new(&reader, parts.index);
            index.run(&mut chunks, &mut report);
            for reference in tombstones.iter().map(|tombstone| tombstone.reference) {
                if !index.has_series(reference) {
                    let what =
                        format!("it hides samples of series {reference}, which the index does not have");
                    report.add(BlockFile::Tombstones, None, what);
                    break;
                }
            }
        }
        Err(error) => report.add_error(BlockFile::Index, &error),
    }
    chunks.finish(&mut report);
    if let Some(meta) = meta {
        compare_totals(&meta, &mut report);
    }
    report
}

fn check_meta<R>(parts: &BlockParts<'_, R>, report: &mut CheckReport) -> Option<BlockMeta> {
    let meta = match BlockMeta::decode(parts.meta) {
        Ok(meta) => meta,
        Err(error) => {
            report.add_error(BlockFile::Meta, &error);
            return None;
        }
    };
    if let Some(ulid) = parts.ulid.filter(|ulid| *ulid != meta.ulid) {
        report.add(BlockFile::Meta, None, format!("it is that of block {}, not of {ulid}", meta.ulid));
    }
    if meta.min_time_ms > meta.max_time_ms {
        report.add(BlockFile::Meta, None, "minTime lies after maxTime");
    }
    if meta.compaction.level == 0 {
        report.add(BlockFile::Meta, None, "the compaction level is 0: blocks begin with 1");
    }
    if meta.compaction.sources.is_empty() {
        report.add(BlockFile::Meta, None, "it names no source block, not even itself");
    }
    // Only a block straight from a head is its own source.
    if meta.compaction.level > 1 && meta.compaction.sources.contains(&meta.ulid) {
        report.add(BlockFile::Meta, None, "the compaction level is above 1 but the block is its own source");
    }
    Some(meta)
}

fn check_tombstones<R>(parts: &BlockParts<'_, R>, report: &mut CheckReport) -> Vec<Tombstone> {
    let Some(bytes) = parts.tombstones else {
        report.add(
            BlockFile::Tombstones,
            None,
            "the file is missing: snapshots of Prometheus fail without it",
        );
        return Vec::new();
    };
    let tombstones = decode_tombstones(bytes).unwrap_or_else(|error| {
        report.add_error(BlockFile::Tombstones, &error);
        Vec::new()
    });
    if tombstones.iter().any(|tombstone| tombstone.min_time_ms > tombstone.max_time_ms) {
        report.add(BlockFile::Tombstones, None, "an interval ends before it begins");
    }
    tombstones
}

/// Compares what was read with what meta.json says. Where damage hid a part, that follows and is not said again.
fn compare_totals(meta: &BlockMeta, report: &mut CheckReport) {
    if report.findings.iter().any(|finding| finding.file != BlockFile::Meta) {
        return;
    }
    let stats = &meta.stats;
    let histograms = report.samples - report.float_samples;
    let kinds_given = stats.num_float_samples + stats.num_histogram_samples > 0;
    let totals = [
        ("numSeries", stats.num_series, report.series, true),
        ("numChunks", stats.num_chunks, report.chunks, true),
        ("numSamples", stats.num_samples, report.samples, true),
        ("numFloatSamples", stats.num_float_samples, report.float_samples, kinds_given),
        ("numHistogramSamples", stats.num_histogram_samples, histograms, kinds_given),
    ];
    for (name, said, found, is_given) in totals {
        if is_given && said != found {
            report.add(BlockFile::Meta, None, format!("{name} is {said}, the block has {found}"));
        }
    }
    if let Some((min_ms, max_ms)) = report.times_ms
        && (min_ms < meta.min_time_ms || max_ms >= meta.max_time_ms)
    {
        let (from, to) = (meta.min_time_ms, meta.max_time_ms);
        let what =
            format!("samples reach from {min_ms} to {max_ms} ms, outside of minTime {from} to maxTime {to}");
        report.add(BlockFile::Meta, None, what);
    }
}
