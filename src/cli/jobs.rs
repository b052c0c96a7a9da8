//! `perennial jobs`, and the scheduler of the long-running roles.

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::archive_upkeep::{Upkeep, UpkeepMetrics};
use super::compose::Base;
use super::encryption::EncryptionArgs;
use super::flags::{CommonArgs, Output};
use super::lock::LockArgs;
use super::{Failure, archive_upkeep, job_kinds, print_line};
use crate::envelope::Envelope;
use crate::jobs::{
    Job, JobError, JobKinds, JobParts, JobRecord, JobReport, Records, RunResult, Runner, Scheduler,
    plan_turn, read_jobs,
};
use crate::model::{ErrorKind, error_chain, format_duration_ms, format_time_ms};
use crate::runtime::{Clock, Shutdown, SystemClock};

/// Flag of the roles that run jobs.
#[derive(Debug, Args)]
pub(super) struct JobsArgs {
    /// Directory of job files, one YAML each, which this process runs by their schedules. Default: no jobs.
    #[arg(long = "jobs.dir", id = "jobs_dir", value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl JobsArgs {
    /// Reads and checks all jobs; none where no directory is named.
    pub(super) fn read(&self) -> Result<Vec<Job>, Failure> {
        match &self.dir {
            Some(dir) => Ok(read_jobs(dir, &job_kinds::declared())?),
            None => Ok(Vec::new()),
        }
    }
}

/// Prepares the scheduler of a role. A job that the role cannot run is refused.
pub(super) async fn scheduler(
    base: &Base,
    common: &CommonArgs,
    jobs: Vec<Job>,
    kinds: &JobKinds,
) -> Result<Scheduler, Failure> {
    let parts = JobParts {
        data_dir: &common.data_dir,
        clock: Arc::clone(&base.clock),
        random: base.random.clone(),
        cpu: base.cpu.clone(),
    };
    Ok(Scheduler::start(jobs, kinds, Runner::new(parts, &base.metrics)).await?)
}

/// Prepares the scheduler of a role that serves samples: upkeep of archives that are neither encrypted nor locked, as it
/// has no keys.
pub(super) async fn role_scheduler(
    base: &Base,
    common: &CommonArgs,
    jobs: Vec<Job>,
) -> Result<Scheduler, Failure> {
    let upkeep = Upkeep::new(base, base.bucket.clone(), Envelope::none());
    let metrics = UpkeepMetrics::registered(&base.metrics);
    scheduler(base, common, jobs, &archive_upkeep::provide(job_kinds::declared(), &upkeep, None, &metrics))
        .await
}

/// Subcommands of `jobs`.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Example:\n  perennial jobs ls --jobs.dir /etc/perennial/jobs --data-dir /var/lib/perennial"
)]
pub(super) enum JobsCommand {
    /// Lists the jobs with their last result and next run.
    #[command(
        after_help = "Examples:\n  perennial jobs ls --jobs.dir /etc/perennial/jobs --data-dir /var/lib/perennial\n  \
perennial jobs ls --output json"
    )]
    Ls(LsArgs),
    /// Runs one job now, in the foreground. The exit code is that of its failure.
    #[command(
        after_help = "Example:\n  perennial jobs run archive-verify-l1 --jobs.dir /etc/perennial/jobs \\\n    \
--data-dir /var/lib/perennial --objstore.config-file bucket.yml"
    )]
    Run(RunArgs),
}

/// Flags of `jobs ls`.
#[derive(Debug, Args)]
pub(super) struct LsArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    from: FromArgs,
}

/// Flags of `jobs run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The job's name.
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    encryption: EncryptionArgs,
    #[command(flatten)]
    lock: LockArgs,
    #[command(flatten)]
    from: FromArgs,
}

#[derive(Debug, Args)]
struct FromArgs {
    /// Directory of job files, one YAML each.
    #[arg(long = "jobs.dir", id = "jobs_dir", value_name = "DIR", default_value = "./jobs")]
    dir: PathBuf,
    /// How to print.
    #[arg(long, default_value = "table", value_enum)]
    output: Output,
}

pub(super) async fn run(command: JobsCommand) -> Result<(), Failure> {
    let kinds = job_kinds::declared();
    match command {
        JobsCommand::Ls(args) => {
            args.common.start_logging();
            list(&args, &kinds)
        }
        JobsCommand::Run(args) => {
            args.common.start_logging();
            run_one(&args, kinds).await
        }
    }
}

/// A job with what is known of it.
struct Listed {
    job: Job,
    record: Option<JobRecord>,
    running: bool,
    next_run_ms: Option<i64>,
}

fn list(args: &LsArgs, kinds: &JobKinds) -> Result<(), Failure> {
    let jobs = read_jobs(&args.from.dir, kinds)?;
    let records = Records::new(&args.common.data_dir);
    let now_ms = SystemClock::new().now_ms();
    let listed = jobs.into_iter().map(|job| {
        let record = records.read(&job.name);
        let next_run_ms = match &record {
            Some(known) => {
                plan_turn(&job, known.settled_ms, known.jitter_seed, now_ms).map(|turn| turn.due_ms)
            }
            // The jitter of a job that no scheduler has seen is not decided.
            None => job.schedule.next_after(now_ms),
        };
        Listed { running: records.is_running(&job.name), job, record, next_run_ms }
    });
    let listed: Vec<Listed> = listed.collect();
    print_line(match args.from.output {
        Output::Json => format!("{:#}", serde_json::Value::from_iter(listed.iter().map(as_json))),
        Output::Table => table(&listed),
    });
    Ok(())
}

