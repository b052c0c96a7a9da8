use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::{function, job, kinds, ms, named_job};
use crate::jobs::{
    Job, JobError, JobFunction, JobKinds, JobParts, JobRecord, JobReport, Parameters, Records, RunResult,
    Runner, Scheduler,
};
use crate::model::ErrorKind;
use crate::runtime::{Clock, Cpu, ManualClock, Metrics, Shutdown, random_from_seed};

const NOON: &str = "2024-01-01T12:00:30Z";

/// A data directory, a clock and what runs jobs over them.
struct Rig {
    data: TempDir,
    clock: Arc<ManualClock>,
    metrics: Metrics,
    cpu: Cpu,
}

impl Rig {
    fn new() -> Self {
        let (data, clock) = (tempfile::tempdir().unwrap(), ManualClock::new(ms(NOON)));
        Self { data, clock, metrics: Metrics::new(), cpu: Cpu::start(1).unwrap() }
    }

    fn runner(&self) -> Runner {
        self.runner_in(self.data.path())
    }

    fn runner_in(&self, data_dir: &Path) -> Runner {
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        let parts = JobParts { data_dir, clock, random: random_from_seed(3), cpu: self.cpu.clone() };
        Runner::new(parts, &self.metrics)
    }

    fn record(&self, name: &str) -> JobRecord {
        Records::new(self.data.path()).read(name).unwrap()
    }

    async fn scheduler(&self, jobs: Vec<Job>, kinds: &JobKinds) -> Scheduler {
        let scheduler = Scheduler::start(jobs, kinds, self.runner()).await.unwrap();
        scheduler.with_nap(Duration::from_millis(2))
    }

    fn assert_metric(&self, line: &str) {
        let text = self.metrics.render();
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..5_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("it did not happen: {what}");
}

fn ok() -> Result<JobReport, JobError> {
    Ok(JobReport::new("all is well").with_details(serde_json::json!({"objects": 3})))
}

/// Counts its calls and does its work at once.
fn counting() -> (Arc<AtomicU32>, JobFunction) {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let count = function(move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { ok() }
    });
    (calls, count)
}

/// Counts its calls and works until it is told to end.
fn endless() -> (Arc<AtomicU32>, JobFunction) {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let work = function(move |_, shutdown: Shutdown| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            shutdown.wait().await;
            Err(JobError::failed(ErrorKind::Internal, "told to end"))
        }
    });
    (calls, work)
}

#[tokio::test]
async fn a_run_that_did_its_work_is_recorded_and_shown() {
    let rig = Rig::new();
    let report = rig.runner().run_now(&job("@daily", ""), &counting().1, &Shutdown::new()).await.unwrap();
    assert_eq!(report.summary, "all is well");
    let record = rig.record("test");
    let run = record.last_run.unwrap();
    assert_eq!((run.result, run.attempts, run.slot_ms), (Some(RunResult::Ok), 1, None));
    assert_eq!((run.message.as_str(), run.details["objects"].as_u64()), ("all is well", Some(3)));
    assert_eq!(record.last_success_ms, Some(ms(NOON)));
    rig.assert_metric("perennial_job_last_result{job=\"test\"} 1");
    rig.assert_metric("perennial_job_last_success_timestamp_seconds{job=\"test\"} 1704110430.0");
    rig.assert_metric("perennial_job_runs_total{job=\"test\",result=\"ok\"} 1");
    rig.assert_metric("perennial_job_duration_seconds_count{job=\"test\"} 1");
}

#[tokio::test]
async fn damage_is_not_tried_again_and_what_may_pass_is() {
    for (kind, attempts) in [(ErrorKind::Corrupt, 1), (ErrorKind::Unavailable, 3), (ErrorKind::Locked, 3)] {
        let rig = Rig::new();
        let fails = function(move |_, _| async move { Err(JobError::failed(kind, "planted")) });
        let job = job("@daily", "on_failure: {retries: 2, backoff: 1ms}");
        let error = rig.runner().run_now(&job, &fails, &Shutdown::new()).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, "planted"));
        let run = rig.record("test").last_run.unwrap();
        assert_eq!((run.result, run.attempts), (Some(RunResult::Failed), attempts));
        rig.assert_metric("perennial_job_last_result{job=\"test\"} 0");
    }
}

