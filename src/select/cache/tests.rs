use std::path::Path;

use super::*;
use crate::runtime::{Random, random_from_seed};

fn id(n: u64) -> Ulid {
    Ulid::from_parts(n, 0)
}

/// The byte that a block has at an offset.
fn byte(block: u64, at: u64) -> u8 {
    (block.wrapping_mul(31).wrapping_add(at.wrapping_mul(7)) % 251) as u8
}

fn bytes(block: u64, range: &Range<u64>) -> Bytes {
    range.clone().map(|at| byte(block, at)).collect()
}

fn random_range(random: &Random, most: u64) -> Range<u64> {
    let start = random.next_u64() % 10_000;
    start..start + 1 + random.next_u64() % most
}

fn settings(path: &Path, disk_bytes_max: u64) -> CacheSettings {
    CacheSettings { memory_bytes_max: 0, folder: Some((path.to_owned(), disk_bytes_max)) }
}

fn open(path: &Path, disk_bytes_max: u64) -> Arc<ReadCache> {
    ReadCache::open(&settings(path, disk_bytes_max), &Metrics::new()).unwrap()
}

fn disk_bytes(path: &Path) -> u64 {
    std::fs::read_dir(path).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn extents_stay_within_their_bound_and_give_back_what_they_hold() {
    let random = random_from_seed(11);
    let mut extents = Extents::new(20_000);
    let (mut hits, mut gone) = (0, 0);
    for _ in 0..20_000 {
        let block = random.next_u64() % 5;
        let range = random_range(&random, 900);
        if random.next_u64().is_multiple_of(2) {
            gone += extents.insert(id(block), range.clone(), bytes(block, &range)).len();
        } else if let Some((extent, held)) = extents.get(id(block), &range) {
            assert!(extent.start <= range.start && range.end <= extent.end);
            assert_eq!(cut(&extent, held, &range).unwrap(), bytes(block, &range));
            hits += 1;
        }
        assert!(extents.bytes() <= 20_000);
    }
    assert!(hits > 100 && gone > 1_000, "{hits} {gone}");
}

#[test]
fn what_was_used_least_recently_goes_first() {
    let mut extents = Extents::new(1_000);
    for block in 0..4 {
        assert!(extents.insert(id(block), 0..100, ()).is_empty());
    }
    assert!(extents.get(id(0), &(10..20)).is_some());
    let gone = extents.insert(id(4), 0..150, ());
    assert_eq!(gone.iter().map(|(id, ..)| *id).collect::<Vec<_>>(), [id(1)]);
    assert!(extents.get(id(0), &(0..100)).is_some());
    assert!(extents.get(id(1), &(0..1)).is_none());
}

#[test]
fn a_larger_extent_takes_the_place_of_those_that_it_covers() {
    let mut extents = Extents::new(10_000);
    extents.insert(id(1), 10..20, ());
    extents.insert(id(1), 30..40, ());
    assert!(extents.get(id(1), &(15..35)).is_none(), "two extents do not make one range");
    assert_eq!(extents.insert(id(1), 0..50, ()).len(), 2);
    assert!(extents.get(id(1), &(15..35)).is_some());
    assert_eq!(extents.insert(id(1), 15..35, ()).len(), 1, "what is held already is not held twice");
    assert_eq!(extents.insert(id(2), 0..100_000, ()).len(), 1, "what is larger than the bound is not kept");
    assert!(extents.get(id(1), &(0..50)).is_some(), "and makes nothing go");
}

#[tokio::test]
async fn the_folder_serves_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    let (first, range) = (open(folder.path(), 1 << 20), 100..300);
    first.keep(id(1), range.clone(), &bytes(1, &range), (Kind::Labels, false)).await;
    drop(first);
    let second = open(folder.path(), 1 << 20);
    assert_eq!(second.get(id(1), &(150..160), Kind::Labels).await, Some(bytes(1, &(150..160))));
    assert_eq!(second.get(id(1), &(99..160), Kind::Labels).await, None);
    assert_eq!(second.get(id(2), &(150..160), Kind::Labels).await, None);
}

