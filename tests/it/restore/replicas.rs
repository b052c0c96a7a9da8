//! The two servers of an HA pair, each with holes of its own: one restored directory without any.

use std::path::Path;

use serde_json::Value;

use crate::support::{
    ArchiverSetup, Dump, LocalBucket, RestoreCommand, SOURCE, SampleSet, Series, TsdbOptions, TsdbServer,
    assert_code, crash_points, files_below, installed, label_pairs, now_ms, path_text, tree,
};

const OTHER: &str = "lab-other";
const METRIC: &str = "paired_total";
const SERIES: u32 = 6;
const ROUNDS: u32 = 120;
const STEP_MS: i64 = 500;
/// The second server is asked this much later than the first, as it is in every pair.
const OFFSET_MS: i64 = 170;

/// In these rounds, end exclusive, the first server is stopped: once in what becomes blocks, once in its last seconds.
const FIRST_AWAY: [(u32, u32); 2] = [(40, 52), (113, 117)];
/// In these the second one is.
const OTHER_AWAY: [(u32, u32); 1] = [(70, 80)];

fn sample(start_ms: i64, round: u32, number: u32, offset_ms: i64) -> (i64, u64) {
    let value = f64::from(round * 1_000 + number) + if offset_ms == 0 { 0.25 } else { 0.5 };
    (start_ms + i64::from(round) * STEP_MS + offset_ms, value.to_bits())
}

fn expected(start_ms: i64, rounds: impl Fn(u32) -> Option<i64>) -> SampleSet {
    let mut set = SampleSet::default();
    for number in 0..SERIES {
        let labels = label_pairs(&[("__name__", METRIC), ("number", &number.to_string())]);
        let samples = (0..ROUNDS).filter_map(|round| Some(sample(start_ms, round, number, rounds(round)?)));
        set.append(labels, samples);
    }
    set
}

fn is_away(away: &[(u32, u32)], round: u32) -> bool {
    away.iter().any(|(from, to)| (*from..*to).contains(&round))
}

/// One of the pair, as it is fed.
struct Fed<'a> {
    server: TsdbServer,
    away: &'a [(u32, u32)],
    offset_ms: i64,
}

impl<'a> Fed<'a> {
    async fn start(replica: &'static str, away: &'a [(u32, u32)], offset_ms: i64) -> Self {
        let options =
            TsdbOptions { block_seconds: Some(10), replica: Some(replica), ..TsdbOptions::default() };
        let mut server = TsdbServer::new(options);
        server.start().await;
        Self { server, away, offset_ms }
    }

    /// Stops and starts it at its times, and gives it the samples of a round where it runs.
    async fn round(&mut self, start_ms: i64, round: u32) {
        if self.away.iter().any(|(from, _)| *from == round) {
            self.server.stop();
        }
        if self.away.iter().any(|(_, to)| *to == round) {
            self.server.start().await;
        }
        if is_away(self.away, round) {
            return;
        }
        let series = (0..SERIES).map(|number| Series {
            labels: label_pairs(&[("__name__", METRIC), ("number", &number.to_string())]),
            samples: vec![sample(start_ms, round, number, self.offset_ms)],
        });
        let ack = self.server.remote_write().send(&series.collect::<Vec<_>>()).await.unwrap();
        assert!(ack.status < 300, "{} {}", ack.status, ack.body);
    }
}

/// Returns the samples of each block that is marked as late, and the end of the others.
fn blocks(data: &Path) -> (Vec<u64>, i64) {
    let metas = files_below(data).into_iter().filter(|path| path.ends_with("meta.json"));
    let metas = metas.map(|path| serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap());
    let (mut marked, mut end_ms) = (Vec::new(), i64::MIN);
    for meta in metas {
        let hints = meta["compaction"]["hints"].as_array();
        if hints.is_some_and(|hints| hints.contains(&Value::from("from-out-of-order"))) {
            marked.push(meta["stats"]["numSamples"].as_u64().unwrap());
        } else {
            end_ms = end_ms.max(meta["maxTime"].as_i64().unwrap());
        }
    }
    (marked, end_ms)
}

