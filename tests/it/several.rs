//! Several receivers and stores on one bucket, asked together all the time, as Thanos Query asks them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::{LabelPairs, Perennial, RemoteWrite, Series, Setup, label_pairs, now_ms};

const REFRESH: &str = "--catalog.refresh=200ms";
const SERIES: u32 = 5;
const WATCHED: Duration = Duration::from_secs(20);

/// What was acknowledged: series and time to the value's bits.
type Book = Arc<Mutex<BTreeMap<(u32, i64), u64>>>;

fn labels(number: u32) -> LabelPairs {
    label_pairs(&[("__name__", "several_total"), ("number", &number.to_string())])
}

/// Writes to one receiver until told to stop; a request that fails is sent again, as senders do.
async fn write(url: String, numbers: Vec<u32>, book: Book, stop: Arc<std::sync::atomic::AtomicBool>) {
    let sender = RemoteWrite::new(&url);
    let mut last_ms = 0;
    while !stop.load(std::sync::atomic::Ordering::SeqCst) {
        let ts_ms = now_ms().max(last_ms + 1);
        last_ms = ts_ms;
        let value = |number: u32| (f64::from(number) + ts_ms as f64 / 7.0).to_bits();
        let series: Vec<Series> = numbers
            .iter()
            .map(|number| Series { labels: labels(*number), samples: vec![(ts_ms, value(*number))] })
            .collect();
        while !sender.send(&series).await.is_ok_and(|ack| ack.status == 204) {
            if stop.load(std::sync::atomic::Ordering::SeqCst) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        book.lock().unwrap().extend(numbers.iter().map(|number| ((*number, ts_ms), value(*number))));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Asks all at once; one that does not answer adds nothing. Returns every sample with all its values.
async fn ask_all(setups: &[&Setup]) -> BTreeMap<(u32, i64), BTreeSet<u64>> {
    let answers = setups.iter().map(|setup| async {
        let client = setup.try_store_api().await.ok()?;
        client.try_all(0, i64::MAX / 2).await.ok()
    });
    let mut seen: BTreeMap<(u32, i64), BTreeSet<u64>> = BTreeMap::new();
    for set in futures::future::join_all(answers).await.into_iter().flatten() {
        for (labels, samples) in set.without_labels(&["tenant_id", "receiver"]).series {
            let number = labels.iter().find(|(name, _)| name == "number").unwrap().1.parse().unwrap();
            for (ts_ms, bits) in samples {
                seen.entry((number, ts_ms)).or_default().insert(bits);
            }
        }
    }
    seen
}

/// Asks again and again, and compares with what had been acknowledged before each question.
async fn watch(setups: &[&Setup], book: &Book, until: Instant) -> usize {
    let mut questions = 0;
    while Instant::now() < until {
        let acknowledged = book.lock().unwrap().clone();
        let seen = ask_all(setups).await;
        for (sample, bits) in &acknowledged {
            let values = seen.get(sample);
            let values = values.unwrap_or_else(|| {
                panic!("question {questions}: {sample:?} of {} is missing", acknowledged.len())
            });
            assert_eq!(values, &BTreeSet::from([*bits]), "question {questions}: one value for {sample:?}");
        }
        questions += 1;
    }
    questions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn receivers_and_stores_together_show_every_sample_once_at_every_moment() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = format!("{{type: FILESYSTEM, config: {{directory: {}}}}}", folder.path().display());
    let receiver = |label: &str| {
        let label = format!("--label=receiver=\"{label}\"");
        let flags = [REFRESH, "--query.timeout=2s", "--head.cut-interval=1500ms", &label];
        Setup::role("receive").bucket(&bucket).flags(&flags)
    };
    let receivers = [receiver("0"), receiver("1")];
    let stores = [0, 1].map(|_| Setup::role("store").bucket(&bucket).flags(&[REFRESH]));
    let mut running: Vec<Perennial> = Vec::new();
    for setup in receivers.iter().chain(&stores) {
        running.push(setup.start().await);
    }
    let (book, stop) = (Book::default(), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let writers: Vec<_> = (0..2u32)
        .map(|at| {
            let numbers = (at * SERIES..(at + 1) * SERIES).collect();
            let url = receivers[at as usize].write_url();
            tokio::spawn(write(url, numbers, Arc::clone(&book), Arc::clone(&stop)))
        })
        .collect();
    let all: Vec<&Setup> = receivers.iter().chain(&stores).collect();
    let until = Instant::now() + WATCHED;
    let restarts = async {
        tokio::time::sleep(WATCHED / 3).await;
        // An orderly restart of a receiver, and of a store, under load.
        let first = running.remove(0);
        let stopping = tokio::task::spawn_blocking(|| first.stop());
        stopping.await.unwrap();
        let first = receivers[0].start().await;
        let store = running.pop().unwrap();
        let stopping = tokio::task::spawn_blocking(|| store.stop());
        stopping.await.unwrap();
        let store = stores[1].start().await;
        running.push(first);
        running.push(store);
    };
    let (questions, ()) = tokio::join!(watch(&all, &book, until), restarts);
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(questions > 20, "{questions} questions were asked");
    let acknowledged = book.lock().unwrap().len();
    assert!(acknowledged > 1_000, "{acknowledged} samples were acknowledged");
    for one in running {
        one.kill();
    }
}

/// Thanos Query takes equal chunks for one; between unequal ones that overlap its deduplication drops samples.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_and_a_store_send_equal_chunks_of_what_both_hold() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = format!("{{type: FILESYSTEM, config: {{directory: {}}}}}", folder.path().display());
    // What was committed stays in the receiver for two refreshes and the time of a query.
    let flags = ["--query.timeout=5m", "--head.cut-interval=1h"];
    let receiver = Setup::role("receive").bucket(&bucket).flags(&flags);
    let perennial = receiver.start().await;
    let sender = RemoteWrite::new(&receiver.write_url());
    let start_ms = now_ms() - 3_600_000;
    let send = async |steps: std::ops::Range<i64>| {
        let samples =
            |number: u32| steps.clone().map(move |step| (start_ms + step * 1_000, u64::from(number)));
        let series = |number| Series { labels: labels(number), samples: samples(number).collect() };
        assert_eq!(sender.send(&(0..SERIES).map(series).collect::<Vec<_>>()).await.unwrap().status, 204);
    };
    send(0..150).await;
    perennial.flush().await;
    send(150..170).await;
    perennial.flush().await;
    send(170..200).await;
    let store = Setup::role("store").bucket(&bucket);
    let other = store.start().await;
    // From the middle of a chunk on, as a query would.
    for from_ms in [start_ms, start_ms + 70_000, start_ms + 160_000] {
        let fresh = receiver.store_api().await.chunks(from_ms, start_ms + 199_000).await;
        let stored = store.store_api().await.chunks(from_ms, start_ms + 199_000).await;
        assert!(!stored.is_empty() && stored.is_subset(&fresh), "{stored:?}\nis not all in\n{fresh:?}");
        assert!(stored.len() < fresh.len(), "the newest samples are in the receiver alone");
    }
    perennial.kill();
    other.kill();
}
