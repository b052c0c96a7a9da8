//! Reading: whole objects, ranges of them, listings.

use std::ops::Range;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as StorePath;
use object_store::{Error as StoreError, GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt};

use super::attempts::{Deadline, Short, bounded, is_transient};
use super::instruments::Operation;
use super::{Bucket, BucketError, ObjectInfo, ObjectKey, key};

/// The most that [`Bucket::get`] reads: no object that is read whole comes near it.
pub(super) const OBJECT_BYTES_MAX: u64 = 256 << 20;

/// Ranges that are nearer to each other share a request, unless told otherwise.
const GAP_BYTES_DEFAULT: u64 = 1 << 20;

/// How many requests one read of ranges has under way at once.
const REQUESTS_IN_FLIGHT: usize = 10;

/// Ranges of an object, and what they cost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RangesRead {
    /// The bytes, in the order asked for.
    pub parts: Vec<Bytes>,
    /// How many requests it took when nothing failed; 0 where nothing was asked for.
    pub requests: usize,
    /// What these requests fetched, the gaps between near ranges included.
    pub fetched_bytes: u64,
}

impl Bucket {
    /// Reads a whole object.
    ///
    /// # Errors
    /// [`BucketError::NotFound`], the store's failure, or an object beyond 256 MiB.
    pub async fn get(&self, key: &ObjectKey) -> Result<Bytes, BucketError> {
        self.get_until(key, self.attempts.deadline()).await
    }

    /// The same, as part of an operation that has a deadline already.
    pub(super) async fn get_until(&self, key: &ObjectKey, deadline: Deadline) -> Result<Bytes, BucketError> {
        let path = key.path();
        let attempt = || async {
            let found = self.answer(Operation::Get, &path, None).await?;
            match found.meta.size {
                size if size > OBJECT_BYTES_MAX => Ok(Err(size)),
                _ => self.body(found).await.map(Ok),
            }
        };
        let read = self.attempts.run_until(Operation::Get, None, deadline, attempt);
        let read = self
            .instruments
            .observe(Operation::Get, Box::pin(read))
            .await
            .map_err(|e| BucketError::of(Operation::Get, key, e))?;
        let bytes = read.map_err(|size_bytes| BucketError::TooLarge {
            key: key.to_string(),
            size_bytes,
            limit_bytes: OBJECT_BYTES_MAX,
        })?;
        self.instruments.count_bytes(Operation::Get, bytes.len() as u64);
        Ok(bytes)
    }

