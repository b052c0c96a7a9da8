//! Label values and names: dictionaries and statistics alone where every row counts, label columns otherwise. The
//! columns of samples are never read.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use parquet::file::statistics::Statistics;

use super::dictionary::{dictionary_range, dictionary_values};
use super::error::BlockError;
use super::fetch::{Held, Use, fetch};
use super::find::Matching;
use super::label_rows::{LabelProjection, LabelRows};
use super::parts::{Fetching, Part};
use super::reader::{BlockReader, OpenBlock, gave_up};
use crate::model::{Matcher, TimeRange};

/// So many row groups are looked at in one go.
const GROUPS_AT_ONCE: usize = 32;

/// A column chunk with a dictionary that holds exactly its values.
struct Dictionary {
    group: usize,
    leaf: usize,
    range: Range<u64>,
}

impl BlockReader {
    /// Returns the values that a label has in the rows that satisfy all matchers and touch a range.
    ///
    /// # Errors
    /// Failed reads and damage.
    pub async fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<BTreeSet<String>, BlockError> {
        let matchers: Arc<[Matcher]> = matchers.into();
        let (mut dictionaries, mut others) = (Vec::new(), Vec::new());
        for group in self.block.groups_in_question(&matchers, range) {
            let place = self.block.label_column(name);
            if place.is_some_and(|place| self.block.column_is_null(group, place + 1)) {
                continue;
            }
            let whole = matchers.is_empty() && self.block.all_touch(group, range);
            let leaf = place.filter(|_| whole).map(|place| place + 1);
            match leaf.and_then(|leaf| self.block.dictionary(group, leaf)) {
                Some(dictionary) => dictionaries.push(dictionary),
                None => others.push(group),
            }
        }
        let mut values = self.dictionaries(dictionaries).await?;
        for groups in others.chunks(GROUPS_AT_ONCE) {
            values.extend(self.values_of_rows(groups, name, &matchers, range).await?);
        }
        Ok(values)
    }

