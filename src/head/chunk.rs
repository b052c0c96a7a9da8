//! The samples of one series: an open chunk and sealed ones.

use crate::model::{Sample, TimeRange, normalize_samples};
use crate::tsdb::{XorChunks, XorDecoder};

/// An open chunk is sealed when it holds this many samples. Plain samples take 16 bytes each: larger open chunks would
/// make a head of slowly scraped series several times larger, and smaller sealed ones compress worse.
const CHUNK_SAMPLES: usize = 32;

/// Start timestamps of a chunk as runs: from this sample on, this start. Empty where none was sent.
type StartRuns = Vec<(u16, i64)>;

/// The samples of one series, in chunks that may overlap.
#[derive(Debug)]
pub(super) struct SeriesSamples {
    pub(super) min_ms: i64,
    pub(super) max_ms: i64,
    open: Vec<(i64, f64)>,
    open_starts: StartRuns,
    sealed: Vec<SealedChunk>,
}

#[derive(Debug)]
struct SealedChunk {
    min_ms: i64,
    max_ms: i64,
    xor: Box<[u8]>,
    starts: StartRuns,
}

impl Default for SeriesSamples {
    fn default() -> Self {
        let (min_ms, max_ms) = (i64::MAX, i64::MIN);
        Self { min_ms, max_ms, open: Vec::new(), open_starts: Vec::new(), sealed: Vec::new() }
    }
}

impl SeriesSamples {
    /// Adds a sample; returns the growth in bytes.
    pub(super) fn push(&mut self, sample: Sample, scratch: &mut XorChunks) -> usize {
        self.min_ms = self.min_ms.min(sample.ts_ms);
        self.max_ms = self.max_ms.max(sample.ts_ms);
        if sample.start_ms != self.open_starts.last().map_or(0, |run| run.1) {
            self.open_starts.push((self.open.len() as u16, sample.start_ms));
        }
        let capacity = self.open.capacity();
        self.open.push((sample.ts_ms, sample.value));
        let grown = (self.open.capacity() - capacity) * size_of::<(i64, f64)>();
        if self.open.len() < CHUNK_SAMPLES { grown } else { grown + self.seal(scratch) }
    }

    /// Turns the open chunk into a sealed one; returns the bytes that it takes.
    fn seal(&mut self, scratch: &mut XorChunks) -> usize {
        if self.open_starts.is_empty() && self.open.is_sorted_by(|a, b| a.0 < b.0) {
            encode_xor(self.open.iter().copied(), scratch);
        } else {
            let mut samples = self.open_samples();
            normalize_samples(&mut samples);
            self.open_starts.clear();
            for (i, sample) in samples.iter().enumerate() {
                if sample.start_ms != self.open_starts.last().map_or(0, |run| run.1) {
                    self.open_starts.push((i as u16, sample.start_ms));
                }
            }
            encode_xor(samples.iter().map(|s| (s.ts_ms, s.value)), scratch);
        }
        let min_ms = self.open.iter().map(|s| s.0).min().unwrap_or(i64::MAX);
        let max_ms = self.open.iter().map(|s| s.0).max().unwrap_or(i64::MIN);
        let starts = std::mem::take(&mut self.open_starts);
        self.open.clear();
        let before = self.sealed.capacity();
        // No more went in than one chunk of an answer holds, so there is exactly one.
        let xor: Box<[u8]> = scratch.iter().next().map_or_else(Box::default, |chunk| chunk.data.into());
        let grown = xor.len();
        self.sealed.push(SealedChunk { min_ms, max_ms, xor, starts });
        grown + (self.sealed.capacity() - before) * size_of::<SealedChunk>()
    }

    fn open_samples(&self) -> Vec<Sample> {
        with_starts(self.open.iter().copied(), &self.open_starts).collect()
    }

    /// Returns the samples within `range`, sorted, one per timestamp.
    pub(super) fn read(&self, range: TimeRange) -> Vec<Sample> {
        let mut samples = Vec::new();
        for chunk in &self.sealed {
            if TimeRange::from_inclusive(chunk.min_ms, chunk.max_ms).overlaps(&range) {
                let decoded = decode_xor(&chunk.xor);
                samples.extend(with_starts(decoded, &chunk.starts).filter(|s| range.contains(s.ts_ms)));
            }
        }
        samples.extend(
            with_starts(self.open.iter().copied(), &self.open_starts).filter(|s| range.contains(s.ts_ms)),
        );
        normalize_samples(&mut samples);
        samples
    }

    /// Calls `visit` with every timestamp, or with both ends of a sealed chunk that lies in one raw window.
    pub(super) fn visit_windows(&self, visit: &mut impl FnMut(i64)) {
        for chunk in &self.sealed {
            let window = TimeRange::raw_window(chunk.min_ms);
            if window.contains(chunk.max_ms) {
                visit(window.start_ms);
            } else {
                let decoded = decode_xor(&chunk.xor);
                decoded.for_each(|(ts_ms, _)| visit(TimeRange::raw_window(ts_ms).start_ms));
            }
        }
        self.open.iter().for_each(|(ts_ms, _)| visit(TimeRange::raw_window(*ts_ms).start_ms));
    }

    /// Returns an upper bound of the number of samples.
    pub(super) fn samples_max(&self) -> usize {
        self.sealed.len() * CHUNK_SAMPLES + self.open.len()
    }
}

fn encode_xor(samples: impl Iterator<Item = (i64, f64)>, out: &mut XorChunks) {
    out.clear();
    samples.for_each(|(ts_ms, value)| out.push(ts_ms, value));
    out.finish();
}

fn decode_xor(xor: &[u8]) -> impl Iterator<Item = (i64, f64)> {
    // Ending early instead would commit a block that lacks samples.
    XorDecoder::new(xor).map(|sample| sample.expect("a head decodes what it has encoded itself"))
}

/// Joins samples with their start timestamps.
fn with_starts(
    samples: impl Iterator<Item = (i64, f64)>,
    starts: &[(u16, i64)],
) -> impl Iterator<Item = Sample> {
    let (mut next, mut start_ms) = (0, 0);
    samples.enumerate().map(move |(i, (ts_ms, value))| {
        while starts.get(next).is_some_and(|run| usize::from(run.0) <= i) {
            start_ms = starts[next].1;
            next += 1;
        }
        Sample { ts_ms, value, start_ms }
    })
}
