//! What a restore works with.

use std::sync::Arc;

use super::progress::{NoProgress, Progress};
use crate::archive::Archive;
use crate::runtime::{Clock, Cpu};

/// The archive and the process's parts.
#[derive(Debug, Clone)]
pub struct RestoreContext {
    /// Where from.
    pub archive: Archive,
    /// Where files are hashed, built and written.
    pub cpu: Cpu,
    /// How many threads that has.
    pub threads: usize,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who is told how far it is.
    pub progress: Arc<dyn Progress>,
}

impl RestoreContext {
    /// Puts the parts together; nobody is told of progress.
    #[must_use]
    pub fn new(archive: Archive, cpu: Cpu, threads: usize, clock: Arc<dyn Clock>) -> Self {
        Self { archive, cpu, threads: threads.max(1), clock, progress: Arc::new(NoProgress) }
    }
}
