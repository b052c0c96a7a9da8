//! Epochs as others see them: which are dead, how one is ended, and how what is left of it goes.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};

use super::super::LogError;
use super::format::{ObjectHeader, ObjectKind, decode_object};
use crate::bucket::{Bucket, BucketError, Created, ObjectInfo, ObjectKey};
use crate::model::{Labels, Ulid};
use crate::runtime::{Random, crash_point};

/// An epoch whose newest object is older than this is dead: six missed heartbeats.
const DEAD_AFTER_MS: i64 = 60_000;

/// An epoch that somebody sealed so long ago and did not release is anybody's.
const SEALER_GONE_AFTER_MS: i64 = 120_000;

/// Seal and mark of a released epoch stay so long: far longer than any put may take to arrive and be believed.
const SEAL_KEPT_MS: i64 = 86_400_000;

/// So many epochs are looked at at once.
const LOOKS_AT_ONCE: usize = 16;

/// So many entries are deleted at once.
const DELETES_AT_ONCE: usize = 16;

/// The newest object of an epoch, as far as was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// The epoch.
    pub epoch: Ulid,
    /// The number of the object.
    pub seq: u64,
    /// When it was stored, by the store's clock.
    pub stored_ms: i64,
}

/// What is to be done about an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: its writer or its sealer is at work.
    Leave,
    /// It is to be sealed, where it is not, and its entries are to become blocks.
    Recover,
    /// Blocks hold it; entries that are left are garbage.
    Sweep,
    /// As before, and so long ago that everything goes.
    Remove,
}

impl Verdict {
    /// Decides by the newest object and its age. With `ours`, what an earlier process of this name wrote or sealed is not
    /// waited for: it is known to be gone.
    #[must_use]
    pub fn of(newest: &ObjectHeader, age_ms: i64, name: &str, ours: bool) -> Self {
        match newest.kind {
            ObjectKind::Entry | ObjectKind::Seal
                if ours && (newest.receiver == name || newest.by == name) =>
            {
                Self::Recover
            }
            ObjectKind::Entry if age_ms > DEAD_AFTER_MS => Self::Recover,
            ObjectKind::Seal if age_ms > SEALER_GONE_AFTER_MS => Self::Recover,
            ObjectKind::Entry | ObjectKind::Seal => Self::Leave,
            ObjectKind::Released if age_ms > SEAL_KEPT_MS => Self::Remove,
            ObjectKind::Released => Self::Sweep,
        }
    }
}

/// What was found out about an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// What is to be done about it.
    pub verdict: Verdict,
    /// What its newest object says.
    pub newest: ObjectHeader,
}

/// The end of an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// The epoch.
    pub epoch: Ulid,
    /// The seal's number: the entries lie before it.
    pub seq: u64,
    /// Blocks hold the entries up to here.
    pub released: u64,
    /// Whose epoch it was.
    pub receiver: String,
    /// The external labels of its samples.
    pub external_labels: Labels,
    /// Who sealed it.
    pub by: String,
}

/// Looks after the epochs of all receivers on a bucket.
#[derive(Debug)]
pub struct DeadEpochs {
    bucket: Bucket,
    random: Random,
    name: String,
    seen: BTreeMap<Ulid, Seen>,
}

/// What is known of an epoch.
#[derive(Debug)]
struct Seen {
    newest: Sighting,
    /// What the newest object says, once it was read.
    header: Option<ObjectHeader>,
}

impl Seen {
    fn is_released(&self) -> bool {
        self.header.as_ref().is_some_and(|header| header.kind == ObjectKind::Released)
    }
}

impl DeadEpochs {
    /// Prepares to look; `name` stands in the seals.
    #[must_use]
    pub fn new(bucket: Bucket, random: Random, name: String) -> Self {
        Self { bucket, random, name, seen: BTreeMap::new() }
    }

