//! `kill -9` under a load of every kind, at random and at the crash points of log, cut and commit: acknowledged
//! histograms and exemplars are there exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::model::Point;
use super::read;
use super::wire::{self, Exemplar, FullSeries, Histogram, Sample, Span};
#[cfg(feature = "failpoints")]
use crate::kill::{ready_or_ended, some_load, tear_log};
use crate::kill::{run_for_a_while, tear_now_and_then};
#[cfg(feature = "failpoints")]
use crate::support::crash_points;
use crate::support::{LabelPairs, RemoteWrite, Setup, label_pairs, seeded};

// 2024-01-01 07:50: the load soon passes into the next 8 h window.
const START_MS: i64 = 1_704_095_400_000;
const SENDERS: i64 = 3;
const SERIES: i64 = 8;
const STEPS_A_REQUEST: i64 = 4;
const STEP_MS: i64 = 1_000;

/// One sender's series and the time of one sample.
type Place = (LabelPairs, i64);

fn labels(sender: i64, number: i64, metric: &str) -> LabelPairs {
    let (sender, number) = (sender.to_string(), number.to_string());
    label_pairs(&[("__name__", metric), ("sender", &sender), ("number", &number)])
}

/// A histogram that nobody else has: with whole counts, with fractions, or with bounds of its own.
fn histogram(number: i64, ts_ms: i64) -> Histogram {
    let step = u32::try_from((ts_ms - START_MS) / STEP_MS).unwrap() + 1;
    let counts = [step, 2 * step, u32::try_from(number).unwrap() + 1];
    let spans = vec![Span { offset: 1, length: 2 }, Span { offset: 3, length: 1 }];
    let total = u64::from(counts.iter().sum::<u32>());
    let mut made = Histogram {
        ts_ms,
        sum: (f64::from(step) / 7.0).to_bits(),
        positive_spans: spans,
        schema: 3,
        ..Histogram::default()
    };
    if number % 3 == 2 {
        made.schema = -53;
        made.custom_values = (0..8).map(|bound| f64::from(bound).to_bits()).collect();
    }
    if number % 3 == 1 {
        made.count_float = Some((total as f64).to_bits());
        made.zero_count_float = Some(0);
        made.positive_counts = counts.iter().map(|count| f64::from(*count).to_bits()).collect();
    } else {
        let counts = counts.map(i64::from);
        made.count_int = Some(total);
        made.zero_count_int = Some(0);
        made.positive_deltas = vec![counts[0], counts[1] - counts[0], counts[2] - counts[1]];
    }
    made
}

fn exemplar(ts_ms: i64) -> Exemplar {
    let labels = label_pairs(&[("trace_id", &format!("trace-{ts_ms}"))]);
    Exemplar { ts_ms, labels, bits: (ts_ms as f64).to_bits() }
}

fn request(sender: i64, times: &[i64]) -> Vec<FullSeries> {
    let one = |number: i64| {
        let mut one = FullSeries { labels: labels(sender, number, "kinds_seconds"), ..FullSeries::default() };
        one.histograms = times.iter().map(|ts_ms| histogram(number, *ts_ms)).collect();
        one.exemplars = times.iter().map(|ts_ms| exemplar(*ts_ms)).collect();
        one
    };
    let mut request: Vec<_> = (0..SERIES).map(one).collect();
    let bits = |ts_ms: i64| (ts_ms as f64 / 3.0).to_bits();
    let samples = times.iter().map(|ts_ms| Sample { bits: bits(*ts_ms), ts_ms: *ts_ms, start_ms: 0 });
    let labels = labels(sender, 0, "kinds_total");
    request.push(FullSeries { labels, samples: samples.collect(), ..FullSeries::default() });
    request
}

/// What was sent, and of it what was acknowledged.
#[derive(Debug, Default)]
struct Book {
    sent: BTreeMap<Place, Point>,
    sent_exemplars: BTreeSet<(LabelPairs, Exemplar)>,
    acknowledged: BTreeSet<Place>,
    acknowledged_exemplars: BTreeSet<(LabelPairs, Exemplar)>,
    requests: usize,
}

impl Book {
    fn begin(&mut self, request: &[FullSeries]) {
        for one in request {
            let points = one.samples.iter().map(|s| (s.ts_ms, Point::Float(s.bits)));
            let points = points.chain(one.histograms.iter().map(|h| (h.ts_ms, Point::of_histogram(h))));
            self.sent.extend(points.map(|(ts_ms, point)| ((one.labels.clone(), ts_ms), point)));
            self.sent_exemplars.extend(one.exemplars.iter().map(|e| (one.labels.clone(), e.clone())));
        }
    }

    fn acknowledge(&mut self, request: &[FullSeries]) {
        self.requests += 1;
        for one in request {
            let times = one.samples.iter().map(|s| s.ts_ms).chain(one.histograms.iter().map(|h| h.ts_ms));
            self.acknowledged.extend(times.map(|ts_ms| (one.labels.clone(), ts_ms)));
            self.acknowledged_exemplars.extend(one.exemplars.iter().map(|e| (one.labels.clone(), e.clone())));
        }
    }
}

/// Senders that go on until the connection breaks; each continues where it stopped, so no time is used twice.
#[derive(Debug)]
struct Load {
    book: Arc<Mutex<Book>>,
    next_ms: Vec<i64>,
}

