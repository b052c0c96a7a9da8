use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::bucket::ObjectKey;
use crate::catalog::*;
use crate::model::ErrorKind;

/// Stores the objects of blocks and commits them, a minute after what came before.
async fn add(world: &World, catalog: &TenantCatalog, ids: &[u128]) -> Arc<Snapshot> {
    let mut change = catalog.new_change();
    change.add = ids.iter().map(|n| block(*n)).collect();
    for block in &change.add {
        let bytes = Bytes::from(vec![0; usize::try_from(block.size_bytes).unwrap()]);
        world.bucket.put(&ObjectKey::block(&tenant(), block.id), bytes).await.unwrap();
    }
    commit(world, catalog, &change).await
}

async fn remove(world: &World, catalog: &TenantCatalog, ids: &[u128]) -> Arc<Snapshot> {
    let mut change = catalog.new_change();
    change.remove = ids.iter().map(|n| Ulid(*n)).collect();
    commit(world, catalog, &change).await
}

async fn commit(world: &World, catalog: &TenantCatalog, change: &Change) -> Arc<Snapshot> {
    world.clock.advance_ms(60_000);
    catalog.commit(change).await.unwrap()
}

fn time_of(snapshot: &Arc<Snapshot>) -> i64 {
    snapshot.version().written_at_ms
}

async fn ids(snapshot: &Arc<Snapshot>) -> Vec<u128> {
    snapshot.blocks().await.unwrap().iter().map(|block| block.id.0).collect()
}

fn numbers(blocks: &[Arc<BlockEntry>]) -> Vec<u128> {
    blocks.iter().map(|block| block.id.0).collect()
}

#[tokio::test]
async fn a_time_is_rounded_down_to_the_version_that_was_in_force() {
    let world = World::new();
    let catalog = world.catalog(1);
    let mut times = Vec::new();
    for n in 1..=9 {
        times.push(time_of(&add(&world, &catalog, &[n]).await));
    }
    for (version, time) in (1u64..).zip(&times) {
        for at_ms in [*time, time + 59_999] {
            let before = world.store.requests();
            let plan = catalog.plan_rollback(at_ms.min(*times.last().unwrap())).await.unwrap();
            assert_eq!(plan.target.version().version, version);
            assert!(world.store.requests() - before < 10, "the search is binary");
        }
    }
    let plan = catalog.plan_rollback(times[2] + 1).await.unwrap();
    assert_eq!((numbers(&plan.back), numbers(&plan.gone), plan.stays), (vec![], vec![4, 5, 6, 7, 8, 9], 3));
    let plan = catalog.plan_rollback(times[8]).await.unwrap();
    assert!(plan.is_nothing() && plan.stays == 9);
}

#[tokio::test]
async fn a_time_outside_of_the_history_is_refused_with_the_nearest() {
    let world = World::new();
    let catalog = world.catalog(1);
    let absent = catalog.plan_rollback(START_MS).await.unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::NotFound);
    let first = time_of(&add(&world, &catalog, &[1]).await);
    let error = catalog.plan_rollback(first - 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfRange);
    assert!(error.to_string().contains(&crate::model::format_time_ms(first)), "{error}");
    let error = catalog.plan_rollback(first + 1).await.unwrap_err();
    assert!(matches!(error, RollbackError::Ahead { nearest_ms, .. } if nearest_ms == first), "{error}");

    world.clock.advance_ms(8 * DAY_MS);
    let second = time_of(&add(&world, &catalog, &[2]).await);
    world.clock.advance_ms(8 * DAY_MS);
    add(&world, &catalog, &[3]).await;
    catalog.collect_garbage().await.unwrap();
    let error = catalog.plan_rollback(first).await.unwrap_err();
    assert!(
        matches!(error, RollbackError::BeforeHistory { nearest_ms, version: 2, .. } if nearest_ms == second),
        "{error}"
    );
}

