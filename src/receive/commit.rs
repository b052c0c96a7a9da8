//! The committer: log first, then the heads, then the answer.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};
use ulid::Ulid;

use super::batch::Batch;
use crate::head::{Head, Heads};
use crate::log::{Log, LogError, TenantWrite};
use crate::model::error_chain;
use crate::runtime::{Clock, Metrics, crash_point};

/// An entry stops gathering at this many samples, which bounds its memory and its replay.
const ENTRY_SAMPLES_MAX: usize = 400_000;

/// Requests that may wait for the committer.
const QUEUE_LENGTH: usize = 256;

/// How soon a heartbeat of the log that failed is tried again.
const HEARTBEAT_RETRY: Duration = Duration::from_secs(2);

/// What the committer is asked to do.
#[derive(Debug)]
enum Command {
    Write { batch: Batch, done: oneshot::Sender<Result<(), Arc<LogError>>> },
    Cut { done: oneshot::Sender<Vec<CutPoint>> },
    Release { epoch: Ulid, through_seq: u64, done: oneshot::Sender<Result<Released, Arc<LogError>>> },
    LogBytes { done: oneshot::Sender<u64> },
    Stop,
}

/// Entries in the bucket that may be deleted, if there are any.
pub(super) type Released = Option<RangeInclusive<u64>>;

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

/// The way to the committer; clones share it.
#[derive(Debug, Clone)]
pub struct Commands(mpsc::Sender<Command>);

/// What [`Commands`] sends.
#[derive(Debug)]
pub struct CommandQueue(mpsc::Receiver<Command>);

impl Commands {
    /// Makes a way to a committer and its other end, for [`Committer::run`].
    #[must_use]
    pub fn channel() -> (Self, CommandQueue) {
        let (sender, receiver) = mpsc::channel(QUEUE_LENGTH);
        (Self(sender), CommandQueue(receiver))
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, CommitError> {
        let (done, answer) = oneshot::channel();
        self.0.send(command(done)).await.map_err(|_| CommitError::Stopped)?;
        answer.await.map_err(|_| CommitError::Stopped)
    }

    /// Makes a batch durable and readable.
    pub(super) async fn write(&self, batch: Batch) -> Result<(), CommitError> {
        self.ask(|done| Command::Write { batch, done }).await?.map_err(CommitError::Log)
    }

    /// Ends all heads at the entry written last. Epochs of the log that ended since the last cut come first, each with
    /// the heads of its time.
    pub(super) async fn cut(&self) -> Result<Vec<CutPoint>, CommitError> {
        self.ask(|done| Command::Cut { done }).await
    }

    /// Lets the log's entries go that every tenant's catalog covers.
    pub(super) async fn release(&self, epoch: Ulid, through_seq: u64) -> Result<Released, CommitError> {
        let released = self.ask(|done| Command::Release { epoch, through_seq, done }).await?;
        released.map_err(CommitError::Log)
    }

    /// Waits until the committer has ended.
    pub async fn ended(&self) {
        self.0.closed().await;
    }

    /// Ends the committer after the commands that wait.
    pub async fn stop(&self) {
        let _ = self.0.send(Command::Stop).await;
    }

    /// Returns the bytes that the log takes on disk, once all earlier commands are done.
    pub(super) async fn log_bytes(&self) -> Result<u64, CommitError> {
        self.ask(|done| Command::LogBytes { done }).await
    }
}

/// Figures of the committer.
#[derive(Debug, Clone)]
pub struct CommitterMetrics {
    entries: Counter,
    samples: Counter,
    failures: Counter,
    epochs_ended: Counter,
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
            epochs_ended: metrics.register(
                "log_epochs_ended",
                "Epochs of the log in the bucket that ended under their writer: it was taken for dead, or stored nothing for long",
                Counter::default(),
            ),
            commit_seconds: metrics.register(
                "log_commit_duration_seconds",
                "Time to write and fsync one log entry, or to put it into the bucket",
                Histogram::new(buckets),
            ),
        }
    }
}

/// Owns the log and applies durable entries to the heads, in log order.
#[derive(Debug)]
pub struct Committer {
    log: Log,
    heads: Arc<Heads>,
    clock: Arc<dyn Clock>,
    metrics: CommitterMetrics,
    /// Heads of epochs that ended, for the next cut.
    ended: Vec<CutPoint>,
    /// When the last entry began: the next one gathers for the log's flush interval.
    entry_began: Option<Instant>,
    /// When the log's next heartbeat is due; at once before the first.
    beat_due: Option<Instant>,
}

struct Waiting {
    batch: Batch,
    done: oneshot::Sender<Result<(), Arc<LogError>>>,
}

impl Committer {
    /// Prepares the committer.
    #[must_use]
    pub fn new(log: Log, heads: Arc<Heads>, clock: Arc<dyn Clock>, metrics: CommitterMetrics) -> Self {
        Self { log, heads, clock, metrics, ended: Vec::new(), entry_began: None, beat_due: None }
    }

    /// Runs on a thread of its own until [`Commands::stop`], or until every [`Commands`] is dropped. The runtime that
    /// this is called in drives its timers and its requests; an fsync holds up nobody else.
    ///
    /// # Errors
    /// The operating system's refusal to start a thread.
    pub fn start(self) -> std::io::Result<(Commands, std::thread::JoinHandle<()>)> {
        let (commands, queue) = Commands::channel();
        let (thread, runtime) = (std::thread::Builder::new(), tokio::runtime::Handle::current());
        let thread = thread.name("committer".to_owned()).spawn(move || runtime.block_on(self.run(queue)))?;
        Ok((commands, thread))
    }

