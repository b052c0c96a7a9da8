//! Chunks of native histograms with whole counts: deltas of deltas of every number, per bucket.

use super::ChunkError;
use super::layout::{self, Fit, Layout, LayoutRef, OpenChunk, ResetHeader, Shape};
use super::start::StartReader;
use super::varbit;
use super::window::{XorReader, XorWriter};
use crate::model::Histogram;
use crate::model::STALE_MARKER_BITS;
use crate::tsdb::bits::{BitReader, BitWriter};

/// A number that is stored as the delta of its deltas.
#[derive(Debug, Clone, Copy, Default)]
struct Doubled {
    value: i64,
    delta: i64,
}

impl Doubled {
    fn new(value: i64) -> Self {
        Self { value, delta: 0 }
    }

    /// Moves on to a value and returns what is stored for it.
    fn step_to(&mut self, value: i64) -> i64 {
        let delta = value.wrapping_sub(self.value);
        let stored = delta.wrapping_sub(self.delta);
        *self = Self { value, delta };
        stored
    }

    /// Takes what is stored and moves on by it.
    fn take(&mut self, bits: &mut BitReader<'_>) -> Option<()> {
        self.delta = self.delta.wrapping_add(varbit::take_int(bits)?);
        self.value = self.value.wrapping_add(self.delta);
        Some(())
    }
}

/// The numbers of a sample, in the order of the chunk.
#[derive(Debug, Clone, Default)]
struct Numbers {
    t_ms: Doubled,
    count: Doubled,
    zero_count: Doubled,
    positive: Vec<Doubled>,
    negative: Vec<Doubled>,
}

/// Appends histograms to a chunk in a buffer that is passed along.
#[derive(Debug)]
pub(super) struct HistogramEncoder {
    bits: BitWriter,
    start: usize,
    count: u16,
    is_gauge: bool,
    layout: Layout,
    numbers: Numbers,
    sum: XorWriter,
}

impl Default for HistogramEncoder {
    fn default() -> Self {
        Self {
            bits: BitWriter::default(),
            start: 0,
            count: 0,
            is_gauge: false,
            layout: Layout::default(),
            numbers: Numbers::default(),
            sum: XorWriter::new(0),
        }
    }
}

impl Shape for Histogram {
    fn hint(&self) -> u8 {
        self.counter_reset_hint
    }

    fn sum_bits(&self) -> u64 {
        self.sum.to_bits()
    }

    fn layout(&self) -> LayoutRef<'_> {
        LayoutRef {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            positive: &self.positive_spans,
            negative: &self.negative_spans,
            custom_values: &self.custom_values,
        }
    }
}

/// Turns deltas between neighbours into counts.
fn counts(deltas: impl Iterator<Item = i64>) -> impl Iterator<Item = i64> {
    deltas.scan(0i64, |count, delta| {
        *count = count.wrapping_add(delta);
        Some(*count)
    })
}

impl HistogramEncoder {
    /// Returns how many samples the open chunk holds.
    pub(super) fn count(&self) -> u16 {
        self.count
    }

    /// Returns the time of the last sample.
    pub(super) fn last_ms(&self) -> i64 {
        self.numbers.t_ms.value
    }

    /// Appends to the open chunk if the histogram goes with what is there.
    pub(super) fn append(
        &mut self,
        out: &mut Vec<u8>,
        t_ms: i64,
        value: &Histogram,
    ) -> Result<Fit, ChunkError> {
        let is_stale = value.sum.to_bits() == STALE_MARKER_BITS;
        if self.count == u16::MAX || (!is_stale && !self.goes_with(value)) {
            return Ok(Fit::NeedsNewChunk);
        }
        if !is_stale {
            layout::expect_buckets(t_ms, &value.positive_spans, value.positive_buckets.len())?;
            layout::expect_buckets(t_ms, &value.negative_spans, value.negative_buckets.len())?;
        }
        let dod = self.numbers.t_ms.step_to(t_ms);
        varbit::put_int(&mut self.bits, out, dod);
        if is_stale {
            // Nothing but stale markers can follow, so the counts do not matter any more.
            self.bits.put(out, 0, 2);
            self.sum.put(&mut self.bits, out, STALE_MARKER_BITS);
        } else {
            self.put_numbers(out, value);
        }
        self.count += 1;
        Ok(Fit::Appended)
    }

