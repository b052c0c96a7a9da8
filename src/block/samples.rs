//! Reading the samples of chosen rows.

use std::sync::Arc;

use arrow::array::{Array, AsArray, ListArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMillisecondType};

use super::decimal::POWERS_OF_TEN;
use super::error::BlockError;
use super::fetch::{Held, Use};
use super::parts::{Fetching, Part};
use super::reader::{BlockReader, OpenBlock};
use super::schema::{SCALE, SCALED, ST, TS, VALUES};
use crate::model::{BlockKind, STALE_MARKER_BITS, Sample};

/// Rows decoded at a time: at most 65,536 samples, which keeps the arrays within a core's cache.
const BATCH_ROWS: usize = 16;

/// Rows of one row group whose values are in the same list.
struct ListRows {
    /// The place of each row among all that were asked for.
    slots: Vec<usize>,
    /// The power of ten by which each row's integers are divided; nothing where values are doubles.
    powers: Option<Vec<f64>>,
    /// Whether start timestamps are read.
    starts: bool,
}

impl BlockReader {
    /// Reads the samples of rows, whose numbers ascend; each row's samples are sorted and whole.
    ///
    /// Only the pages that hold these rows are fetched, of the values those of the one list that a row uses. The
    /// caller bounds memory by the rows it asks for at once ([`super::BlockRow::samples`]).
    ///
    /// # Errors
    /// A block of another kind, row numbers that do not ascend or exist, failed reads, and damage.
    pub async fn read_samples(&self, rows: &[u32]) -> Result<Vec<Vec<Sample>>, BlockError> {
        self.require(&BlockKind::Samples, "samples")?;
        let by_group = self.block.rows_by_group(rows)?;
        let scales = self.scales(&by_group).await?;
        let (mut parts, mut lists, mut slot) = (Vec::new(), Vec::new(), 0);
        for ((group, rows), scales) in by_group.into_iter().zip(scales) {
            for scaled in [true, false] {
                let (part, list) = self.block.list_part(group, &rows, &scales, (scaled, slot))?;
                if !list.slots.is_empty() {
                    parts.push(part);
                    lists.push(list);
                }
            }
            slot += rows.len();
        }
        let lists = Arc::new(lists);
        let of_parts = Arc::clone(&lists);
        let append = move |part: &Part, batch: RecordBatch, rows: &mut Vec<Vec<Sample>>| {
            let appended = append_rows(&batch, &of_parts[part.number], rows);
            appended.ok_or_else(|| {
                BlockError::Footer("a row's lists do not have one length or lack values".to_owned())
            })
        };
        let mut held = Held::default();
        let read: Vec<Vec<Vec<Sample>>> =
            self.decode(parts, Fetching::new(Use::Samples, &mut held), append).await?;
        let mut answer: Vec<Vec<Sample>> = vec![Vec::new(); rows.len()];
        for (list, read) in lists.iter().zip(read) {
            if list.slots.len() != read.len() {
                let (came, asked) = (read.len(), list.slots.len());
                return Err(BlockError::Footer(format!("{came} rows came where {asked} were asked for")));
            }
            for (slot, samples) in list.slots.iter().zip(read) {
                answer[*slot] = samples;
            }
        }
        Ok(answer)
    }

    /// Reads the scale of each row: it tells which list has the row's values.
    async fn scales(&self, by_group: &[(usize, Vec<u32>)]) -> Result<Vec<Vec<Option<i32>>>, BlockError> {
        let column = self.block.sample_column(SCALE)?;
        let part = |(group, rows): &(usize, Vec<u32>)| {
            Part::new(*group, vec![column], Some(rows.clone()), rows.len())
        };
        let collect = |_: &Part, batch: RecordBatch, scales: &mut Vec<Option<i32>>| {
            let column = batch.columns().first().and_then(|c| c.as_primitive_opt::<Int32Type>());
            let malformed = || BlockError::Footer("the column of scales has the wrong type".to_owned());
            scales.extend(column.ok_or_else(malformed)?);
            Ok(())
        };
        let (parts, mut held) = (by_group.iter().map(part).collect(), Held::default());
        let scales = self.decode(parts, Fetching::new(Use::Index, &mut held), collect).await?;
        let complete = scales.iter().zip(by_group).all(|(scales, (_, rows))| scales.len() == rows.len());
        if complete { Ok(scales) } else { Err(BlockError::Footer("its rows lack scales".to_owned())) }
    }
}

