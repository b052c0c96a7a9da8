//! Scheduled jobs: which work runs when, what came of it, and the loop that starts it.
//!
//! **Vocabulary**: a *job* is one YAML file: a *kind* of work with *parameters* and a *schedule*. The schedule names
//! *slots*, instants at which the job should run; *jitter* moves a slot to when it is *due*. A *turn* is a slot, or
//! several missed ones taken together, about to be run. A *run* is a turn that was taken, with its *attempts*. The
//! *record* says what the last run came to and up to which slot all is *settled*.
//!
//! **Flow**
//! 1. [`read_jobs`] reads a directory and refuses it whole where one key of one file is wrong. What kinds there are,
//!    with their parameters, is told by [`JobKinds`]; the functions come from the modules that do the work.
//! 2. [`plan_turn`] decides from a job, its record and the wall clock what is next: pure, so that changes of daylight
//!    saving time, downtime and stepped clocks are tested as plain calls.
//! 3. [`Scheduler`] sleeps until a turn is due, or for half a minute so that a stepped clock is seen, and takes it.
//! 4. [`Runner`] holds the job's lock, runs its function with timeout and retries, writes the record and counts.
//!    `perennial jobs run` uses it without a scheduler.
//!
//! **Invariants**
//! - A slot is taken at most once: it is settled in the record before the function is called.
//! - Unless its job says `concurrency: allow`, a job runs once at a time, over all processes of a data directory.
//! - A function that fails, panics or hangs ends its own run, never the scheduler or another job.
//! - A job's name is a plain file name, so records cannot leave their directory.
//!
//! **Crash consistency**: a record is replaced by rename and synced. A crash between that and the end of the function
//! leaves a run without an end, which the next start calls interrupted; the slot is not run again. A stop that was
//! asked for gives the slot back to jobs with `missed_runs: run-once`. A record that cannot be read counts as none.
//!
//! What it does not do: know what a job's work is, distribute jobs over machines, keep a history of runs.

mod directory;
mod error;
mod instruments;
mod job;
mod kind;
mod plan;
mod record;
mod run;
mod schedule;
mod scheduler;
mod schema;
mod state;

#[cfg(test)]
mod tests;

pub use directory::read_jobs;
pub use error::JobError;
pub use job::{Concurrency, Job, MissedRuns, OnFailure, fuzz_job};
pub use kind::{JobFunction, JobKind, JobKinds, JobReport, JobWatch, Parameter, ParameterForm, Parameters};
pub use plan::{Turn, plan_turn};
pub use record::{JobRecord, Records, RunRecord, RunResult};
pub use run::{JobParts, Runner};
pub use schedule::Schedule;
pub use scheduler::Scheduler;
pub use state::JobState;
