//! Fetching byte ranges: the trait that storage implements, and coalescing.

use std::fmt::Debug;
use std::ops::Range;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::error::{BlockError, ReadFailure};
use crate::model::ErrorKind;

/// Two ranges closer than this are fetched as one: a request to object storage costs about as much time as this
/// many bytes.
const GAP_BYTES_MAX: u64 = 1 << 20;

/// A source of byte ranges of one immutable object.
pub trait RangeRead: Debug + Send + Sync {
    /// Reads ranges, which ascend and do not touch, and returns their bytes in the same order.
    fn read_ranges<'a>(&'a self, ranges: &'a [Range<u64>]) -> BoxFuture<'a, Result<Vec<Bytes>, ReadFailure>>;
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

/// Byte ranges with their bytes.
pub(super) type Fetched = (Vec<Range<u64>>, Vec<Bytes>);

/// Merges ranges with small gaps; the result ascends and covers every range.
pub(super) fn coalesce(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.retain(|r| r.start < r.end);
    ranges.sort_unstable_by_key(|r| r.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(GAP_BYTES_MAX) => {
                last.end = last.end.max(range.end);
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// Fetches ranges, coalesced, after checking them against the size of the object.
pub(super) async fn fetch(
    source: &dyn RangeRead,
    ranges: Vec<Range<u64>>,
    size_bytes: u64,
) -> Result<Fetched, BlockError> {
    let ranges = coalesce(ranges);
    if let Some(outside) = ranges.iter().find(|r| r.end > size_bytes) {
        return Err(BlockError::Footer(format!("bytes {outside:?} are beyond the end at {size_bytes}")));
    }
    let buffers = source.read_ranges(&ranges).await.map_err(BlockError::Read)?;
    let complete = buffers.len() == ranges.len()
        && ranges.iter().zip(&buffers).all(|(r, b)| b.len() as u64 == r.end - r.start);
    if !complete {
        return Err(BlockError::Read(ReadFailure {
            kind: ErrorKind::Unavailable,
            source: "the storage returned fewer bytes than asked for".into(),
        }));
    }
    Ok((ranges, buffers))
}
