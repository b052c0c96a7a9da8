//! Blocks of metadata: a row is what was said about one metric family from some time on.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMillisecondType};

use super::error::BlockError;
use super::fetch::{Held, RangeRead, Use};
use super::file::BlockFile;
use super::meta::{BlockMeta, BlockSpec, BlockStats};
use super::parts::{Fetching, Part};
use super::reader::BlockReader;
use super::schema::{base_properties, timestamp};
use crate::model::{BlockKind, Metadata, MetadataEntry, MetricType, TimeRange};
use crate::runtime::Cpu;

/// Rows are written and read in batches of at most this many.
const BATCH_ROWS: usize = 1 << 13;

#[cfg(test)]
pub(super) mod tests;

/// Texts of a row.
pub(super) const TEXTS: [&str; 4] = ["_family", "_type", "_help", "_unit"];
/// Since when it is said.
pub(super) const SINCE: &str = "_since";

/// Returns the Arrow schema of a block of metadata.
pub(super) fn arrow_schema() -> SchemaRef {
    let mut fields = TEXTS.map(|name| Field::new(name, DataType::Utf8, false)).to_vec();
    fields.push(Field::new(SINCE, timestamp(), false));
    Arc::new(Schema::new(fields))
}

/// Writes one block of metadata and returns what it holds. Entries come sorted by family, then time.
///
/// # Errors
/// Entries out of order, and what the output refuses.
pub fn write_metadata<W: Write + Send>(
    out: W,
    spec: &BlockSpec,
    entries: &[MetadataEntry],
) -> Result<BlockStats, BlockError> {
    let order = |entry: &MetadataEntry| (entry.family.clone(), entry.since_ms);
    if let Some(pair) = entries.windows(2).find(|pair| order(&pair[0]) > order(&pair[1])) {
        let (previous, series) = (pair[0].family.clone(), pair[1].family.clone());
        return Err(BlockError::SeriesOrder { previous, series });
    }
    let form = (arrow_schema(), base_properties(&[], &[SINCE], spec.zstd_level).map(|p| p.build()));
    let mut file = BlockFile::start(out, spec, BlockKind::Metadata, Vec::new(), form)?;
    for family in entries.chunk_by(|a, b| a.family == b.family) {
        let (Some(first), Some(last)) = (family.first(), family.last()) else { continue };
        file.stats.rows += family.len() as u64;
        file.count(&first.family, first.since_ms, last.since_ms, family.len() as u64);
    }
    for slice in entries.chunks(BATCH_ROWS) {
        let text = |of: fn(&MetadataEntry) -> &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(slice.iter().map(of)))
        };
        let times = slice.iter().map(|e| e.since_ms).collect::<Vec<i64>>();
        let columns = vec![
            text(|e| &e.family),
            text(|e| e.metadata.kind.name()),
            text(|e| &e.metadata.help),
            text(|e| &e.metadata.unit),
            Arc::new(TimestampMillisecondArray::from(times).with_timezone("UTC")),
        ];
        file.write(RecordBatch::try_new(arrow_schema(), columns))?;
    }
    file.finish()
}

/// An open block of metadata. Clones share its footer.
#[derive(Debug, Clone)]
pub struct MetadataReader(BlockReader);

impl MetadataReader {
    /// Opens a block of metadata by its footer, normally with one read.
    ///
    /// # Errors
    /// Failed reads, a format version or schema that is not ours, another kind of block, and damage.
    pub async fn open(source: Arc<dyn RangeRead>, cpu: Cpu, size_bytes: u64) -> Result<Self, BlockError> {
        let block = BlockReader::open_any(source, cpu, size_bytes).await?;
        block.require(&BlockKind::Metadata, "metadata")?;
        Ok(Self(block))
    }

    /// Returns what the block says about itself.
    #[must_use]
    pub fn meta(&self) -> &BlockMeta {
        self.0.meta()
    }

    /// Returns all entries, sorted by family and time.
    ///
    /// # Errors
    /// Failed reads and damage.
    pub async fn entries(&self) -> Result<Vec<MetadataEntry>, BlockError> {
        let columns: Vec<usize> = (0..TEXTS.len() + 1).collect();
        let parts = self.0.parts_that_may_match(&[], TimeRange::ALL, &columns, BATCH_ROWS);
        let collect = |_: &Part, batch: RecordBatch, entries: &mut Vec<MetadataEntry>| {
            append(batch.columns(), entries)
                .ok_or_else(|| BlockError::Footer("a column of metadata has the wrong type".to_owned()))
        };
        let mut held = Held::default();
        let parts: Vec<Vec<MetadataEntry>> =
            self.0.decode(parts, Fetching::new(Use::Index, &mut held), collect).await?;
        Ok(parts.into_iter().flatten().collect())
    }
}

fn append(columns: &[ArrayRef], entries: &mut Vec<MetadataEntry>) -> Option<()> {
    let [families, kinds, helps, units, since] = columns else { return None };
    let since = since.as_primitive_opt::<TimestampMillisecondType>()?.values();
    let texts = |column: &ArrayRef| column.as_string_opt::<i32>().cloned();
    let (families, kinds, helps, units) = (texts(families)?, texts(kinds)?, texts(helps)?, texts(units)?);
    for (row, since_ms) in since.iter().enumerate() {
        // A newer writer may know types that this program does not.
        let kind = MetricType::from_name(kinds.value(row)).unwrap_or_default();
        let (help, unit) = (helps.value(row).to_owned(), units.value(row).to_owned());
        let metadata = Metadata { kind, help, unit };
        entries.push(MetadataEntry { family: families.value(row).to_owned(), since_ms: *since_ms, metadata });
    }
    Some(())
}