fn merge(restore: &RestoreCommand, other: &str, to: &Path) -> Value {
    let flags = ["--as-of", "latest", "--to", path_text(to), "--yes", "--output", "json"];
    let output = restore.output("run", &[&flags[..], &["--merge-replicas", other]].concat());
    assert_code(&output, 0, &format!("restore run --merge-replicas {other}"));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Crashes a merge at each of its points; the same command goes on, to the bytes of one that was not interrupted.
fn survives_crashes(restore: &RestoreCommand, other: &str, whole: &Path) {
    let (folder, expected) = (tempfile::tempdir().unwrap(), tree(whole));
    let points: Vec<String> =
        crash_points().into_iter().filter(|n| n.starts_with("restore.merge-")).collect();
    assert!(points.len() > 2, "crash points are found: {points:?}");
    for point in points {
        let to = folder.path().join(&point);
        let flags = ["--as-of", "latest", "--to", path_text(&to), "--yes", "--merge-replicas", other];
        let output = restore.crashing(&format!("{point}=return"), "run", &flags);
        assert!(output.status.code().is_none(), "{point} was never reached: {output:?}");
        merge(restore, other, &to);
        assert_eq!(tree(&to), expected, "after a crash at {point}");
    }
}

/// Opens what was merged, twice: what the server writes after its first start is as sound.
async fn opens(to: &Path, union: &SampleSet, what: &str) {
    for start in ["first", "second"] {
        let mut server = TsdbServer::opened(to).await;
        union.assert_same(&server.samples().await, &format!("{what}, {start} start"));
        server.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_of_one_replica_are_filled_from_the_other() {
    let test = "holes_of_one_replica_are_filled_from_the_other";
    if !installed(test, &["prometheus", "promtool"]) {
        return;
    }
    let bucket = LocalBucket::new();
    let mut first = Fed::start("a", &FIRST_AWAY, 0).await;
    let mut other = Fed::start("b", &OTHER_AWAY, OFFSET_MS).await;
    let setup = ArchiverSetup::new(&first.server, &bucket.config()).also(OTHER, &other.server);
    let archiver = setup.start().await;
    let start_ms = now_ms() / 1_000 * 1_000 - i64::from(ROUNDS + 10) * STEP_MS;
    for round in 0..ROUNDS {
        first.round(start_ms, round).await;
        other.round(start_ms, round).await;
    }
    archiver.catch_up().await;
    archiver.stop();

    let folder = tempfile::tempdir().unwrap();
    let restore = RestoreCommand::new(&bucket.config());
    for (source, from, fed, filler) in [(SOURCE, OTHER, &first, &other), (OTHER, SOURCE, &other, &first)] {
        let (to, what) = (folder.path().join(source), format!("{source} filled from {from}"));
        let report = merge(&restore.clone().of(source), from, &to);
        let union = expected(start_ms, |round| {
            Some(if is_away(fed.away, round) { filler.offset_ms } else { fed.offset_ms })
        });
        let lost: u32 = fed.away.iter().map(|(from, to)| to - from).sum();
        assert_eq!(report["filled_samples"], lost * SERIES, "{what}: {report}");
        let (marked, own_end_ms) = blocks(&to);
        assert!(
            marked.contains(&u64::from(lost * SERIES)),
            "{what}: the filling block is marked: {marked:?}"
        );
        assert!(own_end_ms > start_ms, "{what}: it has blocks of its own");
        let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_perennial"));
        let checked = check.args(["restore", "check"]).arg(&to).output().unwrap();
        assert_code(&checked, 0, &format!("check of {what}"));
        // This promtool takes the end of the last block, also of one with late samples, for where the head begins.
        let dumped = Dump::of(&to).until(own_end_ms - 1).len();
        assert_eq!(dumped, union.within(0, own_end_ms - 1).samples(), "{what}: promtool counts");
        survives_crashes(&restore.clone().of(source), from, &to);
        opens(&to, &union, &what).await;
    }
    let alone = folder.path().join("alone");
    restore.run(&["--as-of", "latest"], &alone);
    let holed = expected(start_ms, |round| (!is_away(first.away, round)).then_some(first.offset_ms));
    opens(&alone, &holed, "the first without the other").await;
}
