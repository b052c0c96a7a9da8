mod rig;

use std::collections::BTreeMap;

use proptest::prelude::*;

use self::rig::{Rig, series};
use super::{CommandQueue, Committer, CutReport};
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
        if taken % 20 == 0 {
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
