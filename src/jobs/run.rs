//! One run of a job: its lock, its attempts, its record.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};

use super::error::JobError;
use super::instruments::{Instruments, OVERLAPPED};
use super::job::{Job, MissedRuns};
use super::kind::{JobFunction, JobReport, Parameters};
use super::plan::Turn;
use super::record::{JobRecord, Records, RunLock, RunRecord, RunResult};
use super::state::JobState;
use crate::model::error_chain;
use crate::runtime::{Clock, Cpu, Metrics, Random, Shutdown};

/// How long a function that was told to end may take.
const STOP_GRACE: Duration = Duration::from_secs(10);
const BACKOFF_LAST_MS: i64 = 3_600_000;
/// Somebody who looks whether a job runs holds its lock for an instant.
const LOCK_ATTEMPTS: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
const MESSAGE_BYTES_MAX: usize = 4 << 10;
const DETAILS_BYTES_MAX: usize = 256 << 10;

/// What running jobs needs.
#[derive(Debug)]
pub struct JobParts<'a> {
    /// Where the records lie, in `jobs/`.
    pub data_dir: &'a Path,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Draws the seeds of jitter.
    pub random: Random,
    /// Writes the records.
    pub cpu: Cpu,
}

/// Runs jobs and keeps their records.
#[derive(Debug)]
pub struct Runner {
    records: Arc<Records>,
    clock: Arc<dyn Clock>,
    random: Random,
    cpu: Cpu,
    instruments: Instruments,
}

/// What can end a run before its time.
#[derive(Debug, Clone)]
pub(super) struct Stops {
    /// The process ends.
    pub(super) process: Shutdown,
    /// A later run of the same job takes its place.
    pub(super) replaced: Shutdown,
}

impl Stops {
    async fn wait(&self) {
        tokio::select! {
            () = self.process.wait() => {}
            () = self.replaced.wait() => {}
        }
    }
}

impl Runner {
    /// Makes a runner; nothing is read or written yet.
    #[must_use]
    pub fn new(parts: JobParts<'_>, metrics: &Metrics) -> Self {
        let JobParts { data_dir, clock, random, cpu } = parts;
        let records = Arc::new(Records::new(data_dir));
        Self { records, clock, random, cpu, instruments: Instruments::new(metrics) }
    }

    /// Runs a job now, beside its schedule, until it is done or told to stop.
    ///
    /// # Errors
    /// The failure of its last attempt, [`JobError::Running`] where it runs already, or that of its record.
    pub async fn run_now(
        &self,
        job: &Job,
        function: &JobFunction,
        stop: &Shutdown,
    ) -> Result<JobReport, JobError> {
        let stops = Stops { process: stop.clone(), replaced: Shutdown::new() };
        self.run(job, function, None, &stops).await
    }

    pub(super) async fn run(
        &self,
        job: &Job,
        function: &JobFunction,
        turn: Option<Turn>,
        stops: &Stops,
    ) -> Result<JobReport, JobError> {
        let began_ms = self.clock.monotonic_ms();
        let (mut run, state, _lock) = match self.begin(job, turn).await {
            Ok(begun) => begun,
            Err(error) => {
                self.tell_not_begun(job, &error);
                return Err(error);
            }
        };
        tracing::info!(job = %job.name, kind = %job.kind, "a job has begun");
        let parameters = job.parameters.with_state(state.clone());
        let outcome = self.attempts(job, (function, &parameters), &mut run.attempts, stops).await;
        let elapsed_ms = self.clock.monotonic_ms() - began_ms;
        run.ended_ms = Some(self.clock.now_ms());
        let result = describe(&mut run, &outcome);
        log_end(job, result, elapsed_ms, &run.message);
        self.instruments.ended(&job.name, result, elapsed_ms);
        let gives_back =
            result == RunResult::Stopped && stops.process.started() && job.missed_runs == MissedRuns::RunOnce;
        let written = self.update(&job.name, move |record| {
            if result == RunResult::Ok {
                record.last_success_ms = run.ended_ms;
            }
            if let (true, Some(turn)) = (gives_back, turn) {
                record.settled_ms = record.settled_ms.min(turn.slot_ms - 1);
            }
            record.last_run = Some(run);
            record.state.extend(state.numbers());
        });
        if let Err(error) = written.await {
            tracing::error!(job = %job.name, error = error_chain(&error), "cannot record what a job came to");
        }
        outcome
    }

    /// Takes the job's lock, settles its slot and reads what it remembers.
    async fn begin(&self, job: &Job, turn: Option<Turn>) -> Result<(RunRecord, JobState, RunLock), JobError> {
        let lock = self.lock(job).await?;
        let run = RunRecord {
            slot_ms: turn.map(|turn| turn.slot_ms),
            started_ms: self.clock.now_ms(),
            ended_ms: None,
            attempts: 0,
            result: None,
            message: String::new(),
            details: serde_json::Value::Null,
        };
        let begun = run.clone();
        let begin = move |record: &mut JobRecord| {
            record.last_run = Some(begun);
            record.settled_ms = turn.map_or(record.settled_ms, |turn| turn.settles_ms);
        };
        let record = self.update(&job.name, begin).await?;
        Ok((run, JobState::new(record.state), lock))
    }

    fn tell_not_begun(&self, job: &Job, error: &JobError) {
        let elsewhere = matches!(error, JobError::Running { .. });
        self.instruments.count(&job.name, if elsewhere { OVERLAPPED } else { RunResult::Failed.word() });
        tracing::error!(job = %job.name, error = error_chain(error), "a job has not begun");
    }