    /// Returns the newest object of each epoch but `own`. Costs a LIST, and one for each epoch that is not released.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn look(&mut self, own: Option<Ulid>) -> Result<Vec<Sighting>, LogError> {
        let folders = self.bucket.list_folders(ObjectKey::LOG).await?;
        let epochs = folders.iter().filter_map(|name| ObjectKey::parse_log_folder(name));
        let epochs: Vec<Ulid> = epochs.filter(|epoch| Some(*epoch) != own).collect();
        self.seen.retain(|epoch, _| epochs.contains(epoch));
        // Nothing comes after the mark.
        let open = epochs.into_iter().filter(|epoch| !self.seen.get(epoch).is_some_and(Seen::is_released));
        let looks = open.map(|epoch| {
            let (bucket, seen) = (&self.bucket, self.seen.get(&epoch).map(|seen| seen.newest.seq));
            async move { newest_of(bucket, epoch, seen).await }
        });
        let looks = looks.collect::<Vec<_>>();
        let found: Vec<Option<Sighting>> =
            futures::stream::iter(looks).buffer_unordered(LOOKS_AT_ONCE).try_collect().await?;
        for newest in found.into_iter().flatten() {
            self.seen.insert(newest.epoch, Seen { newest, header: None });
        }
        Ok(self.seen.values().map(|seen| seen.newest).collect())
    }

    /// Returns of each epoch that [`Self::look`] found what is to be done about it, and what its newest object says; see
    /// [`Verdict::of`]. Those that live are left out.
    ///
    /// # Errors
    /// Of one epoch: the store's failure, or an object that does not read.
    pub async fn judge(&mut self, now_ms: i64, ours: bool) -> Vec<(Ulid, Result<Judged, LogError>)> {
        let old = |seen: &&Seen| ours || now_ms.saturating_sub(seen.newest.stored_ms) > DEAD_AFTER_MS;
        let unread = self.seen.values().filter(old).filter(|seen| seen.header.is_none());
        let reads = unread.map(|seen| {
            let Sighting { epoch, seq, .. } = seen.newest;
            let read = self.header(epoch, seq);
            async move { (epoch, read.await) }
        });
        let reads = reads.collect::<Vec<_>>();
        let read: Vec<_> = futures::stream::iter(reads).buffer_unordered(LOOKS_AT_ONCE).collect().await;
        let mut judged = Vec::new();
        for (epoch, header) in read {
            match header {
                Ok(header) => {
                    self.seen.entry(epoch).and_modify(|seen| seen.header = Some(header));
                }
                Err(error) => judged.push((epoch, Err(error))),
            }
        }
        for seen in self.seen.values().filter(old) {
            let Some(header) = &seen.header else { continue };
            let age_ms = now_ms.saturating_sub(seen.newest.stored_ms);
            let verdict = Verdict::of(header, age_ms, &self.name, ours);
            judged.push((header.epoch, Ok(Judged { verdict, newest: header.clone() })));
        }
        judged
    }

    /// Returns the present by the store's clock.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn store_now_ms(&self) -> Result<i64, LogError> {
        Ok(self.bucket.store_now_ms(&self.random).await?)
    }

    /// Reads what an object says about itself.
    ///
    /// # Errors
    /// The store's failure, or an object that does not read.
    pub async fn header(&self, epoch: Ulid, seq: u64) -> Result<ObjectHeader, LogError> {
        let key = ObjectKey::LogEntry { epoch, seq };
        let bytes = match self.bucket.get(&key).await {
            Err(BucketError::NotFound { key }) => return Err(LogError::ObjectMissing { key }),
            read => read?,
        };
        Ok(decode_object(&bytes).map_err(|error| error.of_object(&key))?.header)
    }

    /// Ends an epoch behind its last entry, unless somebody did already. Nothing is returned where it is released, or
    /// its writer lives.
    ///
    /// # Errors
    /// The store's failure, or an object that does not read.
    pub async fn seal(&self, newest: ObjectHeader) -> Result<Option<Seal>, LogError> {
        let mut newest = newest;
        // A listing may lack the newest entries: each is met here, and the seal goes behind the last.
        while newest.kind == ObjectKind::Entry {
            let seal = self.end_of(&newest, ObjectKind::Seal, newest.released);
            crash_point("object_log.before_seal");
            match self.create(&seal).await? {
                None => {
                    crash_point("object_log.after_seal");
                    newest = seal;
                }
                Some(found) => newest = found,
            }
        }
        if newest.kind == ObjectKind::Released {
            return Ok(None);
        }
        let seal = Seal {
            epoch: newest.epoch,
            seq: newest.seq,
            released: newest.released,
            receiver: newest.receiver,
            external_labels: newest.external_labels,
            by: newest.by,
        };
        Ok(self.ends(&seal).await?.then_some(seal))
    }

    /// Returns whether a seal ends an epoch that is not released. A put may take long: where the seal landed, the writer
    /// may have written, released and deleted an entry meanwhile. It deletes none without a later one, so before a seal
    /// that ends an epoch there is an entry, and none behind it. One that does not is taken away again.
    async fn ends(&self, seal: &Seal) -> Result<bool, LogError> {
        match self.header(seal.epoch, seal.seq + 1).await {
            Ok(behind) if behind.kind == ObjectKind::Released => return Ok(false),
            Ok(_) => {}
            Err(LogError::ObjectMissing { .. }) => {
                let before = ObjectKey::LogEntry { epoch: seal.epoch, seq: seal.seq.saturating_sub(1) };
                if self.bucket.head(&before).await?.is_some() {
                    return Ok(true);
                }
                // Whoever released it deletes its entries next.
                if self.is_released(seal).await? {
                    return Ok(false);
                }
            }
            Err(error) => return Err(error),
        }
        tracing::info!(epoch = %seal.epoch, seal = seal.seq, "a seal landed late, its writer lives");
        delete_entries(&self.bucket, seal.epoch, [seal.seq]).await?;
        Ok(false)
    }

    /// Returns whether the mark is there.
    ///
    /// # Errors
    /// The store's failure, or an object that does not read.
    pub async fn is_released(&self, seal: &Seal) -> Result<bool, LogError> {
        match self.header(seal.epoch, seal.seq + 1).await {
            Ok(_) => Ok(true),
            Err(LogError::ObjectMissing { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Says that blocks hold an epoch, and deletes its entries.
    ///
    /// # Errors
    /// The store's failure; the next look goes on.
    pub async fn mark_released(&self, seal: &Seal) -> Result<(), LogError> {
        let header = self.header(seal.epoch, seal.seq).await?;
        let mark = self.end_of(&header, ObjectKind::Released, seal.seq - 1);
        self.create(&mark).await?;
        crash_point("object_log.after_mark");
        self.sweep(seal.epoch, seal.seq).await
    }

    /// Deletes what lies before the seal.
    ///
    /// # Errors
    /// The store's failure; the next look goes on.
    pub async fn sweep(&self, epoch: Ulid, seal_seq: u64) -> Result<(), LogError> {
        let objects = self.bucket.list(&ObjectKey::log_folder(epoch)).await?;
        let seqs: Vec<u64> = objects
            .iter()
            .filter_map(|o| sighting_of(epoch, o))
            .map(|s| s.seq)
            .filter(|seq| *seq < seal_seq)
            .collect();
        delete_entries(&self.bucket, epoch, seqs).await
    }

    /// Deletes a released epoch, the mark last. Catalogs must have forgotten it.
    ///
    /// # Errors
    /// The store's failure; the next look goes on.
    pub async fn remove(&self, epoch: Ulid, mark_seq: u64) -> Result<(), LogError> {
        let seal_seq = mark_seq.saturating_sub(1);
        self.sweep(epoch, seal_seq).await?;
        delete_entries(&self.bucket, epoch, [seal_seq]).await?;
        delete_entries(&self.bucket, epoch, [mark_seq]).await
    }

    fn end_of(&self, newest: &ObjectHeader, kind: ObjectKind, released: u64) -> ObjectHeader {
        let seq = newest.seq.saturating_add(1);
        ObjectHeader {
            kind,
            seq,
            generation: seq,
            released,
            nonce: self.random.next_u64(),
            by: self.name.clone(),
            ..newest.clone()
        }
    }

    /// Creates an object, or returns the header of the one that is there.
    async fn create(&self, header: &ObjectHeader) -> Result<Option<ObjectHeader>, LogError> {
        let key = ObjectKey::LogEntry { epoch: header.epoch, seq: header.seq };
        match self.bucket.create(&key, header.encode()).await? {
            Created::Stored => Ok(None),
            Created::Conflict(found) => {
                Ok(Some(decode_object(&found).map_err(|error| error.of_object(&key))?.header))
            }
        }
    }
}

/// Deletes entries; those that are gone count as deleted.
///
/// # Errors
/// The store's failure.
pub async fn delete_entries(
    bucket: &Bucket,
    epoch: Ulid,
    seqs: impl IntoIterator<Item = u64>,
) -> Result<(), LogError> {
    let delete = |seq| async move { bucket.delete(&ObjectKey::LogEntry { epoch, seq }).await };
    let deletes = futures::stream::iter(seqs).map(delete).buffer_unordered(DELETES_AT_ONCE);
    Ok(deletes.try_collect::<()>().await?)
}

/// Returns the newest object behind the one that is known, if there is one.
async fn newest_of(
    bucket: &Bucket,
    epoch: Ulid,
    known_seq: Option<u64>,
) -> Result<Option<Sighting>, LogError> {
    let folder = ObjectKey::log_folder(epoch);
    let objects = match known_seq {
        Some(seq) => bucket.list_after(&folder, &ObjectKey::LogEntry { epoch, seq }).await?,
        None => bucket.list(&folder).await?,
    };
    Ok(objects.iter().rev().find_map(|object| sighting_of(epoch, object)))
}

fn sighting_of(epoch: Ulid, object: &ObjectInfo) -> Option<Sighting> {
    match ObjectKey::parse(&object.key)? {
        ObjectKey::LogEntry { epoch: of, seq } if of == epoch => {
            Some(Sighting { epoch, seq, stored_ms: object.last_modified_ms })
        }
        _ => None,
    }
}
