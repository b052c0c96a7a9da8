//! What an unmodified Thanos Query relies on, between processes.
//!
//! The other promises are held for heads, blocks and both in `src/store/tests` (`store_api`: shape, order, labels,
//! matchers, bounds, limits, frames, Info; `contract`: hashes, replicas, shards, statuses, warnings; `stops`: clients
//! that go, deadlines; `kinds` and `transcoding`: histograms, exemplars, metadata, forms of chunks), those of the
//! connection in `src/server/tests.rs`, and the hand-over between processes in [`crate::several`].

use serde_json::json;
use tonic::Code;

use crate::support::{Answer, RemoteRead, SampleSet, Series, Setup, get_json, get_text, label_pairs, now_ms};

/// Kind, label and value; kinds are 0 `=`, 1 `!=`, 2 `=~`, 3 `!~`.
type Matcher = (i32, &'static str, &'static str);

const ALL: Matcher = (2, "__name__", ".+");

async fn write(setup: &Setup, series: &[Series]) {
    let ack = setup.remote_write().send(series).await.unwrap();
    assert_eq!(ack.status, 204, "{}", ack.body);
}

fn counters(name: &str, count: usize, from_ms: i64) -> Vec<Series> {
    let one = |number: usize| Series {
        labels: label_pairs(&[("__name__", name), ("number", &format!("{number:06}"))]),
        samples: (0..3).map(|i| (from_ms + i * 1_000, number as u64)).collect(),
    };
    (0..count).map(one).collect()
}

