//! Opening a block: footer, page index, and the checks that make the rest of reading safe.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection};
use parquet::arrow::push_decoder::{ParquetPushDecoder, ParquetPushDecoderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    PageIndexPolicy, ParquetMetaData, ParquetMetaDataPushDecoder, RowGroupMetaData,
};
use tokio_util::sync::CancellationToken;

use super::columns::may_be_column;
use super::error::BlockError;
use super::fetch::{Fetched, RangeRead, fetch};
use super::meta::{BlockMeta, decode_meta};
use super::schema::{LabelForm, arrow_schema};
use super::{exemplars, histograms, metadata};
use crate::model::BlockKind;
use crate::runtime::{Cpu, CpuError};

/// Bytes from the end that are fetched first: footer and page index of most blocks.
const TAIL_BYTES: u64 = 128 << 10;
/// The largest footer with page index that is read; a block of 1,000 row groups stays far below.
const FOOTER_BYTES_MAX: u64 = 256 << 20;

/// An open block. Clones share its footer.
#[derive(Debug, Clone)]
pub struct BlockReader(pub(super) Arc<OpenBlock>);

/// What all clones of a reader share.
#[derive(Debug)]
pub(super) struct OpenBlock {
    source: Arc<dyn RangeRead>,
    cpu: Cpu,
    size_bytes: u64,
    pub(super) meta: BlockMeta,
    /// Label columns in file order; column `i` is the file's column `i + 1`.
    pub(super) label_columns: Vec<String>,
    parquet: ArrowReaderMetadata,
    /// The first row of each row group, and at the end the number of rows.
    row_starts: Vec<u32>,
}

impl BlockReader {
    /// Opens a block of samples or histograms by its footer, normally with one read.
    ///
    /// # Errors
    /// Failed reads, a format version or schema that is not ours, another kind of block, and damage.
    pub async fn open(source: Arc<dyn RangeRead>, cpu: Cpu, size_bytes: u64) -> Result<Self, BlockError> {
        let block = Self::open_any(source, cpu, size_bytes).await?;
        match &block.meta().kind {
            BlockKind::Samples | BlockKind::Histograms => Ok(block),
            other => Err(BlockError::Kind { found: other.clone(), wanted: "samples or histograms" }),
        }
    }

    /// Opens a block of any kind that this program knows.
    pub(super) async fn open_any(
        source: Arc<dyn RangeRead>,
        cpu: Cpu,
        size_bytes: u64,
    ) -> Result<Self, BlockError> {
        let footer = read_footer(source.as_ref(), &cpu, size_bytes).await?;
        let block = cpu.clone().run(move || OpenBlock::new(source, cpu, size_bytes, footer)).await;
        Ok(Self(Arc::new(block.map_err(gave_up)??)))
    }

    /// Refuses blocks of another kind than is to be read.
    pub(super) fn require(&self, kind: &BlockKind, wanted: &'static str) -> Result<(), BlockError> {
        match &self.0.meta.kind {
            found if found == kind => Ok(()),
            found => Err(BlockError::Kind { found: found.clone(), wanted }),
        }
    }

    /// Returns what the block says about itself.
    #[must_use]
    pub fn meta(&self) -> &BlockMeta {
        &self.0.meta
    }

    /// Returns about how many bytes of memory the open block takes, for caches to count.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.0.parquet.metadata().memory_size()
    }
}