    fn put_numbers(&mut self, out: &mut Vec<u8>, value: &Histogram) {
        let (bits, numbers) = (&mut self.bits, &mut self.numbers);
        varbit::put_int(bits, out, numbers.count.step_to(value.count as i64));
        varbit::put_int(bits, out, numbers.zero_count.step_to(value.zero_count as i64));
        self.sum.put(bits, out, value.sum.to_bits());
        let buckets = value.positive_buckets.iter().chain(&value.negative_buckets);
        for (number, bucket) in numbers.positive.iter_mut().chain(&mut numbers.negative).zip(buckets) {
            varbit::put_int(bits, out, number.step_to(*bucket));
        }
    }

    /// Starts a chunk with a histogram. Its header tells how it follows the one before, which is closed.
    pub(super) fn start(
        &mut self,
        out: &mut Vec<u8>,
        t_ms: i64,
        value: &Histogram,
        follows: bool,
    ) -> Result<(), ChunkError> {
        let is_stale = value.sum.to_bits() == STALE_MARKER_BITS;
        let stale = Histogram { sum: value.sum, ..Histogram::default() };
        let stored = if is_stale { &stale } else { value };
        layout::expect_buckets(t_ms, &stored.positive_spans, stored.positive_buckets.len())?;
        layout::expect_buckets(t_ms, &stored.negative_spans, stored.negative_buckets.len())?;
        let header = self.header_for(value, follows);
        self.is_gauge = header == ResetHeader::Gauge;
        self.layout = if is_stale { LayoutRef::EMPTY } else { value.layout() }.to_layout();
        self.start = out.len();
        self.count = 1;
        self.bits = BitWriter::default();
        out.extend_from_slice(&[0, 0, header.to_top_bits()]);
        self.layout.put(&mut self.bits, out);
        varbit::put_int(&mut self.bits, out, t_ms);
        varbit::put_uint(&mut self.bits, out, stored.count);
        varbit::put_uint(&mut self.bits, out, stored.zero_count);
        self.bits.put(out, stored.sum.to_bits(), 64);
        self.sum = XorWriter::new(stored.sum.to_bits());
        for bucket in stored.positive_buckets.iter().chain(&stored.negative_buckets) {
            varbit::put_int(&mut self.bits, out, *bucket);
        }
        let numbers = &mut self.numbers;
        numbers.t_ms = Doubled::new(t_ms);
        numbers.count = Doubled::new(stored.count as i64);
        numbers.zero_count = Doubled::new(stored.zero_count as i64);
        numbers.positive.clear();
        numbers.positive.extend(stored.positive_buckets.iter().map(|b| Doubled::new(*b)));
        numbers.negative.clear();
        numbers.negative.extend(stored.negative_buckets.iter().map(|b| Doubled::new(*b)));
        Ok(())
    }

    /// Closes the chunk.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        self.bits.finish(out);
        out[self.start..self.start + 2].copy_from_slice(&self.count.to_be_bytes());
        self.count = 0;
    }
}

impl OpenChunk for HistogramEncoder {
    type Value = Histogram;

    fn is_gauge(&self) -> bool {
        self.is_gauge
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn sum_bits(&self) -> u64 {
        self.sum.value()
    }

    fn count_shrank(&self, value: &Histogram) -> bool {
        value.count < self.numbers.count.value as u64
    }

    fn buckets_shrank(&self, value: &Histogram) -> bool {
        let (layout, numbers) = (&self.layout, &self.numbers);
        value.zero_count < numbers.zero_count.value as u64
            || layout::any_shrank(
                layout::bucket_indexes(&layout.positive)
                    .zip(counts(numbers.positive.iter().map(|n| n.value))),
                layout::bucket_indexes(&value.positive_spans)
                    .zip(counts(value.positive_buckets.iter().copied())),
            )
            || layout::any_shrank(
                layout::bucket_indexes(&layout.negative)
                    .zip(counts(numbers.negative.iter().map(|n| n.value))),
                layout::bucket_indexes(&value.negative_spans)
                    .zip(counts(value.negative_buckets.iter().copied())),
            )
    }
}

/// Takes the histograms of a chunk one by one.
#[derive(Debug, Clone)]
pub(super) struct HistogramReader<'a> {
    bits: BitReader<'a>,
    header: ResetHeader,
    start: Option<StartReader>,
    layout: Layout,
    numbers: Numbers,
    sum: XorReader,
}

