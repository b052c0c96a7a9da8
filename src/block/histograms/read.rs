//! Reading the histograms of chosen rows.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, ListArray, PrimitiveArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMillisecondType};

use super::layout::{Layout, Side, bare, places_of, shortest_spans};
use super::schema::{FIXED_BEFORE_LAYOUT, LAYOUT_AND_SAMPLES};
use crate::block::error::BlockError;
use crate::block::fetch::{Held, Use};
use crate::block::parts::{Fetching, Part, all_rows};
use crate::block::reader::BlockReader;
use crate::block::samples::elements;
use crate::model::{
    BlockKind, FloatHistogram, Histogram, HistogramSample, NativeHistogram, STALE_MARKER_BITS, Span,
};

/// Rows decoded at a time: mostly some hundred thousand bucket counts.
const BATCH_ROWS: usize = 8;

impl BlockReader {
    /// Reads the histograms of rows of a block of histograms, whose numbers ascend; each row's samples are sorted and
    /// whole.
    ///
    /// Only the pages that hold these rows are fetched. The caller bounds memory by the rows it asks for at once.
    ///
    /// # Errors
    /// A block of another kind, row numbers that do not ascend or exist, failed reads, and damage.
    pub async fn read_histograms(&self, rows: &[u32]) -> Result<Vec<Vec<HistogramSample>>, BlockError> {
        self.require(&BlockKind::Histograms, "histograms")?;
        let first = 1 + self.block.label_columns.len() + FIXED_BEFORE_LAYOUT;
        let columns: Vec<usize> = (first..first + LAYOUT_AND_SAMPLES).collect();
        let parts = self.parts_of(rows, &columns, BATCH_ROWS)?;
        let append = |_: &Part, batch: RecordBatch, rows: &mut Vec<Vec<HistogramSample>>| {
            append_rows(batch.columns(), batch.num_rows(), rows).ok_or_else(|| {
                BlockError::Footer("the lists of a row with histograms contradict each other".to_owned())
            })
        };
        let mut held = Held::default();
        let read: Vec<Vec<Vec<HistogramSample>>> =
            self.decode(parts, Fetching::new(Use::Samples, &mut held), append).await?;
        all_rows(read, rows.len())
    }
}

/// Appends a batch's rows; `None` where its columns contradict each other.
pub(super) fn append_rows(
    columns: &[ArrayRef],
    batch_rows: usize,
    rows: &mut Vec<Vec<HistogramSample>>,
) -> Option<()> {
    for row in 0..batch_rows {
        rows.push(Row::new(columns, row)?.samples()?);
    }
    Some(())
}

/// The elements of one list.
struct Elements<'a, T: ArrowPrimitiveType> {
    array: &'a PrimitiveArray<T>,
    start: usize,
    len: usize,
}

impl<'a, T: ArrowPrimitiveType> Elements<'a, T> {
    /// Returns the list of a row; `Some(None)` where it is NULL.
    fn of(column: &'a ArrayRef, row: usize) -> Option<Option<Self>> {
        let list: &ListArray = column.as_list_opt()?;
        if list.is_null(row) {
            return Some(None);
        }
        let range = elements(list, row);
        let array = list.values().as_primitive_opt::<T>()?;
        Some(Some(Self { array, start: range.start, len: range.len() }))
    }

    /// Returns the list of a row where it must be there.
    fn required(column: &'a ArrayRef, row: usize) -> Option<Self> {
        Self::of(column, row)?
    }

    fn get(&self, i: usize) -> Option<T::Native> {
        let at = self.start + i;
        (i < self.len && self.array.is_valid(at)).then(|| self.array.value(at))
    }

    fn values(&self) -> impl Iterator<Item = Option<T::Native>> {
        (0..self.len).map(|i| self.get(i))
    }
}

/// The counts of one side over all samples of a row.
struct SideCounts<T> {
    side: Side,
    /// One list per bucket, each with one element per sample.
    buckets: Vec<Vec<Option<T>>>,
    /// The buckets' places, where some sample lacks one.
    places: Vec<i64>,
}

impl<T: Copy> SideCounts<T> {
    fn new(spans: Vec<Span>, buckets: Vec<Vec<Option<T>>>, samples: usize) -> Option<Self> {
        if buckets.iter().any(|bucket| bucket.len() != samples) {
            return None;
        }
        let places = places_of(&spans, buckets.len()).unwrap_or_default();
        Some(Self { side: Side::new(&spans, buckets.len()), buckets, places })
    }