fn set_of(written: &[Series]) -> SampleSet {
    let mut set = SampleSet::default();
    written.iter().for_each(|s| set.append(s.labels.clone(), s.samples.iter().copied()));
    set
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_says_what_it_is_as_soon_as_it_is_ready_and_again_after_a_restart() {
    let setup = Setup::standalone().flags(&["--label=replica=\"a\""]);
    let running = setup.start().await;
    assert_eq!(setup.store_api().await.info().await, ("receive".to_owned(), Vec::new()));
    write(&setup, &counters("up", 2, now_ms() - 60_000)).await;
    let labels = vec![label_pairs(&[("replica", "a"), ("tenant_id", "default-tenant")])];
    let announced = ("receive".to_owned(), labels);
    assert_eq!(setup.store_api().await.info().await, announced);
    running.kill();
    assert!(setup.try_store_api().await.is_err(), "queriers leave it out");
    // Ready is when the log is replayed: from the first answer on nothing is missing.
    let running = setup.start().await;
    assert_eq!(setup.store_api().await.info().await, announced);
    assert_eq!(setup.store_api().await.all(0, i64::MAX / 2).await.samples(), 6);
    running.stop();
}

/// What the two servers of an HA pair send: each scrapes for itself.
fn of_replica(replica: &str, from_ms: i64) -> Vec<Series> {
    let offset_ms = if replica == "a" { 0 } else { 500 };
    let one = |job: &str| Series {
        labels: label_pairs(&[("__name__", "up"), ("job", job), ("replica", replica)]),
        samples: (0..20).map(|i| (from_ms + offset_ms + i * 1_000, i as u64)).collect(),
    };
    ["x", "y"].map(one).to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_stay_apart_until_a_query_hides_their_label() {
    let setup = Setup::standalone().flags(&["--receive.replica-label=replica"]);
    let running = setup.start().await;
    let start_ms = now_ms() - 600_000;
    let mut written = Vec::new();
    for (part, flush) in [(0, true), (1, false)] {
        for replica in ["a", "b"] {
            // One after the other, as the labels' order has it: only neighbours can be told from doubles.
            let from_ms = start_ms + part * 60_000;
            let series = of_replica(replica, from_ms);
            write(&setup, &series).await;
            written.extend(series);
        }
        if flush {
            running.flush().await;
        }
    }
    let apart = set_of(&written);
    let mut together = SampleSet::default();
    for (labels, samples) in &apart.series {
        let labels = labels.iter().filter(|(name, _)| name != "replica").cloned().collect();
        together.series.entry(labels).or_default().extend(samples);
    }
    together.series.values_mut().for_each(|samples| samples.sort_unstable());

    let store = setup.store_api().await;
    apart.assert_same(
        &store.all(0, i64::MAX / 2).await.without_labels(&["tenant_id"]),
        "StoreAPI, nothing hidden",
    );
    // Copies come one after the other under equal label sets; Thanos Query chooses among their samples.
    let sent = store.series_sent(&["replica"]).await;
    let names: Vec<&str> = sent.iter().map(|(labels, _)| labels[1].1.as_str()).collect();
    assert_eq!(names, ["x", "x", "y", "y"]);
    let mut found = SampleSet::default();
    for (mut labels, samples) in sent {
        labels.retain(|(name, _)| name != "tenant_id");
        found.series.entry(labels).or_default().extend(samples);
    }
    found.series.values_mut().for_each(|samples| samples.sort_unstable());
    together.assert_same(&found, "StoreAPI, replicas hidden");

    apart.assert_same(&setup.remote_read().all(0, i64::MAX / 2, Answer::Samples).await, "remote read");
    let hiding = RemoteRead::new(&format!("{}?dedup=true", setup.read_url()));
    for answer in [Answer::Samples, Answer::Streamed] {
        together.assert_same(&hiding.all(0, i64::MAX / 2, answer).await, "remote read, replicas hidden");
    }
    let labels = |dedup| {
        let url = setup.url("/api/v1/labels");
        async move { get_json(&url, &[("dedup", dedup)]).await["data"].clone() }
    };
    assert_eq!(labels("false").await, json!(["__name__", "job", "replica"]));
    assert_eq!(labels("true").await, json!(["__name__", "job"]));
    running.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_a_large_answer_holds_up_nobody() {
    // The only place among the queries; 50,000 series are far more than connections hold on their way.
    let setup = Setup::standalone().flags(&["--query.max-concurrency=1"]);
    let running = setup.start().await;
    let mut written = 0;
    for part in 0..5 {
        let series = counters(&format!("many_{part}"), 10_000, now_ms() - 60_000);
        written += series.len();
        write(&setup, &series).await;
    }
    for _ in 0..5 {
        setup.store_api().await.leave_after_one_frame().await;
    }
    assert_eq!(setup.store_api().await.all(0, i64::MAX / 2).await.series.len(), written);
    let metrics = get_text(&setup.url("/metrics")).await;
    let line = "perennial_read_requests_total{method=\"Series\",outcome=\"abandoned\"} 5";
    assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    running.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_the_status_that_queriers_know() {
    let flags = ["--store.limits.request-series=3", "--store.limits.request-samples=10"];
    let setup = Setup::standalone().flags(&flags);
    let running = setup.start().await;
    let from_ms = now_ms() - 60_000;
    for name in ["few", "many"] {
        write(&setup, &counters(name, if name == "few" { 3 } else { 4 }, from_ms)).await;
    }
    let many = Series {
        labels: label_pairs(&[("__name__", "long")]),
        samples: (0..11).map(|i| (from_ms + i, 1)).collect(),
    };
    write(&setup, &[many]).await;
    let store = setup.store_api().await;
    let cases: [(&[Matcher], Option<Code>, &str); 6] = [
        (&[(0, "__name__", "few")], None, ""),
        (&[(0, "__name__", "many")], Some(Code::ResourceExhausted), "--store.limits.request-series"),
        (&[(0, "__name__", "long")], Some(Code::ResourceExhausted), "--store.limits.request-samples"),
        (&[], Some(Code::InvalidArgument), "matchers"),
        (&[ALL, (2, "job", "(")], Some(Code::InvalidArgument), "RE2"),
        (&[(9, "job", "x")], Some(Code::InvalidArgument), "9"),
    ];
    for (matchers, code, text) in cases {
        let refused = store.try_matching(matchers, 0, i64::MAX / 2, &[]).await.err();
        assert_eq!(refused.as_ref().map(tonic::Status::code), code, "{matchers:?}: {refused:?}");
        let message = refused.as_ref().map_or("", tonic::Status::message);
        assert!(message.contains(text), "{message}");
    }
    running.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_messages_of_an_answer_are_compressed_where_the_client_compresses() {
    let setup = Setup::standalone();
    let running = setup.start().await;
    let written = counters("up", 500, now_ms() - 60_000);
    write(&setup, &written).await;
    let (found, messages) = setup.store_api().await.all_compressed().await;
    set_of(&written).assert_same(&found.without_labels(&["tenant_id"]), "StoreAPI with snappy");
    assert_eq!(messages, 500usize.div_ceil(64));
    running.stop();
}
