//! Opening a block: footer, page index, and the checks that make the rest of reading safe.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parquet::DecodeResult;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    PageIndexPolicy, ParquetMetaData, ParquetMetaDataPushDecoder, RowGroupMetaData,
};

use super::columns::may_be_column;
use super::error::BlockError;
use super::fetch::{Held, RangeRead, Use, fetch};
use super::file::ROW_GROUP_ROWS;
use super::find::{Admission, BlockRow};
use super::meta::{BlockMeta, decode_meta};
use super::schema::{LabelForm, ScalePlace, arrow_schema};
use super::writer::ROW_GROUP_SAMPLES;
use super::{exemplars, histograms, metadata};
use crate::model::{BlockKind, Sample};
use crate::runtime::{Cpu, CpuError};

/// Bytes from the end that are fetched first where nothing is known of a block: footer and page index of most.
const TAIL_BYTES: u64 = 128 << 10;
/// The largest footer with page index that is read; a block of 1,000 row groups stays far below.
const FOOTER_BYTES_MAX: u64 = 256 << 20;
/// What the footer says of one column of one row group, statistics included, at most as a rule.
const COLUMN_BYTES: u64 = 150;
/// What the page index says of all pages of one row group.
const GROUP_PAGES_BYTES: u64 = 1 << 10;
/// The columns besides those of labels.
const OTHER_COLUMNS: u64 = 19;

/// An open block. Clones share its footer.
#[derive(Debug, Clone)]
pub struct BlockReader {
    pub(super) block: Arc<OpenBlock>,
    pub(super) source: Arc<dyn RangeRead>,
    pub(super) admission: Option<Arc<dyn Admission>>,
}

/// What all clones of a reader share.
#[derive(Debug)]
pub(super) struct OpenBlock {
    pub(super) cpu: Cpu,
    pub(super) size_bytes: u64,
    pub(super) meta: BlockMeta,
    /// Label columns in file order; column `i` is the file's column `i + 1`.
    pub(super) label_columns: Vec<String>,
    pub(super) parquet: ArrowReaderMetadata,
    /// The first row of each row group, and at the end the number of rows.
    row_starts: Vec<u32>,
    /// What a decoded histogram of each row group takes in memory; empty where samples are floats.
    histogram_bytes: Vec<u64>,
}

impl BlockReader {
    /// Opens a block of samples or histograms by its footer, normally with one read.
    ///
    /// # Errors
    /// Failed reads, a format version or schema that is not ours, another kind of block, and damage.
    pub async fn open(source: Arc<dyn RangeRead>, cpu: Cpu, size_bytes: u64) -> Result<Self, BlockError> {
        Self::open_expecting(source, cpu, size_bytes, TAIL_BYTES).await
    }

    /// Opens a block whose footer and page index are expected to take so many bytes at its end: a good guess saves a
    /// read.
    ///
    /// # Errors
    /// Failed reads, a format version or schema that is not ours, another kind of block, and damage.
    pub async fn open_expecting(
        source: Arc<dyn RangeRead>,
        cpu: Cpu,
        size_bytes: u64,
        index_bytes: u64,
    ) -> Result<Self, BlockError> {
        let block = Self::open_kind(source, cpu, size_bytes, index_bytes).await?;
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
        Self::open_kind(source, cpu, size_bytes, TAIL_BYTES).await
    }

    /// Refuses blocks of another kind than is to be read.
    pub(super) fn require(&self, kind: &BlockKind, wanted: &'static str) -> Result<(), BlockError> {
        match &self.block.meta.kind {
            found if found == kind => Ok(()),
            found => Err(BlockError::Kind { found: found.clone(), wanted }),
        }
    }

    async fn open_kind(
        source: Arc<dyn RangeRead>,
        cpu: Cpu,
        size_bytes: u64,
        index_bytes: u64,
    ) -> Result<Self, BlockError> {
        let footer = read_footer(source.as_ref(), &cpu, size_bytes, index_bytes).await?;
        let block = cpu.clone().run(move || OpenBlock::new(cpu, size_bytes, footer)).await;
        let block = Arc::new(block.map_err(gave_up)??);
        Ok(Self { block, source, admission: None })
    }

    /// Returns the block with another source of the same bytes and, where a query is bounded, with what bounds it.
    #[must_use]
    pub fn for_query(&self, source: Arc<dyn RangeRead>, admission: Option<Arc<dyn Admission>>) -> Self {
        Self { block: Arc::clone(&self.block), source, admission }
    }

    /// Returns what the block says about itself.
    #[must_use]
    pub fn meta(&self) -> &BlockMeta {
        &self.block.meta
    }

    /// Returns about how many bytes of memory the samples of a row take once they are read.
    #[must_use]
    pub fn read_bytes(&self, row: &BlockRow) -> u64 {
        let group = self.block.row_starts.partition_point(|start| *start <= row.row).saturating_sub(1);
        let histogram = self.block.histogram_bytes.get(group).copied();
        u64::from(row.samples).saturating_mul(histogram.unwrap_or(size_of::<Sample>() as u64))
    }

