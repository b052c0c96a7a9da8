//! Finding the rows that match: row groups pruned by statistics, matchers evaluated on dictionaries.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, MapArray, RecordBatch, StringArray};
use arrow::datatypes::{Int32Type, TimestampMillisecondType};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::Statistics;

use super::error::BlockError;
use super::reader::{BlockReader, OpenBlock, Part};
use crate::model::{BlockKind, Labels, MatchKind, Matcher, TimeRange, encode_label};

/// A row that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockRow {
    /// Its number in the file.
    pub row: u32,
    /// Its series.
    pub labels: Labels,
    /// The time of its first sample.
    pub min_time_ms: i64,
    /// The time of its last sample.
    pub max_time_ms: i64,
    /// How many samples it has.
    pub samples: u32,
}

impl BlockReader {
    /// Returns the rows whose series satisfies all matchers and whose samples' span touches a range, in block order.
    ///
    /// A row that touches the range may have samples outside of it, or none inside.
    ///
    /// # Errors
    /// Failed reads and damage.
    pub async fn find_rows(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<BlockRow>, BlockError> {
        let block = &self.0;
        let parts = self.parts_that_may_match(matchers, range, None);
        // Labels, the rest, both times and the count; `_series` before and the statistics behind are not needed.
        let columns = 1..block.label_columns.len() + 5;
        let names = block.label_columns.clone();
        let matchers = matchers.to_vec();
        let collect = move |part: &Part, batch: RecordBatch, found: &mut Found| {
            let malformed = || BlockError::Footer("a label or time column has the wrong type".to_owned());
            let rows = LabelRows::new(&names, &batch).ok_or_else(malformed)?;
            let first_row = part.first_row + found.seen;
            found.seen += batch.num_rows() as u32;
            rows.collect(&matchers, range, first_row, &mut found.rows)
        };
        let found: Vec<Found> = self.decode(parts, columns, collect).await?;
        Ok(found.into_iter().flat_map(|f| f.rows).collect())
    }
}

impl BlockReader {
    /// Returns the row groups that may hold matching rows, whole; each is one batch unless `batch_rows` says less.
    pub(super) fn parts_that_may_match(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        batch_rows: Option<usize>,
    ) -> Vec<Part> {
        let block = &self.0;
        let parts = block
            .row_ranges()
            .enumerate()
            .filter(|(group, rows)| !rows.is_empty() && may_match(block, *group, matchers, range));
        parts
            .map(|(group, rows)| Part {
                group,
                first_row: rows.start,
                selection: None,
                batch_rows: batch_rows.unwrap_or(rows.len()),
            })
            .collect()
    }
}

/// What one row group brought.
#[derive(Debug, Default)]
struct Found {
    seen: u32,
    rows: Vec<BlockRow>,
}

/// Returns whether a row group may hold a matching row, by its statistics alone.
fn may_match(block: &OpenBlock, group: usize, matchers: &[Matcher], range: TimeRange) -> bool {
    let group = block.row_group(group);
    if let Some((first, last)) = time_columns(block)
        && let (Some(Statistics::Int64(min)), Some(Statistics::Int64(max))) =
            (group.column(first).statistics(), group.column(last).statistics())
        && let (Some(min_ms), Some(max_ms)) = (min.min_opt(), max.max_opt())
        && !touches(range, *min_ms, *max_ms)
    {
        return false;
    }
    matchers.iter().all(|matcher| {
        let place = block.label_columns.iter().position(|name| name == matcher.name());
        place.is_none_or(|place| column_may_match(group.column(place + 1), matcher))
    })
}

/// Returns the leaf columns with a row's first and last time; none where rows stand for no time.
fn time_columns(block: &OpenBlock) -> Option<(usize, usize)> {
    // `_series`, the label columns, names and values of the rest.
    let first = 3 + block.label_columns.len();
    match block.meta.kind {
        BlockKind::Samples | BlockKind::Histograms => Some((first, first + 1)),
        BlockKind::Exemplars => Some((first, first)),
        BlockKind::Metadata | BlockKind::Other(_) => None,
    }
}

fn column_may_match(column: &ColumnChunkMetaData, matcher: &Matcher) -> bool {
    let Some(Statistics::ByteArray(statistics)) = column.statistics() else { return true };
    let nulls = statistics.null_count_opt();
    if nulls != Some(0) && matcher.matches("") {
        return true;
    }
    if nulls == u64::try_from(column.num_values()).ok() {
        return false;
    }
    match (matcher.kind(), statistics.min_opt(), statistics.max_opt()) {
        (MatchKind::Equal, Some(min), Some(max)) => {
            (min.data()..=max.data()).contains(&matcher.value().as_bytes())
        }
        _ => true,
    }
}

fn touches(range: TimeRange, min_ms: i64, max_ms: i64) -> bool {
    // A range up to the end of time includes the last millisecond, which half-open bounds cannot say otherwise.
    (min_ms < range.end_ms || range.end_ms == i64::MAX) && range.start_ms <= max_ms
}

/// The label and time columns of some rows.
pub(super) struct LabelRows<'a> {
    /// Label columns, sorted by name.
    columns: Vec<(&'a str, Codes<'a>)>,
    rest: Rest<'a>,
    min_times: &'a [i64],
    max_times: &'a [i64],
    counts: &'a [i32],
}

/// One label column: a code per row into its distinct values.
#[derive(Clone, Copy)]
struct Codes<'a> {
    codes: &'a DictionaryArray<Int32Type>,
    values: &'a StringArray,
}

