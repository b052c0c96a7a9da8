//! A pair of replicas that send the same series, each to a receiver of its own, beside a store on the same bucket:
//! what tells them apart is hidden where a reader asks for that, and shown where not.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::support::{
    Answer, LabelPairs, Perennial, RemoteRead, SampleSet, Series, Setup, StoreApi, get_json, label_pairs,
    now_ms,
};

const METRICS: [&str; 3] = ["pair_a_total", "pair_b_total", "pair_c_total"];
const REPLICAS: [&str; 2] = ["a", "b"];
const STEP_MS: i64 = 1_000;
/// What Thanos Query is started with: the senders' label and the receivers' own.
const HIDDEN: [&str; 2] = ["replica", "receiver"];

/// Two receivers and a store on one bucket.
struct Pair {
    receivers: [Setup; 2],
    store: Setup,
    running: Vec<Perennial>,
    start_ms: i64,
    _bucket: tempfile::TempDir,
}

fn value_bits(metric: usize, step: i64) -> u64 {
    (step as f64 / 7.0 + metric as f64).to_bits()
}

/// Returns the samples of some steps: replicas that scrape the same target at the same time see the same.
fn samples(start_ms: i64, metric: usize, steps: impl Iterator<Item = i64>) -> Vec<(i64, u64)> {
    steps.map(|step| (start_ms + step * STEP_MS, value_bits(metric, step))).collect()
}

impl Pair {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bucket = format!("{{type: FILESYSTEM, config: {{directory: {}}}}}", folder.path().display());
        let receivers = ["0", "1"].map(|number| {
            let label = format!("--label=receiver=\"{number}\"");
            // Long enough that receivers still hold what they have committed.
            let flags = ["--receive.replica-label=replica", "--query.timeout=5m", "--head.cut-interval=1h"];
            Setup::role("receive").bucket(&bucket).flags(&flags).flags(&[&label])
        });
        let store = Setup::role("store").bucket(&bucket);
        let store = store.flags(&["--query.replica-label=replica", "--catalog.refresh=200ms"]);
        let mut running = Vec::new();
        for setup in &receivers {
            running.push(setup.start().await);
        }
        running.push(store.start().await);
        Self { receivers, store, running, start_ms: now_ms() - 3_600_000, _bucket: folder }
    }

    /// Sends some steps as one replica to its receiver; each sample has an exemplar that both replicas see.
    async fn send(&self, replica: usize, steps: std::ops::Range<i64>) {
        let sender = self.receivers[replica].remote_write();
        for (number, metric) in METRICS.iter().enumerate() {
            let labels = label_pairs(&[("__name__", metric), ("job", "x"), ("replica", REPLICAS[replica])]);
            let series = Series { labels, samples: samples(self.start_ms, number, steps.clone()) };
            let ack = sender.send_with_exemplars(&series).await.unwrap();
            assert_eq!(ack.status, 204, "{}", ack.body);
        }
    }

    async fn send_all(&self, steps: std::ops::Range<i64>) {
        for replica in 0..REPLICAS.len() {
            self.send(replica, steps.clone()).await;
        }
    }

    async fn flush(&self) {
        for receiver in &self.running[..2] {
            receiver.flush().await;
        }
    }

    /// Returns what must be read of these steps, with the replica's label or without.
    fn expected(&self, replicas: &[Option<&str>], steps: std::ops::Range<i64>) -> SampleSet {
        let mut set = SampleSet::default();
        for (number, metric) in METRICS.iter().enumerate() {
            for replica in replicas {
                let mut pairs = vec![("__name__", *metric), ("job", "x")];
                pairs.extend(replica.map(|replica| ("replica", replica)));
                set.append(label_pairs(&pairs), samples(self.start_ms, number, steps.clone()));
            }
        }
        set
    }

    /// Asks all three as Thanos Query does, which takes equal chunks of equal series for one.
    async fn ask(&self, hidden: &[&str], setups: &[&Setup]) -> SampleSet {
        let mut chunks = BTreeSet::new();
        for setup in setups {
            let api = setup.store_api().await;
            chunks.extend(api.chunks_without(hidden, 0, i64::MAX / 2).await);
        }
        let mut decoded: BTreeMap<LabelPairs, Vec<Vec<(i64, u64)>>> = BTreeMap::new();
        for (mut labels, encoding, data) in chunks {
            assert_eq!(encoding, 0, "an XOR chunk");
            labels.retain(|(name, _)| name != "tenant_id" && name != "receiver");
            decoded.entry(labels).or_default().push(StoreApi::decode(&data));
        }
        let mut set = SampleSet::default();
        for (labels, mut runs) in decoded {
            runs.sort();
            // Panics on a sample that comes twice.
            set.append(labels, runs.concat());
        }
        set
    }

    fn all(&self) -> [&Setup; 3] {
        [&self.receivers[0], &self.receivers[1], &self.store]
    }
}

