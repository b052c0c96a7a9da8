//! The writing side: entries of one epoch after the other.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::super::columns::{Declared, LABELS_BYTES_MAX, encode_group};
use super::super::frame::FrameEncoder;
use super::super::{LogError, TenantWrite};
use super::dead::delete_entries;
use super::format::{EXTERNAL_BYTES_MAX, NAME_BYTES_MAX, ObjectHeader, ObjectKind, decode_object};
use crate::bucket::{Bucket, Created, ObjectKey};
use crate::model::{Labels, Ulid};
use crate::runtime::{Clock, Random, crash_point};

/// A body of this size is an entry; more samples of the same append go into the next one.
const BODY_BYTES_TARGET: usize = 4 << 20;

/// What can be set about the log in the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectLogSettings {
    /// The shortest time between two entries that are not full.
    pub flush_interval: Duration,
    /// After so long without an entry an empty one is created.
    pub heartbeat: Duration,
    /// A put that takes longer counts as failed; it may still arrive.
    pub put_timeout: Duration,
    /// A writer that stored nothing for so long begins a new epoch.
    pub silence_ms_max: i64,
    /// An entry whose put took longer is not acknowledged.
    pub landing_ms_max: i64,
    /// A generation of this size is followed by a new one, which bounds what a recoverer holds at once.
    pub generation_bytes_max: u64,
}

impl Default for ObjectLogSettings {
    fn default() -> Self {
        Self {
            flush_interval: Duration::from_millis(250),
            heartbeat: Duration::from_secs(10),
            put_timeout: Duration::from_secs(30),
            silence_ms_max: 300_000,
            landing_ms_max: 1_800_000,
            generation_bytes_max: 64 << 20,
        }
    }
}

/// An epoch that its writer gave up; its last acknowledged entry has this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedEpoch {
    /// The epoch.
    pub epoch: Ulid,
    /// The last entry whose samples are in the heads.
    pub last_seq: u64,
}

/// Tells which epoch a writer is in; clones share it.
#[derive(Debug, Clone)]
pub struct OwnEpoch(Arc<Mutex<Ulid>>);

impl OwnEpoch {
    /// Returns the epoch.
    #[must_use]
    pub fn get(&self) -> Ulid {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, epoch: Ulid) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = epoch;
    }
}

/// A moment on both clocks: neither alone counts a suspension of the machine everywhere.
#[derive(Debug, Clone, Copy)]
struct Moment {
    wall_ms: i64,
    monotonic_ms: i64,
}

impl Moment {
    fn now(clock: &dyn Clock) -> Self {
        Self { wall_ms: clock.now_ms(), monotonic_ms: clock.monotonic_ms() }
    }

    fn elapsed_ms(self, clock: &dyn Clock) -> i64 {
        let now = Self::now(clock);
        let wall = now.wall_ms.saturating_sub(self.wall_ms);
        wall.max(now.monotonic_ms.saturating_sub(self.monotonic_ms))
    }
}

/// The log of one receiver in the bucket. One task writes.
#[derive(Debug)]
pub struct ObjectLog {
    bucket: Bucket,
    clock: Arc<dyn Clock>,
    random: Random,
    receiver: String,
    external_labels: Labels,
    settings: ObjectLogSettings,
    epoch: Ulid,
    own: OwnEpoch,
    last_seq: u64,
    /// The last entry that has samples, or may have.
    last_filled: u64,
    /// The first entry of the open generation; nothing where the next entry begins one.
    generation: Option<u64>,
    generation_bytes: u64,
    declared: Declared,
    released: u64,
    /// When the last entry was stored; nothing before the first.
    stored: Option<Moment>,
    staged: Vec<Vec<u8>>,
    ended: Vec<EndedEpoch>,
    frames: FrameEncoder,
}

impl ObjectLog {
    /// Begins an epoch. Its first entry, which may be empty, makes it visible to others.
    ///
    /// # Errors
    /// A receiver's name or external labels that are too long.
    pub fn open(
        bucket: Bucket,
        (clock, random): (Arc<dyn Clock>, Random),
        receiver: &str,
        external_labels: Labels,
        settings: ObjectLogSettings,
    ) -> Result<Self, LogError> {
        if receiver.len() > NAME_BYTES_MAX {
            return Err(LogError::ReceiverName { bytes: receiver.len(), allowed: NAME_BYTES_MAX });
        }
        let bytes = external_labels.as_bytes().len();
        if bytes > EXTERNAL_BYTES_MAX {
            let tenant = "any (--label)".to_owned();
            return Err(LogError::LabelsTooLarge { tenant, bytes, allowed: EXTERNAL_BYTES_MAX });
        }
        let epoch = random.ulid(clock.now_ms());
        Ok(Self {
            bucket,
            clock,
            random,
            receiver: receiver.to_owned(),
            external_labels,
            settings,
            epoch,
            own: OwnEpoch(Arc::new(Mutex::new(epoch))),
            last_seq: 0,
            last_filled: 0,
            generation: None,
            generation_bytes: 0,
            declared: Declared::default(),
            released: 0,
            stored: None,
            staged: Vec::new(),
            ended: Vec::new(),
            frames: FrameEncoder::new().map_err(LogError::Compress)?,
        })
    }