#[tokio::test]
async fn a_second_attempt_may_succeed() {
    let (rig, calls) = (Rig::new(), AtomicU32::new(0));
    let calls = Arc::new(calls);
    let flaky = function(move |_, _| {
        let first = calls.fetch_add(1, Ordering::SeqCst) == 0;
        async move { if first { Err(JobError::failed(ErrorKind::Overloaded, "busy")) } else { ok() } }
    });
    let job = job("@daily", "on_failure: {retries: 1, backoff: 1ms}");
    rig.runner().run_now(&job, &flaky, &Shutdown::new()).await.unwrap();
    assert_eq!(rig.record("test").last_run.unwrap().attempts, 2);
}

#[tokio::test]
async fn a_run_ends_at_its_timeout_even_if_it_does_not_listen() {
    let rig = Rig::new();
    let slow = job("@daily", "timeout: 20ms");
    let error = rig.runner().run_now(&slow, &endless().1, &Shutdown::new()).await.unwrap_err();
    assert!(matches!(error, JobError::TimedOut { timeout_ms: 20 }), "{error}");
    assert_eq!(rig.record("test").last_run.unwrap().result, Some(RunResult::TimedOut));
    rig.assert_metric("perennial_job_runs_total{job=\"test\",result=\"timed-out\"} 1");
}

#[tokio::test]
async fn a_panic_is_a_failed_run() {
    let rig = Rig::new();
    let panics = function(|_, _| async { panic!("planted") });
    let error = rig.runner().run_now(&job("@daily", ""), &panics, &Shutdown::new()).await.unwrap_err();
    assert!(matches!(error, JobError::Panicked), "{error}");
    let at_once: JobFunction = Arc::new(|_, _| panic!("planted, before there is a future"));
    let error = rig.runner().run_now(&job("@daily", ""), &at_once, &Shutdown::new()).await.unwrap_err();
    assert!(matches!(error, JobError::Panicked), "{error}");
    assert_eq!(rig.record("test").last_run.unwrap().result, Some(RunResult::Failed));
}

#[tokio::test]
async fn a_job_runs_once_at_a_time_unless_it_may_run_twice() {
    let rig = Rig::new();
    let (stop, (calls, work)) = (Shutdown::new(), endless());
    let (forbid, first, told) = (job("@daily", ""), Arc::new(rig.runner()), stop.clone());
    let held = tokio::spawn({
        let (job, work, runner) = (forbid.clone(), Arc::clone(&work), Arc::clone(&first));
        async move { runner.run_now(&job, &work, &told).await }
    });
    until("the first runs", || calls.load(Ordering::SeqCst) == 1).await;
    assert!(Records::new(rig.data.path()).is_running("test"));
    // Another runner over the same directory is as another process.
    let error = rig.runner().run_now(&forbid, &work, &Shutdown::new()).await.unwrap_err();
    assert_eq!((error.kind(), error.kind().exit_code()), (ErrorKind::Locked, 4), "{error}");
    stop.start();
    assert!(matches!(held.await.unwrap(), Err(JobError::Stopped)));
    assert!(!Records::new(rig.data.path()).is_running("test"));
}

#[tokio::test]
async fn the_scheduler_takes_each_slot_once_and_outlives_panics() {
    let rig = Rig::new();
    let (calls, count) = counting();
    let kinds = kinds().provide("idle", count).provide("nap", function(|_, _| async { panic!("planted") }));
    let panicking = crate::jobs::job::parse_job(
        "p.yaml",
        "name: panicking\nkind: nap\nschedule: '* * * * *'\nparameters: {for: 1m}",
        &kinds,
    )
    .unwrap();
    let jobs = vec![named_job("test", "* * * * *", ""), panicking];
    let (scheduler, shutdown) = (rig.scheduler(jobs, &kinds).await, Shutdown::new());
    let running = tokio::spawn(scheduler.run(shutdown.clone()));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(calls.load(Ordering::SeqCst), 0, "nothing is due");
    rig.assert_metric("perennial_job_next_run_timestamp_seconds{job=\"test\"} 1704110460.0");
    rig.assert_metric("perennial_job_last_success_timestamp_seconds{job=\"test\"} 0.0");
    for minute in 1..=3u32 {
        rig.clock.advance_ms(60_000);
        until("it is run", || calls.load(Ordering::SeqCst) == minute).await;
        let settled_ms = ms("2024-01-01T12:00:00Z") + i64::from(minute) * 60_000;
        until("it is recorded", || {
            let record = rig.record("test");
            let ended = !Records::new(rig.data.path()).is_running("test");
            ended
                && record.settled_ms == settled_ms
                && record.last_run.is_some_and(|run| run.result.is_some())
        })
        .await;
        let failed = || rig.record("panicking").last_run.and_then(|run| run.result);
        until("it panics", || failed() == Some(RunResult::Failed)).await;
    }
    rig.clock.advance_ms(-50_000);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(calls.load(Ordering::SeqCst), 3, "a clock set back runs nothing twice");
    shutdown.start();
    running.await.unwrap();
}

