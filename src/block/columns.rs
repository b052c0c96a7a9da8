//! Which labels have columns, and the order of series in a block.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use crate::model::{Labels, METRIC_NAME};

/// The most label columns a tenant gets, `__name__` included.
pub const LABEL_COLUMNS_MAX: usize = 128;

/// A label needs this share of the series, one in a hundred, to get a column.
const COVERAGE_ONE_IN: usize = 100;

/// Returns whether a label may have a column at all.
///
/// A leading `_` is for the format's own columns. Control characters stay out because SQL engines choke on them
/// in identifiers, and so does the name under which DuckDB numbers the rows of a file.
pub(super) fn may_be_column(name: &str) -> bool {
    let taken = name.starts_with('_') || folded(name) == "file_row_number";
    name == METRIC_NAME || !(name.is_empty() || taken || name.chars().any(char::is_control))
}

/// The form in which two column names collide: DuckDB, Spark and Trino compare names without regard to case.
pub(super) fn folded(name: &str) -> String {
    name.to_lowercase()
}

/// Extends a tenant's list of label columns by what new series bring; known columns keep their place.
///
/// `__name__` always comes first. A label joins when at least 1 % of the series have it, it does not start with
/// `_`, its name does not collide case-insensitively with a column's, and there are fewer than
/// [`LABEL_COLUMNS_MAX`]. Where not all can join, the more frequent do; those that join do so in name order.
#[must_use]
pub fn extend_label_columns<'a>(known: &[String], series: impl Iterator<Item = &'a Labels>) -> Vec<String> {
    let mut columns = known.to_vec();
    if !columns.iter().any(|c| c == METRIC_NAME) {
        columns.insert(0, METRIC_NAME.to_owned());
    }
    let mut taken: HashSet<String> = columns.iter().map(|c| folded(c)).collect();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let mut total = 0usize;
    for labels in series {
        total += 1;
        for (name, _) in labels {
            *counts.entry(name).or_default() += 1;
        }
    }
    let mut candidates: Vec<(&str, usize)> = counts
        .into_iter()
        .filter(|(name, count)| count * COVERAGE_ONE_IN >= total && may_be_column(name))
        .collect();
    candidates.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let mut joining = Vec::new();
    for (name, _) in candidates {
        if columns.len() + joining.len() >= LABEL_COLUMNS_MAX {
            break;
        }
        if taken.insert(folded(name)) {
            joining.push(name.to_owned());
        }
    }
    joining.sort_unstable();
    columns.extend(joining);
    columns
}

/// Compares label sets as a block sorts them: by `__name__`, then the other labels as a label set.
///
/// This differs from the order of [`Labels`], where a label such as `Zone` sorts before `__name__`.
#[must_use]
pub fn block_order(a: &Labels, b: &Labels) -> Ordering {
    a.metric_name().cmp(b.metric_name()).then_with(|| {
        let rest_a = a.iter().filter(|(name, _)| *name != METRIC_NAME);
        let rest_b = b.iter().filter(|(name, _)| *name != METRIC_NAME);
        rest_a.cmp(rest_b)
    })
}
