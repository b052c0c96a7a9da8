//! Jobs by schedule beside a live archiver, what they tell, and what the shell is told of a job run by hand.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::restore::scene::check_known;
use crate::support::{
    Archiver, ArchiverSetup, Load, LocalBucket, SOURCE, TsdbOptions, TsdbServer, archive_folder, assert_code,
    files_below, installed, now_ms, path_text, program,
};

const LIMIT: Duration = Duration::from_secs(60);
const NAMES: [&str; 5] = ["drill", "retention", "roll-up", "verify-l1", "verify-l3"];

/// A directory of job files on schedules of seconds, and where their records and restores go.
struct Jobs {
    folder: TempDir,
    bucket: String,
}

impl Jobs {
    fn new(bucket: &LocalBucket) -> Self {
        let folder = tempfile::Builder::new().prefix("jobs-it-").tempdir().unwrap();
        let jobs = Self { folder, bucket: bucket.config() };
        for path in [jobs.dir(), jobs.restores()] {
            std::fs::create_dir(path).unwrap();
        }
        let prometheus = program("prometheus").unwrap();
        let drill = format!("{{to: {}, prometheus: {}}}", jobs.restores().display(), prometheus.display());
        let points = "hourly: 1, daily: 1, weekly: 0, monthly: 0, yearly: 0";
        // The delay has to be longer than an upload takes, and the window has whole ranges for a drill to compare.
        let retention = format!("{{window: 6s, {points}, delete_delay: 10s}}");
        for (name, kind, every_s, parameters) in [
            ("roll-up", "archive-roll-up", 2, "{source: \"*\"}"),
            ("verify-l1", "archive-verify", 2, "{level: L1}"),
            ("verify-l3", "archive-verify", 3, "{level: L3, source: lab}"),
            ("retention", "archive-retention", 3, &retention),
            ("drill", "archive-drill", 4, &drill),
        ] {
            let schedule = format!("\"*/{every_s} * * * * *\"");
            let text = format!(
                "name: {name}\nkind: {kind}\nschedule: {schedule}\ntimeout: 1m\nparameters: {parameters}\n"
            );
            std::fs::write(jobs.dir().join(format!("{name}.yaml")), text).unwrap();
        }
        jobs
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("jobs")
    }

    fn restores(&self) -> PathBuf {
        self.folder.path().join("restores")
    }

    fn flags(&self) -> [String; 2] {
        let data_dir = self.folder.path().join("data");
        [format!("--jobs.dir={}", self.dir().display()), format!("--data-dir={}", data_dir.display())]
    }

    /// Runs `perennial jobs …` as an operator would beside the archiver.
    fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_perennial"));
        command.arg("jobs").args(arguments).args(self.flags());
        command.arg(format!("--objstore.config={}", self.bucket)).args(["--output", "json"]);
        command.output().unwrap()
    }

    /// Returns what `jobs ls` says of each job, sorted by name.
    fn list(&self) -> Vec<Value> {
        let output = self.command(&["ls"]);
        assert_code(&output, 0, "jobs ls");
        let mut jobs: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        jobs.sort_by_key(|job| job["name"].to_string());
        assert_eq!(jobs.iter().map(|job| &job["name"]).collect::<Vec<_>>(), NAMES);
        jobs
    }

    /// Runs one by hand; returns what it came to.
    fn run(&self, name: &str, code: i32) -> Value {
        let output = self.command(&["run", name]);
        assert_code(&output, code, &format!("jobs run {name}"));
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&told["name"], &told["exit_code"]), (&Value::from(name), &Value::from(code)), "{told}");
        told
    }
}

/// Archives a moment without jobs: there is nothing to drill before the first base.
async fn first_base(server: &TsdbServer, bucket: &LocalBucket) {
    let archiver = ArchiverSetup::new(server, &bucket.config()).start().await;
    archiver.catch_up().await;
    archiver.stop();
}