async fn send_until_broken(sender: i64, mut next_ms: i64, book: &Mutex<Book>, remote: &RemoteWrite) -> i64 {
    loop {
        let times: Vec<i64> = (0..STEPS_A_REQUEST).map(|step| next_ms + step * STEP_MS).collect();
        next_ms += STEPS_A_REQUEST * STEP_MS;
        let request = request(sender, &times);
        book.lock().unwrap().begin(&request);
        match wire::send(remote, &request, sender % 2 == 0).await {
            Err(_) => return next_ms,
            Ok(ack) if ack.status == 204 => book.lock().unwrap().acknowledge(&request),
            Ok(ack) => assert!(ack.status >= 500 || ack.status == 429, "{} {}", ack.status, ack.body),
        }
    }
}

impl Load {
    fn new() -> Self {
        Self { book: Arc::default(), next_ms: (0..SENDERS).map(|_| START_MS).collect() }
    }

    fn start(&self, remote: &RemoteWrite) -> Vec<JoinHandle<i64>> {
        let one = |(sender, next_ms): (i64, &i64)| {
            let (book, remote, next_ms) = (Arc::clone(&self.book), remote.clone(), *next_ms);
            tokio::spawn(async move { send_until_broken(sender, next_ms, &book, &remote).await })
        };
        (0..).zip(&self.next_ms).map(one).collect()
    }

    async fn finish(&mut self, senders: Vec<JoinHandle<i64>>) {
        for (next_ms, sender) in self.next_ms.iter_mut().zip(senders) {
            *next_ms = sender.await.unwrap();
        }
    }

    /// Checks that all that was acknowledged is there, once, and nothing else but what was sent.
    async fn check(&self, setup: &Setup, when: &str) {
        // The readers fail on what comes twice.
        let (points, exemplars) = (read::samples(setup).await, read::exemplars(setup).await);
        let book = self.book.lock().unwrap();
        let mut missing = book.acknowledged.clone();
        for (labels, points) in points {
            for (ts_ms, point) in points {
                let place = (labels.clone(), ts_ms);
                assert_eq!(book.sent.get(&place), Some(&point), "{when}: {place:?}");
                missing.remove(&place);
            }
        }
        let all = book.acknowledged.len();
        assert!(missing.is_empty(), "{when}: {} of {all} are missing: {:?}", missing.len(), missing.first());
        let mut missing = book.acknowledged_exemplars.clone();
        for (labels, exemplars) in exemplars {
            let mut seen = BTreeSet::new();
            for exemplar in exemplars {
                let place = (labels.clone(), exemplar);
                assert!(seen.insert(place.1.clone()), "{when}: {place:?} came twice");
                assert!(book.sent_exemplars.contains(&place), "{when}: {place:?} was never sent");
                missing.remove(&place);
            }
        }
        let first = missing.first();
        assert!(missing.is_empty(), "{when}: {} exemplars are missing: {first:?}", missing.len());
    }
}

fn setup() -> Setup {
    Setup::standalone().flags(&["--ingest.max-age=100y"])
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_histograms_and_exemplars_survive_kills_at_random_times_exactly_once() {
    let cycles: usize = std::env::var("PERENNIAL_KILL_CYCLES").map_or(12, |n| n.parse().unwrap());
    let mut random =
        seeded("acknowledged_histograms_and_exemplars_survive_kills_at_random_times_exactly_once");
    let (setup, mut load) = (setup(), Load::new());
    for cycle in 0..cycles {
        let perennial = setup.start().await;
        if cycle % 4 == 3 {
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

async fn check_at_the_end(setup: &Setup, load: &Load, when: &str) {
    let perennial = setup.start().await;
    load.check(setup, when).await;
    perennial.flush().await;
    load.check(setup, &format!("{when}, flushed")).await;
    perennial.stop();
}

#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_histograms_and_exemplars_survive_a_crash_at_every_point_of_a_cut() {
    let mut names = crash_points();
    names.retain(|name| ["catalog.", "commit.", "cut.", "log."].iter().any(|part| name.starts_with(part)));
    assert!(names.len() > 5, "crash points are found: {names:?}");
    let mut never = Vec::new();
    for name in names {
        let (mut setup, mut load) = (setup(), Load::new());
        let perennial = setup.start().await;
        let senders = load.start(&setup.remote_write());
        some_load(&setup).await;
        perennial.kill();
        load.finish(senders).await;
        tear_log(&setup);

        setup.set_failpoints(Some(&format!("{name}=return")));
        let mut perennial = setup.launch();
        // Some points are reached while the log is replayed.
        let ready = ready_or_ended(&setup, &mut perennial).await;
        let senders = load.start(&setup.remote_write());
        for _ in 0..if ready { 4 } else { 0 } {
            tokio::time::sleep(Duration::from_millis(150)).await;
            let _ = tokio::time::timeout(Duration::from_secs(20), perennial.try_flush()).await;
            if perennial.ended().is_some() {
                break;
            }
        }
        never.extend(perennial.ended().is_none().then(|| name.clone()));
        perennial.kill();
        load.finish(senders).await;
        setup.set_failpoints(None);
        check_at_the_end(&setup, &load, &format!("after {name}")).await;
    }
    assert!(never.is_empty(), "these crash points were never reached: {never:?}");
}
