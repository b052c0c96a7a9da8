//! Hedged reads: a second request where the first takes longer than usual.
//!
//! The first answer counts and the other request is dropped. A share of all reads bounds how many requests that adds, so
//! that a store which is slow for everybody is not asked twice as much.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::attempts::is_transient;
use super::instruments::{Instruments, Operation};

/// How many of the newest answers tell what is usual.
const OBSERVED: usize = 256;

/// So many answers have to be known before they are believed.
const OBSERVED_MIN: usize = 32;

/// The wait until then.
const DELAY_UNKNOWN: Duration = Duration::from_secs(1);

/// A store that is faster than this is fast enough.
const DELAY_MIN: Duration = Duration::from_millis(20);

/// How many requests each read allows on top.
const EXTRA_PER_READ: f64 = 0.05;

/// The most that is saved up of it.
const EXTRA_MAX: f64 = 10.0;

/// When reads are hedged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct HedgeSettings {
    /// The most requests of one read, the first included; below 2 there is no hedging.
    pub(super) requests_max: u32,
    /// The share of answers that come before a second request starts.
    pub(super) quantile: f64,
}

impl HedgeSettings {
    pub(super) const OFF: Self = Self { requests_max: 1, quantile: 1.0 };
    /// Thanos' numbers; there it has to be turned on, here the share of extra requests bounds it.
    pub(super) const DEFAULT: Self = Self { requests_max: 3, quantile: 0.9 };
}

/// The hedging of one bucket; clones share what was observed.
#[derive(Debug, Clone)]
pub(super) struct Hedges {
    settings: HedgeSettings,
    state: Arc<Mutex<State>>,
    instruments: Instruments,
}

#[derive(Debug)]
struct State {
    /// The newest answers' times, as a ring.
    observed: Vec<Duration>,
    next: usize,
    extra: f64,
}

impl Hedges {
    pub(super) fn new(settings: HedgeSettings, instruments: Instruments) -> Self {
        let state = State { observed: Vec::new(), next: 0, extra: EXTRA_MAX };
        Self { settings, state: Arc::new(Mutex::new(state)), instruments }
    }

    /// Sends a request, and another one whenever the answer is late; returns the first answer.
    pub(super) async fn race<T, F>(
        &self,
        operation: Operation,
        mut request: impl FnMut() -> F,
    ) -> object_store::Result<T>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        if self.settings.requests_max < 2 {
            return request().await;
        }
        let (first_started, delay) = (Instant::now(), self.begin());
        let numbered = |number: u32, answer: F| async move { (number, Instant::now(), answer.await) };
        let mut running = FuturesUnordered::new();
        running.push(numbered(1, request()));
        let mut sent = 1;
        let mut allowed = true;
        loop {
            let (number, started, answer) = tokio::select! {
                biased;
                Some(answered) = running.next() => answered,
                () = tokio::time::sleep(delay), if allowed && sent < self.settings.requests_max => {
                    allowed = self.take_extra();
                    if allowed {
                        sent += 1;
                        self.instruments.count_hedge(operation);
                        running.push(numbered(sent, request()));
                    }
                    continue;
                }
            };
            match answer {
                Ok(value) => {
                    self.observe(started.elapsed());
                    if number > 1 {
                        // The first would have taken at least so long.
                        self.observe(first_started.elapsed());
                        self.instruments.count_hedge_win(operation);
                    }
                    return Ok(value);
                }
                Err(error) if running.is_empty() || !is_transient(&error) => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Counts a read and returns how long its answer may usually take.
    fn begin(&self) -> Duration {
        let mut state = self.state();
        state.extra = (state.extra + EXTRA_PER_READ).min(EXTRA_MAX);
        if state.observed.len() < OBSERVED_MIN {
            return DELAY_UNKNOWN;
        }
        let mut times = state.observed.clone();
        drop(state);
        let rank = ((times.len() - 1) as f64 * self.settings.quantile).ceil() as usize;
        let rank = rank.min(times.len() - 1);
        let (_, usual, _) = times.select_nth_unstable(rank);
        (*usual).max(DELAY_MIN)
    }

    fn observe(&self, time: Duration) {
        let mut state = self.state();
        if state.observed.len() < OBSERVED {
            state.observed.push(time);
        } else {
            let at = state.next;
            state.observed[at] = time;
        }
        state.next = (state.next + 1) % OBSERVED;
    }

    fn take_extra(&self) -> bool {
        let mut state = self.state();
        let enough = state.extra >= 1.0;
        if enough {
            state.extra -= 1.0;
        }
        enough
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
