//! A restore against a copy of the directory, and the plan's estimate against a run.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::ingest::send;
use super::load::{SERIES, STEPS, passes};
use super::support::{
    ArchiverSetup, LocalBucket, RestoreCommand, TsdbOptions, TsdbServer, assert_code, client, copy_folder,
    path_text,
};
use super::table::{Table, verdict};

const PASSES: usize = 5;
const ROUNDS: usize = 3;
const AGAINST_COPY_MAX: f64 = 0.5;
const ESTIMATE_OFF_MAX: f64 = 0.2;
const LONG_RUN: Duration = Duration::from_secs(40);

pub(crate) async fn measure(table: &mut Table) {
    let bucket = LocalBucket::new();
    let mut server = TsdbServer::new(TsdbOptions::default());
    server.start().await;
    let archiver = ArchiverSetup::new(&server, &bucket.config()).start().await;
    for pass in passes(PASSES) {
        send(&pass, &server.url("/api/v1/write")).await;
    }
    archiver.catch_up().await;
    archiver.stop();
    // As after a crash: what an orderly stop would write is not there.
    server.kill();
    std::fs::remove_dir_all(server.data_dir().join("perennial-spool")).ok();
    let restore = RestoreCommand::new(&bucket.config());
    against_copy(table, &restore, server.data_dir()).await;
    estimate(table, &restore);
}

/// Times both ways in turn; the least of each counts, as on a shared machine only the least is the program's own.
async fn against_copy(table: &mut Table, restore: &RestoreCommand, original: &Path) {
    let (mut copied, mut restored) = (f64::MAX, f64::MAX);
    for round in 0..ROUNDS {
        let folder = tempfile::tempdir().unwrap();
        let (copy, to) = (folder.path().join("copy"), folder.path().join("restored"));
        sync();
        let start = Instant::now();
        copy_folder(original, &copy);
        let held = ready(&copy).await;
        copied = copied.min(start.elapsed().as_secs_f64());
        std::fs::remove_dir_all(&copy).unwrap();
        sync();
        let start = Instant::now();
        restore.run(&["--as-of", "latest"], &to);
        let wrote = start.elapsed().as_secs_f64();
        let came = ready(&to).await;
        let took = start.elapsed().as_secs_f64();
        restored = restored.min(took);
        println!(
            "restore, round {round}: {wrote:.2} s, ready after {took:.2} s; copy and replay {copied:.2} s"
        );
        assert_eq!(came, held, "both hold the same");
    }
    let samples = SERIES * STEPS * PASSES;
    let figure = format!("{} M samples to a ready Prometheus", samples / 1_000_000);
    table.add(&figure, "cp -r and replay", format!("{copied:.1} s"), String::new());
    let ratio = restored / copied;
    let bar = verdict(ratio <= AGAINST_COPY_MAX, &format!("{ratio:.2} x the copy (0.5)"));
    table.add(&figure, "Perennial", format!("{restored:.1} s"), bar);
}

fn sync() {
    assert!(Command::new("sync").status().unwrap().success());
}

/// Starts a server on a directory; returns, once it is ready, how many series have samples.
async fn ready(data: &Path) -> String {
    let mut server = TsdbServer::on(data);
    server.start().await;
    let query = [("query", "count({__name__!=\"\"})")];
    let answer = client().get(server.url("/api/v1/query")).query(&query).send().await.unwrap();
    let answer: serde_json::Value = answer.json().await.unwrap();
    answer["data"]["result"][0]["value"][1].to_string()
}

/// Limits the rate so that a run takes longer than 30 s, and compares with the plan.
fn estimate(table: &mut Table, restore: &RestoreCommand) {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("data");
    let plan = restore.json("plan", &["--as-of", "latest", "--to", path_text(&to)]);
    let bytes = plan["fetch"]["stored_bytes"].as_f64().unwrap_or_else(|| panic!("stored_bytes: {plan}"));
    let limit = format!("{:.0}", bytes / LONG_RUN.as_secs_f64());
    let flags = ["--as-of", "latest", "--to", path_text(&to), "--limit", &limit];
    let plan = restore.json("plan", &flags);
    let estimated = plan["estimate"]["seconds"].as_f64().unwrap_or_else(|| panic!("seconds: {plan}"));
    let start = Instant::now();
    assert_code(&restore.output("run", &flags), 0, "a restore with a limit");
    let took = start.elapsed().as_secs_f64();
    let off = (estimated - took).abs() / took;
    table.add(
        &format!("plan's estimate of a run of {took:.0} s"),
        "Perennial",
        format!("{estimated:.0} s"),
        verdict(off <= ESTIMATE_OFF_MAX && took > 30.0, &format!("{:.0} % off (20)", off * 100.0)),
    );
}
