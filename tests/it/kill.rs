//! `kill -9` at random and at every named crash point, under load: every acknowledged sample is there exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use tokio::task::JoinHandle;

#[cfg(feature = "failpoints")]
use crate::support::crash_points;
use crate::support::{Answer, Perennial, Python, RemoteWrite, SampleSet, Series, Setup, label_pairs, seeded};

const TENANT: &str = "default-tenant";
const SENDERS: usize = 4;
const SERIES_A_SENDER: i64 = 40;
const SAMPLES_A_REQUEST: i64 = 5;
const WHOLE: (i64, i64) = (0, i64::MAX / 2);

/// What was sent, and of it what was acknowledged.
#[derive(Debug, Default)]
struct Book {
    sent: BTreeMap<(usize, i64), BTreeSet<i64>>,
    acknowledged: SampleSet,
    requests: usize,
}

/// Senders that go on until the connection breaks; each continues where it stopped, so no time is used twice.
#[derive(Debug)]
pub(crate) struct Load {
    book: Arc<Mutex<Book>>,
    next_ms: Vec<i64>,
}

fn series_labels(sender: usize, number: i64) -> Vec<(String, String)> {
    let (sender, number) = (sender.to_string(), number.to_string());
    label_pairs(&[("__name__", "load_total"), ("sender", &sender), ("number", &number)])
}

fn value_bits(sender: usize, number: i64, ts: i64) -> u64 {
    // Distinct per sample, so that a sample under a wrong series or time shows.
    let mixed = (ts ^ (number << 40)).cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ sender as u64;
    // Clearing one bit of the exponent leaves only numbers: NaNs would compare by other rules.
    mixed & !(1 << 62)
}

impl Load {
    pub(crate) fn new(start_ms: i64) -> Self {
        Self { book: Arc::default(), next_ms: vec![start_ms; SENDERS] }
    }

    /// Starts the senders; each ends with the first request that got no answer and returns where to go on.
    pub(crate) fn start(&self, remote: &RemoteWrite) -> Vec<JoinHandle<i64>> {
        let one = |sender: usize| {
            let (book, remote, next) = (Arc::clone(&self.book), remote.clone(), self.next_ms[sender]);
            tokio::spawn(async move { send_until_broken(sender, next, &book, &remote).await })
        };
        (0..SENDERS).map(one).collect()
    }

    pub(crate) async fn finish(&mut self, senders: Vec<JoinHandle<i64>>) {
        for (next, sender) in self.next_ms.iter_mut().zip(senders) {
            *next = sender.await.unwrap();
        }
    }

    /// Returns how many requests were acknowledged.
    pub(crate) fn requests(&self) -> usize {
        self.book.lock().unwrap().requests
    }

    /// Checks that all that was acknowledged is there, once, and nothing else but what was sent.
    pub(crate) async fn check(&self, setup: &Setup, when: &str) {
        let found = setup.remote_read().all(WHOLE.0, WHOLE.1, Answer::Streamed).await;
        self.check_found(&found, when);
    }

    pub(crate) fn check_found(&self, found: &SampleSet, when: &str) {
        let book = self.book.lock().unwrap();
        for (labels, acknowledged) in &book.acknowledged.series {
            let held: BTreeMap<i64, u64> = found.series.get(labels).into_iter().flatten().copied().collect();
            for (ts, bits) in acknowledged {
                assert_eq!(held.get(ts), Some(bits), "{when}: {labels:?} at {ts} was acknowledged");
            }
        }
        for (labels, samples) in &found.series {
            let number = |name: &str| {
                labels
                    .iter()
                    .find(|(n, _)| n == name)
                    .unwrap_or_else(|| panic!("{when}: {labels:?}"))
                    .1
                    .parse()
                    .unwrap()
            };
            let (sender, number) = (usize::try_from(number("sender")).unwrap(), number("number"));
            for (ts, bits) in samples {
                assert_eq!(*bits, value_bits(sender, number, *ts), "{when}: {labels:?} at {ts}");
                assert!(
                    book.sent[&(sender, number)].contains(ts),
                    "{when}: {labels:?} at {ts} was never sent"
                );
            }
        }
    }
}

