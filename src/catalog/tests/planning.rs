use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::catalog::*;
use crate::model::ErrorKind;

fn change(id: u128) -> Change {
    Change::new(Ulid(id))
}

fn plan(base: Option<&Version>, change: &Change) -> Result<Plan, CatalogError> {
    plan_commit(base, &tenant(), change, START_MS)
}

fn planned(base: Option<&Version>, change: &Change) -> Version {
    match plan(base, change).unwrap() {
        Plan::Create(version) => *version,
        Plan::Landed => panic!("taken for one that landed"),
    }
}

fn cover(epoch: u128, after_seq: u64, through_seq: u64) -> CoverChange {
    CoverChange { epoch: Ulid(epoch), receiver: "r0".to_owned(), after_seq, through_seq }
}

/// A first version with block 1 and epoch 7 covered through 5.
fn first() -> Version {
    let mut first = change(1);
    first.add = vec![block(1)];
    first.covered = vec![cover(7, 0, 5)];
    planned(None, &first)
}

#[test]
fn the_first_commit_makes_version_one() {
    let version = first();
    assert_eq!((version.version, version.format, version.min_writer), (1, FORMAT, WRITER));
    assert_eq!((version.commit_id, version.written_at_ms), (Ulid(1), START_MS));
    assert_eq!(version.covered_through(Ulid(7)), 5);
    assert_eq!(version.covered_through(Ulid(8)), 0);
}

