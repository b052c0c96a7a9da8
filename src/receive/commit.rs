//! The committing thread: log first, then the heads, then the answer.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use tokio::sync::{mpsc, oneshot};
use ulid::Ulid;

use super::batch::Batch;
use crate::head::{Head, Heads};
use crate::log::{DiskLog, LogError, TenantWrite};
use crate::model::error_chain;
use crate::runtime::{Clock, Metrics, crash_point};

/// An entry stops gathering at this many samples, which bounds its memory and its replay.
const ENTRY_SAMPLES_MAX: usize = 400_000;

/// Requests that may wait for the committing thread.
const QUEUE_LENGTH: usize = 256;

/// What the committing thread is asked to do.
#[derive(Debug)]
enum Command {
    Write { batch: Batch, done: oneshot::Sender<Result<(), Arc<LogError>>> },
    Cut { done: oneshot::Sender<CutPoint> },
    Release { epoch: Ulid, through_seq: u64, done: oneshot::Sender<Result<(), Arc<LogError>>> },
    LogBytes { done: oneshot::Sender<u64> },
    Stop,
}

/// Where a cut ended the heads.
#[derive(Debug)]
pub(super) struct CutPoint {
    pub(super) heads: Vec<Arc<Head>>,
    pub(super) epoch: Ulid,
    pub(super) through_seq: u64,
}

/// Why a command was not carried out.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum CommitError {
    #[error("the log does not take the write: {0}")]
    Log(#[source] Arc<LogError>),
    #[error("the process is stopping")]
    Stopped,
}

/// The way to the committing thread; clones share it.
#[derive(Debug, Clone)]
pub struct Commands(mpsc::Sender<Command>);

impl Commands {
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, CommitError> {
        let (done, answer) = oneshot::channel();
        self.0.send(command(done)).await.map_err(|_| CommitError::Stopped)?;
        answer.await.map_err(|_| CommitError::Stopped)
    }

    /// Makes a batch durable and readable.
    pub(super) async fn write(&self, batch: Batch) -> Result<(), CommitError> {
        self.ask(|done| Command::Write { batch, done }).await?.map_err(CommitError::Log)
    }

    /// Ends all heads at the entry written last.
    pub(super) async fn cut(&self) -> Result<CutPoint, CommitError> {
        self.ask(|done| Command::Cut { done }).await
    }

    /// Lets the log's entries go that every tenant's catalog covers.
    pub(super) async fn release(&self, epoch: Ulid, through_seq: u64) -> Result<(), CommitError> {
        let released = self.ask(|done| Command::Release { epoch, through_seq, done }).await?;
        released.map_err(CommitError::Log)
    }

    /// Waits until the committing thread has ended.
    pub async fn ended(&self) {
        self.0.closed().await;
    }

    /// Ends the committing thread after the commands that wait.
    pub async fn stop(&self) {
        let _ = self.0.send(Command::Stop).await;
    }

    /// Returns the bytes that the log takes on disk, once all earlier commands are done.
    pub(super) async fn log_bytes(&self) -> Result<u64, CommitError> {
        self.ask(|done| Command::LogBytes { done }).await
    }
}

/// Figures of the committing thread.
#[derive(Debug, Clone)]
pub struct CommitterMetrics {
    entries: Counter,
    samples: Counter,
    failures: Counter,
    commit_seconds: Histogram,
}

impl CommitterMetrics {
    /// Registers the figures.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        let buckets = exponential_buckets(0.000_25, 2.0, 16);
        Self {
            entries: metrics.register("log_entries", "Entries written to the log", Counter::default()),
            samples: metrics.register("log_samples", "Samples written to the log", Counter::default()),
            failures: metrics.register("log_failures", "Writes that the log refused", Counter::default()),
            commit_seconds: metrics.register(
                "log_commit_duration_seconds",
                "Time to write and fsync one log entry",
                Histogram::new(buckets),
            ),
        }
    }
}

/// Owns the log and applies durable entries to the heads, in log order.
#[derive(Debug)]
pub struct Committer {
    log: DiskLog,
    heads: Arc<Heads>,
    clock: Arc<dyn Clock>,
    metrics: CommitterMetrics,
}