    /// Returns the spans and counts of one sample.
    fn sample(&self, i: usize) -> Option<(Vec<Span>, Vec<T>)> {
        let counts: Vec<T> = self.buckets.iter().filter_map(|bucket| bucket[i]).collect();
        if counts.len() == self.buckets.len() {
            return Some((self.side.spans.clone(), counts));
        }
        if self.places.len() != self.buckets.len() {
            return None;
        }
        let present = self.places.iter().zip(&self.buckets).filter(|(_, bucket)| bucket[i].is_some());
        let places: Vec<i64> = present.map(|(place, _)| *place).collect();
        Some((shortest_spans(&places)?, counts))
    }
}

/// One row, taken apart.
struct Row<'a> {
    layout: Layout,
    times: Elements<'a, TimestampMillisecondType>,
    starts: Option<Elements<'a, TimestampMillisecondType>>,
    hints: Elements<'a, Int32Type>,
    sums: Elements<'a, Float64Type>,
    columns: &'a [ArrayRef],
    row: usize,
}

/// Where columns stand among those of layout and samples.
mod at {
    pub(super) const SPANS: [usize; 2] = [3, 5];
    pub(super) const WHOLE: [usize; 2] = [10, 12];
    pub(super) const FRACTIONAL: [usize; 2] = [11, 13];
    pub(super) const SUM: usize = 14;
    pub(super) const SIDES: [usize; 2] = [15, 18];
}

impl<'a> Row<'a> {
    fn new(columns: &'a [ArrayRef], row: usize) -> Option<Self> {
        if columns.len() != LAYOUT_AND_SAMPLES {
            return None;
        }
        let schema = columns[0].as_primitive_opt::<Int32Type>()?.value(row);
        let zero_threshold = columns[1].as_primitive_opt::<Float64Type>()?.value(row);
        let custom_values = match Elements::<Float64Type>::of(&columns[2], row)? {
            Some(bounds) => bounds.values().collect::<Option<Vec<f64>>>()?,
            None => Vec::new(),
        };
        let float = columns[at::FRACTIONAL[0]].is_valid(row);
        let read = Self {
            layout: Layout { float, schema, zero_threshold, custom_values, ..Layout::default() },
            times: Elements::required(&columns[7], row)?,
            starts: Elements::of(&columns[8], row)?,
            hints: Elements::required(&columns[9], row)?,
            sums: Elements::required(&columns[at::SUM], row)?,
            columns,
            row,
        };
        let lengths = [read.hints.len, read.sums.len, read.starts.as_ref().map_or(read.times.len, |s| s.len)];
        lengths.iter().all(|len| *len == read.times.len).then_some(read)
    }

    fn spans(&self, side: usize) -> Option<Vec<Span>> {
        let first = at::SPANS[side];
        let offsets = Elements::<Int64Type>::required(&self.columns[first], self.row)?;
        let lengths = Elements::<Int64Type>::required(&self.columns[first + 1], self.row)?;
        if offsets.len != lengths.len {
            return None;
        }
        let span = |(offset, length): (Option<i64>, Option<i64>)| {
            Some(Span { offset: i32::try_from(offset?).ok()?, length: u32::try_from(length?).ok()? })
        };
        offsets.values().zip(lengths.values()).map(span).collect()
    }