impl<'a> Codes<'a> {
    fn value(&self, row: usize) -> Option<&'a str> {
        self.codes.key(row).map(|code| self.values.value(code))
    }
}

/// The column of labels without a column.
pub(super) struct Rest<'a> {
    map: &'a MapArray,
    names: &'a StringArray,
    values: &'a StringArray,
}

impl<'a> Rest<'a> {
    pub(super) fn new(column: &'a ArrayRef) -> Option<Self> {
        let map = column.as_map_opt()?;
        Some(Self { map, names: map.keys().as_string_opt()?, values: map.values().as_string_opt()? })
    }

    pub(super) fn labels(&self, row: usize) -> impl Iterator<Item = (&'a str, &'a str)> {
        let offsets = self.map.value_offsets();
        let entries = match self.map.is_valid(row) {
            true => offsets[row] as usize..offsets[row + 1] as usize,
            false => 0..0,
        };
        let (names, values) = (self.names, self.values);
        entries.map(move |i| (names.value(i), values.value(i)))
    }
}

impl<'a> LabelRows<'a> {
    /// Takes a batch apart; `None` where a column has an unexpected type.
    fn new(names: &'a [String], batch: &'a RecordBatch) -> Option<Self> {
        let (labels, others) = batch.columns().split_at_checked(names.len() + 1)?;
        let [min_times, max_times, counts] = others else { return None };
        let times = [
            min_times.as_primitive_opt::<TimestampMillisecondType>()?.values().as_ref(),
            max_times.as_primitive_opt::<TimestampMillisecondType>()?.values().as_ref(),
        ];
        Self::of_columns(names, labels, times, counts.as_primitive_opt::<Int32Type>()?.values())
    }

    /// Takes label columns with the rest behind them, first and last times, and counts.
    pub(super) fn of_columns(
        names: &'a [String],
        labels: &'a [ArrayRef],
        [min_times, max_times]: [&'a [i64]; 2],
        counts: &'a [i32],
    ) -> Option<Self> {
        let (rest, labels) = labels.split_last()?;
        let mut columns = Vec::with_capacity(names.len());
        for (name, column) in names.iter().zip(labels) {
            let codes = column.as_dictionary_opt::<Int32Type>()?;
            columns.push((name.as_str(), Codes { codes, values: codes.values().as_string_opt()? }));
        }
        columns.sort_unstable_by_key(|(name, _)| *name);
        Some(Self { columns, rest: Rest::new(rest)?, min_times, max_times, counts })
    }

    /// Appends the rows that match, numbered from `first_row`.
    pub(super) fn collect(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        first_row: u32,
        found: &mut Vec<BlockRow>,
    ) -> Result<(), BlockError> {
        let mut conditions: Vec<Condition<'_>> =
            matchers.iter().map(|matcher| self.condition(matcher)).collect();
        let mut bytes = Vec::new();
        for row in 0..self.counts.len() {
            let (min_time_ms, max_time_ms) = (self.min_times[row], self.max_times[row]);
            let matches = touches(range, min_time_ms, max_time_ms)
                && conditions.iter_mut().all(|condition| condition.holds(row));
            if !matches {
                continue;
            }
            bytes.clear();
            self.encode_labels(row, &mut bytes);
            let labels = match found.last() {
                // The rows of one series are neighbours and share its labels.
                Some(last) if last.labels.as_bytes() == bytes => last.labels.clone(),
                _ => Labels::from_canonical(&bytes).map_err(BlockError::Labels)?,
            };
            let samples = u32::try_from(self.counts[row]).unwrap_or(0);
            let row = first_row + row as u32;
            found.push(BlockRow { row, labels, min_time_ms, max_time_ms, samples });
        }
        Ok(())
    }

    /// Appends a row's labels, merged by name from columns and rest, in their canonical form.
    fn encode_labels(&self, row: usize, bytes: &mut Vec<u8>) {
        let mut rest = self.rest.labels(row).peekable();
        for (name, codes) in &self.columns {
            let Some(value) = codes.value(row) else { continue };
            while let Some((name, value)) = rest.next_if(|(other, _)| other < name) {
                encode_label(name, value, bytes);
            }
            encode_label(name, value, bytes);
        }
        for (name, value) in rest {
            encode_label(name, value, bytes);
        }
    }

    fn condition<'m>(&'m self, matcher: &'m Matcher) -> Condition<'m> {
        match self.columns.iter().find(|(name, _)| *name == matcher.name()) {
            Some((_, column)) => Condition::Column {
                codes: *column,
                verdicts: column.values.iter().map(|v| matcher.matches(v.unwrap_or(""))).collect(),
                absent: matcher.matches(""),
            },
            None => Condition::Rest { rest: &self.rest, matcher, verdicts: HashMap::new() },
        }
    }
}

/// A matcher, evaluated once per distinct value.
enum Condition<'a> {
    Column { codes: Codes<'a>, verdicts: Vec<bool>, absent: bool },
    Rest { rest: &'a Rest<'a>, matcher: &'a Matcher, verdicts: HashMap<&'a str, bool> },
}

impl Condition<'_> {
    fn holds(&mut self, row: usize) -> bool {
        match self {
            Self::Column { codes, verdicts, absent } => {
                codes.codes.key(row).map_or(*absent, |code| verdicts[code])
            }
            Self::Rest { rest, matcher, verdicts } => {
                let label = rest.labels(row).find(|(name, _)| *name == matcher.name());
                let value = label.map_or("", |(_, value)| value);
                *verdicts.entry(value).or_insert_with(|| matcher.matches(value))
            }
        }
    }
}
