//! The float samples of one series: an open chunk and sealed ones.

use super::open::{OpenBlocks, OpenChunk};
use crate::model::{Sample, TimeRange, normalize_samples};
use crate::tsdb::{XorChunks, XorDecoder};

/// An open chunk is sealed when it holds this many samples. Plain samples take 16 bytes each: larger open chunks would
/// make a head of slowly scraped series several times larger, and smaller sealed ones compress worse.
const CHUNK_SAMPLES: usize = 32;

/// Start timestamps of a chunk as runs: from this sample on, this start. Empty where none was sent.
type StartRuns = Vec<(u16, i64)>;

/// The float samples of one series, in chunks that may overlap. There may be millions of these with a few samples each:
/// what only some need is boxed.
#[derive(Debug, Default)]
pub(super) struct SeriesSamples {
    open: OpenChunk,
    more: Option<Box<More>>,
}

#[derive(Debug, Default)]
struct More {
    open_starts: StartRuns,
    sealed: Vec<SealedChunk>,
}

#[derive(Debug)]
struct SealedChunk {
    min_ms: i64,
    max_ms: i64,
    xor: Box<[u8]>,
    starts: Option<Box<StartRuns>>,
}

impl SeriesSamples {
    /// Adds a sample; returns the growth in bytes.
    #[inline]
    pub(super) fn push(&mut self, sample: Sample, blocks: &mut OpenBlocks, scratch: &mut XorChunks) -> usize {
        let mut grown = 0;
        let open_start = self.more.as_ref().and_then(|more| more.open_starts.last()).map_or(0, |run| run.1);
        if sample.start_ms != open_start {
            let at = self.open.len() as u16;
            self.more.get_or_insert_default().open_starts.push((at, sample.start_ms));
            grown += size_of::<(u16, i64)>();
        }
        grown += blocks.push(&mut self.open, (sample.ts_ms, sample.value));
        if self.open.len() < CHUNK_SAMPLES { grown } else { grown + self.seal(blocks, scratch) }
    }

    /// Turns the open chunk into a sealed one; returns the bytes that it takes.
    fn seal(&mut self, blocks: &mut OpenBlocks, scratch: &mut XorChunks) -> usize {
        let mut open = [(0, 0.0); CHUNK_SAMPLES];
        open.iter_mut().zip(blocks.samples(&self.open)).for_each(|(place, sample)| *place = sample);
        blocks.give_back(&mut self.open);
        let more = self.more.get_or_insert_default();
        let mut starts = std::mem::take(&mut more.open_starts);
        if starts.is_empty() && open.is_sorted_by(|a, b| a.0 < b.0) {
            encode_xor(open.iter().copied(), scratch);
        } else {
            let mut samples: Vec<Sample> = with_starts(open.iter().copied(), &starts).collect();
            normalize_samples(&mut samples);
            starts.clear();
            for (i, sample) in samples.iter().enumerate() {
                if sample.start_ms != starts.last().map_or(0, |run| run.1) {
                    starts.push((i as u16, sample.start_ms));
                }
            }
            encode_xor(samples.iter().map(|s| (s.ts_ms, s.value)), scratch);
        }
        let (min_ms, max_ms) = bounds(open.iter().copied());
        let before = more.sealed.capacity();
        // No more went in than one chunk of an answer holds, so there is exactly one.
        let xor: Box<[u8]> = scratch.iter().next().map_or_else(Box::default, |chunk| chunk.data.into());
        let grown = xor.len() + starts.len() * size_of::<(u16, i64)>();
        let starts = (!starts.is_empty()).then(|| Box::new(starts));
        more.sealed.push(SealedChunk { min_ms, max_ms, xor, starts });
        grown + (more.sealed.capacity() - before) * size_of::<SealedChunk>()
    }

    fn sealed(&self) -> &[SealedChunk] {
        self.more.as_ref().map_or(&[], |more| &more.sealed)
    }

    fn open_samples<'a>(&'a self, blocks: &'a OpenBlocks) -> impl Iterator<Item = Sample> + 'a {
        let starts = self.more.as_ref().map_or(&[][..], |more| &more.open_starts);
        with_starts(blocks.samples(&self.open), starts)
    }

    /// Returns whether the span of the samples overlaps `range`.
    pub(super) fn overlaps(&self, range: TimeRange, blocks: &OpenBlocks) -> bool {
        let (mut min_ms, mut max_ms) = (i64::MAX, i64::MIN);
        for chunk in self.sealed() {
            (min_ms, max_ms) = (min_ms.min(chunk.min_ms), max_ms.max(chunk.max_ms));
        }
        let open = bounds(blocks.samples(&self.open));
        (min_ms, max_ms) = (min_ms.min(open.0), max_ms.max(open.1));
        min_ms <= max_ms && TimeRange::from_inclusive(min_ms, max_ms).overlaps(&range)
    }

    /// Returns the samples within `range`, sorted, one per timestamp.
    pub(super) fn read(&self, range: TimeRange, blocks: &OpenBlocks) -> Vec<Sample> {
        let mut samples = Vec::new();
        for chunk in self.sealed() {
            if TimeRange::from_inclusive(chunk.min_ms, chunk.max_ms).overlaps(&range) {
                let starts = chunk.starts.as_ref().map_or(&[][..], |starts| starts);
                let decoded = with_starts(decode_xor(&chunk.xor), starts);
                samples.extend(decoded.filter(|s| range.contains(s.ts_ms)));
            }
        }
        samples.extend(self.open_samples(blocks).filter(|s| range.contains(s.ts_ms)));
        normalize_samples(&mut samples);
        samples
    }

    /// Calls `visit` with every timestamp, or with both ends of a sealed chunk that lies in one raw window.
    pub(super) fn visit_windows(&self, blocks: &OpenBlocks, visit: &mut impl FnMut(i64)) {
        for chunk in self.sealed() {
            let window = TimeRange::raw_window(chunk.min_ms);
            if window.contains(chunk.max_ms) {
                visit(window.start_ms);
            } else {
                let decoded = decode_xor(&chunk.xor);
                decoded.for_each(|(ts_ms, _)| visit(TimeRange::raw_window(ts_ms).start_ms));
            }
        }
        blocks.samples(&self.open).for_each(|(ts_ms, _)| visit(TimeRange::raw_window(ts_ms).start_ms));
    }

    /// Returns an upper bound of the number of samples.
    pub(super) fn samples_max(&self) -> usize {
        self.sealed().len() * CHUNK_SAMPLES + self.open.len()
    }
}

fn bounds(samples: impl Iterator<Item = (i64, f64)>) -> (i64, i64) {
    samples.fold((i64::MAX, i64::MIN), |(min_ms, max_ms), (ts_ms, _)| (min_ms.min(ts_ms), max_ms.max(ts_ms)))
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