#[test]
fn entries_are_taken_only_where_the_catalog_ends() {
    let base = first();
    for (after, through) in [(0, 5), (0, 9), (4, 9), (6, 9)] {
        let mut wrong = change(2);
        wrong.add = vec![block(2)];
        wrong.covered = vec![cover(7, after, through)];
        let error = plan(Some(&base), &wrong).unwrap_err();
        assert!(matches!(error, CatalogError::Fenced { covered: 5, .. }), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
    let mut right = change(2);
    right.covered = vec![cover(7, 5, 9), cover(8, 0, 1)];
    let next = planned(Some(&base), &right);
    assert_eq!((next.covered_through(Ulid(7)), next.covered_through(Ulid(8))), (9, 1));
}

#[test]
fn only_the_sealer_commits_entries_of_a_sealed_epoch() {
    let mut base = first();
    base.covered.get_mut(&Ulid(7)).unwrap().sealed_by = Some("r1".to_owned());
    let mut zombie = change(2);
    zombie.covered = vec![cover(7, 5, 6)];
    assert!(matches!(plan(Some(&base), &zombie), Err(CatalogError::Sealed { .. })));
    zombie.covered[0].receiver = "r1".to_owned();
    assert_eq!(planned(Some(&base), &zombie).covered_through(Ulid(7)), 6);
}

#[test]
fn a_change_that_is_in_the_catalog_is_recognised() {
    let mut again = change(1);
    again.add = vec![block(1)];
    again.covered = vec![cover(7, 0, 5)];
    let base = first();
    assert_eq!(plan(Some(&base), &again).unwrap(), Plan::Landed);
    // Another version followed: the id is gone, the entries and blocks tell.
    let mut other = change(2);
    other.add = vec![block(2)];
    let base = planned(Some(&base), &other);
    assert_eq!(plan(Some(&base), &again).unwrap(), Plan::Landed);
    // The entries alone do not: another's blocks hold them.
    again.add = vec![block(3)];
    assert!(matches!(plan(Some(&base), &again), Err(CatalogError::Fenced { .. })));
}

#[test]
fn contradictory_changes_are_refused() {
    let base = first();
    let refused = |make: &dyn Fn(&mut Change)| {
        let mut wrong = change(2);
        make(&mut wrong);
        plan(Some(&base), &wrong).unwrap_err()
    };
    let doomed_key = |n| crate::bucket::ObjectKey::block(&tenant(), Ulid(n)).to_string();
    let twice = refused(&|c| c.add = vec![block(1)]);
    assert!(matches!(twice, CatalogError::BlockTwice { .. }));
    assert!(matches!(refused(&|c| c.add = vec![block(2), block(2)]), CatalogError::BlockTwice { .. }));
    assert!(matches!(refused(&|c| c.remove = vec![Ulid(2)]), CatalogError::BlockMissing { .. }));
    for make in [
        (&|c: &mut Change| c.remove = vec![Ulid(1), Ulid(1)]) as &dyn Fn(&mut Change),
        &|c| c.covered = vec![cover(7, 5, 4)],
        &|c| c.covered = vec![cover(7, 5, 6), cover(7, 5, 6)],
        &|c| {
            c.covered = vec![cover(7, 5, 6)];
            c.forget_epochs = vec![Ulid(7)];
        },
        &|c| c.doom = vec![doomed_key(1)],
        &|c| c.doom = vec!["tenants/team-a/catalog/latest".to_owned()],
        &|c| c.add = vec![BlockEntry { max_time_ms: 0, ..block(2) }],
        &|c| c.add = vec![BlockEntry { sha256: "x".to_owned(), ..block(2) }],
    ] {
        assert_eq!(refused(make).kind(), ErrorKind::Invalid);
    }
}

#[test]
fn a_doomed_block_is_not_named_again() {
    let mut going = change(2);
    going.remove = vec![Ulid(1)];
    going.doom = vec![crate::bucket::ObjectKey::block(&tenant(), Ulid(1)).to_string()];
    let base = planned(Some(&first()), &going);
    let mut back = change(3);
    back.add = vec![block(1)];
    assert!(matches!(plan(Some(&base), &back), Err(CatalogError::DoomedKey { .. })));
    back.undoom.clone_from(&going.doom);
    assert!(matches!(plan(Some(&base), &back), Err(CatalogError::DoomedKey { .. })));
    back.add.clear();
    assert!(planned(Some(&base), &back).doomed.is_empty());
}

#[test]
fn label_columns_grow_and_never_differ_in_case_only() {
    let mut grow = change(2);
    grow.label_columns = vec!["job".to_owned(), "pod".to_owned(), "job".to_owned()];
    grow.add = vec![BlockEntry { label_columns: vec!["pod".to_owned()], ..block(2) }];
    let base = planned(Some(&first()), &grow);
    assert_eq!(base.label_columns, ["job", "pod"]);
    let mut clash = change(3);
    clash.label_columns = vec!["Job".to_owned()];
    assert!(matches!(plan(Some(&base), &clash), Err(CatalogError::LabelColumn { .. })));
    let mut unlisted = change(3);
    unlisted.add = vec![BlockEntry { label_columns: vec!["node".to_owned()], ..block(3) }];
    assert!(matches!(plan(Some(&base), &unlisted), Err(CatalogError::LabelColumn { .. })));
}

#[test]
fn a_newer_writers_version_is_not_built_upon() {
    let base = Version { min_writer: WRITER + 1, ..first() };
    assert!(matches!(plan(Some(&base), &change(2)), Err(CatalogError::NewerWriter { .. })));
}

#[test]
fn what_a_newer_writer_added_stays() {
    let mut base = first();
    base.unknown.insert("future".to_owned(), serde_json::json!({"a": [1, null]}));
    base.leases.push(serde_json::json!("x"));
    let mut entry = block(2);
    entry.kind = BlockKind::Other("histograms".to_owned());
    entry.unknown.insert("level".to_owned(), serde_json::json!(3));
    let mut next = change(2);
    next.add = vec![entry.clone()];
    let next = planned(Some(&base), &next);
    assert_eq!((&next.unknown, &next.leases), (&base.unknown, &base.leases));
    assert_eq!(*next.blocks[1], entry);
}

#[test]
fn a_clock_that_is_behind_does_not_turn_history_round() {
    let Plan::Create(next) = plan_commit(Some(&first()), &tenant(), &change(2), 0).unwrap() else { panic!() };
    assert_eq!(next.written_at_ms, START_MS + 1);
}

/// One step of a random history, over few ids so that steps meet.
#[derive(Debug, Clone)]
struct Step {
    add: Vec<u128>,
    remove: Vec<u128>,
    covered: Vec<(u128, u64, u64)>,
    doom: Vec<u128>,
    undoom: Vec<u128>,
}

fn step() -> impl Strategy<Value = Step> {
    let ids = || prop::collection::vec(0u128..10, 0..3);
    let covered = prop::collection::vec((0u128..3, 0u64..4, 0u64..4), 0..2);
    (ids(), ids(), covered, prop::collection::vec(0u128..10, 0..2), ids())
        .prop_map(|(add, remove, covered, doom, undoom)| Step { add, remove, covered, doom, undoom })
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    live: BTreeSet<u128>,
    covered: BTreeMap<u128, u64>,
    doomed: BTreeSet<u128>,
}

impl Model {
    /// Applies a step as plainly as it can be said, or refuses it.
    fn apply(&self, step: &Step) -> Option<Self> {
        let mut next = self.clone();
        for (epoch, after, through) in &step.covered {
            let known = self.covered.get(epoch).copied().unwrap_or(0);
            if known != *after || through < after {
                return None;
            }
            next.covered.insert(*epoch, *through);
        }
        let epochs: BTreeSet<_> = step.covered.iter().map(|c| c.0).collect();
        if epochs.len() != step.covered.len() || !step.remove.iter().all(|id| next.live.remove(id)) {
            return None;
        }
        // What is doomed before the change may not be named by it, even if it is struck off at once.
        if step.add.iter().any(|id| self.doomed.contains(id))
            || !step.add.iter().all(|id| next.live.insert(*id))
        {
            return None;
        }
        next.doomed.retain(|id| !step.undoom.contains(id));
        next.doomed.extend(&step.doom);
        next.doomed.is_disjoint(&next.live).then_some(next)
    }
}

proptest! {
    #[test]
    fn plans_agree_with_a_plain_model(steps in prop::collection::vec(step(), 1..30)) {
        let key = |n: &u128| crate::bucket::ObjectKey::block(&tenant(), Ulid(*n)).to_string();
        let (mut model, mut base) = (Model::default(), None::<Version>);
        for (n, step) in steps.iter().enumerate() {
            let mut asked = change(n as u128 + 1);
            asked.add = step.add.iter().map(|n| block(*n)).collect();
            asked.remove = step.remove.iter().map(|n| Ulid(*n)).collect();
            asked.covered = step.covered.iter().map(|(e, a, t)| cover(*e, *a, *t)).collect();
            asked.doom = step.doom.iter().map(key).collect();
            asked.undoom = step.undoom.iter().map(key).collect();
            match (plan(base.as_ref(), &asked), model.apply(step)) {
                (Ok(Plan::Create(next)), Some(expected)) => {
                    check_invariants(&next).unwrap();
                    prop_assert_eq!(next.version, base.map_or(0, |b| b.version) + 1);
                    model = expected;
                    base = Some(*next);
                }
                (Ok(Plan::Landed), _) => {
                    // Its entries are covered already, with its very blocks.
                    let fits = step.covered.iter().all(|(e, _, t)| model.covered.get(e) == Some(t));
                    prop_assert!(fits && step.add.iter().all(|id| model.live.contains(id)));
                }
                (Err(_), None) => {}
                (got, expected) => prop_assert!(false, "{:?} gave {:?}, expected {:?}", step, got, expected),
            }
            let Some(version) = &base else { continue };
            let live: BTreeSet<u128> = version.blocks.iter().map(|b| b.id.0).collect();
            let doomed: BTreeSet<String> = version.doomed.iter().map(|d| d.key.clone()).collect();
            let covered: BTreeMap<u128, u64> = version.covered.iter().map(|(e, c)| (e.0, c.through_seq)).collect();
            prop_assert_eq!(&live, &model.live);
            prop_assert_eq!(doomed, model.doomed.iter().map(key).collect());
            prop_assert_eq!(&covered, &model.covered);
        }
    }
}
