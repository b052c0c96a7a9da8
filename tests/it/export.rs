//! Blocks exported as a data directory that a real Prometheus opens.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::{
    Answer, Process, RemoteRead, STALE_BITS, SampleSet, Series, Setup, client, free_port, installed,
    label_pairs,
};

/// Three minutes before an even hour, so that blocks are cut off at both ends.
const START_MS: i64 = 1_704_095_820_000;
const STEP_MS: i64 = 15_000;
const STEPS: i64 = 20 * 240;
const TENANT: &str = "default-tenant";

/// Values whose bits a careless copy loses.
fn bits(series: i64, step: i64) -> u64 {
    match step % 97 {
        13 => STALE_BITS,
        14 => 0x7ff8_0000_0000_0001,
        15 => 0x7ff8_dead_beef_0000,
        16 => (-0.0f64).to_bits(),
        17 => f64::NEG_INFINITY.to_bits(),
        _ => (series as f64 * 1e6 + step as f64 * 0.1).to_bits(),
    }
}

fn written() -> Vec<Series> {
    let names = [
        [("__name__", "export_total"), ("job", "a"), ("zone", "1")],
        [("__name__", "export_total"), ("job", "b"), ("zone", "ö/\"2")],
        [("__name__", "export_other"), ("job", "a"), ("zone", "3")],
    ];
    let series = (0i64..).zip(names).map(|(number, labels)| Series {
        labels: label_pairs(&labels),
        // The third has samples in the first hours only.
        samples: (0..if number == 2 { 300 } else { STEPS })
            .map(|step| (START_MS + step * STEP_MS, bits(number, step)))
            .collect(),
    });
    series.collect()
}

fn set_of<'a>(series: impl IntoIterator<Item = &'a Series>) -> SampleSet {
    let mut set = SampleSet::default();
    series.into_iter().for_each(|s| set.append(s.labels.clone(), s.samples.iter().copied()));
    set
}

/// A bucket with what was written, in several blocks.
async fn stored() -> (Setup, Vec<Series>) {
    let setup = Setup::standalone().flags(&["--ingest.max-age=100y", "--label=cluster=\"eu\""]);
    let perennial = setup.start().await;
    let written = written();
    for part in 0..3 {
        let part_of = |s: &Series| Series {
            labels: s.labels.clone(),
            samples: s.samples.iter().skip(part * 2_000).take(2_000).copied().collect(),
        };
        let series: Vec<Series> = written.iter().map(part_of).filter(|s| !s.samples.is_empty()).collect();
        let ack = setup.remote_write().send(&series).await.unwrap();
        assert_eq!(ack.status, 204, "{}", ack.body);
        perennial.flush().await;
    }
    perennial.stop();
    (setup, written)
}

fn export(setup: &Setup, to: &Path, flags: &[&str]) -> serde_json::Value {
    let to = to.to_str().unwrap();
    let fixed = ["export", "tsdb", "--tenant", TENANT, "--output=json", "--to", to];
    serde_json::from_str(&setup.command(&[&fixed[..], flags].concat())).unwrap()
}

