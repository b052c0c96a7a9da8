//! What a job remembers from run to run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Numbers by name, kept in the job's record. What a run sets is kept whatever the run comes to; clones share it.
#[derive(Debug, Clone, Default)]
pub struct JobState(Arc<Mutex<BTreeMap<String, u64>>>);

impl JobState {
    /// Makes it out of what was kept.
    #[must_use]
    pub fn new(numbers: BTreeMap<String, u64>) -> Self {
        Self(Arc::new(Mutex::new(numbers)))
    }

    /// Returns a number; nothing where it was never set.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }

    /// Sets a number.
    pub fn set(&self, name: impl Into<String>, number: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.into(), number);
    }

    /// Returns all numbers as they are now.
    #[must_use]
    pub fn numbers(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
