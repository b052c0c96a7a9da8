//! Finding the rows that match: row groups pruned by statistics, matchers evaluated on the columns that have some,
//! the other labels read of matching rows alone.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::{StreamExt, TryStreamExt};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::Statistics;

use super::dictionary::chunk_range;
use super::error::{BlockError, ReadFailure};
use super::fetch::{GAP_BYTES_MIN, Held, Use};
use super::label_rows::{LabelProjection, LabelRows, touches};
use super::parts::{Fetching, Part};
use super::reader::{BlockReader, OpenBlock};
use crate::model::{BlockKind, Labels, MatchKind, Matcher, TimeRange};

/// So many row groups are searched in one go: their label columns are in memory together.
const GROUPS_AT_ONCE: usize = 16;
/// So many of these goes run at once.
const GOES_AT_ONCE: usize = 2;

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

/// What bounds a query. It is asked for each row that is found, so that a query ends early.
pub trait Admission: Debug + Send + Sync {
    /// Counts a row of a series; to have found it takes so many bytes of memory.
    ///
    /// # Errors
    /// A row that is beyond what the query may find.
    fn admit(&self, labels: &Labels, samples: u32, bytes: u64) -> Result<(), ReadFailure>;
}

/// Rows of one row group that match.
#[derive(Debug, Clone)]
pub(super) struct Matching {
    pub(super) group: usize,
    /// Which, counted from the row group's first, or all.
    pub(super) rows: Option<Vec<u32>>,
}

impl Matching {
    pub(super) fn part(self, block: &OpenBlock, projection: &LabelProjection) -> Part {
        let batch_rows = self.rows.as_ref().map_or(block.group_rows(self.group) as usize, Vec::len);
        Part::new(self.group, projection.columns(block), self.rows, batch_rows)
    }
}

