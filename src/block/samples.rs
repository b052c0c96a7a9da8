//! Reading the samples of chosen rows.

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMillisecondType};
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};

use super::decimal::POWERS_OF_TEN;
use super::error::BlockError;
use super::reader::{BlockReader, Part};
use super::schema::SAMPLE_COLUMNS;
use crate::model::{BlockKind, STALE_MARKER_BITS, Sample};

/// Rows decoded at a time: at most 65,536 samples, which keeps the arrays within a core's cache.
const BATCH_ROWS: usize = 16;

impl BlockReader {
    /// Reads the samples of rows, whose numbers ascend; each row's samples are sorted and whole.
    ///
    /// Only the pages that hold these rows are fetched, neighbouring ones in one request. The caller bounds memory by
    /// the rows it asks for at once ([`super::BlockRow::samples`]).
    ///
    /// # Errors
    /// Row numbers that do not ascend or exist, failed reads, and damage.
    pub async fn read_samples(&self, rows: &[u32]) -> Result<Vec<Vec<Sample>>, BlockError> {
        self.require(&BlockKind::Samples, "samples")?;
        let parts = self.parts_of(rows, BATCH_ROWS)?;
        let first = 1 + self.0.label_columns.len() + FIXED_BEFORE_SAMPLES;
        let columns = first..first + SAMPLE_COLUMNS.len();
        let append = |_: &Part, batch: RecordBatch, rows: &mut Vec<Vec<Sample>>| {
            append_rows(&batch, rows).ok_or_else(|| {
                BlockError::Footer("a row's lists do not have one length or lack values".to_owned())
            })
        };
        let read: Vec<Vec<Vec<Sample>>> = self.decode(parts, columns, append).await?;
        all_rows(read, rows.len())
    }
}

impl BlockReader {
    /// Returns the parts of the file that hold rows, whose numbers ascend.
    pub(super) fn parts_of(&self, rows: &[u32], batch_rows: usize) -> Result<Vec<Part>, BlockError> {
        let block = &self.0;
        let ascend = rows.windows(2).find(|w| w[0] >= w[1]).map(|w| w[1]);
        if let Some(row) = ascend.or(rows.last().copied().filter(|row| *row >= block.rows())) {
            return Err(BlockError::Rows { row, rows: block.rows() });
        }
        let mut parts = Vec::new();
        let mut rest = rows;
        for (group, range) in block.row_ranges().enumerate() {
            let (inside, after) = rest.split_at(rest.partition_point(|row| *row < range.end));
            rest = after;
            if !inside.is_empty() {
                parts.push(Part {
                    group,
                    first_row: range.start,
                    selection: Some(select_rows(inside, range.start, range.end)),
                    batch_rows,
                });
            }
        }
        Ok(parts)
    }
}

/// Returns the rows of all parts, if they are as many as were asked for.
pub(super) fn all_rows<T>(parts: Vec<Vec<T>>, wanted: usize) -> Result<Vec<T>, BlockError> {
    let rows: Vec<T> = parts.into_iter().flatten().collect();
    if rows.len() == wanted {
        Ok(rows)
    } else {
        Err(BlockError::Footer(format!("{} rows came where {wanted} were asked for", rows.len())))
    }
}

/// Columns between the label columns and the sample columns: rest, two times, three counts, six statistics.
const FIXED_BEFORE_SAMPLES: usize = 12;

fn select_rows(rows: &[u32], start: u32, end: u32) -> RowSelection {
    let mut selectors: Vec<RowSelector> = Vec::new();
    let mut next = start;
    for row in rows {
        if *row > next || selectors.is_empty() {
            if *row > next {
                selectors.push(RowSelector::skip((*row - next) as usize));
            }
            selectors.push(RowSelector::select(1));
        } else if let Some(last) = selectors.last_mut() {
            last.row_count += 1;
        }
        next = row + 1;
    }
    if next < end {
        selectors.push(RowSelector::skip((end - next) as usize));
    }
    RowSelection::from(selectors)
}

/// Appends a batch's rows; `None` where its columns contradict each other.
fn append_rows(batch: &RecordBatch, rows: &mut Vec<Vec<Sample>>) -> Option<()> {
    let [ts, st, scales, scaled, values]: &[ArrayRef; 5] = batch.columns().try_into().ok()?;
    let (ts, st): (&ListArray, &ListArray) = (ts.as_list_opt()?, st.as_list_opt()?);
    let (scaled, values): (&ListArray, &ListArray) = (scaled.as_list_opt()?, values.as_list_opt()?);
    let times = ts.values().as_primitive_opt::<TimestampMillisecondType>()?.values();
    let scales = scales.as_primitive_opt::<Int32Type>()?;
    for row in 0..batch.num_rows() {
        let range = elements(ts, row);
        let mut samples: Vec<Sample> = Vec::with_capacity(range.len());
        let row_times = &times[range];
        if scaled.is_valid(row) && scales.is_valid(row) && values.is_null(row) {
            let power = *POWERS_OF_TEN.get(usize::try_from(scales.value(row)).ok()?)?;
            let integers = scaled.values().as_primitive_opt::<Int64Type>()?;
            let range = elements(scaled, row);
            let live = integers.values().get(range.clone())?.iter().map(|v| *v as f64 / power);
            samples.extend(row_times.iter().zip(live).map(|(ts, value)| Sample::new(*ts, value)));
            mark_stale(&mut samples, integers, range.start);
        } else if values.is_valid(row) && scaled.is_null(row) {
            let doubles = values.values().as_primitive_opt::<Float64Type>()?;
            let range = elements(values, row);
            let live = doubles.values().get(range.clone())?.iter();
            samples.extend(row_times.iter().zip(live).map(|(ts, value)| Sample::new(*ts, *value)));
            mark_stale(&mut samples, doubles, range.start);
        }
        if samples.len() != row_times.len() {
            return None;
        }
        if st.is_valid(row) {
            set_starts(&mut samples, st, row)?;
        }
        rows.push(samples);
    }
    Some(())
}

pub(super) fn elements(list: &ListArray, row: usize) -> std::ops::Range<usize> {
    let offsets = list.value_offsets();
    // Arrow checked when it built the array that offsets ascend from zero.
    offsets[row] as usize..offsets[row + 1] as usize
}

/// Turns NULL elements into stale markers; the samples stand at `start` of the list's elements.
fn mark_stale(samples: &mut [Sample], elements: &dyn Array, start: usize) {
    let Some(nulls) = elements.nulls() else { return };
    if nulls.slice(start, samples.len()).null_count() == 0 {
        return;
    }
    for (i, sample) in samples.iter_mut().enumerate() {
        if nulls.is_null(start + i) {
            sample.value = f64::from_bits(STALE_MARKER_BITS);
        }
    }
}

fn set_starts(samples: &mut [Sample], st: &ListArray, row: usize) -> Option<()> {
    let starts = st.values().as_primitive_opt::<TimestampMillisecondType>()?;
    let range = elements(st, row);
    if range.len() != samples.len() {
        return None;
    }
    for (sample, element) in samples.iter_mut().zip(range) {
        if starts.is_valid(element) {
            sample.start_ms = starts.value(element);
        }
    }
    Some(())
}