/// Waits until each job has done its work, retention has marked and a drill has compared something.
async fn wait_for_all(jobs: &Jobs, archiver: &Archiver) {
    let (start, mut marked, mut compared) = (Instant::now(), false, false);
    loop {
        let listed = jobs.list();
        let counted = |job: &str, what: &str| {
            let job = listed.iter().find(|listed| listed["name"] == job).unwrap();
            job["last_run"]["details"][SOURCE][what].as_u64().is_some_and(|count| count > 0)
        };
        marked |= counted("retention", "marked_objects");
        compared |= counted("drill", "equal_samples");
        if marked && compared && listed.iter().all(|job| job["last_success_ms"].is_i64()) {
            return;
        }
        assert!(
            start.elapsed() < LIMIT,
            "marked: {marked}, compared: {compared}, {listed:#?}\n{}",
            archiver.process.log_tail()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// `/metrics` and `jobs ls` say the same, once no job ends in between.
async fn metrics_agree(jobs: &Jobs, archiver: &Archiver) {
    let mut differences = Vec::new();
    for _ in 0..50 {
        let before = jobs.list();
        differences.clear();
        for job in &before {
            let name = job["name"].as_str().unwrap();
            for (metric, expected_ms) in [
                ("last_success_timestamp_seconds", &job["last_success_ms"]),
                ("last_run_timestamp_seconds", &job["last_run"]["started_ms"]),
                ("next_run_timestamp_seconds", &job["next_run_ms"]),
            ] {
                let told = archiver.metric(&format!("perennial_job_{metric}{{job=\"{name}\"}}")).await;
                if (told - expected_ms.as_f64().unwrap() / 1e3).abs() > 0.002 {
                    differences.push(format!("{name}: {metric} {told}, jobs ls {expected_ms}"));
                }
            }
        }
        if differences.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("/metrics and jobs ls never agree: {differences:?}\n{}", archiver.process.log_tail());
}

/// What alerts look at.
async fn metrics_tell(archiver: &Archiver, since_ms: i64) {
    let mut recent = vec!["archive_drill_last_success_timestamp_seconds{source=\"lab\"}".to_owned()];
    recent.extend(["L1", "L2", "L3"].map(|level| {
        format!("archive_verify_last_success_timestamp_seconds{{source=\"lab\",level=\"{level}\"}}")
    }));
    for metric in recent {
        let at_s = archiver.metric(&format!("perennial_{metric}")).await;
        assert!(at_s >= since_ms as f64 / 1e3 && at_s <= now_ms() as f64 / 1e3, "{metric} {at_s}");
    }
    for metric in ["archive_verify_findings", "archive_objects_missing", "archive_drill_differences"] {
        assert_eq!(archiver.metric(&format!("perennial_{metric}")).await, 0.0, "{metric}");
    }
    for name in NAMES {
        for (metric, labels) in [("last_result", ""), ("runs_total", ",result=\"ok\"")] {
            let metric = format!("perennial_job_{metric}{{job=\"{name}\"{labels}}}");
            assert!(archiver.metric(&metric).await >= 1.0, "{metric}");
        }
        // The first drills have nothing to compare yet, which is no success.
        let failures: &[&str] = if name == "drill" { &[] } else { &["failed"] };
        for result in failures.iter().chain(&["timed-out", "stopped"]) {
            let metric = format!("perennial_job_runs_total{{job=\"{name}\",result=\"{result}\"}}");
            assert_eq!(archiver.metric(&metric).await, 0.0, "{metric}\n{}", archiver.process.log_tail());
        }
    }
}

/// Stops the archiver in the middle of a drill: neither its directory nor its server stays.
async fn stop_while_it_drills(jobs: &Jobs, archiver: Archiver) {
    let drills = || files_below(&jobs.restores()).iter().any(|path| path.ends_with("prometheus.log"));
    let start = Instant::now();
    while !drills() {
        assert!(start.elapsed() < LIMIT, "no drill begins");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    archiver.stop();
    let left: Vec<_> = std::fs::read_dir(jobs.restores()).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(left.is_empty(), "the drill left {left:?}");
    let restores = jobs.restores();
    let commands = std::fs::read_dir("/proc").unwrap().flatten();
    let commands = commands.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let runs = commands.map(|line| String::from_utf8_lossy(&line).into_owned());
    let running: Vec<_> = runs.filter(|line| line.contains(path_text(&restores))).collect();
    assert!(running.is_empty(), "the drill's server goes on: {running:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_run_by_their_schedules_and_tell_how_it_went() {
    let test = "jobs_run_by_their_schedules_and_tell_how_it_went";
    if !installed(test, &["prometheus", "promtool"]) {
        return;
    }
    let bucket = LocalBucket::new();
    let jobs = Jobs::new(&bucket);
    let mut server = TsdbServer::new(TsdbOptions { block_seconds: Some(5), ..TsdbOptions::default() });
    server.start().await;
    let flags = jobs.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(["--digest.range=2s"]).collect();
    let setup = ArchiverSetup::new(&server, &bucket.config()).flags(&flags);
    first_base(&server, &bucket).await;
    let since_ms = now_ms();
    let archiver = setup.start().await;
    let load = Load::start(server.remote_write(), 10, Duration::from_millis(200));
    wait_for_all(&jobs, &archiver).await;
    metrics_agree(&jobs, &archiver).await;
    metrics_tell(&archiver, since_ms).await;
    let book = load.stop().await;
    archiver.catch_up().await;
    let at_ms = now_ms();
    archiver.catch_up().await;
    stop_while_it_drills(&jobs, archiver).await;
    server.stop();

    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("data");
    setup.restore().as_of(at_ms, &to);
    check_known(&book, &TsdbServer::opened(&to).await.samples().await, at_ms, "after all jobs");
    by_hand(&jobs, bucket.path());
}

/// `jobs run`: exit code and record are those of what it found.
fn by_hand(jobs: &Jobs, bucket: &Path) {
    for name in NAMES {
        let told = jobs.run(name, 0);
        assert_eq!(told["result"], "ok", "{told}");
    }
    let root = archive_folder(bucket);
    let is_piece = |path: &&PathBuf| path.strip_prefix(&root).unwrap().to_string_lossy().contains("/wal/");
    let files = files_below(&root);
    let piece = files.iter().rfind(is_piece).expect("a piece of the WAL");
    let whole = std::fs::read(piece).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    std::fs::write(piece, flipped).unwrap();
    jobs.run("verify-l1", 0);
    let told = jobs.run("verify-l3", 5);
    assert_eq!(told["result"], "failed", "{told}");
    std::fs::remove_file(piece).unwrap();
    jobs.run("verify-l1", 5);
    for job in jobs.list().iter().filter(|job| job["kind"] == "archive-verify") {
        assert_eq!(job["last_run"]["result"], "failed", "{job}");
        assert!(job["last_run"]["message"].as_str().unwrap().contains("finding"), "{job}");
        assert!(job["last_success_ms"].is_i64(), "it had done its work before: {job}");
    }
    std::fs::write(piece, whole).unwrap();
    jobs.run("verify-l3", 0);
    assert_code(&jobs.command(&["run", "verify-l9"]), 3, "a job that there is not");
}