#[tokio::test]
async fn the_folder_stays_within_its_bound() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, random) = (open(folder.path(), 10_000), random_from_seed(5));
    for _ in 0..200 {
        let (block, range) = (random.next_u64() % 3, random_range(&random, 2_000));
        cache.keep(id(block), range.clone(), &bytes(block, &range), (Kind::Footer, false)).await;
        assert!(disk_bytes(folder.path()) <= 10_000);
    }
    assert!(disk_bytes(folder.path()) > 5_000);
    drop(cache);
    let smaller = open(folder.path(), 3_000);
    assert!(disk_bytes(folder.path()) <= 3_000, "a lower bound counts from the start");
    drop(smaller);
}

/// Checks that the folder holds what the index counts.
fn check_count(path: &Path, metrics: &Metrics) {
    let files = std::fs::read_dir(path).unwrap().map(|file| file.unwrap().metadata().unwrap().len());
    // A file has a checksum of 8 bytes, an extent counts 128 bytes beside its own.
    let counted: u64 = files.map(|bytes| bytes - 8 + 128).sum();
    let line = format!("perennial_read_cache_bytes{{tier=\"disk\"}} {counted}\n");
    let text = metrics.render();
    assert!(text.contains(&line), "{line} in\n{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_queries_that_miss_the_same_range_keep_it_once() {
    let (folder, metrics) = (tempfile::tempdir().unwrap(), Metrics::new());
    let cache = ReadCache::open(&settings(folder.path(), 1 << 20), &metrics).unwrap();
    for block in 0..20 {
        let keeps = (0..8).map(|_| {
            let cache = Arc::clone(&cache);
            tokio::spawn(async move {
                let range = 100..300;
                cache.keep(id(block), range.clone(), &bytes(block, &range), (Kind::Labels, false)).await;
            })
        });
        futures::future::join_all(keeps).await.into_iter().for_each(Result::unwrap);
        let found = cache.get(id(block), &(100..300), Kind::Labels).await;
        assert_eq!(found, Some(bytes(block, &(100..300))), "block {block}");
    }
    check_count(folder.path(), &metrics);
}

#[tokio::test]
async fn a_file_that_went_under_a_pending_read_takes_no_larger_one_along() {
    let (folder, metrics) = (tempfile::tempdir().unwrap(), Metrics::new());
    let files = Folder::open(folder.path(), 1 << 20, Instruments::registered(&metrics)).unwrap();
    files.keep(id(1), 0..100, &bytes(1, &(0..100))).await;
    files.keep(id(1), 0..200, &bytes(1, &(0..200))).await;
    // A query that found the small extent just before.
    assert_eq!(files.read(id(1), 0..100).await, None);
    assert_eq!(files.get(id(1), &(0..100)).await, Some((0..200, bytes(1, &(0..200)))));
    check_count(folder.path(), &metrics);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn queries_side_by_side_leave_no_file_that_is_not_counted() {
    let (folder, metrics) = (tempfile::tempdir().unwrap(), Metrics::new());
    let cache = ReadCache::open(&settings(folder.path(), 5_000), &metrics).unwrap();
    let queries = (0..8).map(|seed| {
        let cache = Arc::clone(&cache);
        tokio::spawn(async move {
            let random = random_from_seed(seed);
            for _ in 0..200 {
                let (block, start) = (random.next_u64() % 2, random.next_u64() % 4 * 100);
                let range = start..start + 100 * (1 + random.next_u64() % 4);
                match cache.get(id(block), &range, Kind::Labels).await {
                    Some(found) => assert_eq!(found, bytes(block, &range)),
                    None => {
                        let bytes = bytes(block, &range);
                        cache.keep(id(block), range, &bytes, (Kind::Labels, false)).await;
                    }
                }
            }
        })
    });
    futures::future::join_all(queries).await.into_iter().for_each(Result::unwrap);
    check_count(folder.path(), &metrics);
}

#[tokio::test]
async fn damaged_files_count_as_missing_and_go() {
    let range = 0..500;
    for damage in 0..4 {
        let folder = tempfile::tempdir().unwrap();
        let cache = open(folder.path(), 1 << 20);
        cache.keep(id(1), range.clone(), &bytes(1, &range), (Kind::Labels, false)).await;
        let path = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let mut file = std::fs::read(&path).unwrap();
        match damage {
            0 => file[250] ^= 1,
            1 => *file.last_mut().unwrap() ^= 1,
            2 => file.truncate(400),
            _ => file.clear(),
        }
        std::fs::write(&path, &file).unwrap();
        assert_eq!(cache.get(id(1), &range, Kind::Labels).await, None, "damage {damage}");
        assert!(!path.exists(), "damage {damage}");
        cache.keep(id(1), range.clone(), &bytes(1, &range), (Kind::Labels, false)).await;
        assert_eq!(cache.get(id(1), &range, Kind::Labels).await, Some(bytes(1, &range)));
    }
}

#[tokio::test]
async fn files_of_another_extent_or_half_written_ones_are_never_served() {
    let folder = tempfile::tempdir().unwrap();
    let range = 0..500;
    let cache = open(folder.path(), 1 << 20);
    cache.keep(id(1), range.clone(), &bytes(1, &range), (Kind::Labels, false)).await;
    let path = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    // As if a file had been renamed or copied by hand.
    std::fs::copy(&path, folder.path().join(format!("{}-0-1f4", id(2)))).unwrap();
    std::fs::write(folder.path().join(format!("{}-0-1f4", id(3))), b"half").unwrap();
    std::fs::write(folder.path().join("7.part"), b"half").unwrap();
    std::fs::write(folder.path().join("notes.txt"), b"somebody else's").unwrap();
    let again = open(folder.path(), 1 << 20);
    assert!(again.get(id(1), &range, Kind::Labels).await.is_some());
    assert_eq!(again.get(id(2), &range, Kind::Labels).await, None);
    assert_eq!(again.get(id(3), &range, Kind::Labels).await, None);
    let mut names: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, [format!("{}-0-1f4", id(1)), "notes.txt".to_owned()]);
}

#[tokio::test]
async fn a_folder_that_went_away_fails_no_query() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, range) = (open(folder.path(), 1 << 20), 0..500);
    cache.keep(id(1), range.clone(), &bytes(1, &range), (Kind::Labels, false)).await;
    folder.close().unwrap();
    assert_eq!(cache.get(id(1), &range, Kind::Labels).await, None);
    cache.keep(id(1), range.clone(), &bytes(1, &range), (Kind::Labels, false)).await;
    assert_eq!(cache.get(id(1), &range, Kind::Labels).await, None);
}