async fn send_until_broken(sender: usize, start_ms: i64, book: &Mutex<Book>, remote: &RemoteWrite) -> i64 {
    let mut next = start_ms;
    loop {
        let times: Vec<i64> = (0..SAMPLES_A_REQUEST).map(|i| next + i * 1000).collect();
        next += SAMPLES_A_REQUEST * 1000;
        let request: Vec<Series> = (0..SERIES_A_SENDER)
            .map(|number| Series {
                labels: series_labels(sender, number),
                samples: times.iter().map(|ts| (*ts, value_bits(sender, number, *ts))).collect(),
            })
            .collect();
        {
            let mut book = book.lock().unwrap();
            for number in 0..SERIES_A_SENDER {
                book.sent.entry((sender, number)).or_default().extend(&times);
            }
        }
        match remote.send(&request).await {
            Err(_) => return next,
            Ok(ack) if ack.status == 204 => {
                let mut book = book.lock().unwrap();
                book.requests += 1;
                for series in request {
                    book.acknowledged.append(series.labels, series.samples);
                }
            }
            // A server on its way down may refuse; whatever it did not acknowledge may be there or not.
            Ok(ack) => assert!(ack.status >= 500 || ack.status == 429, "{} {}", ack.status, ack.body),
        }
    }
}

fn setup() -> Setup {
    // Times are far in the past, so that a run of any length never meets the bound on the future; small cuts and
    // segments make many steps of every kind happen in a short run.
    Setup::standalone().flags(&["--ingest.max-age=100y"])
}

// 2024-01-01 07:50: the load soon passes into the next 8 h window.
pub(crate) const LOAD_START_MS: i64 = 1_704_095_400_000;

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_samples_survive_kills_at_random_times_exactly_once() {
    let cycles: usize = std::env::var("PERENNIAL_KILL_CYCLES").map_or(25, |n| n.parse().unwrap());
    let mut random = seeded("acknowledged_samples_survive_kills_at_random_times_exactly_once");
    let setup = setup();
    let mut load = Load::new(LOAD_START_MS);
    for cycle in 0..cycles {
        let perennial = setup.start().await;
        if cycle % 5 == 0 {
            load.check(&setup, &format!("after {cycle} kills")).await;
        }
        let senders = load.start(&setup.remote_write());
        run_for_a_while(&perennial, &mut random).await;
        perennial.kill();
        load.finish(senders).await;
        tear_now_and_then(&setup, &mut random);
    }
    check_at_the_end(&setup, &load, "after all kills").await;
    assert!(load.book.lock().unwrap().requests > cycles, "the load made progress");
}

/// Lets a process run for up to a good second, often into a flush.
pub(crate) async fn run_for_a_while(perennial: &Perennial, random: &mut StdRng) {
    let run = Duration::from_millis(random.random_range(20..1_200));
    if random.random_bool(0.6) {
        let flush_after = run.mul_f64(random.random_range(0.0..1.0));
        tokio::time::sleep(flush_after).await;
        let _ = tokio::time::timeout(run - flush_after, perennial.try_flush()).await;
    } else {
        tokio::time::sleep(run).await;
    }
}

/// Leaves half a write at the end of the log now and then, where there is a log.
pub(crate) fn tear_now_and_then(setup: &Setup, random: &mut StdRng) {
    if random.random_bool(0.3) && newest_segment(setup).is_some() {
        tear_log(setup);
    }
}

async fn check_at_the_end(setup: &Setup, load: &Load, when: &str) {
    let perennial = setup.start().await;
    load.check(setup, when).await;
    perennial.flush().await;
    load.check(setup, &format!("{when}, flushed")).await;
    perennial.stop();
    // The bucket alone, without the content rule that a reader of ours applies.
    if let Some(python) = Python::find("the bucket as pyarrow reads it after kills") {
        let files = python.parquet_samples(&setup.bucket_dir(), TENANT, setup.folder());
        load.check_found(&files, &format!("{when}, pyarrow"));
    }
}

