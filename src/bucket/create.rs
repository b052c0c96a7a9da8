//! The verified create, and the probe whether a store can do it.

use bytes::Bytes;
use object_store::{Error as StoreError, PutMode, PutOptions};

use crate::runtime::Random;

use super::attempts::{answer_of, bounded};
use super::instruments::Operation;
use super::{Bucket, BucketError, ObjectKey};

/// Probes older than this, by the store's clock, were left by a process that died or could not delete them.
const PROBE_AGE_MAX_MS: i64 = 86_400_000;

/// What became of a create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// The object is stored, by this call or by an earlier one with the same bytes.
    Stored,
    /// Another object is there, with these bytes.
    Conflict(Bytes),
}

impl Bucket {
    /// Stores an object where none is. The answer is verified: an unclear reply of the store is resolved by reading
    /// the key back, so the bytes must be unique to this create.
    ///
    /// # Errors
    /// A refusal of the store, or an outcome that could not be found out: the object may then still appear.
    pub async fn create(&self, key: &ObjectKey, bytes: Bytes) -> Result<Created, BucketError> {
        // All attempts and what they read back share one budget.
        let deadline = self.attempts.deadline();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let failure = match self.put_if_absent(key, bytes.clone()).await {
                Ok(()) => return Ok(Created::Stored),
                Err(failure) if was_refused(&failure) => {
                    return Err(BucketError::of(Operation::Create, key, failure));
                }
                Err(failure) => failure,
            };
            match self.get_until(key, deadline).await {
                Ok(found) if found == bytes => {
                    self.confirm_durable(key).await?;
                    self.confirm_lock(key).await?;
                    return Ok(Created::Stored);
                }
                Ok(found) => return Ok(Created::Conflict(found)),
                Err(BucketError::NotFound { .. }) if is_final(&failure) => {
                    return Err(BucketError::of(Operation::Create, key, failure));
                }
                Err(BucketError::NotFound { .. }) => {
                    // S3 answers 409 when two creates meet and neither landed.
                    let more = attempts < self.attempts.patience.creates_max;
                    if !more || !self.attempts.again(Operation::Create, attempts, deadline, &failure).await {
                        let (key, source) = (key.to_string(), Box::new(failure));
                        return Err(BucketError::Unverified { key, attempts, source });
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Checks that the store refuses a second create of the same key, and cleans up.
    ///
    /// # Errors
    /// [`BucketError::NoConditionalCreate`] where it does not; else the store's failure.
    pub async fn probe_conditional_create(&self, random: &Random) -> Result<(), BucketError> {
        // A locked probe could not be cleaned up.
        Self { lock: None, ..self.clone() }.probe_unlocked(random).await
    }

    async fn probe_unlocked(&self, random: &Random) -> Result<(), BucketError> {
        let key = ObjectKey::Probe { id: random.ulid(0) };
        let content = |i: u8| Bytes::from(format!("perennial probe {i} {:016x}", random.next_u64()));
        let (first, second) = (content(1), content(2));
        let probed = async {
            match self.create(&key, first.clone()).await {
                Ok(Created::Stored) => {}
                Ok(Created::Conflict(_)) => return Err(BucketError::Occupied { key: key.to_string() }),
                Err(BucketError::Store { source, .. }) if is_unsupported(&source) => {
                    return Err(BucketError::NoConditionalCreate { reason: source.to_string() });
                }
                Err(error) => return Err(error),
            }
            let put = self.attempts.run(Operation::Create, None, || self.put_if_absent(&key, second.clone()));
            match put.await {
                Ok(()) => return Err(no_conditional_create("a second create of one key succeeded")),
                Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {}
                Err(error) => return Err(BucketError::of(Operation::Create, &key, error)),
            }
            if self.get(&key).await? == first {
                Ok(())
            } else {
                Err(no_conditional_create("a refused create changed the object"))
            }
        };
        let outcome = probed.await;
        // A store that is away is not asked for more than it must be.
        if outcome.is_ok()
            && let Err(error) = self.remove_old_probes(&key).await
        {
            tracing::warn!(%error, "cannot remove old probes, the next start tries again");
        }
        if let Err(error) = self.delete(&key).await {
            tracing::warn!(%key, %error, "cannot delete the probe");
        }
        outcome
    }

    /// Deletes the probes that processes before this one left. The own one tells the store's time.
    async fn remove_old_probes(&self, own: &ObjectKey) -> Result<(), BucketError> {
        let probes = self.list(ObjectKey::PROBES).await?;
        let own = own.to_string();
        let Some(now_ms) = probes.iter().find(|probe| probe.key == own).map(|own| own.last_modified_ms)
        else {
            return Ok(());
        };
        for probe in probes {
            let is_old = now_ms.saturating_sub(probe.last_modified_ms) > PROBE_AGE_MAX_MS;
            if let Some(key @ ObjectKey::Probe { .. }) = ObjectKey::parse(&probe.key).filter(|_| is_old) {
                self.delete(&key).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn put_if_absent(&self, key: &ObjectKey, bytes: Bytes) -> Result<(), StoreError> {
        let size = bytes.len() as u64;
        let limit = self.attempts.patience.sending(size);
        if let Some((s3, lock)) = self.locking() {
            let put = bounded(limit, s3.put_if_absent(key, bytes, lock));
            self.instruments.observe(Operation::Create, Box::pin(put)).await?;
            self.instruments.count_bytes(Operation::Create, size);
            return Ok(());
        }
        let attributes = self.attributes.clone();
        let options = PutOptions { mode: PutMode::Create, attributes, ..PutOptions::default() };
        let path = key.path();
        let put = bounded(limit, self.store.put_opts(&path, bytes.into(), options));
        self.instruments.observe(Operation::Create, Box::pin(put)).await?;
        self.instruments.count_bytes(Operation::Create, size);
        Ok(())
    }
}

fn no_conditional_create(reason: &str) -> BucketError {
    BucketError::NoConditionalCreate { reason: reason.to_owned() }
}

/// Returns whether the store certainly did not take the object, so that there is nothing to find out.
fn was_refused(error: &StoreError) -> bool {
    let refused = matches!(
        error,
        StoreError::PermissionDenied { .. }
            | StoreError::Unauthenticated { .. }
            | StoreError::NotFound { .. }
    );
    refused || is_unsupported(error)
}

fn is_unsupported(error: &StoreError) -> bool {
    matches!(error, StoreError::NotImplemented { .. } | StoreError::NotSupported { .. })
        || answer_of(error).is_some_and(|answer| answer.is_unsupported())
}

/// Returns whether the store said no for a reason that another attempt would meet as well.
fn is_final(error: &StoreError) -> bool {
    answer_of(error).is_some_and(|answer| !answer.is_transient())
}
