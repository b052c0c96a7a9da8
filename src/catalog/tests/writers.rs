use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::bucket::ObjectKey;
use crate::bucket::tests::failing::Fault;
use crate::catalog::*;
use crate::model::{ErrorKind, TimeRange};
use crate::runtime::Random;

fn adding(catalog: &TenantCatalog, ids: impl IntoIterator<Item = u128>) -> Change {
    let mut change = catalog.new_change();
    change.add = ids.into_iter().map(block).collect();
    change
}

async fn live(catalog: &TenantCatalog) -> Vec<u128> {
    let newest = catalog.newest(None).await.unwrap().unwrap();
    newest.blocks().await.unwrap().iter().map(|block| block.id.0).collect()
}

#[tokio::test]
async fn a_tenant_without_versions_has_no_newest() {
    let world = World::new();
    let catalog = world.catalog(1);
    assert!(catalog.newest(None).await.unwrap().is_none());
    assert_eq!(catalog.at(1).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(tenants(&world.bucket).await.unwrap().is_empty());
    catalog.commit(&adding(&catalog, [1])).await.unwrap();
    assert_eq!(tenants(&world.bucket).await.unwrap(), [tenant()]);
}

#[tokio::test]
async fn the_newest_is_found_whatever_the_hint_says() {
    let world = World::new();
    let catalog = world.catalog(1);
    for n in 1..=5 {
        catalog.commit(&adding(&catalog, [n])).await.unwrap();
    }
    let hint = ObjectKey::catalog_latest(&tenant());
    assert_eq!(world.bucket.get(&hint).await.unwrap(), "5");
    for text in ["5", "2", "9", "0", "18446744073709551615", "", "x", "-1"] {
        world.bucket.put(&hint, Bytes::from(text)).await.unwrap();
        assert_eq!(catalog.newest(None).await.unwrap().unwrap().version().version, 5, "{text}");
    }
    world.bucket.delete(&hint).await.unwrap();
    assert_eq!(catalog.newest(None).await.unwrap().unwrap().version().version, 5);
    let old = catalog.at(2).await.unwrap();
    assert_eq!(old.blocks().await.unwrap().len(), 2);
    assert_eq!(catalog.newest(Some(old)).await.unwrap().unwrap().version().version, 5);
}

#[tokio::test]
async fn following_the_newest_costs_one_request() {
    let world = World::new();
    let catalog = world.catalog(1);
    catalog.commit(&adding(&catalog, [1])).await.unwrap();
    let known = catalog.newest(None).await.unwrap();
    let before = world.store.requests();
    let again = catalog.newest(known.clone()).await.unwrap();
    assert_eq!(world.store.requests() - before, 1);
    assert!(Arc::ptr_eq(&known.unwrap(), &again.unwrap()));
}

#[tokio::test]
async fn a_version_known_from_long_ago_does_not_hide_newer_ones() {
    let world = World::new();
    let (reader, writer) = (world.catalog(1), world.catalog(2));
    writer.commit(&adding(&writer, [1])).await.unwrap();
    let known = reader.newest(None).await.unwrap();
    // The reader sleeps while history goes on and the versions after the one it knows expire.
    for n in 2..=6 {
        world.clock.advance_ms(3 * DAY_MS);
        writer.commit(&adding(&writer, [n])).await.unwrap();
        writer.collect_garbage().await.unwrap();
    }
    let kept: Vec<u64> = writer.versions().await.unwrap().iter().map(|info| info.version).collect();
    assert_eq!(kept, [3, 4, 5, 6]);
    assert_eq!(reader.newest(known.clone()).await.unwrap().unwrap().version().version, 6);
    // Nor does an outdated hint.
    world.bucket.put(&ObjectKey::catalog_latest(&tenant()), Bytes::from("1")).await.unwrap();
    assert_eq!(reader.newest(known).await.unwrap().unwrap().version().version, 6);
}

/// One writer commits the first version, another one four more.
async fn two_writers(world: &World) -> (TenantCatalog, TenantCatalog) {
    let (one, other) = (world.catalog(1), world.catalog(2));
    one.commit(&adding(&one, [1])).await.unwrap();
    for n in 2..=5 {
        other.commit(&adding(&other, [n])).await.unwrap();
    }
    (one, other)
}

#[tokio::test]
async fn a_collector_whose_clock_is_ahead_lets_nothing_expire() {
    let world = World::new();
    let (writer, _) = two_writers(&world).await;
    let ahead = ManualClock::new(START_MS + 8 * DAY_MS);
    let (random, settings) = (crate::runtime::random_from_seed(3), CatalogSettings::default());
    let collector = TenantCatalog::new(world.bucket.clone(), tenant(), ahead, random, settings);
    assert_eq!(collector.collect_garbage().await.unwrap().versions_expired, 0);
    assert_eq!(writer.versions().await.unwrap().len(), 5);
    assert!(world.bucket.list("probes").await.unwrap().is_empty(), "the clock's object is gone");
}

#[tokio::test]
async fn a_commit_does_not_build_on_a_version_that_is_gone() {
    let world = World::new();
    let (writer, other) = two_writers(&world).await;
    // As a collector would that does not go by the store's clock.
    for version in 1..=4 {
        world.bucket.delete(&ObjectKey::catalog_version(&tenant(), version)).await.unwrap();
    }
    let committed = writer.commit(&adding(&writer, [6])).await.unwrap();
    assert_eq!(committed.version().version, 6);
    assert_eq!(live(&other).await, [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn a_commit_whose_reply_was_lost_is_not_applied_twice() {
    for fault in [Fault::ReplyLost, Fault::Late, Fault::Lost, Fault::FalseConflict] {
        let world = World::new();
        let catalog = world.catalog(1);
        catalog.commit(&adding(&catalog, [1])).await.unwrap();
        let change = adding(&catalog, [2]);
        world.store.plan_puts(&[fault]);
        catalog.commit(&change).await.unwrap();
        world.store.land_late_puts().await;
        // Somebody removes the block at once; the change is tried again all the same.
        let other = world.catalog(2);
        let mut removal = other.new_change();
        removal.remove = vec![Ulid(2)];
        other.commit(&removal).await.unwrap();
        let newest = catalog.commit(&change).await.unwrap();
        assert_eq!(newest.version().version, 3, "{fault:?}");
        assert_eq!(live(&catalog).await, [1]);
    }
}

#[tokio::test]
async fn a_commit_that_lands_after_it_was_given_up_is_found_by_its_id() {
    let world = World::new();
    let catalog = world.catalog(1);
    catalog.commit(&adding(&catalog, [1])).await.unwrap();
    let change = adding(&catalog, [2]);
    world.store.plan_puts(&[Fault::Late, Fault::Lost, Fault::Lost, Fault::Lost, Fault::Lost, Fault::Lost]);
    assert_eq!(catalog.commit(&change).await.unwrap_err().kind(), ErrorKind::Unavailable);
    world.store.land_late_puts().await;
    let other = world.catalog(2);
    let mut removal = other.new_change();
    removal.remove = vec![Ulid(2)];
    other.commit(&removal).await.unwrap();
    assert_eq!(catalog.commit(&change).await.unwrap().version().version, 3);
    assert_eq!(live(&catalog).await, [1]);
}

/// Commits a change, again and again while the store fails.
async fn commit_at_last(catalog: &TenantCatalog, change: &Change) -> Arc<Snapshot> {
    loop {
        match catalog.commit(change).await {
            Ok(snapshot) => return snapshot,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
        }
    }
}

#[tokio::test]
async fn racing_writers_on_a_failing_store_keep_every_change_exactly_once() {
    const ROUNDS: u64 = 12;
    for seed in 0..4 {
        let world = World::new();
        world.store.fail_at_random(crate::runtime::random_from_seed(seed), 30);
        let settings = CatalogSettings { recent_blocks_max: 6, ..CatalogSettings::default() };
        let write = async |writer: u64| {
            let catalog = world.catalog_with(seed * 10 + writer, settings.clone());
            let epoch = Ulid(u128::from(writer) + 1);
            for round in 0..ROUNDS {
                let mut change = adding(&catalog, [u128::from(writer * 1_000 + round + 1)]);
                let cover = CoverChange {
                    epoch,
                    receiver: format!("r{writer}"),
                    after_seq: round,
                    through_seq: round + 1,
                };
                change.covered = vec![cover];
                // Every fourth change also takes back the writer's block of three rounds before.
                if round % 4 == 3 {
                    change.remove = vec![Ulid(u128::from(writer * 1_000 + round - 2))];
                }
                commit_at_last(&catalog, &change).await;
                if round % 5 == 4 {
                    commit_at_last(&catalog, &change).await;
                }
            }
        };
        futures::join!(write(0), write(1), write(2));
        world.store.stop_failing();
        world.store.land_late_puts().await;
        let catalog = world.catalog(99);
        let newest = catalog.newest(None).await.unwrap().unwrap();
        assert_eq!(newest.version().version, 3 * ROUNDS, "seed {seed}: one version per change");
        let mut expected = Vec::new();
        for writer in 0..3u64 {
            assert_eq!(newest.version().covered_through(Ulid(u128::from(writer) + 1)), ROUNDS);
            let kept = (0..ROUNDS).filter(|round| round % 4 != 0);
            expected.extend(kept.map(|round| u128::from(writer * 1_000 + round + 1)));
        }
        assert_eq!(live(&catalog).await, expected, "seed {seed}");
        assert_eq!(catalog.versions().await.unwrap().len() as u64, 3 * ROUNDS);
    }
}

#[tokio::test]
async fn two_owners_of_an_epoch_are_kept_apart_by_the_fence() {
    let world = World::new();
    let (owner, zombie) = (world.catalog(1), world.catalog(2));
    let entries = |catalog: &TenantCatalog, id, after_seq, through_seq| {
        let mut change = adding(catalog, [id]);
        change.covered =
            vec![CoverChange { epoch: Ulid(5), receiver: "r".to_owned(), after_seq, through_seq }];
        change
    };
    owner.commit(&entries(&owner, 1, 0, 10)).await.unwrap();
    let error = zombie.commit(&entries(&zombie, 2, 0, 8)).await.unwrap_err();
    assert!(matches!(error, CatalogError::Fenced { covered: 10, after_seq: 0, .. }));
    owner.commit(&entries(&owner, 3, 10, 12)).await.unwrap();
    assert_eq!(live(&owner).await, [1, 3]);
}

#[tokio::test]
async fn old_blocks_move_to_parts_and_come_back_when_they_are_named() {
    let world = World::new();
    let settings = CatalogSettings { recent_blocks_max: 4, ..CatalogSettings::default() };
    let catalog = world.catalog_with(1, settings);
    for n in 1..=20 {
        catalog.commit(&adding(&catalog, [n])).await.unwrap();
    }
    assert_eq!(live(&catalog).await, (1..=20).collect::<Vec<u128>>());
    let newest = catalog.newest(None).await.unwrap().unwrap();
    assert!(newest.version().blocks.len() <= 4 && newest.version().parts.len() > 3);
    let early = TimeRange { start_ms: START_MS, end_ms: START_MS + 3 * HOUR_MS };
    let ids: Vec<u128> = newest.blocks_in(early).await.unwrap().iter().map(|block| block.id.0).collect();
    assert_eq!(ids, [1, 2]);
    let twice = catalog.commit(&adding(&catalog, [2])).await.unwrap_err();
    assert!(matches!(twice, CatalogError::BlockTwice { .. }));
    let mut removal = catalog.new_change();
    removal.remove = vec![Ulid(2), Ulid(9), Ulid(20)];
    catalog.commit(&removal).await.unwrap();
    let left: Vec<u128> = (1..20).filter(|n| ![2, 9].contains(n)).collect();
    assert_eq!(live(&catalog).await, left);
    let mut again = catalog.new_change();
    again.remove = vec![Ulid(2)];
    assert!(matches!(catalog.commit(&again).await, Err(CatalogError::BlockMissing { .. })));
    let before = catalog.at(20).await.unwrap();
    assert_eq!(before.blocks().await.unwrap().len(), 20, "an old version keeps its parts");
}

#[tokio::test]
async fn a_part_that_changed_is_damage() {
    let world = World::new();
    let settings = CatalogSettings { recent_blocks_max: 2, ..CatalogSettings::default() };
    let catalog = world.catalog_with(1, settings);
    catalog.commit(&adding(&catalog, 1..=5)).await.unwrap();
    let newest = catalog.newest(None).await.unwrap().unwrap();
    let key = ObjectKey::catalog_part(&tenant(), newest.version().parts[0].id);
    world.bucket.put(&key, Bytes::from("rubbish")).await.unwrap();
    assert_eq!(newest.blocks().await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(newest.blocks_in(TimeRange { start_ms: 0, end_ms: 1 }).await.is_ok(), "it is not needed there");
}

#[tokio::test]
async fn a_version_in_the_wrong_place_is_damage() {
    let world = World::new();
    let catalog = world.catalog(1);
    catalog.commit(&adding(&catalog, [1])).await.unwrap();
    let bytes = world.bucket.get(&ObjectKey::catalog_version(&tenant(), 1)).await.unwrap();
    world.bucket.put(&ObjectKey::catalog_version(&tenant(), 2), bytes).await.unwrap();
    assert_eq!(catalog.newest(None).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

/// A clock that stands still but for one jump, at the n-th time it is read.
#[derive(Debug)]
struct JumpingClock {
    reads: std::sync::atomic::AtomicU64,
    jump_at: u64,
}

impl crate::runtime::Clock for JumpingClock {
    fn now_ms(&self) -> i64 {
        let read = self.reads.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if read < self.jump_at { START_MS } else { START_MS + 2 * HOUR_MS }
    }

    fn monotonic_ms(&self) -> i64 {
        0
    }
}

#[tokio::test]
async fn a_commit_never_builds_on_a_base_read_long_ago() {
    // Wherever the machine is suspended during the commit, the version that is created is planned after it.
    let mut planned_again = 0;
    for jump_at in 1..12 {
        let world = World::new();
        let clock = Arc::new(JumpingClock { reads: 0.into(), jump_at });
        let random: Random = crate::runtime::random_from_seed(jump_at);
        let settings = CatalogSettings::default();
        let catalog = TenantCatalog::new(world.bucket.clone(), tenant(), clock, random, settings);
        let before = world.store.requests();
        catalog.commit(&adding(&catalog, [1])).await.unwrap();
        planned_again = planned_again.max(world.store.requests() - before);
        assert_eq!(live(&catalog).await, [1]);
    }
    let usual = {
        let world = World::new();
        let catalog = world.catalog(1);
        catalog.commit(&adding(&catalog, [1])).await.unwrap();
        world.store.requests()
    };
    assert!(planned_again > usual, "{planned_again} requests with a jump, {usual} without");
}

#[tokio::test]
async fn versions_are_the_same_over_a_local_folder() {
    let folder = tempfile::tempdir().unwrap();
    let config = crate::bucket::BucketConfig::filesystem(folder.path());
    let bucket = Bucket::open(&config, &crate::runtime::Metrics::new()).unwrap();
    let clock = ManualClock::new(START_MS);
    let open = |seed| {
        let clock = Arc::clone(&clock) as Arc<dyn crate::runtime::Clock>;
        let settings = CatalogSettings { recent_blocks_max: 4, ..CatalogSettings::default() };
        TenantCatalog::new(bucket.clone(), tenant(), clock, crate::runtime::random_from_seed(seed), settings)
    };
    let write = async |writer: u64| {
        let catalog = open(writer);
        for round in 0..10 {
            catalog.commit(&adding(&catalog, [u128::from(writer * 100 + round + 1)])).await.unwrap();
        }
    };
    futures::join!(write(1), write(2), write(3));
    let mut counts: BTreeMap<u128, u32> = BTreeMap::new();
    for id in live(&open(9)).await {
        *counts.entry(id / 100).or_default() += 1;
    }
    assert_eq!(counts, [(1, 10), (2, 10), (3, 10)].into());
    assert_eq!(open(9).versions().await.unwrap().len(), 30);
}
