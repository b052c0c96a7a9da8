//! Receivers whose only state is the bucket: one dies, another takes its samples over.

use proptest::prelude::*;

use super::rig::{self, Node, Rig, series};
use super::{Model, any_sample, four_series};
use crate::bucket::ObjectKey;
use crate::log::object::DeadEpochs;
use crate::model::{ErrorKind, Labels, Sample, TenantId};
use crate::runtime::random_from_seed;
use crate::wire::remote_write::Protocol;

/// So long after its last entry an epoch is dead.
const DEAD_MS: i64 = 61_000;

fn one(ts_ms: i64) -> Vec<(Labels, Vec<Sample>)> {
    vec![(series(&[("__name__", "up")]), vec![Sample::new(rig::NOW_MS + ts_ms, 1.0)])]
}

async fn times(node: &Node) -> Vec<i64> {
    node.read_catalogs().await;
    let found = node.read_all().await;
    found.into_iter().flat_map(|(_, samples)| samples).map(|s| s.ts_ms - rig::NOW_MS).collect()
}

async fn log_objects(rig: &Rig) -> usize {
    rig.bucket().list("log").await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_receiver_logged_is_readable_again_through_another() {
    let rig = Rig::new();
    let (a, mut b) = (rig.start_object("a").await, rig.start_object("b").await);
    for ts_ms in 0..5 {
        assert_eq!(a.write(Protocol::V1, &one(ts_ms)).await.status, 204);
        if ts_ms == 2 {
            a.flush().await.unwrap();
        }
    }
    a.crash().await;
    rig.advance_ms(30_000);
    assert_eq!(b.look().await.unwrap().segments, 0, "not dead yet");
    rig.advance_ms(DEAD_MS);
    let recovered = b.look().await.unwrap();
    assert_eq!((recovered.segments, recovered.samples), (1, 2), "only what no block holds");
    assert_eq!(times(&b).await, [0, 1, 2, 3, 4]);
    let newest = rig.newest().await;
    let replicas = newest.blocks().await.unwrap();
    assert!(replicas.iter().all(|b| b.external_labels == series(&[("receiver", "a")])), "{replicas:?}");
    assert_eq!(b.look().await.unwrap().segments, 0, "nothing is left to recover");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_the_same_name_takes_back_its_log_at_once() {
    let rig = Rig::new();
    let a = rig.start_object("a").await;
    assert_eq!(a.write(Protocol::V2, &one(1)).await.status, 204);
    a.crash().await;
    let b = rig.start_object("b").await;
    assert_eq!(times(&b).await, [0; 0], "another name has to wait");
    let a = rig.start_object("a").await;
    assert_eq!(times(&a).await, [1]);
    assert_eq!(a.write(Protocol::V2, &one(2)).await.status, 204);
    assert_eq!(times(&a).await, [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_acknowledges_nothing_that_is_lost_and_lets_its_heads_go_to_the_recoverer() {
    let rig = Rig::new();
    let (a, mut b) = (rig.start_object("a").await, rig.start_object("b").await);
    assert_eq!(a.write(Protocol::V1, &one(1)).await.status, 204);
    rig.advance_ms(DEAD_MS);
    assert_eq!(b.look().await.unwrap().samples, 1);
    let answer = a.write(Protocol::V1, &one(2)).await;
    assert_eq!(answer.status, 503);
    assert!(answer.text.contains("sealed by b"), "{}", answer.text);
    assert_eq!(a.write(Protocol::V1, &one(2)).await.status, 204, "a new epoch has begun");
    assert_eq!(times(&a).await, [1, 2], "readable here all the time");
    assert_eq!(a.flush().await.unwrap().samples, 1, "what the other committed is not committed again");
    assert_eq!(times(&a).await, [1, 2]);
    assert_eq!(times(&b).await, [1, 2]);
    let samples: u64 = rig.newest().await.blocks().await.unwrap().iter().map(|block| block.samples).sum();
    assert_eq!(samples, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_that_commits_first_leaves_the_recoverer_nothing() {
    let rig = Rig::new();
    let (a, mut b) = (rig.start_object("a").await, rig.start_object("b").await);
    assert_eq!(a.write(Protocol::V1, &one(1)).await.status, 204);
    rig.advance_ms(DEAD_MS);
    // As b does before it reads: it was then paused.
    let mut paused = DeadEpochs::new(rig.bucket(), random_from_seed(3), "c".to_owned());
    for sighting in paused.look(None).await.unwrap() {
        let newest = paused.header(sighting.epoch, sighting.seq).await.unwrap();
        if newest.receiver == "a" {
            paused.seal(newest).await.unwrap();
        }
    }
    assert_eq!(a.write(Protocol::V1, &one(2)).await.status, 503);
    assert_eq!(a.flush().await.unwrap().samples, 1);
    rig.advance_ms(2 * DEAD_MS);
    let recovered = b.look().await.unwrap();
    assert_eq!(recovered.samples, 0);
    assert_eq!(times(&b).await, [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_recoverers_at_once_commit_an_epoch_once() {
    let rig = Rig::new();
    let (a, mut b, mut c) =
        (rig.start_object("a").await, rig.start_object("b").await, rig.start_object("c").await);
    for ts_ms in 0..4 {
        assert_eq!(a.write(Protocol::V1, &one(ts_ms)).await.status, 204);
    }
    a.crash().await;
    rig.advance_ms(DEAD_MS);
    let (by_b, by_c) = tokio::join!(b.look(), c.look());
    assert_eq!(by_b.unwrap().samples.max(by_c.unwrap().samples), 4);
    assert_eq!(times(&b).await, [0, 1, 2, 3]);
    let samples: u64 = rig.newest().await.blocks().await.unwrap().iter().map(|block| block.samples).sum();
    assert_eq!(samples, 4, "not twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_day_nothing_is_left_of_an_epoch_in_bucket_or_catalog() {
    let rig = Rig::new();
    let a = rig.start_object("a").await;
    assert_eq!(a.write(Protocol::V1, &one(1)).await.status, 204);
    a.stop().await;
    assert_eq!(rig.newest().await.version().covered.len(), 1);
    let folder = format!("log/{}", rig.bucket().list_folders("log").await.unwrap()[0]);
    let left = async || rig.bucket().list(&folder).await.unwrap().len();
    let mut b = rig.start_object("b").await;
    rig.advance_ms(DEAD_MS);
    b.look().await.unwrap();
    assert_eq!(left().await, 2, "seal and mark");
    rig.advance_ms(86_400_000);
    b.look().await.unwrap();
    assert_eq!(left().await, 0);
    assert_eq!(rig.newest().await.version().covered.len(), 0);
    assert_eq!(times(&b).await, [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_catalog_of_another_tenant_does_not_keep_a_released_epoch() {
    let rig = Rig::new();
    let a = rig.start_object("a").await;
    assert_eq!(a.write(Protocol::V1, &one(1)).await.status, 204);
    a.stop().await;
    let folder = format!("log/{}", rig.bucket().list_folders("log").await.unwrap()[0]);
    let mut b = rig.start_object("b").await;
    rig.advance_ms(DEAD_MS);
    b.look().await.unwrap();
    // It comes before the tenant of the epoch.
    let damaged = ObjectKey::catalog_version(&TenantId::new("a").unwrap(), 1);
    rig.bucket().put(&damaged, "rubbish".into()).await.unwrap();
    rig.advance_ms(86_400_000);
    b.look().await.unwrap();
    assert_eq!(rig.bucket().list(&folder).await.unwrap(), []);
    assert_eq!(rig.newest().await.version().covered.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn committed_entries_are_deleted_by_their_writer() {
    let rig = Rig::new();
    let a = rig.start_object("a").await;
    for ts_ms in 0..10 {
        assert_eq!(a.write(Protocol::V1, &one(ts_ms)).await.status, 204);
    }
    assert!(log_objects(&rig).await >= 10);
    a.flush().await.unwrap();
    assert_eq!(log_objects(&rig).await, 1, "the one that says so");
    assert_eq!(a.write(Protocol::V1, &one(10)).await.status, 204);
    a.crash().await;
    assert_eq!(times(&rig.start_object("a").await).await, (0..11).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_bucket_is_away_nothing_is_acknowledged_and_all_goes_on_after() {
    let rig = Rig::new();
    let a = rig.start_object("a").await;
    assert_eq!(a.write(Protocol::V1, &one(1)).await.status, 204);
    rig.set_bucket_away(true);
    assert_eq!(a.write(Protocol::V1, &one(2)).await.status, 503);
    rig.advance_ms(6 * 60_000);
    rig.set_bucket_away(false);
    assert_eq!(a.write(Protocol::V1, &one(2)).await.status, 503, "it may have been taken for dead");
    assert_eq!(a.write(Protocol::V1, &one(2)).await.status, 204);
    assert_eq!(times(&a).await, [1, 2]);
    a.flush().await.unwrap();
    assert_eq!(times(&a).await, [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_epoch_is_named_and_does_not_keep_the_others() {
    let rig = Rig::new();
    let a = rig.start_object("a").await;
    assert_eq!(a.write(Protocol::V1, &one(1)).await.status, 204);
    assert_eq!(a.write(Protocol::V1, &one(2)).await.status, 204);
    // The newest entry of an epoch cannot be missed, as with a segment on disk.
    let listed = rig.bucket().list("log").await.unwrap();
    let key = ObjectKey::parse(&listed[listed.len() - 2].key).unwrap();
    let (b, mut c) = (rig.start_object("b").await, rig.start_object("c").await);
    assert_eq!(b.write(Protocol::V1, &one(3)).await.status, 204);
    a.crash().await;
    b.crash().await;
    rig.bucket().delete(&key).await.unwrap();
    rig.advance_ms(DEAD_MS);
    let error = c.look().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let text = error.to_string();
    assert!(text.contains(&key.to_string()) && text.contains("--log.skip-damaged"), "{text}");
    assert_eq!(times(&c).await.len(), 1, "the other receiver's epoch is recovered");
}

#[derive(Debug, Clone)]
enum Step {
    Write(usize, Vec<(usize, Vec<Sample>)>),
    Flush(usize),
    Crash(usize),
    Stop(usize),
    Look(usize),
    Wait(i64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let written = prop::collection::vec((0usize..4, prop::collection::vec(any_sample(), 1..10)), 1..4);
    let node = 0usize..2;
    prop_oneof![
        6 => (node.clone(), written).prop_map(|(node, written)| Step::Write(node, written)),
        2 => node.clone().prop_map(Step::Flush),
        2 => node.clone().prop_map(Step::Crash),
        1 => node.clone().prop_map(Step::Stop),
        3 => node.prop_map(Step::Look),
        3 => prop_oneof![Just(20_000i64), Just(DEAD_MS), Just(3 * DEAD_MS), Just(400_000), Just(86_460_000)]
            .prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn two_receivers_that_die_wait_and_take_each_other_over_lose_and_double_nothing(
        steps in prop::collection::vec(any_step(), 1..16),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(run_steps(steps));
    }
}

async fn run_steps(steps: Vec<Step>) {
    let (rig, names) = (Rig::new(), ["a", "b"]);
    let (mut model, series, mut waited_ms) = (Model::default(), four_series(), 0);
    let mut nodes = [rig.start_object("a").await, rig.start_object("b").await];
    for step in steps {
        match step {
            Step::Write(at, written) => {
                let batch: Vec<_> = written.into_iter().map(|(i, s)| (series[i].clone(), s)).collect();
                match nodes[at].write(Protocol::V2, &batch).await.status {
                    204 => model.write(&batch),
                    // A zombie stores nothing under its old epoch: the sender's next try goes to the new one.
                    status => assert_eq!(status, 503),
                }
            }
            Step::Flush(at) => drop(nodes[at].flush().await.unwrap()),
            Step::Crash(at) => {
                // The place is held by somebody else while it restarts.
                let between = rig.start_object("between").await;
                std::mem::replace(&mut nodes[at], between).crash().await;
                let fresh = rig.start_object(names[at]).await;
                std::mem::replace(&mut nodes[at], fresh).crash().await;
            }
            Step::Stop(at) => {
                let fresh = rig.start_object(&format!("next-{at}")).await;
                std::mem::replace(&mut nodes[at], fresh).stop().await;
            }
            Step::Look(at) => drop(nodes[at].look().await.unwrap()),
            // Samples must not become too old to be taken.
            Step::Wait(ms) if waited_ms + ms < 5 * 86_400_000 => {
                waited_ms += ms;
                rig.advance_ms(ms);
            }
            Step::Wait(_) => {}
        }
    }
    for node in nodes {
        node.crash().await;
    }
    rig.advance_ms(4 * DEAD_MS);
    let mut last = rig.start_object("last").await;
    last.look().await.unwrap();
    last.read_catalogs().await;
    assert_eq!(last.read_all().await, model.samples());
    rig.advance_ms(86_500_000);
    last.look().await.unwrap();
    last.look().await.unwrap();
    let epochs = rig.bucket().list_folders("log").await.unwrap();
    assert!(epochs.len() <= 1, "only that of the last one: {epochs:?}");
}
