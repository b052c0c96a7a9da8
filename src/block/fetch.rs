//! Fetching byte ranges: the trait that storage implements, coalescing, and what a query holds already.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Range;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::error::{BlockError, ReadFailure};
use crate::model::ErrorKind;

/// Two ranges closer than this always share a request: one more request to object storage costs about as much time
/// as this many bytes.
pub(super) const GAP_BYTES_MIN: u64 = 128 << 10;
/// Two ranges farther apart never share a request. Between the two bounds a gap may be as large as what is wanted
/// before it, so that at most half of a request is waste.
const GAP_BYTES_MAX: u64 = 1 << 20;
/// Ranges are not joined beyond this: several requests at once are faster than a long one.
const REQUEST_BYTES_MAX: u64 = 4 << 20;

/// A source of byte ranges of one immutable object.
pub trait RangeRead: Debug + Send + Sync {
    /// Reads ranges, which ascend and do not overlap, and returns their bytes in the same order. Every range is worth
    /// one request; they were joined already where that saves time.
    fn read_ranges<'a>(&'a self, ranges: &'a [Range<u64>]) -> BoxFuture<'a, Result<Vec<Bytes>, ReadFailure>>;

    /// Reads ranges of the footer, the page index or label columns: many queries need them, so that they are worth
    /// keeping. They ascend and none holds another one; they are not joined yet, so that a source may have some.
    fn read_index_ranges<'a>(
        &'a self,
        ranges: &'a [Range<u64>],
    ) -> BoxFuture<'a, Result<Vec<Bytes>, ReadFailure>> {
        Box::pin(async move {
            let joined = join_ranges(ranges.to_vec());
            let buffers = self.read_ranges(&joined).await?;
            let held = Held::new(joined, buffers)?;
            Ok(ranges.iter().filter_map(|range| held.get(range)).collect())
        })
    }
}

impl RangeRead for Bytes {
    fn read_ranges<'a>(&'a self, ranges: &'a [Range<u64>]) -> BoxFuture<'a, Result<Vec<Bytes>, ReadFailure>> {
        let cut = |range: &Range<u64>| {
            let bounds = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
            match bounds {
                Some((start, end)) if start <= end && end <= self.len() => Ok(self.slice(start..end)),
                _ => Err(ReadFailure {
                    kind: ErrorKind::OutOfRange,
                    source: format!("range {range:?} is outside of {} bytes", self.len()).into(),
                }),
            }
        };
        Box::pin(std::future::ready(ranges.iter().map(cut).collect()))
    }
}

/// What bytes are fetched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Finding rows.
    Index,
    /// Reading the samples of rows.
    Samples,
}

/// Bytes of one object that are in memory.
#[derive(Debug, Default)]
pub(super) struct Held(BTreeMap<u64, Bytes>);

impl Held {
    /// Takes what a source returned for some ranges, if it is all of them.
    fn new(ranges: Vec<Range<u64>>, buffers: Vec<Bytes>) -> Result<Self, ReadFailure> {
        let mut held = Self::default();
        held.extend(ranges, buffers)?;
        Ok(held)
    }

    fn extend(&mut self, ranges: Vec<Range<u64>>, buffers: Vec<Bytes>) -> Result<(), ReadFailure> {
        let complete = buffers.len() == ranges.len()
            && ranges.iter().zip(&buffers).all(|(r, b)| b.len() as u64 == r.end - r.start);
        if !complete {
            return Err(ReadFailure {
                kind: ErrorKind::Unavailable,
                source: "the storage returned fewer bytes than asked for".into(),
            });
        }
        for (range, bytes) in ranges.into_iter().zip(buffers) {
            self.insert(range.start, bytes);
        }
        Ok(())
    }

    /// Returns the bytes of a range where one piece holds all of it.
    pub(super) fn get(&self, range: &Range<u64>) -> Option<Bytes> {
        if range.is_empty() {
            return Some(Bytes::new());
        }
        // Of the pieces that start before the range, the last one also ends last: see `insert`.
        let (start, bytes) = self.0.range(..=range.start).next_back()?;
        let from = usize::try_from(range.start - start).ok()?;
        let to = usize::try_from(range.end.checked_sub(*start)?).ok()?;
        (from <= to && to <= bytes.len()).then(|| bytes.slice(from..to))
    }

    /// Adds a piece, in place of those that it covers.
    fn insert(&mut self, start: u64, bytes: Bytes) {
        let end = start + bytes.len() as u64;
        if self.get(&(start..end)).is_some() {
            return;
        }
        let covered = self.0.range(start..end).filter(|(at, piece)| *at + piece.len() as u64 <= end);
        let covered: Vec<u64> = covered.map(|(at, _)| *at).collect();
        for at in covered {
            self.0.remove(&at);
        }
        self.0.insert(start, bytes);
    }
}

/// Joins ranges with small gaps, where one request saves time against two; the result ascends and covers every range.
#[must_use]
pub fn join_ranges(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.retain(|r| r.start < r.end);
    ranges.sort_unstable_by_key(|r| r.start);
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    let mut wanted_bytes = 0u64;
    for range in ranges {
        let bytes = range.end - range.start;
        if let Some(last) = joined.last_mut() {
            let gap_bytes_max = wanted_bytes.clamp(GAP_BYTES_MIN, GAP_BYTES_MAX);
            let near = range.start <= last.end.saturating_add(gap_bytes_max);
            let short = range.end.saturating_sub(last.start) <= REQUEST_BYTES_MAX;
            if range.start < last.end || (near && short) {
                last.end = last.end.max(range.end);
                wanted_bytes = wanted_bytes.saturating_add(bytes);
                continue;
            }
        }
        joined.push(range);
        wanted_bytes = bytes;
    }
    joined
}

/// Sorts ranges and leaves out those that another one holds.
fn without_inner(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.retain(|r| r.start < r.end);
    ranges.sort_unstable_by_key(|r| (r.start, std::cmp::Reverse(r.end)));
    let mut end = 0;
    ranges.retain(|r| {
        let reaches_on = r.end > end;
        end = end.max(r.end);
        reaches_on
    });
    ranges
}

/// Fetches what is wanted and not held yet, after checking it against the size of the object.
pub(super) async fn fetch(
    source: &dyn RangeRead,
    purpose: Use,
    wanted: impl IntoIterator<Item = Range<u64>>,
    size_bytes: u64,
    held: &mut Held,
) -> Result<(), BlockError> {
    let missing: Vec<Range<u64>> = wanted.into_iter().filter(|range| held.get(range).is_none()).collect();
    let ranges = match purpose {
        Use::Index => without_inner(missing),
        Use::Samples => join_ranges(missing),
    };
    if ranges.is_empty() {
        return Ok(());
    }
    if let Some(outside) = ranges.iter().find(|r| r.end > size_bytes) {
        return Err(BlockError::Footer(format!("bytes {outside:?} are beyond the end at {size_bytes}")));
    }
    let read = match purpose {
        Use::Index => source.read_index_ranges(&ranges),
        Use::Samples => source.read_ranges(&ranges),
    };
    let buffers = read.await.map_err(BlockError::Read)?;
    held.extend(ranges, buffers).map_err(BlockError::Read)
}