impl OpenBlock {
    pub(super) fn sample_column(&self, name: &str) -> Result<usize, BlockError> {
        self.column(name).ok_or_else(|| BlockError::Footer(format!("it has no column {name}")))
    }

    /// Returns what is read of those rows of a row group that are scaled, or of those that are not. The first row's
    /// place among all that were asked for is `first_slot`.
    fn list_part(
        &self,
        group: usize,
        rows: &[u32],
        scales: &[Option<i32>],
        (scaled, first_slot): (bool, usize),
    ) -> Result<(Part, ListRows), BlockError> {
        let places = (0..rows.len()).filter(|place| scales[*place].is_some() == scaled);
        let places: Vec<usize> = places.collect();
        let power = |place: &usize| {
            let scale = scales[*place].and_then(|scale| usize::try_from(scale).ok());
            let power = scale.and_then(|scale| POWERS_OF_TEN.get(scale)).copied();
            power.ok_or_else(|| BlockError::Footer("a row's scale is out of range".to_owned()))
        };
        let powers = if scaled { Some(places.iter().map(power).collect::<Result<_, _>>()?) } else { None };
        let st = self.sample_column(ST)?;
        // The labels' map before it has two leaves.
        let starts = !self.column_is_null(group, st + 1);
        let values = self.sample_column(if scaled { SCALED } else { VALUES })?;
        let mut columns = vec![self.sample_column(TS)?];
        columns.extend(starts.then_some(st));
        columns.push(values);
        let chosen = places.iter().map(|place| rows[*place]).collect();
        let slots = places.iter().map(|place| first_slot + place).collect();
        Ok((Part::new(group, columns, Some(chosen), BATCH_ROWS), ListRows { slots, powers, starts }))
    }
}

/// Appends a batch's rows; `None` where its columns contradict each other.
fn append_rows(batch: &RecordBatch, list: &ListRows, rows: &mut Vec<Vec<Sample>>) -> Option<()> {
    let (ts, st, values) = match batch.columns() {
        [ts, st, values] if list.starts => (ts, Some(st.as_list_opt()?), values),
        [ts, values] if !list.starts => (ts, None, values),
        _ => return None,
    };
    let (ts, values): (&ListArray, &ListArray) = (ts.as_list_opt()?, values.as_list_opt()?);
    let times = ts.values().as_primitive_opt::<TimestampMillisecondType>()?.values();
    for row in 0..batch.num_rows() {
        if values.is_null(row) {
            return None;
        }
        let row_times = &times[elements(ts, row)];
        let range = elements(values, row);
        let mut samples: Vec<Sample> = Vec::with_capacity(range.len());
        if let Some(powers) = &list.powers {
            let power = *powers.get(rows.len())?;
            let integers = values.values().as_primitive_opt::<Int64Type>()?;
            let live = integers.values().get(range.clone())?.iter().map(|v| *v as f64 / power);
            samples.extend(row_times.iter().zip(live).map(|(ts, value)| Sample::new(*ts, value)));
            mark_stale(&mut samples, integers, range.start);
        } else {
            let doubles = values.values().as_primitive_opt::<Float64Type>()?;
            let live = doubles.values().get(range.clone())?.iter();
            samples.extend(row_times.iter().zip(live).map(|(ts, value)| Sample::new(*ts, *value)));
            mark_stale(&mut samples, doubles, range.start);
        }
        if samples.len() != row_times.len() || samples.len() != range.len() {
            return None;
        }
        if let Some(st) = st.filter(|st: &&ListArray| st.is_valid(row)) {
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
