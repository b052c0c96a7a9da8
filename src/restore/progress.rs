//! How far a restore is.

use serde::Serialize;

/// A part of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Objects are read from the bucket and checked.
    Fetch,
    /// Files and pieces are checked as a whole.
    Verify,
    /// Blocks are built of the head's samples, or rewritten.
    Build,
    /// The log is written.
    Wal,
    /// What was built is read back.
    Check,
    /// Everything is made durable and renamed.
    Finish,
    /// A drill compares series.
    Compare,
}

impl Phase {
    /// Returns the name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Verify => "verify",
            Self::Build => "build",
            Self::Wal => "wal",
            Self::Check => "check",
            Self::Finish => "finish",
            Self::Compare => "compare",
        }
    }
}

/// Is told how far a restore is, from several threads.
pub trait Progress: std::fmt::Debug + Send + Sync {
    /// A phase begins that has so many bytes before it.
    fn begin(&self, phase: Phase, total_bytes: u64);

    /// So many bytes more are done.
    fn advance(&self, bytes: u64);

    /// The phase is over.
    fn end(&self);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn begin(&self, _phase: Phase, _total_bytes: u64) {}

    fn advance(&self, _bytes: u64) {}

    fn end(&self) {}
}