async fn read_footer(
    source: &dyn RangeRead,
    cpu: &Cpu,
    size_bytes: u64,
) -> Result<ParquetMetaData, BlockError> {
    let mut decoder = ParquetMetaDataPushDecoder::try_new(size_bytes)
        .map_err(BlockError::Damaged)?
        .with_column_index_policy(PageIndexPolicy::Skip)
        .with_offset_index_policy(PageIndexPolicy::Required);
    let tail = size_bytes.saturating_sub(TAIL_BYTES)..size_bytes;
    let mut wanted = Vec::from_iter([tail]);
    loop {
        let total: u64 = wanted.iter().map(|r| r.end.saturating_sub(r.start)).sum();
        if total > FOOTER_BYTES_MAX {
            return Err(BlockError::Footer(format!("its {total} bytes are over {FOOTER_BYTES_MAX}")));
        }
        let (ranges, buffers) = fetch(source, wanted, size_bytes).await?;
        let step = cpu.run(move || {
            decoder.push_ranges(ranges, buffers)?;
            let decoded = decoder.try_decode()?;
            Ok((decoder, decoded))
        });
        match step.await.map_err(gave_up)?.map_err(BlockError::Damaged)? {
            (_, DecodeResult::Data(metadata)) => return Ok(metadata),
            (back, DecodeResult::NeedsData(ranges)) => (decoder, wanted) = (back, ranges),
            (_, DecodeResult::Finished) => {
                return Err(BlockError::Footer("it ended before it was complete".to_owned()));
            }
        }
    }
}

impl OpenBlock {
    fn new(
        source: Arc<dyn RangeRead>,
        cpu: Cpu,
        size_bytes: u64,
        footer: ParquetMetaData,
    ) -> Result<Self, BlockError> {
        let file = footer.file_metadata();
        let meta = decode_meta(file.key_value_metadata())?;
        let names = file.schema().get_fields().iter().map(|field| field.name());
        let label_columns: Vec<String> =
            names.filter(|name| may_be_column(name)).map(ToOwned::to_owned).collect();
        let expected = match &meta.kind {
            BlockKind::Samples => arrow_schema(&label_columns, LabelForm::Codes),
            BlockKind::Histograms => histograms::arrow_schema(&label_columns, LabelForm::Codes),
            BlockKind::Exemplars => exemplars::arrow_schema(&label_columns, LabelForm::Codes),
            BlockKind::Metadata => metadata::arrow_schema(),
            BlockKind::Other(_) => {
                let wanted = "samples, histograms, exemplars or metadata";
                return Err(BlockError::Kind { found: meta.kind, wanted });
            }
        };
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true).with_schema(expected);
        let row_starts = row_starts(&footer)?;
        if u64::from(*row_starts.last().unwrap_or(&0)) != meta.stats.rows {
            return Err(BlockError::Footer(format!("it counts {} rows and holds others", meta.stats.rows)));
        }
        let parquet = ArrowReaderMetadata::try_new(Arc::new(footer), options)
            .map_err(|e| BlockError::Footer(format!("its columns are not those of format 1: {e}")))?;
        Ok(Self { source, cpu, size_bytes, meta, label_columns, parquet, row_starts })
    }

    pub(super) fn row_group(&self, group: usize) -> &RowGroupMetaData {
        self.parquet.metadata().row_group(group)
    }

    /// Returns the global row numbers of each row group.
    pub(super) fn row_ranges(&self) -> impl Iterator<Item = Range<u32>> {
        self.row_starts.windows(2).map(|w| w[0]..w[1])
    }

    pub(super) fn rows(&self) -> u32 {
        self.row_starts.last().copied().unwrap_or(0)
    }

    /// Returns a decoder of some columns and rows of one row group; it has no bytes yet.
    fn decoder(&self, part: &Part, columns: &[usize]) -> Result<ParquetPushDecoder, ParquetError> {
        let mask = ProjectionMask::roots(self.parquet.parquet_schema(), columns.iter().copied());
        let builder = ParquetPushDecoderBuilder::new_with_metadata(self.parquet.clone())
            .with_row_groups(vec![part.group])
            .with_projection(mask)
            .with_batch_size(part.batch_rows.max(1));
        match &part.selection {
            Some(selection) => builder.with_row_selection(selection.clone()).build(),
            None => builder.build(),
        }
    }

    /// Returns decoders of parts of the file, each with the ranges of bytes that it needs.
    fn plan(&self, parts: Vec<Part>, columns: &[usize]) -> Result<Vec<Planned>, ParquetError> {
        let plan_part = |part: Part| {
            let mut decoder = self.decoder(&part, columns)?;
            let ranges = match decoder.try_decode()? {
                DecodeResult::NeedsData(ranges) => ranges,
                // Without bytes there is nothing to decode but parts without rows.
                DecodeResult::Data(_) | DecodeResult::Finished => Vec::new(),
            };
            Ok(Planned { part, decoder, ranges })
        };
        parts.into_iter().map(plan_part).collect()
    }
}

