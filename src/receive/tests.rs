mod cuts;
mod kinds;
mod object;
mod rig;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use self::rig::{FullSeries, Held, Rig, series};
use super::batch::{Batch, Parts};
use super::{CommandQueue, Committer, CutReport};
use crate::head::Heads;
use crate::log::{LoggedExemplar, LoggedHistogram, LoggedSample};
use crate::model::tests::made::{any_exemplar, any_histogram, any_metadata};
use crate::model::{
    Exemplar, Histogram, HistogramSample, Labels, Metadata, MetadataEntry, MetricType, NativeHistogram,
    STALE_MARKER_BITS, Sample, SeriesData, Span, TenantId, TimeRange, normalize_exemplars, normalize_samples,
};
use crate::runtime::{Memory, MemoryUse, Metrics};
use crate::wire::remote_write::Protocol;

/// What must be readable.
#[derive(Debug, Default)]
struct Model(BTreeMap<Labels, BTreeMap<i64, Sample>>);

impl Model {
    fn write(&mut self, batch: &[(Labels, Vec<Sample>)]) {
        for (labels, samples) in batch {
            for sample in samples {
                let held = self.0.entry(labels.clone()).or_default().entry(sample.ts_ms).or_insert(*sample);
                *held = held.winner(*sample);
            }
        }
    }

    fn samples(&self) -> Vec<(Labels, Vec<Sample>)> {
        self.0.iter().map(|(labels, samples)| (labels.clone(), samples.values().copied().collect())).collect()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(Protocol, Vec<(usize, Vec<Sample>)>),
    Flush,
    Crash,
    /// The bucket goes or comes back.
    Toggle,
}

fn any_sample() -> impl Strategy<Value = Sample> {
    let value = prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        Just(f64::from_bits(STALE_MARKER_BITS)),
        Just(-0.0),
        Just(f64::INFINITY),
        (-9i64..9).prop_map(|n| n as f64 / 8.0),
    ];
    (0i64..40, value).prop_map(|(at, value)| Sample::new(rig::NOW_MS - at * 2_000_000, value))
}

fn any_step() -> impl Strategy<Value = Step> {
    let written = prop::collection::vec((0usize..4, prop::collection::vec(any_sample(), 1..30)), 1..6);
    let protocol = prop_oneof![Just(Protocol::V1), Just(Protocol::V2)];
    prop_oneof![
        6 => (protocol, written).prop_map(|(protocol, written)| Step::Write(protocol, written)),
        2 => Just(Step::Flush),
        2 => Just(Step::Crash),
        2 => Just(Step::Toggle),
    ]
}

