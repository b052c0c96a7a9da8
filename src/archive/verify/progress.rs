//! Where a verification stands.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where a verification stands; clones share the numbers.
#[derive(Debug, Clone, Default)]
pub struct VerifyProgress(Arc<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    bytes: AtomicU64,
    read_bytes: AtomicU64,
}

impl VerifyProgress {
    /// Returns how many bytes were read, and how many there are to read as far as is known.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (self.0.read_bytes.load(Ordering::Relaxed), self.0.bytes.load(Ordering::Relaxed))
    }

    pub(super) fn plan(&self, bytes: u64) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn read(&self, bytes: u64) {
        self.0.read_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}