    /// Carries out commands in their order until [`Commands::stop`], or until every [`Commands`] is dropped.
    pub async fn run(mut self, mut queue: CommandQueue) {
        let mut next = None;
        loop {
            let command = match next.take() {
                Some(command) => Some(command),
                None => self.next_command(&mut queue).await,
            };
            match command {
                None => return,
                Some(Command::Stop) => break,
                Some(command) => next = self.carry_out(command, &mut queue).await,
            }
        }
        if let Err(error) = self.log.close().await {
            tracing::warn!(error = error_chain(&error), "the log is not closed, another start does it");
        }
    }

    /// Waits for a command, and keeps the log's heartbeat going.
    async fn next_command(&mut self, queue: &mut CommandQueue) -> Option<Command> {
        let Some(interval) = self.log.heartbeat() else { return queue.0.recv().await };
        loop {
            let due = *self.beat_due.get_or_insert_with(Instant::now);
            tokio::select! {
                biased;
                command = queue.0.recv() => return command,
                () = sleep_until(due) => {}
            }
            let beat = self.log.beat().await;
            self.beat_due = Some(Instant::now() + if beat.is_ok() { interval } else { HEARTBEAT_RETRY });
            if let Err(error) = beat {
                tracing::warn!(error = error_chain(&error), "the log's heartbeat failed, it is tried again");
                self.take_over_ended();
            }
        }
    }

    /// Ends the heads of epochs that the log gave up: a head must not hold samples of two, since what blocks cover is
    /// told by epoch.
    fn take_over_ended(&mut self) {
        for ended in self.log.take_ended() {
            self.metrics.epochs_ended.inc();
            let heads = self.heads.freeze();
            if !heads.is_empty() {
                self.ended.push(CutPoint { heads, epoch: ended.epoch, through_seq: ended.last_seq });
            }
        }
    }

    /// Carries out a command; returns the command that ended the gathering of an entry, if one did.
    async fn carry_out(&mut self, command: Command, queue: &mut CommandQueue) -> Option<Command> {
        match command {
            Command::Write { batch, done } => {
                let (waiting, next) = self.gather(Waiting { batch, done }, queue).await;
                self.commit(waiting).await;
                next
            }
            Command::Cut { done } => {
                let _ = done.send(self.cut());
                None
            }
            Command::Release { epoch, through_seq, done } => {
                let released = self.log.release(epoch, through_seq).await;
                self.take_over_ended();
                let _ = done.send(released.map_err(Arc::new));
                None
            }
            Command::Stop => Some(Command::Stop),
            Command::LogBytes { done } => {
                let _ = done.send(self.log.bytes());
                None
            }
        }
    }

    /// Takes the writes that wait behind the first one, and the command that ends them, if one does. Where the log has
    /// a flush interval it goes on until that is over, so that entries begin no closer than that.
    async fn gather(&mut self, first: Waiting, queue: &mut CommandQueue) -> (Vec<Waiting>, Option<Command>) {
        let mut count = first.batch.samples();
        let mut waiting = vec![first];
        let until = self.entry_began.map(|began| began + self.log.flush_interval());
        let mut ended_by = None;
        while count < ENTRY_SAMPLES_MAX && ended_by.is_none() {
            let next = match (queue.0.try_recv(), until) {
                (Ok(next), _) => Some(next),
                (Err(mpsc::error::TryRecvError::Empty), Some(until)) if until > Instant::now() => {
                    timeout_at(until, queue.0.recv()).await.ok().flatten()
                }
                _ => None,
            };
            match next {
                Some(Command::Write { batch, done }) => {
                    count += batch.samples();
                    waiting.push(Waiting { batch, done });
                }
                // Asked several times a second: it must not bring entries forward.
                Some(Command::LogBytes { done }) => drop(done.send(self.log.bytes())),
                Some(other) => ended_by = Some(other),
                None => break,
            }
        }
        (waiting, ended_by)
    }

    /// Writes what waits as one entry, then appends it and answers.
    async fn commit(&mut self, mut waiting: Vec<Waiting>) {
        for w in waiting.iter_mut().filter(|w| w.batch.head.is_frozen()) {
            w.batch.rebase(&self.heads);
        }
        let started_ms = self.clock.monotonic_ms();
        let began = Instant::now();
        (self.entry_began, self.beat_due) = (Some(began), self.log.heartbeat().map(|after| began + after));
        let result = self.append(&waiting).await;
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
                self.take_over_ended();
                self.metrics.failures.inc();
                tracing::error!(error = error_chain(&error), "the log refused an entry, senders will retry");
                let error = Arc::new(error);
                for w in waiting {
                    let _ = w.done.send(Err(Arc::clone(&error)));
                }
            }
        }
    }

    async fn append(&mut self, waiting: &[Waiting]) -> Result<(), LogError> {
        let appended = {
            let label_of: Vec<_> =
                waiting.iter().map(|w| |number: u32| w.batch.head.labels(number)).collect();
            let writes = waiting.iter().zip(&label_of).map(|(w, labels)| w.batch.write(labels));
            self.log.append(&writes.collect::<Vec<TenantWrite<'_>>>())
        };
        appended.await?;
        self.metrics.entries.inc();
        self.metrics.samples.inc_by(waiting.iter().map(|w| w.batch.samples() as u64).sum());
        Ok(())
    }

    fn cut(&mut self) -> Vec<CutPoint> {
        // A segment of its own per cut, so that whole files go once the cut is committed.
        self.log.start_segment();
        let (epoch, through_seq) = (self.log.epoch(), self.log.last_seq());
        let mut points = std::mem::take(&mut self.ended);
        points.push(CutPoint { heads: self.heads.freeze(), epoch, through_seq });
        points
    }
}