    /// Returns a list of the row that has one element per sample.
    fn per_sample<T: ArrowPrimitiveType>(&self, column: usize) -> Option<Elements<'a, T>> {
        Elements::required(&self.columns[column], self.row).filter(|list| list.len == self.times.len)
    }

    /// Returns the lists of a list, one for each bucket.
    fn nested<T: ArrowPrimitiveType>(&self, column: usize) -> Option<Vec<Vec<Option<T::Native>>>> {
        let outer: &ListArray = self.columns[column].as_list_opt()?;
        if outer.is_null(self.row) {
            return None;
        }
        let bucket = |bucket| Some(Elements::<T>::required(outer.values(), bucket)?.values().collect());
        elements(outer, self.row).map(bucket).collect()
    }

    /// Returns absolute counts from first counts and increments.
    fn whole_side(&self, side: usize) -> Option<SideCounts<i64>> {
        let firsts = Elements::<Int64Type>::required(&self.columns[at::SIDES[side]], self.row)?;
        let mut buckets = self.nested::<Int64Type>(at::SIDES[side] + 1)?;
        if firsts.len != buckets.len() {
            return None;
        }
        for (bucket, first) in buckets.iter_mut().zip(firsts.values()) {
            let mut count = first.unwrap_or(0);
            for increment in bucket.iter_mut().flatten() {
                count = count.wrapping_add(*increment);
                *increment = count;
            }
        }
        SideCounts::new(self.spans(side)?, buckets, self.times.len)
    }

    fn fractional_side(&self, side: usize) -> Option<SideCounts<f64>> {
        SideCounts::new(self.spans(side)?, self.nested::<Float64Type>(at::SIDES[side] + 2)?, self.times.len)
    }

    fn samples(&self) -> Option<Vec<HistogramSample>> {
        let histograms = if self.layout.float { self.fractional()? } else { self.whole()? };
        let sample = |(i, histogram)| {
            let start_ms = self.starts.as_ref().and_then(|starts| starts.get(i)).unwrap_or(0);
            Some(HistogramSample { ts_ms: self.times.get(i)?, start_ms, histogram })
        };
        histograms.into_iter().enumerate().map(sample).collect()
    }

    /// Returns sum and reset hint of a sample.
    fn sum_and_hint(&self, i: usize) -> Option<(f64, u8)> {
        let sum = self.sums.get(i).unwrap_or(f64::from_bits(STALE_MARKER_BITS));
        Some((sum, u8::try_from(self.hints.get(i)?).ok()?))
    }

    fn whole(&self) -> Option<Vec<NativeHistogram>> {
        let [counts, zero_counts] = at::WHOLE.map(|column| self.per_sample::<Int64Type>(column));
        let (counts, zero_counts) = (counts?, zero_counts?);
        let (positive, negative) = (self.whole_side(0)?, self.whole_side(1)?);
        let histogram = |i| {
            let (sum, counter_reset_hint) = self.sum_and_hint(i)?;
            let Some(count) = counts.get(i) else { return Some(bare(false, sum, counter_reset_hint)) };
            let (positive_spans, positive_counts) = positive.sample(i)?;
            let (negative_spans, negative_counts) = negative.sample(i)?;
            Some(NativeHistogram::Int(Box::new(Histogram {
                counter_reset_hint,
                schema: self.layout.schema,
                zero_threshold: self.layout.zero_threshold,
                // The stored integers have the same bits.
                zero_count: zero_counts.get(i)? as u64,
                count: count as u64,
                sum,
                positive_spans,
                negative_spans,
                positive_buckets: differences(positive_counts),
                negative_buckets: differences(negative_counts),
                custom_values: self.layout.custom_values.clone(),
            })))
        };
        (0..self.times.len).map(histogram).collect()
    }

    fn fractional(&self) -> Option<Vec<NativeHistogram>> {
        let [counts, zero_counts] = at::FRACTIONAL.map(|column| self.per_sample::<Float64Type>(column));
        let (counts, zero_counts) = (counts?, zero_counts?);
        let (positive, negative) = (self.fractional_side(0)?, self.fractional_side(1)?);
        let histogram = |i| {
            let (sum, counter_reset_hint) = self.sum_and_hint(i)?;
            let Some(count) = counts.get(i) else { return Some(bare(true, sum, counter_reset_hint)) };
            let (positive_spans, positive_buckets) = positive.sample(i)?;
            let (negative_spans, negative_buckets) = negative.sample(i)?;
            Some(NativeHistogram::Float(Box::new(FloatHistogram {
                counter_reset_hint,
                schema: self.layout.schema,
                zero_threshold: self.layout.zero_threshold,
                zero_count: zero_counts.get(i)?,
                count,
                sum,
                positive_spans,
                negative_spans,
                positive_buckets,
                negative_buckets,
                custom_values: self.layout.custom_values.clone(),
            })))
        };
        (0..self.times.len).map(histogram).collect()
    }
}

/// Returns the differences between neighbouring buckets.
fn differences(mut counts: Vec<i64>) -> Vec<i64> {
    let mut before = 0i64;
    for count in &mut counts {
        let difference = count.wrapping_sub(before);
        (before, *count) = (*count, difference);
    }
    counts
}
