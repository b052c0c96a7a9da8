//! How often and how long a request is tried.
//!
//! Every operation has a number of attempts and a time within which a new one may begin, with pauses that grow and are drawn at random.
//! Beside that all operations of a bucket share a store of *spare* attempts: when the object store is away for
//! everybody, it runs dry, and each operation then fails with its first failure instead of adding to the load.

#[cfg(test)]
mod tests;

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::Error as StoreError;
use object_store::client::HttpError;
use tokio::time::Instant;

use crate::runtime::Random;

use super::instruments::{Instruments, Operation};
use super::transport::{Answer, NoAnswer};

/// Retries of one operation where the configuration says nothing.
pub(super) const RETRIES_MAX: u32 = 8;

/// The time within which the last attempt of one operation begins; a cut of the head gives up later.
pub(super) const BUDGET: Duration = Duration::from_secs(60);

/// How long an answer may take where the configuration says nothing.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// How long the next bytes of an answer may take.
const IDLE_MAX: Duration = Duration::from_secs(15);

/// The slowest line that a body is sent over.
const BYTES_PER_SECOND_MIN: u64 = 256 << 10;

const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// The pause before the second attempt of a create in a store that has no other retries.
const LOCAL_PAUSE_FIRST: Duration = Duration::from_millis(20);

/// Attempts of a create in such a store: it may answer as S3 does when two creates meet and neither landed.
const LOCAL_CREATES_MAX: u32 = 6;

/// Spare attempts that a bucket begins with, and the most it has.
const SPARE_MAX: f64 = 100.0;

/// What an operation that succeeds at once adds to the spare attempts.
const SPARE_PER_SUCCESS: f64 = 0.1;

/// What each second adds.
const SPARE_PER_SECOND: f64 = 1.0;

/// How patient a bucket is with its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    /// Attempts of one operation.
    pub(super) attempts_max: u32,
    /// Attempts of a create, which decides by itself what happened.
    pub(super) creates_max: u32,
    /// Within this time the last attempt begins.
    pub(super) budget: Option<Duration>,
    /// How long an answer may take.
    pub(super) answer_within: Option<Duration>,
    /// How long the next bytes of an answer may take.
    pub(super) idle_max: Option<Duration>,
    pub(super) pause_first: Duration,
    pub(super) pause_max: Duration,
}

impl Patience {
    /// For a local folder, whose failures do not pass by being tried again, and whose fsync takes what it takes.
    pub(super) const LOCAL: Self = Self {
        attempts_max: 1,
        creates_max: LOCAL_CREATES_MAX,
        budget: None,
        answer_within: None,
        idle_max: None,
        pause_first: LOCAL_PAUSE_FIRST,
        pause_max: PAUSE_MAX,
    };

    /// For a store that is reached over a network.
    pub(super) const REMOTE: Self = Self {
        attempts_max: RETRIES_MAX + 1,
        creates_max: RETRIES_MAX + 1,
        budget: Some(BUDGET),
        answer_within: Some(ANSWER_WITHIN),
        idle_max: Some(IDLE_MAX),
        pause_first: PAUSE_FIRST,
        pause_max: PAUSE_MAX,
    };

    /// Returns how long sending so many bytes and their answer may take.
    pub(super) fn sending(&self, bytes: u64) -> Option<Duration> {
        self.answer_within.map(|wait| wait + Duration::from_secs(bytes / BYTES_PER_SECOND_MIN))
    }
}

/// When the last attempt of an operation may begin; nothing stands for no limit.
pub(super) type Deadline = Option<Instant>;

/// The attempts of all operations on one bucket; clones share the spare ones.
#[derive(Debug, Clone)]
pub(super) struct Attempts {
    pub(super) patience: Patience,
    spare: Arc<Mutex<Spare>>,
    random: Random,
    instruments: Instruments,
}

#[derive(Debug)]
struct Spare {
    attempts: f64,
    /// Nothing before the first use: a bucket may be made outside of a runtime.
    filled: Option<Instant>,
}

impl Attempts {
    pub(super) fn new(patience: Patience, random: Random, instruments: Instruments) -> Self {
        let spare = Arc::new(Mutex::new(Spare { attempts: SPARE_MAX, filled: None }));
        Self { patience, spare, random, instruments }
    }

    /// Returns the deadline of an operation that begins now.
    pub(super) fn deadline(&self) -> Deadline {
        self.patience.budget.map(|budget| Instant::now() + budget)
    }