    /// Returns about how many bytes of memory the open block takes, for caches to count.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let names: usize = self.block.label_columns.iter().map(|name| name.len() + 32).sum();
        let groups = self.block.row_starts.len() * 4 + self.block.histogram_bytes.len() * 8;
        self.block.parquet.metadata().memory_size() + names + groups
    }
}

/// Returns about how many bytes footer and page index of a block take: rather a little more than too few.
#[must_use]
pub fn expected_index_bytes(samples: u64, rows: u64, label_columns: usize) -> u64 {
    let groups = samples.div_ceil(ROW_GROUP_SAMPLES).max(rows.div_ceil(ROW_GROUP_ROWS as u64));
    let columns = OTHER_COLUMNS.saturating_add(label_columns as u64);
    let group_bytes = columns.saturating_mul(COLUMN_BYTES).saturating_add(GROUP_PAGES_BYTES);
    groups.saturating_mul(group_bytes).saturating_add(16 << 10).clamp(TAIL_BYTES / 2, FOOTER_BYTES_MAX)
}

async fn read_footer(
    source: &dyn RangeRead,
    cpu: &Cpu,
    size_bytes: u64,
    index_bytes: u64,
) -> Result<ParquetMetaData, BlockError> {
    let mut decoder = ParquetMetaDataPushDecoder::try_new(size_bytes)
        .map_err(BlockError::Damaged)?
        .with_column_index_policy(PageIndexPolicy::Skip)
        .with_offset_index_policy(PageIndexPolicy::Required);
    let tail = size_bytes.saturating_sub(index_bytes)..size_bytes;
    let mut wanted = Vec::from_iter([tail]);
    let mut held = Held::default();
    loop {
        let total: u64 = wanted.iter().map(|r| r.end.saturating_sub(r.start)).sum();
        if total > FOOTER_BYTES_MAX {
            return Err(BlockError::Footer(format!("its {total} bytes are over {FOOTER_BYTES_MAX}")));
        }
        fetch(source, Use::Index, wanted.iter().cloned(), size_bytes, &mut held).await?;
        let buffers: Option<Vec<Bytes>> = wanted.iter().map(|range| held.get(range)).collect();
        let buffers = buffers.ok_or_else(|| BlockError::Footer("it asks for no bytes".to_owned()))?;
        let step = cpu.run(move || {
            decoder.push_ranges(wanted, buffers)?;
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
    fn new(cpu: Cpu, size_bytes: u64, footer: ParquetMetaData) -> Result<Self, BlockError> {
        let file = footer.file_metadata();
        let meta = decode_meta(file.key_value_metadata())?;
        let names: Vec<&str> = file.schema().get_fields().iter().map(|field| field.name()).collect();
        let label_columns: Vec<String> =
            names.iter().filter(|name| may_be_column(name)).map(|name| (*name).to_owned()).collect();
        let codes = LabelForm::Codes;
        let expected = match &meta.kind {
            BlockKind::Samples => arrow_schema(&label_columns, codes, ScalePlace::of_columns(&names)),
            BlockKind::Histograms => histograms::arrow_schema(&label_columns, codes),
            BlockKind::Exemplars => exemplars::arrow_schema(&label_columns, codes),
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
        let histogram_bytes = match meta.kind {
            BlockKind::Histograms => footer.row_groups().iter().map(histograms::sample_bytes).collect(),
            _ => Vec::new(),
        };
        let parquet = ArrowReaderMetadata::try_new(Arc::new(footer), options)
            .map_err(|e| BlockError::Footer(format!("its columns are not those of format 1: {e}")))?;
        Ok(Self { cpu, size_bytes, meta, label_columns, parquet, row_starts, histogram_bytes })
    }

    pub(super) fn row_group(&self, group: usize) -> &RowGroupMetaData {
        self.parquet.metadata().row_group(group)
    }

    /// Returns the global row numbers of each row group.
    pub(super) fn row_ranges(&self) -> impl Iterator<Item = Range<u32>> {
        self.row_starts.windows(2).map(|w| w[0]..w[1])
    }

    /// Returns the global number of a row group's first row.
    pub(super) fn first_row(&self, group: usize) -> u32 {
        self.row_starts[group]
    }

    /// Returns how many rows a row group has.
    pub(super) fn group_rows(&self, group: usize) -> u32 {
        self.row_starts[group + 1] - self.row_starts[group]
    }

    pub(super) fn rows(&self) -> u32 {
        self.row_starts.last().copied().unwrap_or(0)
    }

    /// Returns the place of a column by its name, lists and maps counted as one.
    pub(super) fn column(&self, name: &str) -> Option<usize> {
        let fields = self.parquet.metadata().file_metadata().schema().get_fields();
        fields.iter().position(|field| field.name() == name)
    }
}

/// The Parquet decoder panics on some damage; the compute pool catches it.
pub(super) fn gave_up(error: CpuError) -> BlockError {
    match error {
        CpuError::Panicked => {
            BlockError::Damaged(ParquetError::General("the Parquet decoder panicked".to_owned()))
        }
        other @ CpuError::Start(_) => BlockError::Cpu(other),
    }
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
