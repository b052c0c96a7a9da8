//! What one query has found and fetched so far, against what it may.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::error::SelectError;
use crate::block::{Admission, ReadFailure};
use crate::model::Labels;
use crate::runtime::{Memory, MemoryReservation, MemoryUse};

/// Memory is taken in steps of so many bytes.
const STEP_BYTES: u64 = 1 << 20;

/// What one query may select.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SelectLimits {
    /// Series; 0 for no limit.
    pub series_max: usize,
    /// Samples; 0 for no limit.
    pub samples_max: u64,
    /// Bytes fetched from the bucket; 0 for no limit.
    pub bytes_max: u64,
}

impl SelectLimits {
    /// No limits.
    pub const NONE: Self = Self { series_max: 0, samples_max: 0, bytes_max: 0 };
}

/// What one query has found and fetched over all tenants, blocks and heads.
#[derive(Debug)]
pub struct QueryBudget {
    limits: SelectLimits,
    /// Hashes of the series found so far; equal label sets of several blocks or producers count once here.
    series: Mutex<HashSet<u64>>,
    samples: AtomicU64,
    bytes: AtomicU64,
    memory: Memory,
    /// What takes memory of what was found.
    found_bytes: AtomicU64,
    reserved_bytes: AtomicU64,
    reserved: Mutex<Vec<MemoryReservation>>,
}

impl QueryBudget {
    /// Makes the budget of one query, which takes memory for what it finds until it is dropped. Where the query reads
    /// no samples, the limit on them does not count.
    #[must_use]
    pub fn new(limits: SelectLimits, reads_samples: bool, memory: Memory) -> Arc<Self> {
        let samples_max = if reads_samples { limits.samples_max } else { 0 };
        Arc::new(Self {
            limits: SelectLimits { samples_max, ..limits },
            series: Mutex::default(),
            samples: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            memory,
            found_bytes: AtomicU64::new(0),
            reserved_bytes: AtomicU64::new(0),
            reserved: Mutex::default(),
        })
    }

    /// Counts a row of a series; to have found it takes so many bytes of memory.
    ///
    /// # Errors
    /// More series or samples than the query may find, and no memory left for them.
    pub(super) fn find(&self, labels: &Labels, samples: u64, bytes: u64) -> Result<(), SelectError> {
        let SelectLimits { series_max, samples_max, .. } = self.limits;
        if series_max > 0 {
            let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
            series.insert(labels.series_hash());
            if series.len() > series_max {
                return Err(SelectError::TooManySeries(series_max));
            }
        }
        if samples_max > 0 && add(&self.samples, samples) > samples_max {
            return Err(SelectError::TooManySamples(samples_max));
        }
        let found_bytes = add(&self.found_bytes, bytes);
        if found_bytes > self.reserved_bytes.load(Ordering::Relaxed) {
            self.reserve(found_bytes)?;
        }
        Ok(())
    }

    fn reserve(&self, found_bytes: u64) -> Result<(), SelectError> {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = found_bytes.saturating_sub(self.reserved_bytes.load(Ordering::Relaxed));
        if missing > 0 {
            let step = missing.max(STEP_BYTES);
            reserved.push(self.memory.reserve(MemoryUse::Queries, step)?);
            self.reserved_bytes.fetch_add(step, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Counts bytes that are about to be fetched.
    ///
    /// # Errors
    /// More bytes than the query may fetch.
    pub(super) fn fetch(&self, bytes: u64) -> Result<(), ReadFailure> {
        let fetched = add(&self.bytes, bytes);
        if self.limits.bytes_max > 0 && fetched > self.limits.bytes_max {
            return Err(refusal(SelectError::TooManyBytes(self.limits.bytes_max)));
        }
        Ok(())
    }
}

impl Admission for QueryBudget {
    fn admit(&self, labels: &Labels, samples: u32, bytes: u64) -> Result<(), ReadFailure> {
        self.find(labels, u64::from(samples), bytes).map_err(refusal)
    }
}

fn refusal(error: SelectError) -> ReadFailure {
    ReadFailure { kind: error.kind(), source: Box::new(error) }
}

/// Adds and returns the sum; sums of what one process reads stay far below the type's end.
fn add(sum: &AtomicU64, by: u64) -> u64 {
    sum.fetch_add(by, Ordering::Relaxed).saturating_add(by)
}
