//! A sender of known values into a Prometheus, with a book of what was sent when, and of what was acknowledged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::JoinHandle;

use super::{LabelPairs, RemoteWrite, SampleSet, Series, label_pairs};

/// The metric of samples in order.
pub(crate) const LOAD_METRIC: &str = "load_total";

/// The metric whose series also get samples that are late.
pub(crate) const LATE_METRIC: &str = "late_total";

const LATE_SERIES: u32 = 4;
const LATE_EVERY: u64 = 4;
// In-order times are whole tens of milliseconds, and each lateness has a last digit of its own: no time is used twice.
const GRAIN_MS: i64 = 10;
// They are older than what is in blocks already: this promtool takes the end of the last block, also of one with late
// samples, for the place where the head begins.
const LATE_BY_MS: [i64; 3] = [25_505, 33_503, 47_507];

/// Returns the wall clock.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    /// The earliest time that a restore may take it for: that of its samples where they are fresh, for they decide
    /// between two looks at the log, else when it was sent.
    pub(crate) begun_ms: i64,
    pub(crate) acknowledged_ms: Option<i64>,
    samples: Vec<(LabelPairs, i64, u64)>,
}

/// What was sent, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Book {
    pub(crate) batches: Vec<Batch>,
}

impl Book {
    /// Returns the samples of a metric in requests that were acknowledged by a time: a server that lost nothing knew
    /// them then.
    pub(crate) fn acknowledged_by(&self, metric: &str, time_ms: i64) -> SampleSet {
        self.collect(metric, |batch| batch.acknowledged_ms.is_some_and(|at| at <= time_ms))
    }

    /// Returns the samples of a metric in requests that had begun at a time: a server may have known them then.
    pub(crate) fn begun_by(&self, metric: &str, time_ms: i64) -> SampleSet {
        self.collect(metric, |batch| batch.begun_ms <= time_ms)
    }

    /// Returns the book of a server that already held samples when the first request of this book was sent.
    pub(crate) fn after(mut self, held: &SampleSet) -> Self {
        let rows = |(labels, samples): (&LabelPairs, &Vec<(i64, u64)>)| {
            let labels = labels.clone();
            samples.iter().map(move |(time, bits)| (labels.clone(), *time, *bits)).collect::<Vec<_>>()
        };
        let samples = held.series.iter().flat_map(rows).collect();
        self.batches.insert(0, Batch { begun_ms: i64::MIN, acknowledged_ms: Some(i64::MIN), samples });
        self
    }

    fn collect(&self, metric: &str, wanted: impl Fn(&Batch) -> bool) -> SampleSet {
        let mut rows: Vec<&(LabelPairs, i64, u64)> =
            self.batches.iter().filter(|b| wanted(b)).flat_map(|b| &b.samples).collect();
        rows.retain(|(labels, ..)| labels.contains(&("__name__".to_owned(), metric.to_owned())));
        rows.sort_by_key(|(_, time, _)| *time);
        let mut set = SampleSet::default();
        for (labels, time, bits) in rows {
            set.append(labels.clone(), [(*time, *bits)]);
        }
        set
    }
}

/// A sender that goes on until it is told to stop, also while the server is away.
#[derive(Debug)]
pub(crate) struct Load {
    book: Arc<Mutex<Book>>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Load {
    /// Sends `series` samples every `every`, and late ones now and then.
    pub(crate) fn start(remote: RemoteWrite, series: u32, every: Duration) -> Self {
        Self::run(remote, series, every, true)
    }

    /// Sends `series` samples every `every`, all in order.
    #[allow(dead_code, reason = "the bench uses it")]
    pub(crate) fn start_in_order(remote: RemoteWrite, series: u32, every: Duration) -> Self {
        Self::run(remote, series, every, false)
    }

    fn run(remote: RemoteWrite, series: u32, every: Duration, with_late: bool) -> Self {
        let (book, stop) = (Arc::new(Mutex::new(Book::default())), Arc::new(AtomicBool::new(false)));
        let (written, stopped) = (Arc::clone(&book), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(every);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let (mut round, mut last) = (0u64, 0);
            while !stopped.load(Ordering::Relaxed) {
                ticks.tick().await;
                let now = (now_ms() / GRAIN_MS * GRAIN_MS).max(last + GRAIN_MS);
                last = now;
                send(&remote, &written, in_order(series, now), now).await;
                round += 1;
                if with_late && round.is_multiple_of(LATE_EVERY) {
                    let by = LATE_BY_MS[usize::try_from(round / LATE_EVERY).unwrap() % LATE_BY_MS.len()];
                    send(&remote, &written, late(now - by), now_ms()).await;
                }
            }
        });
        Self { book, stop, task }
    }

    /// Ends the load and returns the book.
    pub(crate) async fn stop(self) -> Book {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        self.book.lock().unwrap().clone()
    }
}

fn in_order(series: u32, now: i64) -> Vec<(LabelPairs, i64, u64)> {
    let mut samples = rows(LOAD_METRIC, series, now);
    samples.extend(rows(LATE_METRIC, LATE_SERIES, now));
    samples
}

fn late(time: i64) -> Vec<(LabelPairs, i64, u64)> {
    rows(LATE_METRIC, LATE_SERIES, time)
}

fn rows(metric: &str, series: u32, time: i64) -> Vec<(LabelPairs, i64, u64)> {
    let row = |number: u32| {
        let text = number.to_string();
        (label_pairs(&[("__name__", metric), ("number", &text)]), time, value_bits(number, time))
    };
    (0..series).map(row).collect()
}

/// A value of which every bit counts, distinct for each sample; never a NaN, which text would flatten.
fn value_bits(number: u32, time: i64) -> u64 {
    let mixed = (time.cast_unsigned() ^ (u64::from(number) << 44)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed & !(1 << 62)
}

async fn send(remote: &RemoteWrite, book: &Mutex<Book>, samples: Vec<(LabelPairs, i64, u64)>, begun_ms: i64) {
    let request: Vec<Series> = samples
        .iter()
        .map(|(labels, time, bits)| Series { labels: labels.clone(), samples: vec![(*time, *bits)] })
        .collect();
    let at = {
        let mut book = book.lock().unwrap();
        book.batches.push(Batch { begun_ms, acknowledged_ms: None, samples });
        book.batches.len() - 1
    };
    match remote.send(&request).await {
        Ok(ack) if (200..300).contains(&ack.status) => {
            book.lock().unwrap().batches[at].acknowledged_ms = Some(now_ms());
        }
        // The server is away or on its way down: whether it took the request is not known.
        Ok(ack) => assert!(ack.status >= 500, "{} {}", ack.status, ack.body),
        Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
    }
}