    /// Returns the settings.
    #[must_use]
    pub fn settings(&self) -> &ObjectLogSettings {
        &self.settings
    }

    /// Returns what tells which epoch this writer is in.
    #[must_use]
    pub fn own_epoch(&self) -> OwnEpoch {
        self.own.clone()
    }

    /// Returns the epoch.
    #[must_use]
    pub fn epoch(&self) -> Ulid {
        self.epoch
    }

    /// Returns the last sequence number of the epoch; 0 before its first entry.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Returns the epochs that ended since the last call. Their samples must not meet those of the new epoch in one
    /// head, so this is asked after every failure.
    pub fn take_ended(&mut self) -> Vec<EndedEpoch> {
        std::mem::take(&mut self.ended)
    }

    /// Encodes samples for [`Self::put_staged`].
    ///
    /// # Errors
    /// `TooLarge` for a label set over 1 MiB, `Unavailable` where the epoch ended of too long a silence.
    pub(in super::super) fn stage(&mut self, writes: &[TenantWrite<'_>]) -> Result<(), LogError> {
        self.staged.clear();
        self.end_if_silent()?;
        if self.generation_bytes >= self.settings.generation_bytes_max {
            self.start_generation();
        }
        let staged = self.stage_all(writes);
        if staged.is_err() {
            self.start_generation();
        }
        staged
    }

    fn stage_all(&mut self, writes: &[TenantWrite<'_>]) -> Result<(), LogError> {
        let mut body = Vec::new();
        for write in writes {
            let mut rest = *write;
            while !rest.is_empty() {
                let left = encode_group(&rest, &mut self.declared, BODY_BYTES_TARGET, &mut body);
                rest = left.map_err(|e| LogError::LabelsTooLarge {
                    tenant: write.tenant.to_string(),
                    bytes: e.bytes,
                    allowed: LABELS_BYTES_MAX,
                })?;
                if body.len() >= BODY_BYTES_TARGET || !rest.is_empty() {
                    self.staged.push(std::mem::take(&mut body));
                }
            }
        }
        if !body.is_empty() {
            self.staged.push(body);
        }
        Ok(())
    }

    /// Creates the entries of what was staged, one after the other, and returns the last sequence number. After an
    /// error none of it may be acknowledged; some of it may be in the log all the same.
    ///
    /// # Errors
    /// `Unavailable`: the store does not take it, or the epoch was sealed and a new one begins.
    pub(in super::super) async fn put_staged(&mut self) -> Result<u64, LogError> {
        for body in std::mem::take(&mut self.staged) {
            self.put_entry(Some(&body)).await?;
        }
        Ok(self.last_seq)
    }

    /// Creates an empty entry, which says that this writer lives.
    ///
    /// # Errors
    /// As for samples.
    pub async fn beat(&mut self) -> Result<(), LogError> {
        self.end_if_silent()?;
        self.put_entry(None).await
    }

    /// Ends the generation: what comes declares its series anew.
    pub fn start_generation(&mut self) {
        self.generation = None;
        self.generation_bytes = 0;
        self.declared = Declared::default();
        self.staged.clear();
    }

    /// Says in an entry that blocks hold what this epoch wrote up to `through_seq`, and returns the entries that may be
    /// deleted then. Other epochs are not this writer's: whoever recovers them cleans up.
    ///
    /// # Errors
    /// That entry could not be created; the next call tries again.
    pub async fn release(
        &mut self,
        epoch: Ulid,
        through_seq: u64,
    ) -> Result<Option<RangeInclusive<u64>>, LogError> {
        let through_seq = through_seq.min(self.last_seq);
        if epoch != self.epoch || through_seq <= self.released {
            return Ok(None);
        }
        let first = self.released + 1;
        self.released = through_seq;
        if let Err(error) = self.beat().await {
            if epoch == self.epoch {
                self.released = first - 1;
            }
            return Err(error);
        }
        Ok(Some(first..=through_seq))
    }

    /// Creates the next entry.
    async fn put_entry(&mut self, body: Option<&[u8]>) -> Result<(), LogError> {
        loop {
            let (key, bytes) = self.encode_next(body)?;
            let (began, size) = (Moment::now(self.clock.as_ref()), bytes.len() as u64);
            let created =
                tokio::time::timeout(self.settings.put_timeout, self.bucket.create(&key, bytes)).await;
            match created {
                Ok(Ok(Created::Stored)) => {
                    crash_point("object_log.after_put");
                    self.stored(began, size)?;
                    if body.is_some() {
                        self.last_filled = self.last_seq;
                    }
                    return Ok(());
                }
                Ok(Ok(Created::Conflict(found))) => self.meet(&key, &found)?,
                Ok(Err(error)) => {
                    self.start_generation();
                    return Err(error.into());
                }
                Err(_) => {
                    self.start_generation();
                    return Err(LogError::put_timeout(&key, self.settings.put_timeout));
                }
            }
        }
    }

    fn encode_next(&mut self, body: Option<&[u8]>) -> Result<(ObjectKey, Bytes), LogError> {
        let seq = self.last_seq + 1;
        let header = self.header(seq, self.generation.unwrap_or(seq));
        let bytes = match body {
            Some(body) => header.encode_entry(body, &mut self.frames).map_err(LogError::Compress)?,
            None => header.encode(),
        };
        Ok((ObjectKey::LogEntry { epoch: self.epoch, seq }, bytes))
    }

    /// Takes note of a stored entry, unless it came so late that its number may have been used before.
    fn stored(&mut self, began: Moment, size: u64) -> Result<(), LogError> {
        let elapsed_ms = began.elapsed_ms(self.clock.as_ref());
        if elapsed_ms > self.settings.landing_ms_max {
            return Err(self.give_up(|epoch| LogError::Silent { epoch, seconds: elapsed_ms / 1000 }));
        }
        self.last_seq += 1;
        self.generation.get_or_insert(self.last_seq);
        self.generation_bytes += size;
        // From before the put: what matters is for how long nobody can have seen a newer entry.
        self.stored = Some(began);
        Ok(())
    }

    /// Looks at what has the number of the next entry: one of our own that we did not hear of, or the end.
    fn meet(&mut self, key: &ObjectKey, found: &[u8]) -> Result<(), LogError> {
        let object = match decode_object(found) {
            Ok(object) => object.header,
            Err(error) => {
                let damage = error.of_object(key);
                return Err(self.give_up(|_| damage));
            }
        };
        let ours = object.kind == ObjectKind::Entry && object.epoch == self.epoch;
        // A writer that knows of no failed put has no such entry: somebody else writes this epoch.
        if !ours || self.generation.is_some() {
            return Err(self.give_up(|epoch| LogError::Sealed { epoch, by: object.by }));
        }
        tracing::debug!(%key, "an entry is stored whose put had failed");
        self.last_seq += 1;
        self.last_filled = self.last_seq;
        Ok(())
    }

    fn end_if_silent(&mut self) -> Result<(), LogError> {
        let Some(stored) = self.stored else { return Ok(()) };
        let silent_ms = stored.elapsed_ms(self.clock.as_ref());
        if silent_ms <= self.settings.silence_ms_max {
            return Ok(());
        }
        Err(self.give_up(|epoch| LogError::Silent { epoch, seconds: silent_ms / 1000 }))
    }

    /// Ends the epoch and begins a new one.
    fn give_up(&mut self, why: impl FnOnce(Ulid) -> LogError) -> LogError {
        let ended = EndedEpoch { epoch: self.epoch, last_seq: self.last_seq };
        let fresh = self.random.ulid(self.clock.now_ms());
        tracing::warn!(epoch = %ended.epoch, last_seq = ended.last_seq, %fresh, "the log begins a new epoch");
        self.ended.push(ended);
        self.epoch = fresh;
        self.own.set(fresh);
        (self.last_seq, self.last_filled, self.released, self.stored) = (0, 0, 0, None);
        self.start_generation();
        why(ended.epoch)
    }

    /// Ends the epoch for good where blocks hold all of it: seal and mark keep others from having to.
    ///
    /// # Errors
    /// The store's; others end the epoch then.
    pub async fn close(&mut self) -> Result<(), LogError> {
        if self.last_seq == 0 || self.released < self.last_filled {
            return Ok(());
        }
        let empty = self.released + 1..=self.last_seq;
        self.released = self.last_seq;
        if let Created::Conflict(_) = self.create_end(ObjectKind::Seal, self.last_seq + 1).await? {
            // An entry that landed late, or somebody else's seal: whoever finds the epoch dead knows what to do.
            return Ok(());
        }
        self.create_end(ObjectKind::Released, self.last_seq + 2).await?;
        // What is left: the entry that released the others, and heartbeats.
        delete_entries(&self.bucket, self.epoch, empty).await
    }

    async fn create_end(&self, kind: ObjectKind, seq: u64) -> Result<Created, LogError> {
        let key = ObjectKey::LogEntry { epoch: self.epoch, seq };
        let bytes = ObjectHeader { kind, ..self.header(seq, seq) }.encode();
        let create = self.bucket.create(&key, bytes);
        match tokio::time::timeout(self.settings.put_timeout, create).await {
            Ok(created) => Ok(created?),
            Err(_) => Err(LogError::put_timeout(&key, self.settings.put_timeout)),
        }
    }

    fn header(&self, seq: u64, generation: u64) -> ObjectHeader {
        ObjectHeader {
            kind: ObjectKind::Entry,
            epoch: self.epoch,
            seq,
            generation,
            released: self.released,
            nonce: self.random.next_u64(),
            receiver: self.receiver.clone(),
            by: self.receiver.clone(),
            external_labels: self.external_labels.clone(),
        }
    }
}
