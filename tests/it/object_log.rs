//! Receivers whose log is in the bucket: killed, paused, and with nothing of their own on disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rand::Rng;

#[cfg(feature = "failpoints")]
use crate::kill::run_into;
use crate::kill::{LOAD_START_MS, Load};
#[cfg(feature = "failpoints")]
use crate::support::crash_points;
use crate::support::{Answer, Perennial, Python, S3Server, SampleSet, Setup, seeded};

const WHOLE: (i64, i64) = (0, i64::MAX / 2);

/// How long a dead receiver's samples may take until they are readable again: a minute until it counts as dead, half a
/// minute between two looks, and room for a busy machine.
const RECOVERED_WITHIN: Duration = Duration::from_secs(240);

fn filesystem(directory: &Path) -> String {
    format!("type: FILESYSTEM\nconfig:\n  directory: {}\n", directory.display())
}

fn standalone(bucket: &str) -> Setup {
    let flags =
        ["--ingest.max-age=100y", "--log.kind=object", "--log.flush-interval=20ms", "--receive.name=r"];
    Setup::standalone().bucket(bucket).flags(&flags)
}

fn kill(perennial: Perennial, setup: &Setup) {
    perennial.kill();
    // Nothing on this machine outlives the process.
    std::fs::remove_dir_all(setup.data_dir()).unwrap();
}

