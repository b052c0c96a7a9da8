//! Finding exemplars.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, RecordBatch, StringArray};
use arrow::datatypes::{Float64Type, TimestampMillisecondType};

use super::schema::IDS;
use crate::block::error::BlockError;
use crate::block::fetch::RangeRead;
use crate::block::find::{LabelRows, Rest};
use crate::block::meta::BlockMeta;
use crate::block::reader::{BlockReader, Part};
use crate::model::{BlockKind, Exemplar, Labels, Matcher, TimeRange};
use crate::runtime::Cpu;

/// Rows decoded at a time.
const BATCH_ROWS: usize = 8_192;

/// An open block of exemplars. Clones share its footer.
#[derive(Debug, Clone)]
pub struct ExemplarReader(BlockReader);

impl ExemplarReader {
    /// Opens a block of exemplars by its footer, normally with one read.
    ///
    /// # Errors
    /// Failed reads, a format version or schema that is not ours, another kind of block, and damage.
    pub async fn open(source: Arc<dyn RangeRead>, cpu: Cpu, size_bytes: u64) -> Result<Self, BlockError> {
        let block = BlockReader::open_any(source, cpu, size_bytes).await?;
        block.require(&BlockKind::Exemplars, "exemplars")?;
        Ok(Self(block))
    }

    /// Returns what the block says about itself.
    #[must_use]
    pub fn meta(&self) -> &BlockMeta {
        self.0.meta()
    }

    /// Returns about how many bytes of memory the open block takes, for caches to count.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }

    /// Returns the exemplars within a range of the series that satisfy all matchers, in block order; each series'
    /// exemplars are normalized.
    ///
    /// # Errors
    /// Failed reads and damage.
    pub async fn find(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, BlockError> {
        let names = self.0.0.label_columns.clone();
        let parts = self.0.parts_that_may_match(matchers, range, Some(BATCH_ROWS));
        // From the first label column to the last column; `_series` before is not needed.
        let columns = 1..names.len() + 7;
        let matchers = matchers.to_vec();
        let collect = move |_: &Part, batch: RecordBatch, found: &mut Found| {
            let malformed = || BlockError::Footer("a column of exemplars has the wrong type".to_owned());
            let columns = Columns::new(batch.columns(), names.len()).ok_or_else(malformed)?;
            let ones = vec![1; batch.num_rows()];
            let times = columns.times.values();
            let rows = LabelRows::of_columns(&names, columns.labels, [times, times], &ones);
            let mut matching = Vec::new();
            rows.ok_or_else(malformed)?.collect(&matchers, range, 0, &mut matching)?;
            for row in matching {
                push(found, row.labels, columns.exemplar(row.row as usize)?);
            }
            Ok(())
        };
        let parts: Vec<Found> = self.0.decode(parts, columns, collect).await?;
        let mut found = Found::new();
        for (labels, exemplars) in parts.into_iter().flatten() {
            exemplars.into_iter().for_each(|exemplar| push(&mut found, labels.clone(), exemplar));
        }
        Ok(found)
    }
}

type Found = Vec<(Labels, Vec<Exemplar>)>;

fn push(found: &mut Found, labels: Labels, exemplar: Exemplar) {
    match found.last_mut() {
        Some((last, exemplars)) if *last == labels => exemplars.push(exemplar),
        _ => found.push((labels, vec![exemplar])),
    }
}

/// The columns of a batch.
struct Columns<'a> {
    /// Label columns and the rest.
    labels: &'a [ArrayRef],
    times: &'a PrimitiveArray<TimestampMillisecondType>,
    values: &'a PrimitiveArray<Float64Type>,
    ids: [&'a StringArray; 2],
    others: Rest<'a>,
}

impl<'a> Columns<'a> {
    fn new(columns: &'a [ArrayRef], label_columns: usize) -> Option<Self> {
        let (labels, others) = columns.split_at_checked(label_columns + 1)?;
        let [times, values, traces, spans, others] = others else { return None };
        Some(Self {
            labels,
            times: times.as_primitive_opt()?,
            values: values.as_primitive_opt()?,
            ids: [traces.as_string_opt()?, spans.as_string_opt()?],
            others: Rest::new(others)?,
        })
    }

    fn exemplar(&self, row: usize) -> Result<Exemplar, BlockError> {
        let ids = self.ids.iter().zip(IDS).filter(|(ids, _)| ids.is_valid(row));
        let ids = ids.map(|(ids, (label, _))| (label, ids.value(row)));
        let labels = Labels::from_pairs(ids.chain(self.others.labels(row))).map_err(BlockError::Labels)?;
        Ok(Exemplar { labels, value: self.values.value(row), ts_ms: self.times.value(row) })
    }
}