// Garbage is looked for every ten minutes and let go after a day: the tests of `catalog` reach these with a clock and a
// store of their own.
#[cfg(feature = "failpoints")]
const OUT_OF_REACH: [&str; 3] = ["garbage.before_delete", "garbage.before_doom", "garbage.before_expire"];

// The tests of these commands, and of the log in the bucket, run into theirs.
#[cfg(feature = "failpoints")]
const OTHER_COMMANDS: [&str; 3] = ["archive.", "restore.", "object_log."];

/// Returns the newest file of the log.
fn newest_segment(setup: &Setup) -> Option<PathBuf> {
    let mut segments = Vec::new();
    let mut folders = vec![setup.data_dir().join("log")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).into_iter().flatten().map(|e| e.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "log") {
                segments.push(path);
            }
        }
    }
    segments.into_iter().max()
}

/// Waits until something was written.
pub(crate) async fn some_load(setup: &Setup) {
    let start = std::time::Instant::now();
    while newest_segment(setup).is_none() {
        assert!(start.elapsed() < Duration::from_secs(60), "nothing is written");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Leaves half a write at the end of the log, as a power cut may.
pub(crate) fn tear_log(setup: &Setup) {
    let newest = newest_segment(setup).expect("a killed process leaves a segment");
    let mut file = std::fs::File::options().append(true).open(newest).unwrap();
    file.write_all(&[0x5a; 77]).unwrap();
}

#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_samples_survive_a_crash_at_every_named_point() {
    let mut names = crash_points();
    names.retain(|name| !OTHER_COMMANDS.iter().any(|prefix| name.starts_with(prefix)));
    assert!(names.len() > 5, "crash points are found: {names:?}");
    let mut never = Vec::new();
    for name in names.iter().filter(|n| !OUT_OF_REACH.contains(&n.as_str())) {
        let mut setup = setup();
        let mut load = Load::new(LOAD_START_MS);
        let mut fired = false;
        for action in ["2*off->return", "return"] {
            let perennial = setup.start().await;
            let senders = load.start(&setup.remote_write());
            some_load(&setup).await;
            perennial.kill();
            load.finish(senders).await;
            tear_log(&setup);

            setup.set_failpoints(Some(&format!("{name}={action}")));
            fired |= run_into(&setup, &mut load).await;
            setup.set_failpoints(None);
        }
        if !fired {
            never.push(name);
        }
        check_at_the_end(&setup, &load, &format!("after {name}")).await;
    }
    assert!(never.is_empty(), "these crash points were never reached: {never:?}");
}

/// Runs under load with cuts until the process ends by itself; returns whether it did.
#[cfg(feature = "failpoints")]
pub(crate) async fn run_into(setup: &Setup, load: &mut Load) -> bool {
    let mut perennial = setup.launch();
    if !ready_or_ended(setup, &mut perennial).await {
        return true;
    }
    let senders = load.start(&setup.remote_write());
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let _ = tokio::time::timeout(Duration::from_secs(20), perennial.try_flush()).await;
        if perennial.ended().is_some() {
            break;
        }
    }
    let fired = perennial.ended().is_some();
    perennial.kill();
    load.finish(senders).await;
    fired
}

/// Waits until the process is ready, or has ended; returns whether it is ready.
#[cfg(feature = "failpoints")]
pub(crate) async fn ready_or_ended(setup: &Setup, perennial: &mut Perennial) -> bool {
    let start = std::time::Instant::now();
    let client = crate::support::client();
    loop {
        if perennial.ended().is_some() {
            return false;
        }
        if client.get(setup.url("/-/ready")).send().await.is_ok_and(|a| a.status().is_success()) {
            return true;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "neither ready nor ended");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
