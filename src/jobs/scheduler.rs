//! The loop that takes turns when they are due.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinSet};

use super::error::JobError;
use super::instruments::{MISSED, OVERLAPPED};
use super::job::{Concurrency, Job};
use super::kind::{JobFunction, JobKinds, JobWatch};
use super::plan::{Turn, plan_turn};
use super::record::{JobRecord, RunResult};
use super::run::{Runner, Stops};
use super::state::JobState;
use crate::model::{error_chain, format_time_ms};
use crate::runtime::Shutdown;

/// The longest sleep: a clock that is set is seen after this.
const NAP: Duration = Duration::from_secs(30);
/// How often a job with `concurrency: allow` runs at once.
const RUNS_MAX: usize = 4;

/// Runs jobs by their schedules.
#[derive(Debug)]
pub struct Scheduler {
    lanes: Vec<Lane>,
    runner: Arc<Runner>,
    nap: Duration,
}

/// One job with what is under way of it.
struct Lane {
    job: Arc<Job>,
    function: JobFunction,
    watch: Option<JobWatch>,
    /// As in its record, and further: turns that were not taken are settled as well.
    settled_ms: i64,
    seed: u64,
    runs: Vec<(Id, Shutdown)>,
    /// What starts when the run that it replaces has ended.
    waiting: Option<Turn>,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane")
            .field("job", &self.job.name)
            .field("runs", &self.runs.len())
            .finish_non_exhaustive()
    }
}

impl Scheduler {
    /// Reads the records of the jobs and starts those of new ones; nothing runs yet.
    ///
    /// # Errors
    /// A job whose kind has no function here, or a record that cannot be written.
    pub async fn start(jobs: Vec<Job>, kinds: &JobKinds, runner: Runner) -> Result<Self, JobError> {
        let mut lanes = Vec::new();
        for job in jobs {
            let function = kinds.function(&job)?;
            let watch = kinds.watch(&job.kind);
            lanes.push((job, function, watch));
        }
        let mut started = Vec::new();
        for (job, function, watch) in lanes {
            let record = open_record(&job, &runner).await?;
            let (settled_ms, seed) = (record.settled_ms, record.jitter_seed);
            let (job, runs) = (Arc::new(job), Vec::new());
            let lane = Lane { job, function, watch, settled_ms, seed, runs, waiting: None };
            lane.tell(record);
            started.push(lane);
        }
        Ok(Self { lanes: started, runner: Arc::new(runner), nap: NAP })
    }

    /// Sleeps no longer than this, so that a test's clock is seen soon.
    #[cfg(test)]
    pub(super) fn with_nap(self, nap: Duration) -> Self {
        Self { nap, ..self }
    }

    /// Takes turns until shutdown, then waits for the runs that are told to end.
    pub async fn run(mut self, shutdown: Shutdown) {
        let mut runs = JoinSet::new();
        while !shutdown.started() {
            let nap = self.take_turns(&mut runs, &shutdown);
            let mut ended = None;
            tokio::select! {
                () = shutdown.wait() => break,
                () = tokio::time::sleep(nap) => self.show_records().await,
                Some(run) = runs.join_next_with_id() => ended = Some(run),
            }
            // A job whose run has ended in the meantime is not running when its next turn is taken.
            while let Some(run) = ended.take().or_else(|| runs.try_join_next_with_id()) {
                let id = run.map_or_else(|panicked| panicked.id(), |(id, ())| id);
                self.forget(id, &mut runs, &shutdown);
            }
        }
        while runs.join_next().await.is_some() {}
    }