    /// Returns the names of the labels of the rows that satisfy all matchers and touch a range.
    ///
    /// # Errors
    /// Failed reads and damage.
    pub async fn label_names(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<BTreeSet<String>, BlockError> {
        let matchers: Arc<[Matcher]> = matchers.into();
        let (mut names, mut dictionaries, mut others) = (BTreeSet::new(), Vec::new(), Vec::new());
        for group in self.block.groups_in_question(&matchers, range) {
            let whole = matchers.is_empty() && self.block.all_touch(group, range);
            // The names of the labels without a column are the first leaf of their map.
            let rest = self.block.dictionary(group, self.block.rest_column());
            match rest.filter(|_| whole).zip(self.block.filled_columns(group)) {
                Some((rest, filled)) => {
                    dictionaries.push(rest);
                    names.extend(filled.into_iter().map(ToOwned::to_owned));
                }
                None => others.push(group),
            }
        }
        names.extend(self.dictionaries(dictionaries).await?);
        for groups in others.chunks(GROUPS_AT_ONCE) {
            let mut held = Held::default();
            let matching = self.matching(groups, &matchers, range, &mut held).await?;
            names.extend(self.names_of_rows(matching, &mut held).await?);
        }
        Ok(names)
    }

    async fn dictionaries(&self, dictionaries: Vec<Dictionary>) -> Result<BTreeSet<String>, BlockError> {
        let mut values = BTreeSet::new();
        let mut dictionaries = dictionaries.into_iter().peekable();
        while dictionaries.peek().is_some() {
            let some: Vec<Dictionary> = dictionaries.by_ref().take(GROUPS_AT_ONCE).collect();
            let (mut held, size_bytes) = (Held::default(), self.block.size_bytes);
            let ranges = some.iter().map(|d| d.range.clone());
            fetch(self.source.as_ref(), Use::Index, ranges, size_bytes, &mut held).await?;
            let opened = Arc::clone(&self.block);
            let decode = move || {
                let mut values = BTreeSet::new();
                for Dictionary { group, leaf, range } in some {
                    let bytes = held.get(&range).unwrap_or_default();
                    let column = opened.row_group(group).column(leaf);
                    values.extend(dictionary_values(column, range.start, bytes)?);
                }
                Ok::<_, BlockError>(values)
            };
            values.append(&mut self.block.cpu.run(decode).await.map_err(gave_up)??);
        }
        Ok(values)
    }

    async fn values_of_rows(
        &self,
        groups: &[usize],
        name: &str,
        matchers: &Arc<[Matcher]>,
        range: TimeRange,
    ) -> Result<BTreeSet<String>, BlockError> {
        let block = &self.block;
        let labels = matchers.iter().map(Matcher::name).chain([name]);
        let projection = LabelProjection::of_labels(block, labels);
        let everything = |group: &usize| Matching { group: *group, rows: None }.part(block, &projection);
        let parts = groups.iter().map(everything).collect();
        let (opened, matchers, name) = (Arc::clone(block), Arc::clone(matchers), name.to_owned());
        let collect = move |_: &Part, batch: RecordBatch, values: &mut BTreeSet<String>| {
            let rows = LabelRows::new(&opened, &projection, &batch)?;
            let matching = rows.matching(&matchers, range).into_iter().map(|row| row as usize);
            match rows.codes(&name) {
                Some(codes) => {
                    let mut used = vec![false; codes.values().len()];
                    matching.filter_map(|row| codes.code(row)).for_each(|code| used[code] = true);
                    let some = codes.values().zip(used).filter(|(_, used)| *used);
                    values.extend(some.map(|(value, _)| value.to_owned()));
                }
                None => {
                    let labels = matching.flat_map(|row| rows.rest_labels(row));
                    let distinct: HashSet<&str> =
                        labels.filter(|(other, _)| *other == name).map(|(_, value)| value).collect();
                    values.extend(distinct.into_iter().map(ToOwned::to_owned));
                }
            }
            Ok(())
        };
        let mut held = Held::default();
        let values = self.decode(parts, Fetching::new(Use::Index, &mut held), collect).await?;
        Ok(values.into_iter().flatten().collect())
    }

    async fn names_of_rows(
        &self,
        matching: Vec<Matching>,
        held: &mut Held,
    ) -> Result<BTreeSet<String>, BlockError> {
        let projection = LabelProjection::all(&self.block);
        let parts = matching.into_iter().map(|m| m.part(&self.block, &projection)).collect();
        let opened = Arc::clone(&self.block);
        let collect = move |_: &Part, batch: RecordBatch, names: &mut BTreeSet<String>| {
            let rows = LabelRows::new(&opened, &projection, &batch)?;
            for (name, codes) in rows.columns() {
                if (0..rows.len()).any(|row| codes.code(row).is_some()) {
                    names.insert((*name).to_owned());
                }
            }
            let rest = (0..rows.len()).flat_map(|row| rows.rest_labels(row)).map(|(name, _)| name);
            names.extend(rest.collect::<HashSet<&str>>().into_iter().map(ToOwned::to_owned));
            Ok(())
        };
        let names = self.decode(parts, Fetching::new(Use::Index, held), collect).await?;
        Ok(names.into_iter().flatten().collect())
    }
}

impl OpenBlock {
    fn dictionary(&self, group: usize, leaf: usize) -> Option<Dictionary> {
        let range = dictionary_range(self.row_group(group).columns().get(leaf)?)?;
        Some(Dictionary { group, leaf, range })
    }

    /// Returns the label columns in which some row of a row group has a value; `None` where statistics do not tell.
    fn filled_columns(&self, group: usize) -> Option<Vec<&str>> {
        let mut filled = Vec::new();
        for (place, name) in self.label_columns.iter().enumerate() {
            let column = self.row_group(group).columns().get(place + 1)?;
            let nulls = column.statistics().and_then(Statistics::null_count_opt)?;
            if Some(nulls) != u64::try_from(column.num_values()).ok() {
                filled.push(name.as_str());
            }
        }
        Some(filled)
    }

    /// Returns whether statistics tell that no row of a row group has a value in a column.
    pub(super) fn column_is_null(&self, group: usize, leaf: usize) -> bool {
        let Some(column) = self.row_group(group).columns().get(leaf) else { return false };
        let nulls = column.statistics().and_then(Statistics::null_count_opt);
        nulls.is_some() && nulls == u64::try_from(column.num_values()).ok()
    }
}