impl<'a> HistogramReader<'a> {
    pub(super) fn new(data: &'a [u8], has_start: bool) -> Self {
        let (header, rest) = data.split_at_checked(3).unwrap_or((&[0, 0, 0], &[]));
        Self {
            bits: BitReader::new(rest),
            header: ResetHeader::from_top_bits(header[if has_start { 0 } else { 2 }]),
            start: has_start.then(|| StartReader::new(header[2])),
            layout: Layout::default(),
            numbers: Numbers::default(),
            sum: XorReader::default(),
        }
    }

    /// Takes sample `index`; `None` where the bits end or contradict themselves.
    pub(super) fn take(&mut self, index: u16) -> Result<Option<(i64, Option<i64>, Histogram)>, ChunkError> {
        let previous_ms = self.numbers.t_ms.value;
        if index == 0 {
            self.layout = Layout::take(&mut self.bits, 1)?;
        }
        let taken = if index == 0 { self.take_first() } else { self.take_later() };
        let t_ms = self.numbers.t_ms.value;
        let start_taken = taken.and_then(|()| match &mut self.start {
            Some(start) => start.take(&mut self.bits, index, t_ms, previous_ms),
            None => Some(()),
        });
        let start_ms = self.start.as_ref().and_then(StartReader::start_ms);
        Ok(start_taken.map(|()| (t_ms, start_ms, self.histogram(index == 0))))
    }

    fn take_first(&mut self) -> Option<()> {
        let (bits, numbers) = (&mut self.bits, &mut self.numbers);
        numbers.t_ms = Doubled::new(varbit::take_int(bits)?);
        numbers.count = Doubled::new(varbit::take_uint(bits)? as i64);
        numbers.zero_count = Doubled::new(varbit::take_uint(bits)? as i64);
        self.sum = XorReader::new(bits.take(64)?);
        for _ in 0..layout::bucket_count(&self.layout.positive) {
            numbers.positive.push(Doubled::new(varbit::take_int(bits)?));
        }
        for _ in 0..layout::bucket_count(&self.layout.negative) {
            numbers.negative.push(Doubled::new(varbit::take_int(bits)?));
        }
        Some(())
    }

    fn take_later(&mut self) -> Option<()> {
        let (bits, numbers) = (&mut self.bits, &mut self.numbers);
        numbers.t_ms.take(bits)?;
        numbers.count.take(bits)?;
        numbers.zero_count.take(bits)?;
        self.sum.take(bits)?;
        if self.sum.value == STALE_MARKER_BITS {
            return Some(());
        }
        numbers.positive.iter_mut().chain(&mut numbers.negative).try_for_each(|n| n.take(bits))
    }

    fn histogram(&self, is_first: bool) -> Histogram {
        let sum = f64::from_bits(self.sum.value);
        if self.sum.value == STALE_MARKER_BITS {
            return Histogram { sum, ..Histogram::default() };
        }
        Histogram {
            counter_reset_hint: self.header.hint(is_first),
            schema: self.layout.schema,
            zero_threshold: f64::from_bits(self.layout.zero_threshold),
            zero_count: self.numbers.zero_count.value as u64,
            count: self.numbers.count.value as u64,
            sum,
            positive_spans: self.layout.positive.clone(),
            negative_spans: self.layout.negative.clone(),
            positive_buckets: self.numbers.positive.iter().map(|n| n.value).collect(),
            negative_buckets: self.numbers.negative.iter().map(|n| n.value).collect(),
            custom_values: self.layout.custom_floats(),
        }
    }
}