/// Starts Prometheus on a directory and reads all it has; it must not complain.
async fn read_back(directory: &Path, folder: &Path) -> SampleSet {
    let port = free_port();
    let (config, log) = (folder.join("prometheus.yml"), folder.join(format!("prometheus-{port}.log")));
    std::fs::write(&config, "{}\n").unwrap();
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", directory.display()))
        .arg("--storage.tsdb.retention.time=100y")
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let mut process = Process::start("prometheus", &mut command, &log);
    let ready = format!("http://127.0.0.1:{port}/-/ready");
    let answers = async || client().get(&ready).send().await.is_ok_and(|answer| answer.status().is_success());
    process.wait_ready(Duration::from_secs(60), answers).await;
    let read = RemoteRead::new(&format!("http://127.0.0.1:{port}/api/v1/read"));
    let set = read.all(0, i64::MAX / 2, Answer::Streamed).await;
    process.kill();
    let log = std::fs::read_to_string(log).unwrap();
    for line in log.lines() {
        let healthy = line.contains("Found healthy block") || !line.contains("epair");
        assert!(healthy && !line.contains("level=error"), "{line}");
    }
    set
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exported_directory_holds_every_bit_and_opens_in_a_real_prometheus() {
    let test = "an_exported_directory_holds_every_bit_and_opens_in_a_real_prometheus";
    if !installed(test, &["prometheus", "promtool"]) {
        return;
    }
    let (setup, written) = stored().await;
    let to = setup.folder().join("new/tsdb");
    let report = export(&setup, &to, &[]);
    let wanted = set_of(&written);
    assert_eq!(report["samples"].as_u64().unwrap(), wanted.samples() as u64);
    assert_eq!(report["blocks"].as_array().unwrap().len(), 11, "20 h from an odd hour on, in blocks of 2 h");
    let listed = Command::new("promtool").args(["tsdb", "list"]).arg(&to).output().unwrap();
    let listing = String::from_utf8_lossy(&listed.stdout);
    for block in report["blocks"].as_array().unwrap() {
        let (min_ms, max_ms) =
            (block["min_time_ms"].as_i64().unwrap(), block["max_time_ms"].as_i64().unwrap());
        assert_eq!(min_ms / 7_200_000, (max_ms - 1) / 7_200_000, "{block}");
        assert!(listing.contains(block["ulid"].as_str().unwrap()), "{listing}");
    }
    let dump = Command::new("promtool").args(["tsdb", "dump"]).arg(&to).output().unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let lines = dump.stdout.split(|b| *b == b'\n').filter(|line| !line.is_empty()).count();
    assert_eq!(lines, wanted.samples());
    wanted.assert_same(&read_back(&to, setup.folder()).await, "Prometheus on the exported directory");
}

#[tokio::test(flavor = "multi_thread")]
async fn selectors_times_block_lengths_and_external_labels_are_as_asked() {
    let test = "selectors_times_block_lengths_and_external_labels_are_as_asked";
    if !installed(test, &["prometheus"]) {
        return;
    }
    let (setup, written) = stored().await;
    let (from_ms, until_ms) = (START_MS + 7_000_000, START_MS + 40_000_000 - 40_000_000 % STEP_MS);
    let (from, until) = (from_ms.to_string(), until_ms.to_string());
    let times = ["--from", &from, "--until", &until, "--block-duration=24h"];
    let to = setup.folder().join("some");
    // The second selector finds the first series once more.
    let selectors = ["--match", "export_total{job=\"a\"}", "--match", "{zone=\"1\"}", "--match={job=\"b\"}"];
    let report = export(&setup, &to, &[&times[..], &selectors].concat());
    assert_eq!(report["blocks"].as_array().unwrap().len(), 1);
    let wanted = set_of(&written[..2]).within(from_ms, until_ms);
    wanted.assert_same(&read_back(&to, setup.folder()).await, "some of it");

    let to = setup.folder().join("labelled");
    export(&setup, &to, &["--external-labels", "--match", "export_other{cluster=\"eu\"}"]);
    let mut labelled = SampleSet::default();
    let labels = [("__name__", "export_other"), ("cluster", "eu"), ("job", "a"), ("zone", "3")];
    labelled.append(label_pairs(&labels), written[2].samples.iter().copied());
    labelled.assert_same(&read_back(&to, setup.folder()).await, "with external labels");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_cannot_be_makes_nothing() {
    let (setup, _) = stored().await;
    let to = setup.folder().join("refused");
    let refused = |flags: &[&str]| {
        let fixed = ["export", "tsdb", "--tenant", TENANT, "--to", to.to_str().unwrap()];
        let output = setup.output(&[&fixed[..], flags].concat());
        assert!(!to.exists() && !setup.folder().join("refused.partial").exists(), "{flags:?}");
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (flags, code, says) in [
        (&["--match", "nothing_like_it"][..], 3, "--match"),
        (&["--from", "2030-01-01T00:00:00Z"], 3, "--from"),
        (&["--match", "up{"], 2, "--match"),
        (&["--until", "soon"], 2, "--until"),
        (&["--from=2", "--until=1"], 2, "--until"),
        (&["--block-duration=25h"], 2, "24h"),
    ] {
        let (exit, error) = refused(flags);
        assert!(exit == code && error.contains(says), "{flags:?}: {exit} {error}");
    }
    let nobody = setup.output(&["export", "tsdb", "--tenant=nobody", "--to", to.to_str().unwrap()]);
    assert_eq!(nobody.status.code(), Some(3));

    std::fs::create_dir(&to).unwrap();
    std::fs::write(to.join("mine"), "x").unwrap();
    let occupied = setup.output(&["export", "tsdb", "--tenant", TENANT, "--to", to.to_str().unwrap()]);
    assert_eq!(occupied.status.code(), Some(2));
    assert_eq!(std::fs::read_dir(&to).unwrap().count(), 1);
}