impl BlockReader {
    /// Returns the rows whose series satisfies all matchers and whose samples' span touches a range, in block order.
    ///
    /// A row that touches the range may have samples outside of it, or none inside.
    ///
    /// # Errors
    /// Failed reads, damage, and more rows than the query may find.
    pub async fn find_rows(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<BlockRow>, BlockError> {
        let matchers: Arc<[Matcher]> = matchers.into();
        let groups = self.block.groups_in_question(&matchers, range);
        let goes = groups.chunks(GROUPS_AT_ONCE).map(|groups| {
            let matchers = Arc::clone(&matchers);
            async move {
                let mut held = Held::default();
                let matching = self.matching(groups, &matchers, range, &mut held).await?;
                self.describe(matching, &mut held).await
            }
        });
        let goes = futures::stream::iter(goes.collect::<Vec<_>>()).buffered(GOES_AT_ONCE);
        let found: Vec<Vec<BlockRow>> = goes.try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Evaluates matchers and range on the columns that they need.
    pub(super) async fn matching(
        &self,
        groups: &[usize],
        matchers: &Arc<[Matcher]>,
        range: TimeRange,
        held: &mut Held,
    ) -> Result<Vec<Matching>, BlockError> {
        let block = &self.block;
        let all_match = |group: &usize| matchers.is_empty() && block.all_touch(*group, range);
        let (whole, asked): (Vec<usize>, Vec<usize>) = groups.iter().partition(|group| all_match(group));
        let projection = LabelProjection::of_labels(block, matchers.iter().map(Matcher::name));
        let everything = |group: usize| Matching { group, rows: None };
        let parts = asked.iter().map(|group| everything(*group).part(block, &projection)).collect();
        let mut fetching = Fetching::new(Use::Index, held);
        fetching.ahead.extend(asked.iter().filter_map(|group| block.small_label_region(*group)));
        let (opened, matchers) = (Arc::clone(block), Arc::clone(matchers));
        let evaluate = move |_: &Part, batch: RecordBatch, found: &mut Evaluated| {
            let rows = LabelRows::new(&opened, &projection, &batch)?;
            let seen = found.seen;
            found.rows.extend(rows.matching(&matchers, range).into_iter().map(|row| seen + row));
            found.seen += rows.len() as u32;
            Ok(())
        };
        let evaluated: Vec<Evaluated> = self.decode(parts, fetching, evaluate).await?;
        let some = asked.into_iter().zip(evaluated).filter(|(_, found)| !found.rows.is_empty());
        let some = some.map(|(group, found)| Matching { group, rows: Some(found.rows) });
        let mut matching: Vec<Matching> = whole.into_iter().map(everything).chain(some).collect();
        matching.sort_by_key(|m| m.group);
        Ok(matching)
    }

    /// Reads the labels of matching rows.
    async fn describe(&self, matching: Vec<Matching>, held: &mut Held) -> Result<Vec<BlockRow>, BlockError> {
        let projection = LabelProjection::all(&self.block);
        let parts = matching.into_iter().map(|m| m.part(&self.block, &projection)).collect();
        let (opened, admission) = (Arc::clone(&self.block), self.admission.clone());
        let collect = move |part: &Part, batch: RecordBatch, found: &mut Vec<BlockRow>| {
            let rows = LabelRows::new(&opened, &projection, &batch)?;
            let (first_row, seen) = (opened.first_row(part.group), found.len());
            let mut bytes = Vec::new();
            for row in 0..rows.len() {
                let neighbour = found.last().map(|last| &last.labels);
                let labels = rows.labels(row, neighbour, &mut bytes)?;
                let samples = rows.samples(row);
                if let Some(admission) = &admission {
                    let bytes = size_of::<BlockRow>() + own_bytes(&labels, neighbour);
                    admission.admit(&labels, samples, bytes as u64).map_err(BlockError::Read)?;
                }
                let (min_time_ms, max_time_ms) = (rows.min_times[row], rows.max_times[row]);
                let row = first_row + part.row(seen + row);
                found.push(BlockRow { row, labels, min_time_ms, max_time_ms, samples });
            }
            Ok(())
        };
        let found = self.decode(parts, Fetching::new(Use::Index, held), collect).await?;
        Ok(found.into_iter().flatten().collect())
    }
}

/// Returns the memory of a row's labels, which it may share with its neighbour.
pub(super) fn own_bytes(labels: &Labels, neighbour: Option<&Labels>) -> usize {
    if neighbour == Some(labels) { 0 } else { labels.as_bytes().len() }
}

/// What evaluating one row group brought.
#[derive(Debug, Default)]
struct Evaluated {
    seen: u32,
    rows: Vec<u32>,
}

impl OpenBlock {
    /// Returns the row groups that may hold a matching row, by their statistics alone.
    pub(super) fn groups_in_question(&self, matchers: &[Matcher], range: TimeRange) -> Vec<usize> {
        let groups = self.row_ranges().enumerate();
        let groups =
            groups.filter(|(group, rows)| !rows.is_empty() && self.may_match(*group, matchers, range));
        groups.map(|(group, _)| group).collect()
    }

    fn may_match(&self, group: usize, matchers: &[Matcher], range: TimeRange) -> bool {
        let times = self.time_bounds(group);
        if times.is_some_and(|[min, _, _, max]| !touches(range, min, max)) {
            return false;
        }
        let group = self.row_group(group);
        matchers.iter().all(|matcher| {
            let place = self.label_column(matcher.name());
            place.is_none_or(|place| column_may_match(group.column(place + 1), matcher))
        })
    }

    /// Returns whether all rows of a row group touch a range, as far as statistics tell.
    pub(super) fn all_touch(&self, group: usize, range: TimeRange) -> bool {
        let times = self.time_bounds(group);
        times.is_some_and(|[_, last_start, first_end, _]| touches(range, last_start, first_end))
    }

    /// Returns the first and last `_min_time`, and the first and last `_max_time`.
    fn time_bounds(&self, group: usize) -> Option<[i64; 4]> {
        let group = self.row_group(group);
        // `_labels_rest` has two leaves.
        let first = self.rest_column() + 2;
        let leaves = match self.meta.kind {
            BlockKind::Samples | BlockKind::Histograms => [first, first + 1],
            BlockKind::Exemplars => [first, first],
            BlockKind::Metadata | BlockKind::Other(_) => return None,
        };
        let [min, max] = leaves.map(|leaf| group.columns().get(leaf)?.statistics());
        match (min?, max?) {
            (Statistics::Int64(min), Statistics::Int64(max)) => {
                Some([*min.min_opt()?, *min.max_opt()?, *max.min_opt()?, *max.max_opt()?])
            }
            _ => None,
        }
    }

    /// Returns where a row group's labels, times and counts lie, with `_scale` behind them, where that is so little
    /// that reading all of it costs no more than another request.
    fn small_label_region(&self, group: usize) -> Option<Range<u64>> {
        let last_leaf = self.rest_column() + 7;
        let columns = self.row_group(group).columns().get(1..=last_leaf)?;
        let (mut start, mut end) = (u64::MAX, 0);
        for range in columns.iter().map(chunk_range) {
            let range = range?;
            (start, end) = (start.min(range.start), end.max(range.end));
        }
        (start < end && end - start <= GAP_BYTES_MIN).then_some(start..end)
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
    let (Some(min), Some(max)) = (statistics.min_opt(), statistics.max_opt()) else { return true };
    let (min, max) = (min.data(), max.data());
    let within = |value: &str| (min..=max).contains(&value.as_bytes());
    match matcher.kind() {
        MatchKind::Equal => within(matcher.value()),
        MatchKind::Regex => match matcher.set_values() {
            Some(values) => values.iter().any(|value| within(value)),
            None => {
                let prefix = matcher.literal_prefix().as_bytes();
                max >= prefix && (min <= prefix || min.starts_with(prefix))
            }
        },
        MatchKind::NotEqual | MatchKind::NotRegex => true,
    }
}