fn four_series() -> Vec<Labels> {
    vec![
        series(&[("__name__", "up"), ("job", "a")]),
        series(&[("__name__", "up"), ("job", "ä \" \\ \n"), ("größe", "1")]),
        series(&[("no_name", "1"), ("Z", "z")]),
        series(&[("__name__", "🦀.requests"), ("_hidden", "x"), ("job", "a"), ("Job", "b")]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn any_samples_over_requests_flushes_and_crashes_come_back_as_exactly_the_set(
        steps in prop::collection::vec(any_step(), 1..12),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(run_steps(steps));
    }
}

async fn run_steps(steps: Vec<Step>) {
    let rig = Rig::new();
    let (mut node, mut model, names) = (rig.start().await, Model::default(), four_series());
    let mut away = false;
    for step in steps {
        match step {
            Step::Write(protocol, written) => {
                let batch: Vec<_> = written.into_iter().map(|(i, s)| (names[i].clone(), s)).collect();
                let total: usize = batch.iter().map(|(_, samples)| samples.len()).sum();
                let answer = node.write(protocol, &batch).await;
                assert_eq!((answer.status, answer.samples_written), (204, total as u64), "{}", answer.text);
                model.write(&batch);
            }
            Step::Flush => assert!(node.flush().await.is_ok() || away),
            Step::Crash => {
                node.crash().await;
                node = rig.start().await;
            }
            Step::Toggle => {
                away = !away;
                rig.set_bucket_away(away);
                if !away {
                    node.read_catalogs().await;
                }
            }
        }
        // Blocks in a bucket that is away cannot be read.
        if !away {
            assert_eq!(node.read_all().await, model.samples());
        }
    }
    rig.set_bucket_away(false);
    node.stop().await;
    let node = rig.start().await;
    assert_eq!(node.log_segments(), 0, "a graceful stop leaves nothing in the log");
    assert_eq!(node.read_all().await, model.samples());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partial_write_keeps_the_good_part_and_names_the_first_bad_series() {
    let node = Rig::new().start().await;
    let good = (series(&[("__name__", "good")]), vec![Sample::new(rig::NOW_MS, 1.0)]);
    let late = (
        series(&[("__name__", "late")]),
        vec![Sample::new(rig::NOW_MS - 8 * 86_400_000, 1.0), Sample::new(rig::NOW_MS, 2.0)],
    );
    let answer = node.write(Protocol::V1, &[good.clone(), late.clone()]).await;
    assert_eq!((answer.status, answer.samples_written), (400, 2));
    assert!(answer.text.contains("late") && answer.text.contains("--ingest.max-age"), "{}", answer.text);
    let kept = vec![(good.0, good.1), (late.0, vec![late.1[1]])];
    assert_eq!(node.read_all().await, kept);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_request_leaves_nothing_behind() {
    let node = Rig::new().start().await;
    let batch = [(series(&[("__name__", "up")]), vec![Sample::new(rig::NOW_MS, 1.0)])];
    let answer = node.write_damaged(&batch).await;
    assert_eq!((answer.status, answer.samples_written), (400, 0));
    assert!(node.read_all().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_remote_write_is_refused_with_its_own_status() {
    let node = Rig::new().start().await;
    assert_eq!(node.post("text/plain", "snappy", "t", vec![0]).await.status, 415);
    assert_eq!(node.post("application/x-protobuf", "gzip", "t", vec![0]).await.status, 415);
    assert_eq!(node.post("application/x-protobuf", "snappy", "../t", vec![0]).await.status, 400);
    let huge = vec![0u8; rig::BODY_BYTES_MAX * 2];
    assert_eq!(node.post("application/x-protobuf", "snappy", "t", huge).await.status, 413);
}

#[tokio::test]
async fn requests_that_send_no_body_take_no_room_and_are_ended() {
    let node = Rig::new().start().await;
    let mut stalled = std::pin::pin!(futures::future::join_all((0..40).map(|_| node.post_headers_only())));
    let wait = std::time::Duration::from_secs(5);
    let status = tokio::select! {
        biased;
        _ = &mut stalled => panic!("they have sent nothing"),
        status = tokio::time::timeout(wait, node.write_one("up", rig::NOW_MS)) => status,
    };
    assert_eq!(status, Ok(204), "others write at once");
    tokio::time::pause();
    for answer in stalled.await {
        assert_eq!(answer.status, 503);
        assert!(answer.text.contains("nothing came for 10 s"), "{}", answer.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_histograms_count_for_the_memory_that_they_take_decoded() {
    let memory = Memory::new(1_000_000, &Metrics::new());
    let node = Rig::new().memory(memory.clone()).start().await;
    let histograms = (-1_200..0).map(|n| histogram(rig::NOW_MS + n, 2)).collect();
    let batch = [FullSeries { histograms, ..full("latency") }];
    let others = memory.reserve(MemoryUse::Queries, 720_000).unwrap();
    let answer = node.write_full(Protocol::V1, &batch).await;
    assert_eq!((answer.status, answer.histograms_written), (503, 0), "{}", answer.text);
    assert!(answer.text.contains("--memory-limit"), "{}", answer.text);
    assert_eq!(node.write_one("up", rig::NOW_MS).await, 204, "there is room for less");
    drop(others);
    let answer = node.write_full(Protocol::V1, &batch).await;
    assert_eq!((answer.status, answer.histograms_written), (204, 1_200), "{}", answer.text);
}

fn full(name: &str) -> FullSeries {
    FullSeries {
        labels: series(&[("__name__", name), ("job", "a")]),
        samples: Vec::new(),
        histograms: Vec::new(),
        exemplars: Vec::new(),
        metadata: None,
    }
}

fn histogram(ts_ms: i64, count: u64) -> HistogramSample {
    let histogram = Histogram {
        count,
        positive_spans: vec![Span { offset: 0, length: 1 }],
        positive_buckets: vec![2],
        ..Histogram::default()
    };
    HistogramSample { ts_ms, start_ms: 0, histogram: NativeHistogram::Int(Box::new(histogram)) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_is_kept_and_logged_only_where_it_says_something_new() {
    let rig = Rig::keeping_heads();
    let node = rig.start().await;
    let counter = Metadata { kind: MetricType::Counter, help: "Requests.".to_owned(), unit: String::new() };
    let said = [FullSeries { metadata: Some(counter.clone()), ..full("requests_total") }];
    for (protocol, samples) in [(Protocol::V1, 0), (Protocol::V1, 0), (Protocol::V2, 1)] {
        let before = node.log_bytes();
        let mut said = said.clone();
        said[0].samples = vec![Sample::new(rig::NOW_MS, 1.0); samples];
        let answer = node.write_full(protocol, &said).await;
        assert_eq!((answer.status, answer.samples_written), (204, samples as u64), "{}", answer.text);
        let expected = BTreeSet::from([("requests_total".to_owned(), counter.clone())]);
        assert_eq!(node.held().metadata, expected);
        let first = before == 0;
        assert_eq!(node.log_bytes() > before, first || samples > 0, "only what is new is logged");
    }
    let changed = Metadata { help: "All requests.".to_owned(), ..counter };
    node.write_full(Protocol::V1, &[FullSeries { metadata: Some(changed), ..full("requests_total") }]).await;
    assert_eq!(node.held().metadata.len(), 2, "both are its history");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_histogram_is_refused_with_its_reason_and_the_rest_is_counted_exactly() {
    let node = Rig::keeping_heads().start().await;
    let late = rig::NOW_MS - 8 * 86_400_000;
    let exemplar = |ts_ms| Exemplar { labels: series(&[("trace_id", "1")]), value: 1.0, ts_ms };
    let batch = [
        FullSeries { samples: vec![Sample::new(rig::NOW_MS, 1.0)], ..full("up") },
        FullSeries {
            histograms: vec![histogram(rig::NOW_MS, 3), histogram(rig::NOW_MS, 2), histogram(late, 2)],
            exemplars: vec![exemplar(rig::NOW_MS), exemplar(late), exemplar(rig::NOW_MS + 1)],
            ..full("rpc")
        },
    ];
    for protocol in [Protocol::V1, Protocol::V2] {
        let answer = node.write_full(protocol, &batch).await;
        assert_eq!(answer.status, 400);
        let written = (answer.samples_written, answer.histograms_written, answer.exemplars_written);
        assert_eq!(written, (1, 1, 2));
        assert!(answer.text.contains("2 histograms, 1 exemplars of"), "{}", answer.text);
        assert!(answer.text.contains("rpc") && answer.text.contains("count says 3"), "{}", answer.text);
    }
    let held = node.held();
    assert_eq!(held.series[&batch[1].labels].histograms, [histogram(rig::NOW_MS, 2)]);
    assert_eq!(held.exemplars[&batch[1].labels].len(), 2);
}

#[derive(Debug, Clone)]
enum KindStep {
    Write(Protocol, Vec<FullSeries>),
    Crash,
}

fn any_full() -> impl Strategy<Value = FullSeries> {
    let times = || (0i64..40).prop_map(|at| rig::NOW_MS - at * 2_000_000);
    (
        prop::sample::select(four_series()),
        prop::collection::vec(any_sample(), 0..9),
        prop::collection::vec(any_histogram(times()), 0..5),
        prop::collection::vec(any_exemplar(times()), 0..3),
        prop::option::of(any_metadata()),
    )
        .prop_map(|(labels, samples, histograms, exemplars, metadata)| FullSeries {
            labels,
            samples,
            histograms,
            exemplars,
            metadata,
        })
        .prop_filter("2.0 wants something in every series", |one| {
            !(one.samples.is_empty() && one.histograms.is_empty() && one.exemplars.is_empty())
        })
}

fn any_kind_step() -> impl Strategy<Value = KindStep> {
    let protocol = prop_oneof![Just(Protocol::V1), Just(Protocol::V2)];
    let written = prop::collection::vec(any_full(), 1..6);
    prop_oneof![
        4 => (protocol, written).prop_map(|(protocol, written)| KindStep::Write(protocol, written)),
        1 => Just(KindStep::Crash),
    ]
}

/// Puts what a request holds into what the heads must hold.
fn expect(held: &mut Held, protocol: Protocol, written: &[FullSeries]) {
    for one in written {
        let mut data = SeriesData::floats(one.samples.clone());
        data.histograms.clone_from(&one.histograms);
        if protocol == Protocol::V1 {
            data.histograms.iter_mut().for_each(|sample| sample.start_ms = 0);
        }
        normalize_samples(&mut data.samples);
        if !data.is_empty() {
            let known = held.series.entry(one.labels.clone()).or_default();
            *known = SeriesData::merge(vec![std::mem::take(known), data]);
        }
        if !one.exemplars.is_empty() {
            let known = held.exemplars.entry(one.labels.clone()).or_default();
            known.extend(one.exemplars.iter().cloned());
            normalize_exemplars(known);
        }
        let name = one.labels.metric_name();
        let told = protocol == Protocol::V1 || one.metadata != Some(Metadata::default());
        if let Some(metadata) = one.metadata.clone().filter(|_| told && !name.is_empty()) {
            held.metadata.insert((name.to_owned(), metadata));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn every_kind_over_requests_and_crashes_comes_back_from_the_log(
        steps in prop::collection::vec(any_kind_step(), 1..8),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let rig = Rig::keeping_heads();
            let (mut node, mut held) = (rig.start().await, Held::default());
            for step in steps {
                match step {
                    KindStep::Write(protocol, written) => {
                        let answer = node.write_full(protocol, &written).await;
                        let histograms: usize = written.iter().map(|one| one.histograms.len()).sum();
                        let exemplars: usize = written.iter().map(|one| one.exemplars.len()).sum();
                        let told = (answer.histograms_written, answer.exemplars_written);
                        assert_eq!(told, (histograms as u64, exemplars as u64), "{}", answer.text);
                        // 1.0 metadata of a series without a name has no family and is refused.
                        let nameless = |one: &FullSeries| one.labels.metric_name().is_empty();
                        let refused = protocol == Protocol::V1
                            && written.iter().any(|one| nameless(one) && one.metadata.is_some());
                        assert_eq!(answer.status, if refused { 400 } else { 204 }, "{}", answer.text);
                        expect(&mut held, protocol, &written);
                    }
                    KindStep::Crash => {
                        node.crash().await;
                        node = rig.start().await;
                    }
                }
                assert_eq!(node.held(), held);
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_while_a_cut_freezes_its_head_moves_to_the_next_with_all_kinds() {
    let heads = Heads::new();
    let tenant = TenantId::new("t").unwrap();
    let head = heads.active(&tenant);
    let _other = head.resolve(&[series(&[("first", "1")])]);
    let labels = series(&[("__name__", "rpc")]);
    let number = head.resolve(std::slice::from_ref(&labels))[0];
    let parts = Parts {
        samples: vec![LoggedSample { series: number, sample: Sample::new(1, 1.0) }],
        histograms: vec![LoggedHistogram { series: number, sample: histogram(2, 2) }],
        exemplars: vec![LoggedExemplar {
            series: number,
            exemplar: Exemplar { labels: Labels::empty(), value: 1.0, ts_ms: 3 },
        }],
        metadata: vec![MetadataEntry {
            family: "rpc".to_owned(),
            since_ms: 4,
            metadata: Metadata::default(),
        }],
    };
    let mut batch = Batch { head, parts, room: None };
    let _ = heads.freeze();
    batch.rebase(&heads);
    batch.append_to_head();
    let head = heads.active(&tenant);
    let found = head.select(&[], TimeRange::ALL);
    assert_eq!((found.len(), &found[0].labels), (1, &labels));
    assert_eq!(head.read(&[found[0].series], TimeRange::ALL)[0].len(), 2);
    assert_eq!(head.exemplars(&[], TimeRange::ALL)[0].0, labels);
    assert_eq!(head.metadata().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_bucket_is_away_blocks_wait_in_files_and_heads_take_no_memory() {
    let rig = Rig::new();
    let node = rig.start().await;
    assert_eq!(node.write_one("up", rig::NOW_MS).await, 204);
    rig.set_bucket_away(true);
    assert!(node.flush().await.is_err());
    assert_eq!(node.head_bytes(), 0, "the head is let go");
    assert_eq!(node.write_one("up", rig::NOW_MS + 1).await, 204);
    assert!(node.flush().await.is_err());
    assert!(node.flush().await.is_err(), "nothing new, and still nothing committed");
    let (files, served) = node.waiting();
    assert!(files == 2 && served > 0, "{files} files, {served} bytes");
    assert_eq!(node.read_all().await[0].1.len(), 2, "reads still see what is not committed");
    rig.set_bucket_away(false);
    let report = node.flush().await.unwrap();
    assert_eq!((report.blocks, report.samples), (2, 2));
    assert_eq!(node.waiting(), (0, 0), "nothing waits any more");
    assert_eq!(node.read_all().await[0].1.len(), 2);
    node.stop().await;
    assert_eq!(rig.start().await.log_segments(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_hand_over_in_files_nothing_of_the_head_is_left() {
    let rig = Rig::new().hand_over(std::time::Duration::from_millis(300));
    let node = rig.start().await;
    assert_eq!(node.write_one("up", rig::NOW_MS).await, 204);
    node.flush().await.unwrap();
    assert_eq!(node.head_bytes(), 0);
    assert_eq!(node.waiting().0, 1, "the file serves those who do not know of the block yet");
    assert_eq!(node.read_all().await[0].1.len(), 1);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(node.waiting(), (0, 0));
    assert_eq!(node.read_all().await[0].1.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_the_bucket_replays_all_and_commits_only_what_is_new() {
    let rig = Rig::new();
    let node = rig.start().await;
    assert_eq!(node.write_one("old", rig::NOW_MS).await, 204);
    let covered = rig.copy_log();
    node.flush().await.unwrap();
    node.stop().await;
    // As if the process had died between the commit and the release of the log.
    rig.put_log_back(covered);
    rig.set_bucket_away(true);
    let node = rig.start().await;
    assert_eq!(node.write_one("new", rig::NOW_MS).await, 204);
    assert!(node.flush().await.is_err());
    let names = |found: Vec<(Labels, Vec<Sample>)>| -> Vec<(String, usize)> {
        found.into_iter().map(|(labels, samples)| (labels.metric_name().to_owned(), samples.len())).collect()
    };
    let both = vec![("new".to_owned(), 1), ("old".to_owned(), 1)];
    assert_eq!(names(node.read_all().await), both, "both are served from here");
    rig.set_bucket_away(false);
    node.flush().await.unwrap();
    node.read_catalogs().await;
    assert_eq!(names(node.read_all().await), both);
    node.stop().await;
    let node = rig.start().await;
    assert_eq!(node.log_segments(), 0);
    assert_eq!(names(node.read_all().await), both);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_catalog_has_already_makes_no_block_when_it_is_replayed() {
    let rig = Rig::new();
    let node = rig.start().await;
    assert_eq!(node.write_one("old", rig::NOW_MS).await, 204);
    let covered = rig.copy_log();
    node.flush().await.unwrap();
    node.stop().await;
    rig.put_log_back(covered);
    rig.set_bucket_away(true);
    let node = rig.start().await;
    rig.set_bucket_away(false);
    assert_eq!(node.flush().await.unwrap(), CutReport::default());
    node.read_catalogs().await;
    assert_eq!(node.read_all().await[0].1.len(), 1);
    assert_eq!((node.head_bytes(), node.waiting()), (0, (0, 0)));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_bound_on_the_disk_writes_are_refused_until_the_bucket_takes_blocks() {
    let rig = Rig::new().local_bytes_max(20_000);
    let node = rig.start().await;
    rig.set_bucket_away(true);
    let mut taken = 0usize;
    let refused = loop {
        let value = |i: i64| (taken as f64 + 1.0) * i as f64 / 3.0;
        let many = (0..200).map(|i| Sample::new(rig::NOW_MS - i, value(i))).collect();
        let name = format!("m{taken}");
        let answer = node.write(Protocol::V1, &[(series(&[("__name__", &name)]), many)]).await;
        if answer.status != 204 {
            break answer;
        }
        taken += 1;
        assert!(taken < 2_000, "the bound is never reached");
        if taken.rem_euclid(20) == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        }
    };
    assert_eq!((refused.status, refused.retry_after.as_deref()), (429, Some("30")));
    assert!(refused.text.contains("--receive.local-bytes-max"), "{}", refused.text);
    assert!(node.flush().await.is_err());
    assert_eq!(node.write_one("up", rig::NOW_MS).await, 429, "a file on the same disk is no way out");
    rig.set_bucket_away(false);
    node.flush().await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    assert_eq!(node.write_one("up", rig::NOW_MS).await, 204, "it recovers by itself");
    assert_eq!(node.read_all().await.len(), taken + 1, "all that was acknowledged is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_file_that_is_damaged_is_never_committed_and_a_new_start_brings_its_samples_back() {
    let rig = Rig::new();
    let node = rig.start().await;
    assert_eq!(node.write_one("up", rig::NOW_MS).await, 204);
    rig.set_bucket_away(true);
    assert!(node.flush().await.is_err());
    node.damage_waiting_files();
    rig.set_bucket_away(false);
    let error = node.flush().await.unwrap_err();
    assert!(error.to_string().contains("its next start"), "{error}");
    assert!(node.cutter_ended().await, "the process is to be started again");
    node.crash().await;
    let node = rig.start().await;
    node.flush().await.unwrap();
    assert_eq!(node.read_all().await[0].1.len(), 1);
    assert_eq!(node.waiting(), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_cannot_be_written_leaves_no_file_and_its_head_stays() {
    let rig = Rig::new();
    let node = rig.start().await;
    assert_eq!(node.write_one("up", rig::NOW_MS).await, 204);
    node.remove_pending_dir();
    assert!(node.flush().await.is_err());
    assert!(node.head_bytes() > 0);
    assert_eq!(node.read_all().await[0].1.len(), 1);
    node.make_pending_dir();
    assert_eq!(node.flush().await.unwrap().samples, 1);
    assert_eq!(node.waiting(), (0, 0));
    assert_eq!(node.read_all().await[0].1.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn epochs_whose_log_is_gone_are_forgotten_by_the_catalog() {
    let rig = Rig::new();
    for round in 0..4 {
        let node = rig.start().await;
        let batch = [(series(&[("__name__", "up")]), vec![Sample::new(rig::NOW_MS + round, 1.0)])];
        assert_eq!(node.write(Protocol::V1, &batch).await.status, 204);
        node.stop().await;
    }
    let node = rig.start().await;
    assert!(node.covered_epochs() <= 2, "{} epochs", node.covered_epochs());
    assert_eq!(node.read_all().await[0].1.len(), 4);
}

#[test]
fn the_committer_can_be_spawned_as_a_task() {
    fn spawnable(_: impl Future<Output = ()> + Send + 'static) {}
    let _ = |committer: Committer, queue: CommandQueue| spawnable(committer.run(queue));
}