    /// Takes what is due and returns how long nothing else is.
    fn take_turns(&mut self, runs: &mut JoinSet<()>, shutdown: &Shutdown) -> Duration {
        let now_ms = self.runner.now_ms();
        let mut nap = self.nap;
        for lane in &mut self.lanes {
            let mut turn = plan_turn(&lane.job, lane.settled_ms, lane.seed, now_ms);
            if let Some(due) = turn.filter(|turn| turn.due_ms <= now_ms) {
                lane.leave_out_before(due, &self.runner);
                lane.settled_ms = due.settles_ms;
                lane.take(due, &self.runner, runs, shutdown);
                turn = plan_turn(&lane.job, lane.settled_ms, lane.seed, now_ms);
            }
            self.runner.instruments().due(&lane.job.name, turn.map(|turn| turn.due_ms));
            let Some(next) = turn else { continue };
            lane.leave_out_before(next, &self.runner);
            let wait_ms = u64::try_from(next.due_ms.saturating_sub(now_ms)).unwrap_or(0);
            nap = nap.min(Duration::from_millis(wait_ms));
        }
        nap
    }

    fn forget(&mut self, id: Id, runs: &mut JoinSet<()>, shutdown: &Shutdown) {
        for lane in &mut self.lanes {
            lane.runs.retain(|(run, _)| *run != id);
            if lane.runs.is_empty()
                && let Some(turn) = lane.waiting.take()
            {
                lane.spawn(turn, &self.runner, runs, shutdown);
            }
        }
    }

    /// A run that a person started shows in the metrics as well.
    async fn show_records(&self) {
        let names = self.lanes.iter().map(|lane| lane.job.name.clone()).collect();
        let records = match self.runner.show(names).await {
            Ok(records) => records,
            Err(error) => {
                tracing::error!(error = error_chain(&error), "cannot read the records of jobs");
                return;
            }
        };
        for (name, record) in records {
            if let Some(lane) = self.lanes.iter().find(|lane| lane.job.name == name) {
                lane.tell(record);
            }
        }
    }
}

impl Lane {
    fn tell(&self, record: JobRecord) {
        if let Some(watch) = &self.watch {
            watch(&self.job.parameters.with_state(JobState::new(record.state)));
        }
    }

    fn leave_out_before(&mut self, turn: Turn, runner: &Runner) {
        if !turn.leaves_out {
            return;
        }
        self.settled_ms = turn.slot_ms - 1;
        runner.instruments().count(&self.job.name, MISSED);
        tracing::warn!(
            job = %self.job.name,
            next_slot = format_time_ms(turn.slot_ms),
            "runs of a job were missed and are left out, as it says"
        );
    }

    /// Runs a turn that is due, or does what the job says where it is running.
    fn take(&mut self, turn: Turn, runner: &Arc<Runner>, runs: &mut JoinSet<()>, shutdown: &Shutdown) {
        match self.job.concurrency {
            _ if self.runs.is_empty() => self.spawn(turn, runner, runs, shutdown),
            Concurrency::Allow if self.runs.len() < RUNS_MAX => self.spawn(turn, runner, runs, shutdown),
            Concurrency::Replace => {
                self.runs.iter().for_each(|(_, replaced)| replaced.start());
                self.waiting = Some(turn);
            }
            Concurrency::Allow | Concurrency::Forbid => {
                runner.instruments().count(&self.job.name, OVERLAPPED);
                tracing::warn!(job = %self.job.name, "a job is due and still running, this turn is left out");
            }
        }
    }

    fn spawn(&mut self, turn: Turn, runner: &Arc<Runner>, runs: &mut JoinSet<()>, shutdown: &Shutdown) {
        let replaced = Shutdown::new();
        let stops = Stops { process: shutdown.clone(), replaced: replaced.clone() };
        let (job, function) = (Arc::clone(&self.job), Arc::clone(&self.function));
        let runner = Arc::clone(runner);
        // The record, the log and the metrics tell what came of it.
        let run = async move { drop(runner.run(&job, &function, Some(turn), &stops).await) };
        self.runs.push((runs.spawn(run).id(), replaced));
    }
}

/// Reads a job's record; a run without an end ended with its process, unless another one still has it.
async fn open_record(job: &Job, runner: &Runner) -> Result<JobRecord, JobError> {
    let abandoned = !runner.records().is_running(&job.name);
    runner
        .update(&job.name, move |record| {
            if let Some(run) = record.last_run.as_mut().filter(|run| abandoned && run.result.is_none()) {
                run.result = Some(RunResult::Interrupted);
            }
        })
        .await
}