#[tokio::test]
async fn a_job_that_is_due_while_it_runs_is_left_out_or_replaces_itself_or_runs_twice() {
    for (concurrency, second) in [("forbid", 1), ("replace", 2), ("allow", 2)] {
        let rig = Rig::new();
        let (calls, work) = endless();
        let kinds = kinds().provide("idle", work);
        let jobs = vec![job("* * * * *", &format!("concurrency: {concurrency}"))];
        let (scheduler, shutdown) = (rig.scheduler(jobs, &kinds).await, Shutdown::new());
        let running = tokio::spawn(scheduler.run(shutdown.clone()));
        rig.clock.advance_ms(60_000);
        until("the first runs", || calls.load(Ordering::SeqCst) == 1).await;
        rig.clock.advance_ms(60_000);
        until(concurrency, || {
            let left_out = "perennial_job_runs_total{job=\"test\",result=\"overlapped\"} 1";
            calls.load(Ordering::SeqCst) == second
                && (concurrency != "forbid" || rig.metrics.render().contains(left_out))
        })
        .await;
        shutdown.start();
        running.await.unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), second);
    }
}

#[tokio::test]
async fn a_stop_gives_the_slot_back_and_a_crash_does_not() {
    let rig = Rig::new();
    let (calls, work) = endless();
    let kinds = kinds().provide("idle", work);
    let jobs = || vec![job("* * * * *", "missed_runs: run-once")];
    let (scheduler, shutdown) = (rig.scheduler(jobs(), &kinds).await, Shutdown::new());
    let running = tokio::spawn(scheduler.run(shutdown.clone()));
    rig.clock.advance_ms(60_000);
    until("it runs", || calls.load(Ordering::SeqCst) == 1).await;
    shutdown.start();
    running.await.unwrap();
    let record = rig.record("test");
    assert_eq!(record.last_run.unwrap().result, Some(RunResult::Stopped));

    rig.clock.advance_ms(10 * 60_000);
    let (scheduler, shutdown) = (rig.scheduler(jobs(), &kinds).await, Shutdown::new());
    let crashing = tokio::spawn(scheduler.run(shutdown));
    until("it runs again after the stop", || calls.load(Ordering::SeqCst) == 2).await;
    crashing.abort();
    let _ = crashing.await;
    until("the run is gone", || !Records::new(rig.data.path()).is_running("test")).await;

    let (scheduler, shutdown) = (rig.scheduler(jobs(), &kinds).await, Shutdown::new());
    assert_eq!(rig.record("test").last_run.unwrap().result, Some(RunResult::Interrupted));
    let running = tokio::spawn(scheduler.run(shutdown.clone()));
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(calls.load(Ordering::SeqCst), 2, "a job that ends its process is not started over and over");
    shutdown.start();
    running.await.unwrap();
}

#[tokio::test]
async fn missed_runs_are_counted_once() {
    let rig = Rig::new();
    let (calls, count) = counting();
    let kinds = kinds().provide("idle", count);
    let jobs = vec![job("15 * * * *", "missed_runs: skip")];
    let (scheduler, shutdown) = (rig.scheduler(jobs, &kinds).await, Shutdown::new());
    let running = tokio::spawn(scheduler.run(shutdown.clone()));
    rig.clock.advance_ms(5 * 3_600_000);
    let counted = "perennial_job_runs_total{job=\"test\",result=\"missed\"} 1";
    until("it is counted", || rig.metrics.render().contains(counted)).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    rig.assert_metric(counted);
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    shutdown.start();
    running.await.unwrap();
}

