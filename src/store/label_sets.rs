//! Label names, label values and label sets out of what was found.

use std::collections::BTreeSet;

use super::reads::{Found, LookedUp};
use crate::model::Labels;

/// A sorted answer, cut off at a limit.
#[derive(Debug)]
pub(super) struct Truncated<T> {
    pub(super) items: Vec<T>,
    pub(super) cut_off: bool,
}

impl<T> Truncated<T> {
    /// Keeps at most `limit` items; all where it is not above zero.
    pub(super) fn new(mut items: Vec<T>, limit: i64) -> Self {
        let keep = usize::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        let cut_off = items.len() > keep;
        items.truncate(keep);
        Self { items, cut_off }
    }
}

/// Returns the names of all labels, those that are added included and those in `drop` left out; sorted.
pub(super) fn label_names(found: Vec<LookedUp>, drop: &[String]) -> Vec<String> {
    let mut names = BTreeSet::new();
    for LookedUp { added, mut answer } in found {
        names.extend(added.iter().map(|(name, _)| name.to_owned()));
        names.append(&mut answer);
    }
    names.retain(|name| !drop.contains(name));
    names.into_iter().collect()
}

/// Returns the values of a label, sorted; an added label stands above a series' own.
pub(super) fn label_values(found: Vec<LookedUp>, name: &str) -> Vec<String> {
    let mut values = BTreeSet::new();
    for LookedUp { added, mut answer } in found {
        match added.get(name) {
            Some(value) => {
                values.insert(value.to_owned());
            }
            None => values.append(&mut answer),
        }
    }
    values.into_iter().collect()
}

/// Returns the label sets of several finds as one sorted list, without the labels in `drop`.
pub(super) fn label_sets(found: &[Found], drop: &[String]) -> Vec<Labels> {
    let shown = |labels: &Labels| match drop {
        [] => labels.clone(),
        _ => labels.with_external(&Labels::empty(), drop),
    };
    let mut sets: Vec<Labels> = found.iter().flat_map(|f| f.selection.labels().map(shown)).collect();
    sets.sort();
    sets.dedup();
    sets
}