fn as_json(listed: &Listed) -> serde_json::Value {
    let Listed { job, record, running, next_run_ms } = listed;
    json!({
        "name": job.name,
        "kind": job.kind,
        "file": job.file,
        "schedule": job.schedule.expression(),
        "time_zone": job.schedule.time_zone().name(),
        "jitter_ms": job.jitter_ms,
        "missed_runs": job.missed_runs,
        "concurrency": job.concurrency,
        "timeout_ms": job.timeout_ms,
        "retries": job.on_failure.retries,
        "backoff_ms": job.on_failure.backoff_ms,
        "parameters": job.parameters.iter().collect::<std::collections::BTreeMap<_, _>>(),
        "running": running,
        "last_run": record.as_ref().and_then(|record| record.last_run.as_ref()),
        "last_success_ms": record.as_ref().and_then(|record| record.last_success_ms),
        "next_run_ms": next_run_ms,
    })
}

fn table(listed: &[Listed]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["NAME", "KIND", "SCHEDULE", "TIME ZONE", "LAST RUN", "RESULT", "TOOK", "NEXT RUN"]);
    for Listed { job, record, running, next_run_ms } in listed {
        let last = record.as_ref().and_then(|record| record.last_run.as_ref());
        let result = match last.and_then(|run| run.result) {
            _ if *running => "running",
            Some(result) => result.word(),
            None if last.is_some() => "interrupted",
            None => "-",
        };
        let took_ms = last.and_then(|run| Some(run.ended_ms?.saturating_sub(run.started_ms)));
        let time = |ms: Option<i64>| ms.map_or_else(|| "-".to_owned(), format_time_ms);
        table.add_row([
            job.name.clone(),
            job.kind.clone(),
            job.schedule.expression().to_owned(),
            job.schedule.time_zone().name().to_owned(),
            last.map_or_else(|| "never".to_owned(), |run| format_time_ms(run.started_ms)),
            result.to_owned(),
            took_ms.map_or_else(|| "-".to_owned(), format_duration_ms),
            time(*next_run_ms),
        ]);
    }
    let failures = listed.iter().filter_map(|listed| {
        let run = listed.record.as_ref()?.last_run.as_ref()?;
        let failed = run.result.is_some_and(|result| result != RunResult::Ok);
        (failed && !run.message.is_empty()).then(|| format!("\n{}: {}", listed.job.name, run.message))
    });
    format!("{table}\n{} jobs{}", listed.len(), failures.collect::<String>())
}

async fn run_one(args: &RunArgs, kinds: JobKinds) -> Result<(), Failure> {
    let mut jobs = read_jobs(&args.from.dir, &kinds)?;
    let at = jobs.iter().position(|job| job.name == args.name).ok_or_else(|| JobError::UnknownJob {
        name: args.name.clone(),
        known: jobs.iter().map(|job| job.name.clone()).collect(),
    })?;
    let job = jobs.swap_remove(at);
    let base = Base::inspect(&args.common).await?;
    let bucket = args.lock.apply(base.bucket.clone(), &base.clock).await?;
    let upkeep = Upkeep::new(&base, bucket, args.encryption.reading()?);
    let metrics = UpkeepMetrics::default();
    let kinds = archive_upkeep::provide(kinds, &upkeep, Some(args.lock.mode.of()), &metrics);
    let function = kinds.function(&job)?;
    let clock = Arc::clone(&base.clock);
    let parts = JobParts {
        data_dir: &args.common.data_dir,
        clock: Arc::clone(&clock),
        random: base.random.clone(),
        cpu: base.cpu.clone(),
    };
    let runner = Runner::new(parts, &base.metrics);
    let stop = Shutdown::new();
    stop_on_signal(&stop)?;
    let began_ms = clock.monotonic_ms();
    let spinner = spinner(&job.name, args.from.output);
    let outcome = runner.run_now(&job, &function, &stop).await;
    spinner.finish_and_clear();
    print_line(outcome_text(&job, &outcome, clock.monotonic_ms() - began_ms, args.from.output));
    outcome
        .map(|_| ())
        .map_err(|error| Failure::new(error.kind(), format!("job {:?}: {}", job.name, error_chain(&error))))
}

fn outcome_text(job: &Job, outcome: &Result<JobReport, JobError>, took_ms: i64, output: Output) -> String {
    if output == Output::Json {
        let exit_code = outcome.as_ref().map_or_else(|error| error.kind().exit_code(), |_| 0);
        let (message, details) = match outcome {
            Ok(report) => (report.summary.clone(), report.details.clone()),
            Err(error) => (error_chain(error), serde_json::Value::Null),
        };
        let value = json!({
            "name": job.name, "kind": job.kind, "result": RunResult::of(outcome), "exit_code": exit_code,
            "duration_ms": took_ms, "message": message, "details": details,
        });
        return format!("{value:#}");
    }
    let took = format_duration_ms(took_ms);
    match outcome {
        Ok(report) => format!("{}: ok after {took}: {}", job.name, report.summary),
        Err(_) => format!("{}: {} after {took}", job.name, RunResult::of(outcome).word()),
    }
}

/// Shows that something goes on; only where somebody looks.
fn spinner(name: &str, output: Output) -> ProgressBar {
    if output == Output::Json {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
    let spinner = ProgressBar::new_spinner().with_message(format!("{name} runs"));
    spinner.enable_steady_tick(Duration::from_millis(200));
    match style {
        Ok(style) => spinner.with_style(style),
        Err(_) => spinner,
    }
}

/// Stops the job at SIGTERM or SIGINT; a second one ends the process at once.
fn stop_on_signal(stop: &Shutdown) -> Result<(), Failure> {
    let failed = |e| Failure::new(ErrorKind::Internal, format!("cannot wait for signals: {e}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let stop = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stop.started() {
                std::process::exit(i32::from(ErrorKind::Cancelled.exit_code()));
            }
            stop.start();
        }
    });
    Ok(())
}