#[tokio::test]
async fn memory_counts_hits_and_misses_by_kind() {
    let metrics = Metrics::new();
    let settings = CacheSettings { memory_bytes_max: 1 << 20, folder: None };
    let (cache, range) = (ReadCache::open(&settings, &metrics).unwrap(), 0..500);
    assert_eq!(cache.get(id(1), &range, Kind::Labels).await, None);
    cache.keep(id(1), range.clone(), &bytes(1, &range), (Kind::Labels, false)).await;
    assert!(cache.get(id(1), &range, Kind::Labels).await.is_some());
    cache.keep(id(2), range.clone(), &bytes(2, &range), (Kind::Footer, false)).await;
    assert_eq!(cache.get(id(2), &range, Kind::Footer).await, None, "a footer is kept in its parsed form");
    cache.keep(id(3), range.clone(), &bytes(3, &range), (Kind::Footer, true)).await;
    assert!(cache.get(id(3), &(1..2), Kind::Labels).await.is_some(), "a small block is kept as a whole");
    let text = metrics.render();
    for line in [
        "perennial_read_cache_hits_total{kind=\"labels\",tier=\"memory\"} 2",
        "perennial_read_cache_misses_total{kind=\"labels\"} 1",
        "perennial_read_cache_misses_total{kind=\"footer\"} 1",
        "perennial_read_cache_bytes{tier=\"memory\"} 1256",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
}
