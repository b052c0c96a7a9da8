//! Decoding columns of parts of a file: plan, one fetch, one compute job a part.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{RowSelection, RowSelectionPolicy, RowSelector};
use parquet::arrow::push_decoder::{ParquetPushDecoder, ParquetPushDecoderBuilder};
use parquet::errors::ParquetError;
use tokio_util::sync::CancellationToken;

use super::error::BlockError;
use super::fetch::{Held, Use, fetch};
use super::reader::{BlockReader, OpenBlock, gave_up};
use crate::model::{Matcher, TimeRange};

/// A batch takes about so many bytes of the file's columns at most, before compression. What decodes it copies them a
/// few times, on each compute thread.
pub(super) const BATCH_BYTES_MAX: u64 = 4 << 20;

/// Rows and columns of one row group that are to be decoded.
#[derive(Debug)]
pub(super) struct Part {
    /// Its place among the parts that are decoded together.
    pub(super) number: usize,
    pub(super) group: usize,
    /// The file's columns, lists and maps counted as one, in ascending order.
    pub(super) columns: Vec<usize>,
    /// Which rows, counted from the row group's first in ascending order, or all.
    pub(super) rows: Option<Vec<u32>>,
    pub(super) batch_rows: usize,
}

impl Part {
    pub(super) fn new(group: usize, columns: Vec<usize>, rows: Option<Vec<u32>>, batch_rows: usize) -> Self {
        Self { number: 0, group, columns, rows, batch_rows }
    }

    /// Returns the place within the row group of the n-th row that is decoded.
    pub(super) fn row(&self, n: usize) -> u32 {
        self.rows.as_ref().map_or(n as u32, |rows| rows[n])
    }
}

/// A part with its decoder, which waits for bytes.
struct Planned {
    part: Part,
    decoder: ParquetPushDecoder,
    ranges: Vec<Range<u64>>,
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

/// What is fetched for the parts of one decoding.
pub(super) struct Fetching<'a> {
    pub(super) purpose: Use,
    /// Ranges that later steps will want and that come along in the same requests.
    pub(super) ahead: Vec<Range<u64>>,
    pub(super) held: &'a mut Held,
}

impl<'a> Fetching<'a> {
    pub(super) fn new(purpose: Use, held: &'a mut Held) -> Self {
        Self { purpose, ahead: Vec::new(), held }
    }
}

impl OpenBlock {
    /// Sorts rows, whose numbers ascend, into row groups, each counted from its first row.
    ///
    /// # Errors
    /// Row numbers that do not ascend or exist.
    pub(super) fn rows_by_group(&self, rows: &[u32]) -> Result<Vec<(usize, Vec<u32>)>, BlockError> {
        let ascend = rows.windows(2).find(|w| w[0] >= w[1]).map(|w| w[1]);
        if let Some(row) = ascend.or(rows.last().copied().filter(|row| *row >= self.rows())) {
            return Err(BlockError::Rows { row, rows: self.rows() });
        }
        let (mut by_group, mut rest) = (Vec::new(), rows);
        for (group, range) in self.row_ranges().enumerate() {
            let (inside, after) = rest.split_at(rest.partition_point(|row| *row < range.end));
            rest = after;
            if !inside.is_empty() {
                by_group.push((group, inside.iter().map(|row| row - range.start).collect()));
            }
        }
        Ok(by_group)
    }

    /// Returns a decoder of some columns and rows of one row group; it has no bytes yet.
    fn decoder(&self, part: &Part) -> Result<ParquetPushDecoder, ParquetError> {
        let mask = ProjectionMask::roots(self.parquet.parquet_schema(), part.columns.iter().copied());
        let columns = self.row_group(part.group).columns().iter().enumerate();
        let columns = columns.filter(|(leaf, _)| mask.leaf_included(*leaf));
        let bytes: u64 = columns.map(|(_, column)| column.uncompressed_size().unsigned_abs()).sum();
        let (group_rows, mut batch_rows) = (self.group_rows(part.group), part.batch_rows);
        // By default rows between close ones that are chosen are decoded, too, and dropped.
        let mut policy = RowSelectionPolicy::default();
        if bytes > BATCH_BYTES_MAX {
            let rows_max = BATCH_BYTES_MAX.saturating_mul(u64::from(group_rows)) / bytes;
            batch_rows = batch_rows.min(rows_max as usize);
            policy = RowSelectionPolicy::Selectors;
        }
        let builder = ParquetPushDecoderBuilder::new_with_metadata(self.parquet.clone())
            .with_row_groups(vec![part.group])
            .with_projection(mask)
            .with_row_selection_policy(policy)
            .with_batch_size(batch_rows.max(1));
        match &part.rows {
            Some(rows) => builder.with_row_selection(select_rows(rows, group_rows)).build(),
            None => builder.build(),
        }
    }

