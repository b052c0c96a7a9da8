//! What one query has found and fetched so far, against what it may.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::error::SelectError;
use crate::block::{Admission, ReadFailure};
use crate::model::{ErrorKind, Labels};

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
}

impl QueryBudget {
    /// Makes the budget of one query. Where it reads no samples, the limit on them does not count.
    #[must_use]
    pub fn new(limits: SelectLimits, reads_samples: bool) -> Arc<Self> {
        let samples_max = if reads_samples { limits.samples_max } else { 0 };
        Arc::new(Self {
            limits: SelectLimits { samples_max, ..limits },
            series: Mutex::default(),
            samples: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        })
    }

    /// Counts a row of a series.
    ///
    /// # Errors
    /// More series or samples than the query may find.
    pub(super) fn find(&self, labels: &Labels, samples: u64) -> Result<(), SelectError> {
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
    fn admit(&self, labels: &Labels, samples: u32) -> Result<(), ReadFailure> {
        self.find(labels, u64::from(samples)).map_err(refusal)
    }
}

fn refusal(error: SelectError) -> ReadFailure {
    ReadFailure { kind: ErrorKind::TooLarge, source: Box::new(error) }
}

/// Adds and returns the sum; sums of what one process reads stay far below the type's end.
fn add(sum: &AtomicU64, by: u64) -> u64 {
    sum.fetch_add(by, Ordering::Relaxed).saturating_add(by)
}
