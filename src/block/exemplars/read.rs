//! Finding exemplars.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, RecordBatch, StringArray};
use arrow::datatypes::{Float64Type, TimestampMillisecondType};

use super::schema::IDS;
use crate::block::error::BlockError;
use crate::block::fetch::{Held, RangeRead, Use};
use crate::block::find::{Admission, Matching, own_bytes};
use crate::block::label_rows::{LabelProjection, LabelRows, Rest};
use crate::block::meta::BlockMeta;
use crate::block::parts::{Fetching, Part};
use crate::block::reader::BlockReader;
use crate::model::{BlockKind, Exemplar, Labels, Matcher, TimeRange};
use crate::runtime::Cpu;

/// Rows decoded at a time.
const BATCH_ROWS: usize = 8_192;

/// So many row groups are searched in one go: their label columns are in memory together.
const GROUPS_AT_ONCE: usize = 16;

/// Time, value, two ids and the other labels.
const COLUMNS: usize = 5;

/// What an exemplar takes in memory: Prometheus allows 128 characters of labels.
const EXEMPLAR_BYTES: usize = size_of::<Exemplar>() + 160;

/// An open block of exemplars. Clones share its footer.
#[derive(Debug, Clone)]
pub struct ExemplarReader(pub(super) BlockReader);

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

    /// Returns the block with another source of the same bytes and, where a query is bounded, with what bounds it.
    #[must_use]
    pub fn for_query(&self, source: Arc<dyn RangeRead>, admission: Option<Arc<dyn Admission>>) -> Self {
        Self(self.0.for_query(source, admission))
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
    /// exemplars are normalized. Label columns are read as those of samples are, of the others the pages of matching
    /// rows alone.
    ///
    /// # Errors
    /// Failed reads, damage, and more exemplars than the query may find.
    pub async fn find(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, BlockError> {
        let matchers: Arc<[Matcher]> = matchers.into();
        let mut found = Found::new();
        for groups in self.0.block.groups_in_question(&matchers, range).chunks(GROUPS_AT_ONCE) {
            let mut held = Held::default();
            let matching = self.0.matching(groups, &matchers, range, &mut held).await?;
            let labels = self.labels(matching.clone(), &mut held).await?;
            let exemplars = self.exemplars(matching, &mut held).await?;
            if labels.len() != exemplars.len() {
                let (rows, values) = (labels.len(), exemplars.len());
                return Err(BlockError::Footer(format!("{values} exemplars came where {rows} match")));
            }
            labels
                .into_iter()
                .zip(exemplars)
                .for_each(|(labels, exemplar)| push(&mut found, labels, exemplar));
        }
        Ok(found)
    }

    /// Reads the labels of the series of matching rows.
    async fn labels(&self, matching: Vec<Matching>, held: &mut Held) -> Result<Vec<Labels>, BlockError> {
        let block = &self.0.block;
        let projection = LabelProjection::all(block);
        let parts = matching.into_iter().map(|m| m.part(block, &projection)).collect();
        let (opened, admission) = (Arc::clone(block), self.0.admission.clone());
        let collect = move |_: &Part, batch: RecordBatch, found: &mut Vec<Labels>| {
            let rows = LabelRows::new(&opened, &projection, &batch)?;
            let mut bytes = Vec::new();
            for row in 0..rows.len() {
                let labels = rows.labels(row, found.last(), &mut bytes)?;
                if let Some(admission) = &admission {
                    let bytes = EXEMPLAR_BYTES + own_bytes(&labels, found.last());
                    admission.admit(&labels, 1, bytes as u64).map_err(BlockError::Read)?;
                }
                found.push(labels);
            }
            Ok(())
        };
        let found = self.0.decode(parts, Fetching::new(Use::Index, held), collect).await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Reads the exemplars of matching rows.
    async fn exemplars(&self, matching: Vec<Matching>, held: &mut Held) -> Result<Vec<Exemplar>, BlockError> {
        let first = self.0.block.rest_column() + 1;
        let columns: Vec<usize> = (first..first + COLUMNS).collect();
        let part = |m: Matching| Part::new(m.group, columns.clone(), m.rows, BATCH_ROWS);
        let parts = matching.into_iter().map(part).collect();
        let collect = move |_: &Part, batch: RecordBatch, found: &mut Vec<Exemplar>| {
            let malformed = || BlockError::Footer("a column of exemplars has the wrong type".to_owned());
            let columns = Columns::new(batch.columns()).ok_or_else(malformed)?;
            for row in 0..batch.num_rows() {
                found.push(columns.exemplar(row)?);
            }
            Ok(())
        };
        let found: Vec<Vec<Exemplar>> =
            self.0.decode(parts, Fetching::new(Use::Samples, held), collect).await?;
        Ok(found.into_iter().flatten().collect())
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
pub(super) struct Columns<'a> {
    pub(super) times: &'a PrimitiveArray<TimestampMillisecondType>,
    values: &'a PrimitiveArray<Float64Type>,
    ids: [&'a StringArray; 2],
    others: Rest<'a>,
}

impl<'a> Columns<'a> {
    /// Takes the columns behind those of labels.
    pub(super) fn new(columns: &'a [ArrayRef]) -> Option<Self> {
        let [times, values, traces, spans, others] = columns else { return None };
        Some(Self {
            times: times.as_primitive_opt()?,
            values: values.as_primitive_opt()?,
            ids: [traces.as_string_opt()?, spans.as_string_opt()?],
            others: Rest::new(others)?,
        })
    }

    pub(super) fn exemplar(&self, row: usize) -> Result<Exemplar, BlockError> {
        let ids = self.ids.iter().zip(IDS).filter(|(ids, _)| ids.is_valid(row));
        let ids = ids.map(|(ids, (label, _))| (label, ids.value(row)));
        let labels = Labels::from_pairs(ids.chain(self.others.labels(row))).map_err(BlockError::Labels)?;
        Ok(Exemplar { labels, value: self.values.value(row), ts_ms: self.times.value(row) })
    }
}