    /// Returns decoders of parts of the file, each with the ranges of bytes that it needs.
    fn plan(&self, parts: Vec<Part>) -> Result<Vec<Planned>, ParquetError> {
        let plan_part = |(number, part): (usize, Part)| {
            let part = Part { number, ..part };
            let mut decoder = self.decoder(&part)?;
            let ranges = match decoder.try_decode()? {
                DecodeResult::NeedsData(ranges) => ranges,
                // Without bytes there is nothing to decode but parts without rows.
                DecodeResult::Data(_) | DecodeResult::Finished => Vec::new(),
            };
            Ok(Planned { part, decoder, ranges })
        };
        parts.into_iter().enumerate().map(plan_part).collect()
    }
}

impl BlockReader {
    /// Returns the parts of the file that hold rows, whose numbers ascend, with some columns.
    ///
    /// # Errors
    /// Row numbers that do not ascend or exist.
    pub(super) fn parts_of(
        &self,
        rows: &[u32],
        columns: &[usize],
        batch_rows: usize,
    ) -> Result<Vec<Part>, BlockError> {
        let part = |(group, rows)| Part::new(group, columns.to_vec(), Some(rows), batch_rows);
        Ok(self.block.rows_by_group(rows)?.into_iter().map(part).collect())
    }

    /// Returns the row groups that may hold matching rows, whole, with some columns; each is one batch unless
    /// `batch_rows` says less.
    pub(super) fn parts_that_may_match(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        columns: &[usize],
        batch_rows: usize,
    ) -> Vec<Part> {
        let groups = self.block.groups_in_question(matchers, range).into_iter();
        groups.map(|group| Part::new(group, columns.to_vec(), None, batch_rows)).collect()
    }

    /// Decodes parts of the file: one fetch for all, then one compute job for each part, in which `consume` sees the
    /// part's batches in order.
    pub(super) async fn decode<T, F>(
        &self,
        parts: Vec<Part>,
        fetching: Fetching<'_>,
        consume: F,
    ) -> Result<Vec<T>, BlockError>
    where
        T: Default + Send + 'static,
        F: Fn(&Part, RecordBatch, &mut T) -> Result<(), BlockError> + Clone + Send + 'static,
    {
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        let block = Arc::clone(&self.block);
        let planned = self.block.cpu.run(move || block.plan(parts)).await.map_err(gave_up)?;
        let planned = planned.map_err(BlockError::Damaged)?;
        let Fetching { purpose, ahead, held } = fetching;
        let wanted = planned.iter().flat_map(|p| p.ranges.iter().cloned()).chain(ahead);
        let wanted: Vec<Range<u64>> = wanted.collect();
        fetch(self.source.as_ref(), purpose, wanted, self.block.size_bytes, held).await?;
        let cancel = CancellationToken::new();
        let _cancel_when_dropped = cancel.clone().drop_guard();
        let jobs = planned.into_iter().map(|planned| {
            let bytes: Option<Vec<Bytes>> = planned.ranges.iter().map(|range| held.get(range)).collect();
            let (consume, cancel) = (consume.clone(), cancel.clone());
            self.block.cpu.run(move || drain(planned, bytes, &consume, &cancel))
        });
        let results = futures::future::join_all(jobs.collect::<Vec<_>>()).await;
        results.into_iter().map(|result| result.map_err(gave_up)?).collect()
    }
}

fn drain<T: Default>(
    Planned { part, mut decoder, ranges }: Planned,
    buffers: Option<Vec<Bytes>>,
    consume: &impl Fn(&Part, RecordBatch, &mut T) -> Result<(), BlockError>,
    cancel: &CancellationToken,
) -> Result<T, BlockError> {
    let mut result = T::default();
    let overlap = || BlockError::Footer("its page index has pages that overlap".to_owned());
    let buffers = buffers.ok_or_else(overlap)?;
    if !ranges.is_empty() {
        decoder.push_ranges(ranges, buffers).map_err(BlockError::Damaged)?;
    }
    loop {
        if cancel.is_cancelled() {
            return Err(BlockError::Cancelled);
        }
        match decoder.try_decode().map_err(BlockError::Damaged)? {
            DecodeResult::Data(batch) => consume(&part, batch, &mut result)?,
            DecodeResult::Finished => return Ok(result),
            DecodeResult::NeedsData(ranges) => {
                return Err(BlockError::Footer(format!("its page index leaves out bytes {ranges:?}")));
            }
        }
    }
}

fn select_rows(rows: &[u32], group_rows: u32) -> RowSelection {
    let mut selectors: Vec<RowSelector> = Vec::new();
    let mut next = 0;
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
    if next < group_rows {
        selectors.push(RowSelector::skip((group_rows - next) as usize));
    }
    RowSelection::from(selectors)
}
