//! Finding exemplars.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, RecordBatch, StringArray};
use arrow::datatypes::{Float64Type, TimestampMillisecondType};

use super::schema::IDS;
use crate::block::error::BlockError;
use crate::block::fetch::{Held, RangeRead, Use};
use crate::block::label_rows::{LabelRows, Rest};
use crate::block::meta::BlockMeta;
use crate::block::parts::{Fetching, Part};
use crate::block::reader::BlockReader;
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

    /// Returns the block with another source of the same bytes.
    #[must_use]
    pub fn for_query(&self, source: Arc<dyn RangeRead>) -> Self {
        Self(self.0.for_query(source, None))
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
        let names = self.0.block.label_columns.clone();
        // From the first label column to the last column; `_series` before is not needed.
        let columns: Vec<usize> = (1..names.len() + 7).collect();
        let parts = self.0.parts_that_may_match(matchers, range, &columns, BATCH_ROWS);
        let matchers = matchers.to_vec();
        let collect = move |_: &Part, batch: RecordBatch, found: &mut Found| {
            let malformed = || BlockError::Footer("a column of exemplars has the wrong type".to_owned());
            let columns = Columns::new(batch.columns(), names.len()).ok_or_else(malformed)?;
            let (times, mut bytes) = (columns.times.values(), Vec::new());
            let names = names.iter().map(String::as_str);
            let rows = LabelRows::of_columns(names, columns.labels, Some(columns.rest), [times, times], &[]);
            let rows = rows.ok_or_else(malformed)?;
            for row in rows.matching(&matchers, range) {
                let row = row as usize;
                let labels = rows.labels(row, found.last().map(|(labels, _)| labels), &mut bytes)?;
                push(found, labels, columns.exemplar(row)?);
            }
            Ok(())
        };
        let mut held = Held::default();
        let parts: Vec<Found> = self.0.decode(parts, Fetching::new(Use::Samples, &mut held), collect).await?;
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
    labels: &'a [ArrayRef],
    rest: &'a ArrayRef,
    times: &'a PrimitiveArray<TimestampMillisecondType>,
    values: &'a PrimitiveArray<Float64Type>,
    ids: [&'a StringArray; 2],
    others: Rest<'a>,
}

impl<'a> Columns<'a> {
    fn new(columns: &'a [ArrayRef], label_columns: usize) -> Option<Self> {
        let (labels, others) = columns.split_at_checked(label_columns)?;
        let [rest, times, values, traces, spans, others] = others else { return None };
        Some(Self {
            labels,
            rest,
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
