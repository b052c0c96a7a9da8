//! Holds: what retention keeps although its policy would not.

use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::ArchiveError;
use super::chain::{Archive, decode, encode};
use super::entry::ENTRY_FORMAT;
use crate::bucket::{ArchiveObject, Created, LogKind, ObjectKey};
use crate::model::Ulid;
use crate::runtime::Random;

/// So many holds are read at once.
const HOLDS_AT_ONCE: usize = 16;

/// A hold, or the release of one. Neither is ever changed: a release is an object of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The format.
    pub format: u32,
    /// A random id.
    pub id: Ulid,
    /// When it was made.
    pub made_ms: i64,
    /// Why.
    pub reason: String,
    /// What is held or released.
    #[serde(flatten)]
    pub what: Held,
}

/// What a hold is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// Every second of a range of time can be restored until it is released.
    Range {
        /// The first moment.
        from_ms: i64,
        /// The last moment.
        to_ms: i64,
    },
    /// A hold ends.
    Release {
        /// Which one.
        hold: Ulid,
    },
}

impl Archive {
    /// Returns the holds that were not released, the oldest first.
    ///
    /// # Errors
    /// A hold that cannot be read: retention must not go on without it.
    pub async fn holds(&self) -> Result<Vec<Hold>, ArchiveError> {
        let folder = format!("{}/holds", ObjectKey::archive_folder(self.source()));
        let keys = self.bucket().list(&folder).await?.into_iter().filter_map(|o| ObjectKey::parse(&o.key));
        let read = keys.map(|key| async move { decode::<Hold>(&key, &self.read_stored(&key).await?) });
        let all: Vec<Hold> = futures::stream::iter(read).buffered(HOLDS_AT_ONCE).try_collect().await?;
        let released = |id: Ulid| all.iter().any(|h| matches!(h.what, Held::Release { hold } if hold == id));
        let mut holds: Vec<Hold> = all
            .iter()
            .filter(|hold| matches!(hold.what, Held::Range { .. }) && !released(hold.id))
            .cloned()
            .collect();
        holds.sort_by_key(|hold| (hold.made_ms, hold.id));
        Ok(holds)
    }

    /// Holds a range of time, which has to lie in the window or in another hold.
    ///
    /// # Errors
    /// A reason that is missing, a range outside of what is kept, or the store's failure.
    pub async fn hold(
        &self,
        (from_ms, to_ms): (i64, i64),
        reason: &str,
        random: &Random,
        now_ms: i64,
    ) -> Result<Hold, ArchiveError> {
        if from_ms > to_ms {
            return Err(ArchiveError::Invalid("--from lies after --to: exchange them".to_owned()));
        }
        self.check_held((from_ms, to_ms)).await?;
        let hold = self.put_hold(Held::Range { from_ms, to_ms }, reason, random, now_ms).await?;
        // Retention may have read the holds before this one and cut into it since.
        if let Err(error) = self.check_held((from_ms, to_ms)).await {
            let reason = "retention had dropped it already";
            self.put_hold(Held::Release { hold: hold.id }, reason, random, now_ms).await?;
            return Err(error);
        }
        Ok(hold)
    }

    /// Refuses a range of which not every second is in the archive.
    async fn check_held(&self, (from_ms, to_ms): (i64, i64)) -> Result<(), ArchiveError> {
        let view = self.load().await?;
        let (first, last) = view.window_ms().ok_or_else(|| ArchiveError::Empty(self.source().clone()))?;
        let holes = [LogKind::Wal, LogKind::Wbl].into_iter().flat_map(|log| view.holes(log));
        let mut cut = holes.filter(|hole| from_ms < hole.to_ms && hole.from_ms < to_ms);
        let nearest = match cut.next() {
            _ if from_ms < first => first,
            _ if to_ms > last => last,
            Some(hole) if hole.from_ms <= from_ms => hole.to_ms,
            Some(hole) => hole.from_ms,
            None => return Ok(()),
        };
        Err(ArchiveError::OutsideWindow {
            reason: "not every second of that range is in the archive".to_owned(),
            nearest: crate::model::format_time_ms(nearest),
        })
    }

    /// Ends a hold.
    ///
    /// # Errors
    /// No such hold, a reason that is missing, or the store's failure.
    pub async fn release(
        &self,
        hold: Ulid,
        reason: &str,
        random: &Random,
        now_ms: i64,
    ) -> Result<Hold, ArchiveError> {
        let holds = self.holds().await?;
        if !holds.iter().any(|h| h.id == hold) {
            let known: Vec<String> = holds.iter().map(|h| h.id.to_string()).collect();
            let known = if known.is_empty() { "there is none".to_owned() } else { known.join(", ") };
            return Err(ArchiveError::NoHold { hold, known });
        }
        self.put_hold(Held::Release { hold }, reason, random, now_ms).await
    }

    async fn put_hold(
        &self,
        what: Held,
        reason: &str,
        random: &Random,
        now_ms: i64,
    ) -> Result<Hold, ArchiveError> {
        if reason.trim().is_empty() {
            return Err(ArchiveError::Invalid("--reason: say why, for whoever reads it later".to_owned()));
        }
        let (id, reason) = (random.ulid(now_ms), reason.to_owned());
        let hold = Hold { format: ENTRY_FORMAT, id, made_ms: now_ms, reason, what };
        let key = self.key(ArchiveObject::Hold { id });
        match self.bucket().create(&key, encode(&hold)).await? {
            Created::Stored => Ok(hold),
            Created::Conflict(_) => {
                let reason = "another object has its name".to_owned();
                Err(ArchiveError::Damaged { key: key.to_string(), reason })
            }
        }
    }
}