    /// Reads ranges of an object, in the order asked for; near ones share a request.
    ///
    /// # Errors
    /// [`BucketError::NotFound`], a range beyond the end, or the store's failure.
    pub async fn get_ranges(
        &self,
        key: &ObjectKey,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, BucketError> {
        Ok(self.read_ranges(key, ranges, GAP_BYTES_DEFAULT).await?.parts)
    }

    /// Reads ranges of an object, in the order asked for, and tells what that cost. Ranges with at most `gap_bytes`
    /// between them share a request; ranges may overlap. A local folder is read as asked, in one go.
    ///
    /// # Errors
    /// [`BucketError::NotFound`], a range beyond the end, or the store's failure. Never fewer bytes than asked for.
    pub async fn read_ranges(
        &self,
        key: &ObjectKey,
        ranges: &[Range<u64>],
        gap_bytes: u64,
    ) -> Result<RangesRead, BucketError> {
        if ranges.is_empty() {
            return Ok(RangesRead::default());
        }
        let path = key.path();
        let read = async {
            if self.files.is_some() {
                let parts = self.store.get_ranges(&path, ranges).await?;
                let fetched_bytes = parts.iter().map(|b| b.len() as u64).sum();
                return Ok(RangesRead { parts, requests: 1, fetched_bytes });
            }
            let merged = merge(ranges, gap_bytes);
            let requests = merged.clone().into_iter().map(|range| self.read_range(&path, range));
            let fetched: Vec<Bytes> =
                futures::stream::iter(requests).buffered(REQUESTS_IN_FLIGHT).try_collect().await?;
            let parts = ranges.iter().map(|range| cut(range, &merged, &fetched)).collect();
            let fetched_bytes = fetched.iter().map(|b| b.len() as u64).sum();
            Ok(RangesRead { parts, requests: merged.len(), fetched_bytes })
        };
        let read = self
            .instruments
            .observe(Operation::GetRanges, Box::pin(read))
            .await
            .map_err(|e| BucketError::of(Operation::GetRanges, key, e))?;
        self.instruments.count_bytes(Operation::GetRanges, read.fetched_bytes);
        Ok(read)
    }

    async fn read_range(&self, path: &StorePath, range: Range<u64>) -> object_store::Result<Bytes> {
        let attempt = || async {
            let found = self.answer(Operation::GetRanges, path, Some(range.clone())).await?;
            if found.range != range {
                let source = format!("{path} ends within {range:?}, it has {} bytes", found.meta.size).into();
                return Err(StoreError::Generic { store: "bucket", source });
            }
            self.body(found).await
        };
        self.attempts.run(Operation::GetRanges, None, attempt).await
    }

    /// Asks for an object or a part of it and waits for the head of the answer, hedged where the store is slow.
    pub(super) async fn answer(
        &self,
        operation: Operation,
        path: &StorePath,
        range: Option<Range<u64>>,
    ) -> object_store::Result<GetResult> {
        let request = || {
            let options = GetOptions { range: range.clone().map(GetRange::Bounded), ..GetOptions::default() };
            bounded(self.attempts.patience.answer_within, self.store.get_opts(path, options))
        };
        self.hedges.race(operation, request).await
    }

    /// Reads the whole body of an answer, and no less.
    async fn body(&self, found: GetResult) -> object_store::Result<Bytes> {
        let expected_bytes = found.range.end.saturating_sub(found.range.start);
        let Some(idle_max) = self.attempts.patience.idle_max else {
            let bytes = found.bytes().await?;
            return match bytes.len() as u64 == expected_bytes {
                true => Ok(bytes),
                false => Err(short(bytes.len() as u64, expected_bytes)),
            };
        };
        let mut stream = found.into_stream();
        let mut chunks: Vec<Bytes> = Vec::new();
        let mut got_bytes = 0;
        while let Some(chunk) = bounded(Some(idle_max), stream.try_next()).await? {
            got_bytes += chunk.len() as u64;
            if got_bytes > expected_bytes {
                break;
            }
            chunks.push(chunk);
        }
        if got_bytes != expected_bytes {
            return Err(short(got_bytes, expected_bytes));
        }
        Ok(match chunks.len() {
            1 => chunks.remove(0),
            _ => chunks.concat().into(),
        })
    }

    /// Returns an object's size and time, or nothing where there is no such object.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectInfo>, BucketError> {
        let path = key.path();
        let limit = self.attempts.patience.answer_within;
        let head = self.attempts.run(Operation::Head, limit, || self.store.head(&path));
        match self.instruments.observe(Operation::Head, Box::pin(head)).await {
            Ok(meta) => Ok(Some(ObjectInfo::from_meta(&meta))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(BucketError::of(Operation::Head, key, e)),
        }
    }

    /// Lists all objects under a folder, sorted by key.
    ///
    /// # Errors
    /// A folder name that is not allowed, or the store's failure.
    pub async fn list(&self, folder: &str) -> Result<Vec<ObjectInfo>, BucketError> {
        self.list_from(folder, None).await
    }

    /// Lists the objects under a folder whose keys come after `after`, sorted by key. The store skips what comes before
    /// without reading it (a local folder does not), so following a growing folder costs one request a look.
    ///
    /// # Errors
    /// A folder name that is not allowed, or the store's failure.
    pub async fn list_after(&self, folder: &str, after: &ObjectKey) -> Result<Vec<ObjectInfo>, BucketError> {
        self.list_from(folder, Some(after)).await
    }

    async fn list_from(
        &self,
        folder: &str,
        after: Option<&ObjectKey>,
    ) -> Result<Vec<ObjectInfo>, BucketError> {
        let path = key::folder_path(folder)?;
        let mut objects: Vec<ObjectInfo> = self
            .instruments
            .observe(Operation::List, Box::pin(self.list_pages(&path, after.map(ObjectKey::path))))
            .await
            .map_err(|e| BucketError::of(Operation::List, folder, e))?;
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    /// Lists page by page; after a failure it goes on behind the last object that came.
    async fn list_pages(
        &self,
        folder: &StorePath,
        mut after: Option<StorePath>,
    ) -> object_store::Result<Vec<ObjectInfo>> {
        let (mut objects, mut known) = (Vec::new(), 0);
        let (mut attempts, mut deadline) = (0, self.attempts.deadline());
        loop {
            attempts += 1;
            let mut listing = match &after {
                None => self.store.list(Some(folder)),
                Some(after) => self.store.list_with_offset(Some(folder), after),
            };
            let failure = loop {
                match bounded(self.attempts.patience.answer_within, listing.try_next()).await {
                    Ok(None) => return Ok(objects),
                    Ok(Some(meta)) => {
                        objects.push(ObjectInfo::from_meta(&meta));
                        after = Some(meta.location);
                    }
                    Err(failure) => break failure,
                }
            };
            if objects.len() > known {
                (attempts, known, deadline) = (1, objects.len(), self.attempts.deadline());
            }
            let more = attempts < self.attempts.patience.attempts_max && is_transient(&failure);
            if !more || !self.attempts.again(Operation::List, attempts, deadline, &failure).await {
                return Err(failure);
            }
        }
    }

    /// Lists the names of the folders directly under a folder, sorted.
    ///
    /// # Errors
    /// A folder name that is not allowed, or the store's failure.
    pub async fn list_folders(&self, folder: &str) -> Result<Vec<String>, BucketError> {
        let path = key::folder_path(folder)?;
        let limit = self.attempts.patience.budget;
        let listing =
            self.attempts.run(Operation::List, limit, || self.store.list_with_delimiter(Some(&path)));
        let listing = self
            .instruments
            .observe(Operation::List, Box::pin(listing))
            .await
            .map_err(|e| BucketError::of(Operation::List, folder, e))?;
        let mut names: Vec<String> = listing
            .common_prefixes
            .iter()
            .filter_map(|prefix| prefix.parts().next_back().map(|name| name.as_ref().to_owned()))
            .collect();
        names.sort();
        Ok(names)
    }
}

/// Returns the failure of an answer that ended early.
pub(super) fn short(got_bytes: u64, expected_bytes: u64) -> StoreError {
    StoreError::Generic { store: "bucket", source: Box::new(Short { got_bytes, expected_bytes }) }
}

/// Joins ranges that lie near each other; the outcome is sorted and apart by more than the gap.
fn merge(ranges: &[Range<u64>], gap_bytes: u64) -> Vec<Range<u64>> {
    let mut sorted: Vec<Range<u64>> = ranges.iter().filter(|r| r.start < r.end).cloned().collect();
    sorted.sort_by_key(|range| (range.start, range.end));
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match merged.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(gap_bytes) => {
                last.end = last.end.max(range.end);
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// Cuts a range out of what was fetched for the merged ones.
fn cut(range: &Range<u64>, merged: &[Range<u64>], fetched: &[Bytes]) -> Bytes {
    if range.start >= range.end {
        return Bytes::new();
    }
    let at = merged.partition_point(|m| m.end < range.end);
    let offset = |position: u64| usize::try_from(position - merged[at].start).unwrap_or(usize::MAX);
    fetched[at].slice(offset(range.start)..offset(range.end))
}