    /// Runs an operation until it succeeds, fails for good, or has no attempts left. Each attempt ends after `limit`.
    pub(super) async fn run<T, F>(
        &self,
        operation: Operation,
        limit: Option<Duration>,
        attempt: impl FnMut() -> F,
    ) -> object_store::Result<T>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        self.run_until(operation, limit, self.deadline(), attempt).await
    }

    /// The same, as part of an operation that has a deadline already.
    pub(super) async fn run_until<T, F>(
        &self,
        operation: Operation,
        limit: Option<Duration>,
        deadline: Deadline,
        mut attempt: impl FnMut() -> F,
    ) -> object_store::Result<T>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let failure = match bounded(limit, attempt()).await {
                Ok(value) => {
                    if attempts == 1 {
                        self.spare(|spare| *spare += SPARE_PER_SUCCESS);
                    }
                    return Ok(value);
                }
                Err(failure) => failure,
            };
            let more = attempts < self.patience.attempts_max && is_transient(&failure);
            if !more || !self.again(operation, attempts, deadline, &failure).await {
                return Err(failure);
            }
        }
    }

    /// Pauses before another attempt; returns false where time or spare attempts do not allow one.
    pub(super) async fn again(
        &self,
        operation: Operation,
        attempts: u32,
        deadline: Deadline,
        failure: &StoreError,
    ) -> bool {
        let pause = self.pause(attempts, answer_of(failure).and_then(|answer| answer.retry_after));
        if deadline.is_some_and(|deadline| Instant::now() + pause >= deadline) {
            return false;
        }
        if deadline.is_some() && !self.take_spare() {
            self.instruments.count_no_spare();
            return false;
        }
        self.instruments.count_retry(operation);
        let error = crate::model::error_chain(failure);
        tracing::debug!(operation = operation.verb(), attempts, ?pause, error, "trying object storage again");
        tokio::time::sleep(pause).await;
        true
    }

    /// Draws a pause: between half of it and all of it, doubling from attempt to attempt.
    fn pause(&self, attempts: u32, asked: Option<Duration>) -> Duration {
        let factor = 2u32.saturating_pow(attempts.saturating_sub(1).min(16));
        let longest = self.patience.pause_first.saturating_mul(factor).min(self.patience.pause_max);
        let thousandths = u32::try_from(self.random.next_u64() % 501).unwrap_or(0);
        let drawn = longest * (500 + thousandths) / 1_000;
        drawn.max(asked.unwrap_or_default())
    }

    fn take_spare(&self) -> bool {
        self.spare(|spare| {
            let enough = *spare >= 1.0;
            if enough {
                *spare -= 1.0;
            }
            enough
        })
    }

    fn spare<T>(&self, change: impl FnOnce(&mut f64) -> T) -> T {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let since = spare.filled.replace(now).map_or(Duration::ZERO, |then| now.duration_since(then));
        spare.attempts += since.as_secs_f64() * SPARE_PER_SECOND;
        let changed = change(&mut spare.attempts);
        spare.attempts = spare.attempts.min(SPARE_MAX);
        changed
    }
}

/// Runs a request for at most so long.
pub(super) async fn bounded<T>(
    limit: Option<Duration>,
    request: impl Future<Output = object_store::Result<T>>,
) -> object_store::Result<T> {
    match limit {
        None => request.await,
        Some(limit) => match tokio::time::timeout(limit, request).await {
            Ok(answered) => answered,
            Err(_) => Err(StoreError::Generic { store: "bucket", source: Box::new(NoAnswer(limit)) }),
        },
    }
}

/// An answer ended before everything had come.
#[derive(Debug, thiserror::Error)]
#[error("{got_bytes} bytes came of {expected_bytes}")]
pub(super) struct Short {
    pub(super) got_bytes: u64,
    pub(super) expected_bytes: u64,
}

/// Returns whether the same request may succeed if it is tried again.
pub(super) fn is_transient(error: &StoreError) -> bool {
    if !matches!(error, StoreError::Generic { .. }) {
        return false;
    }
    if let Some(answer) = answer_of(error) {
        return answer.is_transient();
    }
    causes(error).any(|cause| cause.is::<HttpError>() || cause.is::<NoAnswer>() || cause.is::<Short>())
}

/// Returns the store's own refusal, where there was one that the object store crate has no error for.
pub(super) fn answer_of(error: &StoreError) -> Option<&Answer> {
    causes(error).find_map(|cause| cause.downcast_ref::<Answer>())
}

fn causes(error: &StoreError) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let first = error.source();
    std::iter::successors(first, |cause: &&(dyn Error + 'static)| -> Option<&(dyn Error + 'static)> {
        Error::source(*cause)
    })
}
