use std::collections::{BTreeSet, HashSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::bucket::{Created, ObjectInfo, ObjectKey};
use crate::catalog::garbage::plan_expiry;
use crate::catalog::*;
use crate::model::ErrorKind;
use crate::runtime::Random;

fn key(n: u128) -> ObjectKey {
    ObjectKey::block(&tenant(), Ulid(n))
}

fn object(key: &str, last_modified_ms: i64) -> ObjectInfo {
    ObjectInfo { key: key.to_owned(), size_bytes: 1, last_modified_ms }
}

#[test]
fn only_old_unnamed_objects_of_the_tenant_are_touched() {
    let now = 100 * DAY_MS;
    let mut newest = Version::nothing(tenant());
    let since = |n: u128, days: i64| Doomed { key: key(n).to_string(), since_ms: now - days * DAY_MS };
    newest.doomed = vec![since(4, 2), since(5, 0), since(6, 2), since(7, 2)];
    let listing: Vec<ObjectInfo> = [(1, 50), (2, 50), (3, 0), (4, 50), (5, 50), (6, 0)]
        .map(|(n, days)| object(&key(n).to_string(), now - days * DAY_MS))
        .into_iter()
        .chain([
            object("tenants/other/blocks/00000000000000000000000008.parquet", 0),
            object("tenants/team-a/notes.txt", 0),
            object("tenants/team-a/blocks/mine.parquet", 0),
            object("tenants/team-a/catalog/latest", 0),
            object("tenants/team-a/catalog/00000000000000000001", 0),
        ])
        .collect();
    let plan = plan_garbage(&HashSet::from([key(1)]), &newest, &listing, DAY_MS, now);
    let expected = GarbagePlan { delete: vec![key(4)], doom: vec![key(2)], undoom: vec![key(7)] };
    assert_eq!(plan, expected);
}

#[test]
fn versions_expire_from_the_oldest_and_the_newest_stays() {
    let infos = |ages_days: &[i64]| -> Vec<VersionInfo> {
        let info = |(n, days): (usize, &i64)| VersionInfo {
            version: n as u64 + 1,
            size_bytes: 1,
            last_modified_ms: -days * DAY_MS,
        };
        ages_days.iter().enumerate().map(info).collect()
    };
    let expired = |ages: &[i64], newest| plan_expiry(&infos(ages), newest, 7 * DAY_MS, 0);
    assert_eq!(expired(&[90, 60, 7, 3, 0], 5), [1, 2]);
    assert_eq!(expired(&[90, 60, 30], 3), [1, 2]);
    assert_eq!(expired(&[90], 1), Vec::<u64>::new());
    assert_eq!(expired(&[], 1), Vec::<u64>::new());
    // A young successor keeps all after it, whatever their dates say.
    assert_eq!(expired(&[90, 1, 60, 50], 4), Vec::<u64>::new());
    let mut gap = infos(&[90, 80, 70, 60, 0]);
    gap.remove(2);
    assert_eq!(plan_expiry(&gap, 5, 7 * DAY_MS, 0), [1]);
}

#[derive(Debug, Clone)]
struct Bucketful {
    named: Vec<bool>,
    doomed_days: Vec<Option<i64>>,
    listed_days: Vec<Option<i64>>,
}

fn bucketful() -> impl Strategy<Value = Bucketful> {
    let days = || prop::collection::vec(prop::option::of(0i64..4), 12);
    (prop::collection::vec(any::<bool>(), 12), days(), days())
        .prop_map(|(named, doomed_days, listed_days)| Bucketful { named, doomed_days, listed_days })
}

proptest! {
    #[test]
    fn a_plan_deletes_exactly_what_was_doomed_and_old_for_long_enough(b in bucketful(), delay_days in 1i64..4) {
        let now = 100 * DAY_MS;
        let at = |days: i64| now - days * DAY_MS;
        let mut newest = Version::nothing(tenant());
        let (mut named, mut listing) = (HashSet::new(), Vec::new());
        for n in 0..12 {
            let k = key(n as u128);
            if b.named[n] {
                named.insert(k.clone());
            }
            if let Some(days) = b.doomed_days[n] {
                newest.doomed.push(Doomed { key: k.to_string(), since_ms: at(days) });
            }
            if let Some(days) = b.listed_days[n] {
                listing.push(object(&k.to_string(), at(days)));
            }
        }
        let plan = plan_garbage(&named, &newest, &listing, delay_days * DAY_MS, now);
        for n in 0..12 {
            let k = key(n as u128);
            let there = b.listed_days[n].is_some();
            let old = b.listed_days[n].is_some_and(|days| days >= delay_days);
            let long = b.doomed_days[n].is_some_and(|days| days >= delay_days);
            prop_assert_eq!(plan.delete.contains(&k), !b.named[n] && old && long);
            prop_assert_eq!(plan.doom.contains(&k), !b.named[n] && old && b.doomed_days[n].is_none());
            prop_assert_eq!(plan.undoom.contains(&k), b.doomed_days[n].is_some() && !there);
        }
    }
}

/// Random work on one tenant, with what must be true of it.
struct Simulation {
    world: World,
    catalog: TenantCatalog,
    random: Random,
    next_id: u128,
    live: BTreeSet<u128>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let world = World::new();
        let settings =
            CatalogSettings { history_ms: 2 * DAY_MS, doomed_delay_ms: DAY_MS, recent_blocks_max: 5 };
        let catalog = world.catalog_with(seed, settings);
        let random = crate::runtime::random_from_seed(seed + 1_000);
        Self { world, catalog, random, next_id: 1, live: BTreeSet::new() }
    }

    async fn upload(&mut self) -> u128 {
        let id = self.next_id;
        self.next_id += 1;
        let created = self.world.bucket.create(&key(id), Bytes::from(id.to_string())).await.unwrap();
        assert_eq!(created, Created::Stored);
        id
    }

    async fn step(&mut self) {
        match self.random.next_u64() % 8 {
            0..=2 => {
                let mut change = self.catalog.new_change();
                let id = self.upload().await;
                // Between upload and commit others work and time goes by.
                if self.random.next_u64().is_multiple_of(4) {
                    self.world.clock.advance_ms(DAY_MS * i64::try_from(self.random.next_u64() % 4).unwrap());
                    self.collect().await;
                }
                change.add = vec![block(id)];
                match self.catalog.commit(&change).await {
                    Ok(_) => assert!(self.live.insert(id)),
                    Err(CatalogError::DoomedKey { .. }) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
            3 => {
                self.upload().await;
            }
            4 => {
                let Some(id) = self.live.iter().nth(self.random.next_u64() as usize % (self.live.len() + 1))
                else {
                    return;
                };
                let id = *id;
                let mut change = self.catalog.new_change();
                change.remove = vec![Ulid(id)];
                self.catalog.commit(&change).await.unwrap();
                self.live.remove(&id);
            }
            5 => self.world.clock.advance_ms(12 * HOUR_MS),
            _ => self.collect().await,
        }
        self.check().await;
    }

    async fn collect(&self) {
        match self.catalog.collect_garbage().await {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
        }
    }

    /// Every kept version is whole, and the newest has what was committed.
    async fn check(&self) {
        let mut newest = None;
        for info in self.catalog.versions().await.unwrap() {
            let snapshot = self.catalog.at(info.version).await.unwrap();
            check_invariants(snapshot.version()).unwrap();
            for block in snapshot.blocks().await.unwrap() {
                let found = self.world.bucket.head(&key(block.id.0)).await.unwrap();
                assert!(
                    found.is_some(),
                    "version {} names block {}, which is gone",
                    info.version,
                    block.id.0
                );
            }
            newest = Some(snapshot);
        }
        if let Some(newest) = newest {
            let live: BTreeSet<u128> =
                newest.blocks().await.unwrap().iter().map(|block| block.id.0).collect();
            assert_eq!(live, self.live);
        }
    }

    /// After long enough nothing is left but what the newest version names.
    async fn settle(&self) {
        for _ in 0..6 {
            self.world.clock.advance_ms(3 * DAY_MS);
            self.collect().await;
        }
        self.check().await;
        let Some(newest) = self.catalog.newest(None).await.unwrap() else { return };
        assert!(newest.version().doomed.is_empty());
        let mut expected: BTreeSet<String> = self.live.iter().map(|id| key(*id).to_string()).collect();
        expected.extend(
            newest.version().parts.iter().map(|p| ObjectKey::catalog_part(&tenant(), p.id).to_string()),
        );
        expected.insert(ObjectKey::catalog_latest(&tenant()).to_string());
        expected.insert(ObjectKey::catalog_version(&tenant(), newest.version().version).to_string());
        let listing = self.world.bucket.list(&ObjectKey::tenant_folder(&tenant())).await.unwrap();
        let found: BTreeSet<String> = listing.into_iter().map(|object| object.key).collect();
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn whatever_happens_no_kept_version_loses_a_block_and_all_garbage_goes() {
    for seed in 0..12 {
        let mut simulation = Simulation::new(seed);
        for _ in 0..60 {
            simulation.step().await;
        }
        simulation.settle().await;
    }
}

#[tokio::test]
async fn nothing_is_deleted_while_a_kept_version_cannot_be_read() {
    let mut simulation = Simulation::new(1);
    for _ in 0..3 {
        let id = simulation.upload().await;
        let mut change = simulation.catalog.new_change();
        change.add = vec![block(id)];
        simulation.catalog.commit(&change).await.unwrap();
    }
    simulation.upload().await;
    simulation.world.clock.advance_ms(DAY_MS);
    let key = ObjectKey::catalog_version(&tenant(), 2);
    simulation.world.bucket.put(&key, Bytes::from("rubbish")).await.unwrap();
    let before = simulation.world.bucket.list("tenants").await.unwrap();
    assert_eq!(simulation.catalog.collect_garbage().await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(simulation.world.bucket.list("tenants").await.unwrap(), before);
}

#[tokio::test]
async fn a_damaged_catalog_does_not_keep_the_garbage_of_other_tenants() {
    let world = World::new();
    let (clock, random) = (Arc::clone(&world.clock) as _, crate::runtime::random_from_seed(1));
    let catalogs = Catalogs::new(world.bucket.clone(), clock, random, CatalogSettings::default());
    let tenants = ["a", "b", "c"].map(|name| TenantId::new(name).unwrap());
    for tenant in &tenants {
        let catalog = catalogs.of(tenant);
        for n in 1..=3 {
            let mut change = catalog.new_change();
            change.add = vec![block(n)];
            catalog.commit(&change).await.unwrap();
        }
    }
    world.bucket.put(&ObjectKey::catalog_version(&tenants[0], 3), Bytes::from("rubbish")).await.unwrap();
    world.clock.advance_ms(8 * DAY_MS);
    let error = catalogs.collect_garbage().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("tenants/a/"), "{error}");
    let mut kept = Vec::new();
    for tenant in &tenants {
        kept.push(catalogs.of(tenant).versions().await.unwrap().len());
    }
    assert_eq!(kept, [3, 1, 1]);
}