#[tokio::test]
async fn a_rollback_keeps_positions_so_that_receivers_go_on() {
    let world = World::new();
    let (operator, receiver) = (world.catalog(1), world.catalog(2));
    let cover = |after_seq, through_seq| CoverChange {
        epoch: Ulid(70),
        receiver: "r0".to_owned(),
        after_seq,
        through_seq,
    };
    let mut change = receiver.new_change();
    change.covered = vec![cover(0, 5)];
    commit(&world, &receiver, &change).await;
    let good = time_of(&add(&world, &receiver, &[1]).await);
    add(&world, &receiver, &[2]).await;
    let mut change = receiver.new_change();
    (change.covered, change.label_columns) = (vec![cover(5, 9)], vec!["job".to_owned()]);
    commit(&world, &receiver, &change).await;

    let plan = operator.plan_rollback(good).await.unwrap();
    let rolled = operator.roll_back(&plan).await.unwrap();
    assert_eq!(rolled.version().version, 5);
    assert_eq!(ids(&rolled).await, [1]);
    assert_eq!(rolled.version().covered_through(Ulid(70)), 9);
    assert_eq!(rolled.version().label_columns, ["job"]);

    let mut next = receiver.new_change();
    (next.covered, next.add) = (vec![cover(9, 12)], vec![block(3)]);
    assert_eq!(ids(&commit(&world, &receiver, &next).await).await, [1, 3]);
    let mut replayed = receiver.new_change();
    replayed.covered = vec![cover(5, 9)];
    assert_eq!(receiver.commit(&replayed).await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_rollback_can_be_rolled_back() {
    let world = World::new();
    let catalog = world.catalog(1);
    let good = time_of(&add(&world, &catalog, &[1, 2]).await);
    add(&world, &catalog, &[3]).await;
    let bad = time_of(&remove(&world, &catalog, &[2]).await);
    let plan = catalog.plan_rollback(good).await.unwrap();
    assert_eq!((numbers(&plan.back), numbers(&plan.gone), plan.stays), (vec![2], vec![3], 1));
    // Even within the millisecond of the version before it.
    let rolled = catalog.roll_back(&plan).await.unwrap();
    assert!(time_of(&rolled) > bad);
    assert_eq!(ids(&rolled).await, [1, 2]);
    world.clock.advance_ms(1);
    let again = catalog.roll_back(&catalog.plan_rollback(bad).await.unwrap()).await.unwrap();
    assert_eq!((again.version().version, ids(&again).await), (5, vec![1, 3]));
}

#[tokio::test]
async fn a_version_whose_blocks_are_not_all_there_is_refused_by_name() {
    let world = World::new();
    let catalog = world.catalog(1);
    let good = time_of(&add(&world, &catalog, &[1, 2, 3, 4]).await);
    remove(&world, &catalog, &[2, 3, 4]).await;
    let key = |n| ObjectKey::block(&tenant(), Ulid(n));
    world.bucket.delete(&key(2)).await.unwrap();
    world.bucket.put(&key(3), Bytes::from_static(b"x")).await.unwrap();
    let mut doom = catalog.new_change();
    doom.doom = vec![key(4).to_string()];
    commit(&world, &catalog, &doom).await;

    let plan = catalog.plan_rollback(good).await.unwrap();
    let lost: Vec<u128> = plan.lost.iter().map(|block| block.id.0).collect();
    assert_eq!(lost, [2, 3, 4]);
    let error = catalog.roll_back(&plan).await.unwrap_err();
    assert_eq!(error.kind().exit_code(), 5);
    assert!(error.to_string().contains(&key(2).to_string()), "{error}");
    assert_eq!(catalog.newest(None).await.unwrap().unwrap().version().version, 3, "nothing was committed");
}

#[tokio::test]
async fn what_others_commit_after_the_plan_stays_and_what_they_undo_is_a_conflict() {
    let world = World::new();
    let (operator, other) = (world.catalog(1), world.catalog(2));
    let good = time_of(&add(&world, &other, &[1]).await);
    add(&world, &other, &[2]).await;
    let plan = operator.plan_rollback(good).await.unwrap();
    add(&world, &other, &[3]).await;
    assert_eq!(ids(&operator.roll_back(&plan).await.unwrap()).await, [1, 3]);

    let plan = operator.plan_rollback(good).await.unwrap();
    remove(&world, &other, &[3]).await;
    assert_eq!(operator.roll_back(&plan).await.unwrap_err().kind(), ErrorKind::Conflict);

    let plan = operator.plan_rollback(good).await.unwrap();
    world.clock.advance_ms(DAY_MS / 24);
    assert!(matches!(operator.roll_back(&plan).await, Err(RollbackError::PlanTooOld)));
}

#[tokio::test]
async fn tombstones_go_back_too() {
    let world = World::new();
    let catalog = world.catalog(1);
    let good = time_of(&add(&world, &catalog, &[1]).await);
    let mut delete = catalog.new_change();
    delete.tombstones = Some(TombstoneChange { from: Vec::new(), to: vec![json!({"matchers": "up"})] });
    let deleted = commit(&world, &catalog, &delete).await;
    assert_eq!(deleted.version().tombstones.len(), 1);
    let plan = catalog.plan_rollback(good).await.unwrap();
    assert!(plan.changes_tombstones() && !plan.is_nothing());
    assert!(catalog.roll_back(&plan).await.unwrap().version().tombstones.is_empty());
    let error = catalog.roll_back(&plan).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "the tombstones are not those of the plan");
}

#[tokio::test]
async fn garbage_that_came_back_to_life_in_a_part_is_not_doomed() {
    let world = World::new();
    let settings = CatalogSettings { recent_blocks_max: 2, ..CatalogSettings::default() };
    let catalog = world.catalog_with(1, settings);
    add(&world, &catalog, &[1, 2, 3, 4, 5]).await;
    let newest = catalog.newest(None).await.unwrap().unwrap();
    assert!(newest.version().parts.len() == 1 && !newest.version().blocks.iter().any(|b| b.id.0 == 1));
    let mut doom = catalog.new_change();
    doom.doom = vec![ObjectKey::block(&tenant(), Ulid(1)).to_string()];
    assert_eq!(catalog.commit(&doom).await.unwrap_err().kind(), ErrorKind::Invalid);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_kept_version_comes_back_whole_whatever_lies_in_parts(
        steps in prop::collection::vec((prop::collection::btree_set(1u128..40, 0..6), any::<u8>()), 2..12),
        chosen in any::<prop::sample::Index>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            let settings = CatalogSettings { recent_blocks_max: 4, ..CatalogSettings::default() };
            let catalog = world.catalog_with(1, settings);
            let (mut states, mut live, mut used) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
            for (adds, removes) in steps {
                let new: Vec<u128> = adds.difference(&used).copied().collect();
                used.extend(&new);
                let old: Vec<u128> = live.iter().copied().filter(|n| n % 5 == u128::from(removes % 5)).collect();
                live.extend(&new);
                add(&world, &catalog, &new).await;
                let snapshot = remove(&world, &catalog, &old).await;
                live.retain(|n| !old.contains(n));
                states.push((time_of(&snapshot), live.iter().copied().collect::<Vec<u128>>()));
            }
            let (at_ms, expected) = &states[chosen.index(states.len())];
            let plan = catalog.plan_rollback(*at_ms).await.unwrap();
            let rolled = catalog.roll_back(&plan).await.unwrap();
            assert_eq!(&ids(&rolled).await, expected);
            let (last_ms, last) = states.last().unwrap();
            world.clock.advance_ms(1);
            let plan = catalog.plan_rollback(*last_ms).await.unwrap();
            assert_eq!(&ids(&catalog.roll_back(&plan).await.unwrap()).await, last);
        });
    }
}