async fn survive_kills(setup: &Setup, cycles: usize, seed: &str) {
    let mut random = seeded(seed);
    let mut load = Load::new(LOAD_START_MS);
    for cycle in 0..cycles {
        let perennial = setup.start().await;
        load.check(setup, &format!("after {cycle} kills")).await;
        let senders = load.start(&setup.remote_write());
        let run = Duration::from_millis(random.random_range(100..1_500));
        tokio::time::sleep(run / 2).await;
        if random.random_bool(0.5) {
            let _ = tokio::time::timeout(run / 2, perennial.try_flush()).await;
        } else {
            tokio::time::sleep(run / 2).await;
        }
        kill(perennial, setup);
        load.finish(senders).await;
    }
    let perennial = setup.start().await;
    load.check(setup, "after all kills").await;
    perennial.flush().await;
    load.check(setup, "after all kills, flushed").await;
    perennial.stop();
    assert!(load.requests() > cycles, "the load made progress");
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_samples_survive_kills_without_a_disk_of_their_own() {
    let bucket = tempfile::tempdir().unwrap();
    let setup = standalone(&filesystem(bucket.path()));
    survive_kills(&setup, 8, "acknowledged_samples_survive_kills_without_a_disk_of_their_own").await;
    let left = entries_left(bucket.path());
    assert!(left.values().all(|objects| *objects <= 2), "only seals and marks: {left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_samples_survive_kills_on_s3() {
    let Some(python) = Python::find("an object log on S3") else { return };
    let server = S3Server::start(&python).await;
    let setup = standalone(&server.objstore_config());
    survive_kills(&setup, 4, "acknowledged_samples_survive_kills_on_s3").await;
}

/// Returns the objects of each epoch, without the staging files that a kill in the middle of a put leaves.
fn entries_left(bucket: &Path) -> BTreeMap<String, usize> {
    let folders = std::fs::read_dir(bucket.join("log")).unwrap().map(|e| e.unwrap());
    let is_object = |entry: &std::fs::DirEntry| !entry.file_name().to_string_lossy().contains('#');
    let count = |path: std::path::PathBuf| {
        std::fs::read_dir(path).unwrap().map(|e| e.unwrap()).filter(is_object).count()
    };
    folders.map(|folder| (folder.file_name().to_string_lossy().into_owned(), count(folder.path()))).collect()
}

#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_samples_survive_a_crash_at_every_point_of_an_epoch_and_its_recovery() {
    let mut names = crash_points();
    names.retain(|name| name.starts_with("object_log."));
    assert!(names.len() > 4, "{names:?}");
    let mut never = Vec::new();
    for name in names {
        let bucket = tempfile::tempdir().unwrap();
        let mut setup = standalone(&filesystem(bucket.path()));
        let mut load = Load::new(LOAD_START_MS);
        let perennial = setup.start().await;
        let senders = load.start(&setup.remote_write());
        tokio::time::sleep(Duration::from_millis(700)).await;
        kill(perennial, &setup);
        load.finish(senders).await;

        setup.set_failpoints(Some(&format!("{name}=return")));
        if !run_into(&setup, &mut load).await {
            never.push(name.clone());
        }
        setup.set_failpoints(None);
        let perennial = setup.start().await;
        load.check(&setup, &format!("after {name}")).await;
        perennial.flush().await;
        load.check(&setup, &format!("after {name}, flushed")).await;
        perennial.stop();
    }
    assert!(never.is_empty(), "these crash points were never reached: {never:?}");
}

fn receiver(name: &str, bucket: &str) -> Setup {
    let name = format!("--receive.name={name}");
    let label = "--label=cluster=\"one\"";
    let flags = ["--ingest.max-age=100y", "--log.kind=object", "--log.flush-interval=50ms", &name, label];
    Setup::role("receive").bucket(bucket).flags(&flags)
}

/// Returns what any of them serves: what several serve must be equal.
async fn read_all(setups: &[&Setup]) -> SampleSet {
    let mut merged: BTreeMap<Vec<(String, String)>, BTreeMap<i64, u64>> = BTreeMap::new();
    for setup in setups {
        let found = setup.remote_read().all(WHOLE.0, WHOLE.1, Answer::Streamed).await;
        for (labels, samples) in found.series {
            let held = merged.entry(labels).or_default();
            let mut times = std::collections::BTreeSet::new();
            for (ts, bits) in samples {
                assert!(times.insert(ts), "twice at {ts} in one answer");
                assert_eq!(*held.entry(ts).or_insert(bits), bits);
            }
        }
    }
    let mut set = SampleSet::default();
    for (labels, samples) in merged {
        set.append(labels, samples);
    }
    set
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_and_a_paused_receiver_are_taken_over_by_a_third_and_the_paused_one_goes_on() {
    let bucket = tempfile::tempdir().unwrap();
    let config = filesystem(bucket.path());
    let (dies, pauses, stays) =
        (receiver("dies", &config), receiver("pauses", &config), receiver("stays", &config));
    let store = Setup::role("store").bucket(&config).flags(&["--catalog.refresh=1s"]);
    let reader = store.start().await;
    let (killed, paused, alive) = (dies.start().await, pauses.start().await, stays.start().await);
    // Times apart, so that no sample comes over two ways.
    let starts = [LOAD_START_MS, LOAD_START_MS + 100_000_000, LOAD_START_MS + 200_000_000];
    let mut loads = starts.map(Load::new);
    let setups = [&dies, &pauses, &stays];
    let senders: Vec<_> = loads.iter().zip(setups).map(|(l, s)| l.start(&s.remote_write())).collect();
    tokio::time::sleep(Duration::from_secs(3)).await;
    kill(killed, &dies);
    let mut senders = senders.into_iter();
    loads[0].finish(senders.next().unwrap()).await;
    paused.process.signal("STOP");

    let began = Instant::now();
    let sealed = || entries_left(bucket.path()).values().filter(|objects| **objects <= 2).count();
    while sealed() < 2 {
        assert!(began.elapsed() < RECOVERED_WITHIN, "{:?}", entries_left(bucket.path()));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let found = read_all(&[&store, &stays]).await;
    loads[0].check_found(&only(&found, starts[0]), "what the killed one acknowledged");

    paused.process.signal("CONT");
    let before = loads[1].requests();
    let began = Instant::now();
    while loads[1].requests() < before + 20 {
        assert!(began.elapsed() < Duration::from_secs(60), "the paused one takes writes again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let log = std::fs::read_to_string(pauses.folder().join("perennial.log")).unwrap();
    assert!(log.contains("sealed by stays") || log.contains("taken for dead"), "{log}");
    paused.flush().await;
    alive.flush().await;
    for perennial in [paused, alive] {
        perennial.stop();
    }
    for (load, senders) in loads[1..].iter_mut().zip(senders) {
        load.finish(senders).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let found = read_all(&[&store]).await;
    for (load, start) in loads.iter().zip(starts) {
        load.check_found(&only(&found, start), "at the end, from the bucket alone");
    }
    drop(reader);
}

/// Returns the samples of one load.
fn only(found: &SampleSet, start_ms: i64) -> SampleSet {
    let mut set = SampleSet::default();
    for (labels, samples) in &found.series {
        let labels: Vec<_> = labels.iter().filter(|(name, _)| name != "cluster").cloned().collect();
        let range = start_ms..start_ms + 100_000_000;
        let samples: Vec<_> = samples.iter().filter(|(ts, _)| range.contains(ts)).copied().collect();
        if !samples.is_empty() {
            set.append(labels, samples);
        }
    }
    set
}