async fn data(setup: &Setup, path: &str, query: &[(&str, &str)]) -> Value {
    let answer = get_json(&setup.url(path), query).await;
    assert_eq!(answer["status"], "success", "{answer}");
    answer["data"].clone()
}

/// Waits until the store has read the newest catalog: until it shows so many series.
async fn wait_for_series(store: &Setup, wanted: usize) {
    let started = std::time::Instant::now();
    loop {
        let found = data(store, "/api/v1/series", &[("match[]", "{job=\"x\"}")]).await;
        if found.as_array().unwrap().len() == wanted {
            return;
        }
        assert!(started.elapsed().as_secs() < 60, "{wanted} series are wanted: {found}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// Checks series, labels and values of one process, which has samples of these replicas.
async fn check_metadata(setup: &Setup, replicas: &[&str]) {
    let selector = ("match[]", "{__name__=~\"pair_.*\"}");
    let shown = data(setup, "/api/v1/series", &[selector]).await;
    let expected: Vec<Value> = METRICS
        .iter()
        .flat_map(|m| replicas.iter().map(move |r| json!({"__name__": m, "job": "x", "replica": r})))
        .collect();
    assert_eq!(shown, json!(expected), "nothing is hidden unless asked for");
    for asked in [vec![("dedup", "true")], vec![("dedup", "true"), ("replicaLabels[]", "replica")]] {
        let query: Vec<_> = asked.iter().copied().chain([selector]).collect();
        let hidden = data(setup, "/api/v1/series", &query).await;
        let expected: Vec<Value> = METRICS.iter().map(|m| json!({"__name__": m, "job": "x"})).collect();
        assert_eq!(hidden, json!(expected), "{asked:?}");
        assert_eq!(data(setup, "/api/v1/labels", &asked).await, json!(["__name__", "job"]), "{asked:?}");
        let values = data(setup, "/api/v1/label/replica/values", &asked).await;
        assert_eq!(values, json!([]), "{asked:?}");
    }
    assert_eq!(data(setup, "/api/v1/labels", &[]).await, json!(["__name__", "job", "replica"]));
    assert_eq!(data(setup, "/api/v1/label/replica/values", &[]).await, json!(replicas));
    let other = [selector, ("dedup", "true"), ("replicaLabels[]", "job")];
    let other = data(setup, "/api/v1/series", &other).await;
    assert_eq!(other[0], json!({"__name__": METRICS[0], "replica": replicas[0]}), "as the request says");
}

/// Checks the exemplars of one metric: each of `steps` once in every series that is shown.
async fn check_exemplars(setup: &Setup, start_ms: i64, replicas: &[&str], steps: std::ops::Range<i64>) {
    let traces: Vec<String> = steps.map(|step| format!("trace-{}", start_ms + step * STEP_MS)).collect();
    let shown = |series: &Value| -> Vec<String> {
        let list = series["exemplars"].as_array().unwrap().iter();
        list.map(|one| one["labels"]["trace_id"].as_str().unwrap().to_owned()).collect()
    };
    for (dedup, expected) in [("false", replicas.len()), ("true", 1)] {
        let query = [("query", METRICS[0]), ("dedup", dedup)];
        let answer = data(setup, "/api/v1/query_exemplars", &query).await;
        let series = answer.as_array().unwrap();
        assert_eq!(series.len(), expected, "dedup={dedup}: {answer}");
        for (number, one) in series.iter().enumerate() {
            let replica = (dedup == "false").then(|| json!(replicas[number]));
            assert_eq!(one["seriesLabels"].get("replica").cloned(), replica, "dedup={dedup}");
            assert_eq!(one["seriesLabels"]["job"], "x");
            assert_eq!(shown(one), traces, "dedup={dedup}: each exemplar once");
        }
    }
}

async fn check_remote_read(pair: &Pair, setup: &Setup, replicas: &[&str], steps: std::ops::Range<i64>) {
    let both: Vec<Option<&str>> = replicas.iter().copied().map(Some).collect();
    let all = (0, i64::MAX / 2);
    for answer in [Answer::Samples, Answer::Streamed] {
        let shown = setup.remote_read().all(all.0, all.1, answer).await;
        pair.expected(&both, steps.clone()).assert_same(&shown, "without the request");
        let hiding = RemoteRead::new(&setup.url("/api/v1/read?dedup=true"));
        let hidden = hiding.all(all.0, all.1, answer).await;
        pair.expected(&[None], steps.clone()).assert_same(&hidden, "with dedup=true");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_pair_is_shown_as_one_on_demand_and_as_two_without() {
    let pair = Pair::start().await;
    // More than a chunk, then a cut, then what only the receivers have.
    pair.send_all(0..200).await;
    let shown = [Some("a"), Some("b")];
    for (when, before, after) in [("in heads", 0, 200), ("in blocks", 1, 200), ("in both", 1, 230)] {
        if before == 1 && after == 200 {
            pair.flush().await;
            wait_for_series(&pair.store, METRICS.len() * 2).await;
        }
        if after == 230 {
            pair.send_all(200..230).await;
        }
        let asked = pair.ask(&HIDDEN, &pair.all()).await;
        pair.expected(&[None], 0..after).assert_same(&asked, &format!("hidden, {when}"));
        let asked = pair.ask(&[], &pair.all()).await;
        pair.expected(&shown, 0..after).assert_same(&asked, &format!("shown, {when}"));
        for (setup, replica) in pair.receivers.iter().zip(&REPLICAS) {
            check_metadata(setup, &[replica]).await;
            check_exemplars(setup, pair.start_ms, &[replica], 0..after).await;
            check_remote_read(&pair, setup, &[replica], 0..after).await;
        }
    }
    check_metadata(&pair.store, &REPLICAS).await;
    check_exemplars(&pair.store, pair.start_ms, &REPLICAS, 0..200).await;
    check_remote_read(&pair, &pair.store, &REPLICAS, 0..200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_away_leaves_no_gap_in_what_is_shown_as_one() {
    let pair = Pair::start().await;
    // Each replica misses what the other has seen; they meet in the middle.
    pair.send(0, 0..100).await;
    pair.flush().await;
    pair.send(0, 100..150).await;
    pair.send(1, 90..220).await;
    pair.flush().await;
    wait_for_series(&pair.store, METRICS.len() * 2).await;
    let store = &pair.store;
    for answer in [Answer::Samples, Answer::Streamed] {
        let hiding = RemoteRead::new(&store.url("/api/v1/read?dedup=true"));
        let whole = hiding.all(0, i64::MAX / 2, answer).await;
        pair.expected(&[None], 0..220).assert_same(&whole, "with dedup=true");
        let parts = store.remote_read().all(0, i64::MAX / 2, answer).await;
        let mut expected = pair.expected(&[Some("a")], 0..150);
        expected.series.extend(pair.expected(&[Some("b")], 90..220).series);
        expected.assert_same(&parts, "without");
    }
    let query = [("query", METRICS[1]), ("dedup", "true")];
    let answer = data(store, "/api/v1/query_exemplars", &query).await;
    assert_eq!(answer.as_array().unwrap().len(), 1, "{answer}");
    let exemplars = answer[0]["exemplars"].as_array().unwrap();
    assert_eq!(exemplars.len(), 220, "what both saw is there once, and what one saw as well");
}
