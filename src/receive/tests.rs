mod rig;

use std::collections::BTreeMap;

use proptest::prelude::*;

use self::rig::{Node, Rig, series};
use super::{CommandQueue, Committer};
use crate::model::{Labels, STALE_MARKER_BITS, Sample};
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
    for step in steps {
        match step {
            Step::Write(protocol, written) => {
                let batch: Vec<_> = written.into_iter().map(|(i, s)| (names[i].clone(), s)).collect();
                let total: usize = batch.iter().map(|(_, samples)| samples.len()).sum();
                let answer = node.write(protocol, &batch).await;
                assert_eq!((answer.status, answer.samples_written), (204, total as u64), "{}", answer.text);
                model.write(&batch);
            }
            Step::Flush => drop(node.flush().await.unwrap()),
            Step::Crash => {
                node.crash().await;
                node = rig.start().await;
            }
        }
        assert_eq!(node.read_all().await, model.samples());
    }
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_alone_is_success_and_histograms_are_told_with_their_number() {
    let node = Rig::new().start().await;
    // WriteRequest {3 metadata {1 type: counter}}: what a Prometheus sends every minute.
    let metadata = [0x1A, 2, 0x08, 1];
    let answer = node.write_body(&metadata).await;
    assert_eq!((answer.status, answer.samples_written), (204, 0), "{}", answer.text);
    // {1 timeseries {1 label {a="b"}, 2 sample {2 time: now}, 4 histogram {15 time: 5}}}
    let mut sample = vec![0x10];
    prost::encoding::encode_varint(rig::NOW_MS as u64, &mut sample);
    let series = [
        &[0x0A, 6, 0x0A, 1, b'a', 0x12, 1, b'b', 0x12, sample.len() as u8],
        &sample[..],
        &[0x22, 2, 0x78, 5],
    ];
    let series = series.concat();
    let answer = node.write_body(&[&[0x0A, series.len() as u8], &series[..]].concat()).await;
    assert_eq!((answer.status, answer.samples_written), (400, 1), "{}", answer.text);
    assert!(answer.text.contains("1 histograms"), "{}", answer.text);
    assert_eq!(node.read_all().await.len(), 1, "the float is kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_bucket_is_away_writes_go_on_and_a_later_cut_commits_all() {
    let rig = Rig::new();
    let node = rig.start().await;
    let write = async |node: &Node, ts_ms| {
        let batch = [(series(&[("__name__", "up")]), vec![Sample::new(ts_ms, 1.0)])];
        assert_eq!(node.write(Protocol::V1, &batch).await.status, 204);
    };
    write(&node, rig::NOW_MS).await;
    rig.set_bucket_away(true);
    assert!(node.flush().await.is_err());
    write(&node, rig::NOW_MS + 1).await;
    assert!(node.flush().await.is_err());
    assert_eq!(node.read_all().await[0].1.len(), 2, "reads still see what is not committed");
    rig.set_bucket_away(false);
    let report = node.flush().await.unwrap();
    assert_eq!((report.blocks, report.samples), (2, 2));
    assert_eq!(node.read_all().await[0].1.len(), 2);
    node.stop().await;
    assert_eq!(rig.start().await.log_segments(), 0);
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
