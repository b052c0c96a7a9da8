//! The native histograms of one series: rows of bytes, packed when there are enough of them.

use crate::model::{HistogramSample, TimeRange};
use crate::tsdb::wal::{decode_histogram, encode_histogram};

/// So many rows are packed together, or fewer where they are large.
const CHUNK_ROWS: usize = 32;
const CHUNK_BYTES: usize = 64 << 10;
/// Rows of one series repeat each other: the fastest level finds most of it.
const ZSTD_LEVEL: i32 = 1;

/// The native histograms of one series, in the order of their coming.
#[derive(Debug, Default)]
pub(super) struct SeriesHistograms {
    open: Rows,
    sealed: Vec<SealedRows>,
}

/// Rows: time, start timestamp, histogram.
#[derive(Debug, Default)]
struct Rows {
    bytes: Vec<u8>,
    span: Span,
}

#[derive(Debug)]
struct SealedRows {
    packed: Box<[u8]>,
    /// The length of the rows before they were packed; 0 where they are as they were.
    plain_bytes: usize,
    span: Span,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    min_ms: i64,
    max_ms: i64,
    count: usize,
    /// What they take once they are read.
    read_bytes: usize,
}

impl Default for Span {
    fn default() -> Self {
        Self { min_ms: i64::MAX, max_ms: i64::MIN, count: 0, read_bytes: 0 }
    }
}

impl Span {
    fn overlaps(&self, range: TimeRange) -> bool {
        self.count > 0 && TimeRange::from_inclusive(self.min_ms, self.max_ms).overlaps(&range)
    }
}

impl SeriesHistograms {
    /// Adds a sample; returns the growth in bytes, which is negative where rows were packed.
    pub(super) fn push(&mut self, sample: &HistogramSample) -> isize {
        let rows = &mut self.open;
        let before = rows.bytes.capacity();
        rows.bytes.extend_from_slice(&sample.ts_ms.to_le_bytes());
        rows.bytes.extend_from_slice(&sample.start_ms.to_le_bytes());
        encode_histogram(&sample.histogram, &mut rows.bytes);
        let span = &mut rows.span;
        span.min_ms = span.min_ms.min(sample.ts_ms);
        span.max_ms = span.max_ms.max(sample.ts_ms);
        span.count += 1;
        span.read_bytes += sample.memory_bytes();
        if span.count < CHUNK_ROWS && rows.bytes.len() < CHUNK_BYTES {
            return rows.bytes.capacity().cast_signed() - before.cast_signed();
        }
        let rows = std::mem::take(&mut self.open);
        let plain_bytes = rows.bytes.len();
        let sealed = match zstd::bulk::compress(&rows.bytes, ZSTD_LEVEL) {
            Ok(packed) => SealedRows { packed: packed.into(), plain_bytes, span: rows.span },
            Err(_) => SealedRows { packed: rows.bytes.into(), plain_bytes: 0, span: rows.span },
        };
        let grown = sealed.packed.len() + size_of::<SealedRows>();
        self.sealed.push(sealed);
        grown.cast_signed() - before.cast_signed()
    }

    /// Returns the samples within `range`, in the order of their coming.
    pub(super) fn read(&self, range: TimeRange) -> Vec<HistogramSample> {
        let mut read = Vec::new();
        let mut take = |sample: HistogramSample| {
            if range.contains(sample.ts_ms) {
                read.push(sample);
            }
        };
        for sealed in self.sealed.iter().filter(|sealed| sealed.span.overlaps(range)) {
            sealed.visit(&mut take);
        }
        visit_rows(&self.open.bytes, &mut take);
        read
    }

    /// Returns whether the span of the samples overlaps `range`.
    pub(super) fn overlaps(&self, range: TimeRange) -> bool {
        let mut all = self.open.span;
        for sealed in &self.sealed {
            all.min_ms = all.min_ms.min(sealed.span.min_ms);
            all.max_ms = all.max_ms.max(sealed.span.max_ms);
            all.count += sealed.span.count;
        }
        all.overlaps(range)
    }

    /// Returns the number of samples.
    pub(super) fn len(&self) -> usize {
        self.open.span.count + self.sealed.iter().map(|sealed| sealed.span.count).sum::<usize>()
    }

    /// Returns the bytes of memory that the samples take once they are read.
    pub(super) fn read_bytes(&self) -> usize {
        self.open.span.read_bytes + self.sealed.iter().map(|sealed| sealed.span.read_bytes).sum::<usize>()
    }

    /// Calls `visit` with the start of each raw window that has samples, more than once.
    pub(super) fn visit_windows(&self, visit: &mut impl FnMut(i64)) {
        let mut each = |sample: HistogramSample| visit(TimeRange::raw_window(sample.ts_ms).start_ms);
        visit_rows(&self.open.bytes, &mut each);
        for sealed in &self.sealed {
            let window = TimeRange::raw_window(sealed.span.min_ms);
            if window.contains(sealed.span.max_ms) {
                visit(window.start_ms);
            } else {
                sealed.visit(&mut |sample| visit(TimeRange::raw_window(sample.ts_ms).start_ms));
            }
        }
    }
}

impl SealedRows {
    fn visit(&self, visit: &mut impl FnMut(HistogramSample)) {
        if self.plain_bytes == 0 {
            return visit_rows(&self.packed, visit);
        }
        let rows = zstd::bulk::decompress(&self.packed, self.plain_bytes);
        visit_rows(&rows.expect("a head unpacks what it has packed itself"), visit);
    }
}

fn visit_rows(mut rows: &[u8], visit: &mut impl FnMut(HistogramSample)) {
    const WHOLE: &str = "a head decodes what it has encoded itself";
    while let Some((ts_ms, rest)) = rows.split_first_chunk::<8>() {
        let (start_ms, rest) = rest.split_first_chunk::<8>().expect(WHOLE);
        let (histogram, bytes) = decode_histogram(rest).expect(WHOLE);
        rows = &rest[bytes..];
        let (ts_ms, start_ms) = (i64::from_le_bytes(*ts_ms), i64::from_le_bytes(*start_ms));
        visit(HistogramSample { ts_ms, start_ms, histogram });
    }
}