impl BlockReader {
    /// Decodes columns of parts of the file: one fetch for all, then one compute job for each part, in which
    /// `consume` sees the part's batches in order.
    pub(super) async fn decode<T, F>(
        &self,
        parts: Vec<Part>,
        columns: Range<usize>,
        consume: F,
    ) -> Result<Vec<T>, BlockError>
    where
        T: Default + Send + 'static,
        F: Fn(&Part, RecordBatch, &mut T) -> Result<(), BlockError> + Clone + Send + 'static,
    {
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        let block = Arc::clone(&self.0);
        let columns: Vec<usize> = columns.collect();
        let planned = self.0.cpu.run(move || block.plan(parts, &columns)).await.map_err(gave_up)?;
        let planned = planned.map_err(BlockError::Damaged)?;
        let wanted = planned.iter().flat_map(|p| p.ranges.iter().cloned()).collect();
        let fetched = fetch(self.0.source.as_ref(), wanted, self.0.size_bytes).await?;
        let cancel = CancellationToken::new();
        let _cancel_when_dropped = cancel.clone().drop_guard();
        let jobs = planned.into_iter().map(|planned| {
            let bytes = overlapping(&fetched, &planned.ranges);
            let (consume, cancel) = (consume.clone(), cancel.clone());
            self.0.cpu.run(move || drain(planned, bytes, &consume, &cancel))
        });
        let results = futures::future::join_all(jobs).await;
        results.into_iter().map(|result| result.map_err(gave_up)?).collect()
    }
}

/// The Parquet decoder panics on some damage; the compute pool catches it.
fn gave_up(error: CpuError) -> BlockError {
    match error {
        CpuError::Panicked => {
            BlockError::Damaged(ParquetError::General("the Parquet decoder panicked".to_owned()))
        }
        other @ CpuError::Start(_) => BlockError::Cpu(other),
    }
}

/// A part with its decoder, which waits for bytes.
struct Planned {
    part: Part,
    decoder: ParquetPushDecoder,
    ranges: Vec<Range<u64>>,
}

/// Rows of one row group that are to be decoded.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) group: usize,
    /// The global number of the row group's first row.
    pub(super) first_row: u32,
    /// Which rows, or all.
    pub(super) selection: Option<RowSelection>,
    pub(super) batch_rows: usize,
}

fn row_starts(footer: &ParquetMetaData) -> Result<Vec<u32>, BlockError> {
    let mut starts = vec![0u32];
    for group in footer.row_groups() {
        let rows = u32::try_from(group.num_rows()).ok();
        let next = rows.and_then(|rows| starts.last().and_then(|s| s.checked_add(rows)));
        starts.push(next.ok_or_else(|| BlockError::Footer("its row counts are out of range".to_owned()))?);
    }
    Ok(starts)
}

/// Returns the fetched buffers that hold some of the ranges.
fn overlapping(fetched: &Fetched, ranges: &[Range<u64>]) -> Fetched {
    let holds = |buffer: &Range<u64>| ranges.iter().any(|r| r.start < buffer.end && buffer.start < r.end);
    fetched
        .0
        .iter()
        .zip(&fetched.1)
        .filter(|(range, _)| holds(range))
        .map(|(range, bytes)| (range.clone(), bytes.clone()))
        .unzip()
}

fn drain<T: Default>(
    Planned { part, mut decoder, .. }: Planned,
    (ranges, buffers): Fetched,
    consume: &impl Fn(&Part, RecordBatch, &mut T) -> Result<(), BlockError>,
    cancel: &CancellationToken,
) -> Result<T, BlockError> {
    let mut result = T::default();
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
