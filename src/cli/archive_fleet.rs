//! The archivers of a process: one that fails leaves the others at work.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::{Id, JoinSet};

use super::Failure;
use crate::archive::{ArchiveError, Archiver, ArchiverMetrics, ArchiverParts, ArchiverSettings};
use crate::model::{ErrorKind, SourceName};
use crate::runtime::Shutdown;
use crate::server::Readiness;

/// Sources that the archive is not read of yet: the process is ready when there is none.
#[derive(Debug, Clone)]
struct Expected {
    sources: Arc<Mutex<BTreeSet<SourceName>>>,
    readiness: Readiness,
}

impl Expected {
    fn arrived(&self, source: &SourceName) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.remove(source) && sources.is_empty() {
            self.readiness.set(true);
        }
    }
}

/// All archivers of a process.
#[derive(Debug)]
pub(super) struct Fleet {
    at_work: JoinSet<Result<(), ArchiveError>>,
    sources: HashMap<Id, SourceName>,
    expected: Expected,
    metrics: ArchiverMetrics,
    failures: BTreeMap<SourceName, Failure>,
}

impl Fleet {
    /// Starts an archiver for each source. The store is not needed for that.
    pub(super) async fn start(
        settings: Vec<ArchiverSettings>,
        parts: &ArchiverParts,
        stop: &Shutdown,
        readiness: &Readiness,
    ) -> Self {
        let sources = settings.iter().map(|settings| settings.source.clone()).collect();
        let expected = Expected { sources: Arc::new(Mutex::new(sources)), readiness: readiness.clone() };
        let mut fleet = Self {
            at_work: JoinSet::new(),
            sources: HashMap::new(),
            expected,
            metrics: parts.metrics.clone(),
            failures: BTreeMap::new(),
        };
        for settings in settings {
            let source = settings.source.clone();
            match Archiver::open(settings, parts.clone(), stop.clone()).await {
                Ok(opening) => {
                    fleet.metrics.show_running(&source, true);
                    let (expected, arrived) = (fleet.expected.clone(), source.clone());
                    let running = opening.run(move || expected.arrived(&arrived));
                    let id = fleet.at_work.spawn(running).id();
                    fleet.sources.insert(id, source);
                }
                Err(error) => fleet.failed(source, error.into()),
            }
        }
        fleet
    }

    /// Waits until all have ended, and tells of the first failure.
    pub(super) async fn ended(&mut self) -> Result<(), Failure> {
        while let Some(ended) = self.at_work.join_next_with_id().await {
            let (id, failure) = match ended {
                Ok((id, ended)) => (id, ended.err().map(Failure::from)),
                Err(panicked) => (panicked.id(), Some(Failure::new(ErrorKind::Internal, panicked))),
            };
            if let (Some(source), Some(failure)) = (self.sources.remove(&id), failure) {
                self.failed(source, failure);
            }
        }
        std::mem::take(&mut self.failures).into_values().next().map_or(Ok(()), Err)
    }

    fn failed(&mut self, source: SourceName, failure: Failure) {
        self.metrics.show_running(&source, false);
        tracing::error!(
            %source,
            error = failure.message,
            others = self.at_work.len(),
            "the source is not archived any more, the others are: mend it and start the process again"
        );
        self.expected.arrived(&source);
        self.failures.insert(source, failure);
    }
}