    async fn lock(&self, job: &Job) -> Result<RunLock, JobError> {
        for _ in 1..LOCK_ATTEMPTS {
            match self.records.lock(&job.name, job.concurrency) {
                Err(JobError::Running { .. }) => tokio::time::sleep(LOCK_PAUSE).await,
                taken => return taken,
            }
        }
        self.records.lock(&job.name, job.concurrency)
    }

    async fn attempts(
        &self,
        job: &Job,
        work: (&JobFunction, &Parameters),
        attempts: &mut u32,
        stops: &Stops,
    ) -> Result<JobReport, JobError> {
        let mut backoff_ms = job.on_failure.backoff_ms;
        loop {
            *attempts += 1;
            let error = match attempt(job, work, stops).await {
                Err(error) if error.may_pass() && *attempts <= job.on_failure.retries => error,
                settled => return settled,
            };
            tracing::warn!(
                job = %job.name,
                attempt = *attempts,
                error = error_chain(&error),
                retry_milliseconds = backoff_ms,
                "an attempt of a job failed, it is tried again"
            );
            tokio::select! {
                () = stops.wait() => return Err(JobError::Stopped),
                () = tokio::time::sleep(duration(backoff_ms)) => {}
            }
            backoff_ms = backoff_ms.saturating_mul(2).min(BACKOFF_LAST_MS);
        }
    }

    /// Changes a record and shows it in the metrics.
    pub(super) async fn update(
        &self,
        name: &str,
        change: impl FnOnce(&mut JobRecord) + Send + 'static,
    ) -> Result<JobRecord, JobError> {
        let (records, owned) = (Arc::clone(&self.records), name.to_owned());
        let (now_ms, seed) = (self.clock.now_ms(), self.random.next_u64());
        let first = move || JobRecord::first(now_ms, seed);
        let record = self.cpu.run(move || records.update(&owned, first, change)).await??;
        self.instruments.show(name, &record);
        Ok(record)
    }

    /// Shows records in the metrics, which other processes may have changed, and returns those that there are.
    pub(super) async fn show(&self, names: Vec<String>) -> Result<Vec<(String, JobRecord)>, JobError> {
        let (records, instruments) = (Arc::clone(&self.records), self.instruments.clone());
        let show = move || {
            let read = names.into_iter().filter_map(|name| Some((records.read(&name)?, name)));
            let read = read.map(|(record, name)| {
                instruments.show(&name, &record);
                (name, record)
            });
            read.collect()
        };
        Ok(self.cpu.run(show).await?)
    }

    pub(super) fn records(&self) -> &Records {
        &self.records
    }

    pub(super) fn instruments(&self) -> &Instruments {
        &self.instruments
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }
}

/// Runs the function once, in a task of its own so that a panic ends there.
async fn attempt(
    job: &Job,
    (function, parameters): (&JobFunction, &Parameters),
    stops: &Stops,
) -> Result<JobReport, JobError> {
    let (told, function, parameters) = (Shutdown::new(), Arc::clone(function), parameters.clone());
    let hears = told.clone();
    let mut task = AbortOnDrop(tokio::spawn(async move { function(parameters, hears).await }));
    let why = tokio::select! {
        done = &mut task.0 => return settled(done),
        () = stops.wait() => JobError::Stopped,
        () = tokio::time::sleep(duration(job.timeout_ms)) => JobError::TimedOut { timeout_ms: job.timeout_ms },
    };
    told.start();
    match tokio::time::timeout(STOP_GRACE, &mut task.0).await {
        // It was done in spite of everything, or panicked over it.
        Ok(done) => match settled(done) {
            Ok(report) => Ok(report),
            Err(JobError::Panicked) => Err(JobError::Panicked),
            Err(_) => Err(why),
        },
        Err(_) => {
            tracing::warn!(job = %job.name, "a job did not end when it was told to, it is dropped");
            Err(why)
        }
    }
}

fn settled(done: Result<Result<JobReport, JobError>, JoinError>) -> Result<JobReport, JobError> {
    done.unwrap_or(Err(JobError::Panicked))
}

/// Writes into the record what a run came to.
fn describe(run: &mut RunRecord, outcome: &Result<JobReport, JobError>) -> RunResult {
    match outcome {
        Ok(report) => {
            run.message = report.summary.clone();
            let bytes = serde_json::to_vec(&report.details).map_or(usize::MAX, |text| text.len());
            if bytes <= DETAILS_BYTES_MAX {
                run.details = report.details.clone();
            }
        }
        Err(error) => run.message = error_chain(error),
    }
    let result = RunResult::of(outcome);
    run.message.truncate(run.message.floor_char_boundary(MESSAGE_BYTES_MAX));
    run.result = Some(result);
    result
}

fn log_end(job: &Job, result: RunResult, milliseconds: i64, message: &str) {
    match result {
        RunResult::Ok => tracing::info!(job = %job.name, milliseconds, %message, "a job is done"),
        RunResult::Stopped => tracing::info!(job = %job.name, milliseconds, "a job was stopped"),
        _ => tracing::error!(job = %job.name, milliseconds, error = %message, "a job failed"),
    }
}

fn duration(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// A run that is dropped takes its function with it.
struct AbortOnDrop(JoinHandle<Result<JobReport, JobError>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
