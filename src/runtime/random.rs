//! Seeded randomness.

use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use ulid::Ulid;

/// A source of random numbers and ids, shared by clones.
#[derive(Clone)]
pub struct Random(Arc<Mutex<StdRng>>);

impl Random {
    /// Returns a source seeded by the operating system.
    #[must_use]
    pub fn from_os() -> Self {
        Self(Arc::new(Mutex::new(StdRng::from_os_rng())))
    }

    /// Returns 64 random bits.
    #[must_use]
    pub fn next_u64(&self) -> u64 {
        // A poisoned generator is still a generator.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    /// Returns a new ULID for a wall-clock time.
    #[must_use]
    pub fn ulid(&self, now_ms: i64) -> Ulid {
        let random = (u128::from(self.next_u64()) << 64) | u128::from(self.next_u64());
        Ulid::from_parts(u64::try_from(now_ms).unwrap_or(0), random)
    }
}

/// Returns a source that gives the same numbers for the same seed.
#[must_use]
pub fn random_from_seed(seed: u64) -> Random {
    Random(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
}

impl Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random")
    }
}