#[tokio::test]
async fn a_job_without_a_function_is_refused_before_anything_starts() {
    let rig = Rig::new();
    let kinds = kinds().provide("nap", counting().1);
    let error = Scheduler::start(vec![job("@daily", "")], &kinds, rig.runner()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        error.to_string().contains("test.yaml") && error.to_string().contains("those that do: nap"),
        "{error}"
    );
    assert!(!rig.data.path().join("jobs").exists());
}

#[tokio::test]
async fn a_damaged_record_begins_anew_and_a_disk_that_refuses_is_a_failure() {
    let rig = Rig::new();
    let dir = rig.data.path().join("jobs");
    fs::create_dir(&dir).unwrap();
    for text in ["", "{}", "{\"format\":9,\"settled_ms\":1,\"jitter_seed\":1}", "\u{0}\u{0}"] {
        fs::write(dir.join("test.json"), text).unwrap();
        assert_eq!(Records::new(rig.data.path()).read("test"), None, "{text:?}");
    }
    rig.runner().run_now(&job("@daily", ""), &counting().1, &Shutdown::new()).await.unwrap();
    assert_eq!(rig.record("test").last_run.unwrap().result, Some(RunResult::Ok));

    let file = rig.data.path().join("file");
    fs::write(&file, "").unwrap();
    let (calls, count) = counting();
    let error = rig.runner_in(&file).run_now(&job("@daily", ""), &count, &Shutdown::new()).await.unwrap_err();
    assert_eq!((error.kind(), calls.load(Ordering::SeqCst)), (ErrorKind::Unavailable, 0), "{error}");
}

#[tokio::test]
async fn long_reports_do_not_bloat_the_record() {
    let rig = Rig::new();
    let talks = function(|_, _| async {
        let details = serde_json::Value::String("x".repeat(300 << 10));
        Ok(JobReport::new("ä".repeat(5_000)).with_details(details))
    });
    rig.runner().run_now(&job("@daily", ""), &talks, &Shutdown::new()).await.unwrap();
    let run = rig.record("test").last_run.unwrap();
    assert_eq!((run.message.len(), run.details), (4_096, serde_json::Value::Null));
}

#[tokio::test]
async fn what_a_job_remembers_is_kept_whatever_its_run_comes_to_and_told_to_watchers() {
    let rig = Rig::new();
    let job = job("0 0 1 1 *", "");
    let count = function(|parameters, _| {
        let state = parameters.state().clone();
        async move {
            let runs = state.number("runs").unwrap_or(0) + 1;
            state.set("runs", runs);
            if runs == 2 { Err(JobError::failed(ErrorKind::Corrupt, "damaged")) } else { ok() }
        }
    });
    for runs in 1..4 {
        let outcome = rig.runner().run_now(&job, &count, &Shutdown::new()).await;
        assert_eq!(outcome.is_err(), runs == 2);
        assert_eq!(rig.record("test").state.get("runs"), Some(&runs));
    }
    let told = Arc::new(AtomicU32::new(0));
    let watching = Arc::clone(&told);
    let kinds = kinds().provide("idle", count).watched(
        "idle",
        Arc::new(move |parameters: &Parameters| {
            let runs = parameters.state().number("runs").unwrap_or(0);
            watching.store(u32::try_from(runs).unwrap(), Ordering::SeqCst);
        }),
    );
    let scheduler = rig.scheduler(vec![job.clone()], &kinds).await;
    assert_eq!(told.load(Ordering::SeqCst), 3, "at the start");
    let (shutdown, runner) = (Shutdown::new(), rig.runner());
    let running = tokio::spawn(scheduler.run(shutdown.clone()));
    let count = kinds.function(&job).unwrap();
    runner.run_now(&job, &count, &Shutdown::new()).await.unwrap();
    until("a run of another process is told", || told.load(Ordering::SeqCst) == 4).await;
    shutdown.start();
    running.await.unwrap();
}