struct Waiting {
    batch: Batch,
    done: oneshot::Sender<Result<(), Arc<LogError>>>,
}

impl Committer {
    /// Prepares the committing thread.
    #[must_use]
    pub fn new(log: DiskLog, heads: Arc<Heads>, clock: Arc<dyn Clock>, metrics: CommitterMetrics) -> Self {
        Self { log, heads, clock, metrics }
    }

    /// Starts the thread; it ends with [`Commands::stop`] or when every [`Commands`] is dropped.
    ///
    /// # Errors
    /// The operating system's refusal to start a thread.
    pub fn start(mut self) -> std::io::Result<(Commands, std::thread::JoinHandle<()>)> {
        let (sender, mut receiver) = mpsc::channel(QUEUE_LENGTH);
        let thread = std::thread::Builder::new().name("committer".to_owned());
        let handle = thread.spawn(move || {
            let mut next = None;
            while let Some(command) = next.take().or_else(|| receiver.blocking_recv()) {
                if matches!(command, Command::Stop) {
                    return;
                }
                next = self.carry_out(command, &mut receiver);
            }
        })?;
        Ok((Commands(sender), handle))
    }

    /// Carries out a command; returns the command that ended the gathering of an entry, if one did.
    fn carry_out(&mut self, command: Command, queue: &mut mpsc::Receiver<Command>) -> Option<Command> {
        match command {
            Command::Write { batch, done } => {
                let mut count = batch.samples();
                let mut waiting = vec![Waiting { batch, done }];
                let mut next = None;
                while count < ENTRY_SAMPLES_MAX && next.is_none() {
                    match queue.try_recv() {
                        Ok(Command::Write { batch, done }) => {
                            count += batch.samples();
                            waiting.push(Waiting { batch, done });
                        }
                        Ok(other) => next = Some(other),
                        Err(_) => break,
                    }
                }
                self.commit(waiting);
                next
            }
            Command::Cut { done } => {
                let _ = done.send(self.cut());
                None
            }
            Command::Release { epoch, through_seq, done } => {
                let _ = done.send(self.log.release(epoch, through_seq).map(|_| ()).map_err(Arc::new));
                None
            }
            Command::Stop => Some(Command::Stop),
            Command::LogBytes { done } => {
                let _ = done.send(self.log.bytes());
                None
            }
        }
    }

    /// Writes what waits as one entry, then appends it and answers.
    fn commit(&mut self, mut waiting: Vec<Waiting>) {
        for w in waiting.iter_mut().filter(|w| w.batch.head.is_frozen()) {
            w.batch.rebase(&self.heads);
        }
        let started_ms = self.clock.monotonic_ms();
        let result = self.append(&waiting);
        self.metrics.commit_seconds.observe((self.clock.monotonic_ms() - started_ms) as f64 / 1000.0);
        match result {
            Ok(()) => {
                crash_point("commit.after_log");
                for Waiting { batch, done } in waiting {
                    batch.append_to_head();
                    let _ = done.send(Ok(()));
                }
            }
            Err(error) => {
                self.metrics.failures.inc();
                tracing::error!(error = error_chain(&error), "the log refused an entry, senders will retry");
                let error = Arc::new(error);
                for w in waiting {
                    let _ = w.done.send(Err(Arc::clone(&error)));
                }
            }
        }
    }

    fn append(&mut self, waiting: &[Waiting]) -> Result<(), LogError> {
        let label_of: Vec<_> = waiting.iter().map(|w| |number: u32| w.batch.head.labels(number)).collect();
        let writes: Vec<TenantWrite<'_>> =
            waiting.iter().zip(&label_of).map(|(w, labels)| w.batch.write(labels)).collect();
        self.log.append(&writes)?;
        self.metrics.entries.inc();
        self.metrics.samples.inc_by(waiting.iter().map(|w| w.batch.samples() as u64).sum());
        Ok(())
    }

    fn cut(&mut self) -> CutPoint {
        // A segment of its own per cut, so that whole files go once the cut is committed.
        self.log.start_segment();
        CutPoint { heads: self.heads.freeze(), epoch: self.log.epoch(), through_seq: self.log.last_seq() }
    }
}
