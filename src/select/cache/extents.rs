//! Extents of many blocks within a bound on their bytes.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use crate::model::Ulid;

/// What one extent costs beside its bytes.
const EXTENT_BYTES: u64 = 128;

#[derive(Debug)]
struct Extent<V> {
    end: u64,
    used: u64,
    value: V,
}

/// Extents with what stands for each, used least recently first.
#[derive(Debug)]
pub(super) struct Extents<V> {
    blocks: HashMap<Ulid, BTreeMap<u64, Extent<V>>>,
    /// Where each extent is, by its last use.
    uses: BTreeMap<u64, (Ulid, u64)>,
    next_use: u64,
    bytes: u64,
    bytes_max: u64,
}

impl<V> Extents<V> {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { blocks: HashMap::new(), uses: BTreeMap::new(), next_use: 0, bytes: 0, bytes_max }
    }

    /// Returns the bytes of all extents, with what they cost beside.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the extent that holds a range, and notes its use.
    pub(super) fn get(&mut self, id: Ulid, range: &Range<u64>) -> Option<(Range<u64>, &V)> {
        let extents = self.blocks.get_mut(&id)?;
        // Of the extents that start before the range, the last one also ends last: see `insert`.
        let (start, extent) = extents.range_mut(..=range.start).next_back()?;
        if range.end > extent.end {
            return None;
        }
        self.uses.remove(&extent.used);
        extent.used = self.next_use;
        self.uses.insert(extent.used, (id, *start));
        self.next_use += 1;
        Some((*start..extent.end, &extent.value))
    }

    /// Adds an extent and returns those that had to go: the ones that it covers, and the ones used least recently.
    /// One that is covered itself, or larger than the bound, is not added and comes back.
    pub(super) fn insert(&mut self, id: Ulid, range: Range<u64>, value: V) -> Vec<(Ulid, Range<u64>, V)> {
        let weight = weight(&range);
        if range.is_empty() || weight > self.bytes_max || self.get(id, &range).is_some() {
            return vec![(id, range, value)];
        }
        let extents = self.blocks.entry(id).or_default();
        let covered = extents.range(range.clone()).filter(|(_, extent)| extent.end <= range.end);
        let covered: Vec<u64> = covered.map(|(start, _)| *start).collect();
        let mut gone: Vec<_> = covered.into_iter().filter_map(|start| self.remove(id, start)).collect();
        while self.bytes.saturating_add(weight) > self.bytes_max {
            let Some((id, start)) = self.uses.first_key_value().map(|(_, place)| *place) else { break };
            gone.extend(self.remove(id, start));
        }
        let extent = Extent { end: range.end, used: self.next_use, value };
        self.next_use += 1;
        self.uses.insert(extent.used, (id, range.start));
        self.blocks.entry(id).or_default().insert(range.start, extent);
        self.bytes += weight;
        gone
    }

    /// Removes an extent where it is there with these bounds, and returns whether it was.
    pub(super) fn remove_exactly(&mut self, id: Ulid, range: &Range<u64>) -> bool {
        let extent = self.blocks.get(&id).and_then(|extents| extents.get(&range.start));
        extent.is_some_and(|extent| extent.end == range.end) && self.remove(id, range.start).is_some()
    }

    fn remove(&mut self, id: Ulid, start: u64) -> Option<(Ulid, Range<u64>, V)> {
        let extents = self.blocks.get_mut(&id)?;
        let extent = extents.remove(&start)?;
        if extents.is_empty() {
            self.blocks.remove(&id);
        }
        self.uses.remove(&extent.used);
        let range = start..extent.end;
        self.bytes -= weight(&range);
        Some((id, range, extent.value))
    }
}

fn weight(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start).saturating_add(EXTENT_BYTES)
}
