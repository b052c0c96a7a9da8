//! What a restored directory holds, for each kind of target and output.

use rig::{Rig, Samples, all_samples, block_samples, deleted, floats, log_records, series};

use super::rig;
use crate::archive::{EventKind, Target};
use crate::bucket::LogKind;
use crate::model::{CUSTOM_BUCKETS_SCHEMA, Histogram};
use crate::model::{ErrorKind, MatchKind, Matcher};
use crate::restore::*;
use crate::tsdb::wal::{FloatSample, HistogramSample, MmapMarker, Record, RecordKind};

fn set(rows: &[(&str, i64, f64)]) -> Samples {
    rows.iter().map(|(name, ts_ms, value)| ((*name).to_owned(), *ts_ms, value.to_bits())).collect()
}

/// A block up to 900 000, a log behind it with a late sample, a delete and samples of before the cut-off.
async fn usual() -> Rig {
    let mut rig = Rig::new();
    rig.block(
        &[("a", &[(800_000, 1.0), (860_000, 2.0)]), ("b", &[(899_999, 3.0)])],
        (800_000, 900_000),
        false,
    )
    .await;
    rig.base().await;
    rig.log(
        LogKind::Wal,
        &[
            series(&[(1, "a"), (2, "b")]),
            floats(&[(1, 860_000, 2.0)]),
            floats(&[(1, 1_000_100, 4.0), (2, 1_000_100, 5.0)]),
        ],
    )
    .await;
    rig.log(
        LogKind::Wal,
        &[floats(&[(1, 1_001_100, 6.0), (2, 1_001_100, 7.0)]), floats(&[(1, 950_000, 9.0)])],
    )
    .await;
    rig.log(
        LogKind::Wbl,
        &[Record::MmapMarkers(vec![MmapMarker { reference: 1, chunk: 8 }]), floats(&[(1, 950_000, 9.0)])],
    )
    .await;
    rig.log(LogKind::Wal, &[deleted(2, 1_000_000, 1_001_000)]).await;
    rig.log(LogKind::Wal, &[floats(&[(1, 1_004_100, 8.0), (1, 1_004_100, 8.5), (9, 1_004_100, 8.0)])]).await;
    rig
}

fn everything() -> Samples {
    set(&[
        ("a", 800_000, 1.0),
        ("a", 860_000, 2.0),
        ("a", 950_000, 9.0),
        ("a", 1_000_100, 4.0),
        ("a", 1_001_100, 6.0),
        ("a", 1_004_100, 8.0),
        ("b", 899_999, 3.0),
        ("b", 1_001_100, 7.0),
    ])
}

async fn restored(rig: &Rig, target: Target, head: HeadMode) -> Samples {
    restored_for(rig, target, head, None).await
}

async fn restored_for(
    rig: &Rig,
    target: Target,
    head: HeadMode,
    for_version: Option<ServerVersion>,
) -> Samples {
    let to = rig.dir.path().join(format!("{head:?}"));
    let request = RestoreRequest { head, for_version, ..RestoreRequest::new(target, &to) };
    rig.run(&request).await.unwrap();
    let report = check_dir(&to, &rig.context().cpu, 2, &rig.context().progress).await.unwrap();
    assert_eq!(report.findings, []);
    let samples = all_samples(&to, 900_000);
    std::fs::remove_dir_all(&to).unwrap();
    samples
}

#[tokio::test]
async fn as_of_brings_back_what_the_server_knew_in_every_mode() {
    let rig = usual().await;
    for head in [HeadMode::Wal, HeadMode::Blocks, HeadMode::BlocksOnly] {
        assert_eq!(restored(&rig, Target::AsOf(rig.now_ms), head).await, everything(), "{head:?}");
    }
}

#[tokio::test]
async fn as_of_a_time_before_a_delete_undoes_it() {
    let rig = usual().await;
    let mut expected = everything();
    expected.retain(|(_, ts_ms, _)| *ts_ms < 1_004_000);
    expected.extend(set(&[("b", 1_000_100, 5.0)]));
    for head in [HeadMode::Wal, HeadMode::Blocks, HeadMode::BlocksOnly] {
        assert_eq!(restored(&rig, Target::AsOf(1_003_005), head).await, expected, "{head:?}");
    }
}

#[tokio::test]
async fn until_leaves_out_what_lies_after_it_and_cuts_blocks_by_tombstones() {
    let mut rig = usual().await;
    rig.hide(790_000, 800_000, &[5]).await;
    for until_ms in [800_000, 830_000, 899_999, 900_000, 1_000_100, 1_001_099] {
        let mut expected = everything();
        expected.retain(|(_, ts_ms, _)| *ts_ms <= until_ms);
        for head in [HeadMode::Wal, HeadMode::Blocks] {
            for version in [None, Some(ServerVersion::new(2, 42)), Some(ServerVersion::new(3, 14))] {
                let found = restored_for(&rig, Target::Until(until_ms), head, version).await;
                assert_eq!(found, expected, "{until_ms} {head:?} {version:?}");
            }
        }
    }
    let view = rig.archive.load().await.unwrap();
    let refused = rig.archive.resolve(&view, Target::Until(799_999), None).await.unwrap_err();
    assert!(refused.to_string().contains("1970-01-01T00:13:20Z"), "the first sample is named: {refused}");
}

#[tokio::test]
async fn own_tombstones_of_a_block_come_back_and_are_joined_with_the_cut() {
    let mut rig = Rig::new();
    let samples: Vec<(i64, f64)> = (0..100).map(|i| (800_000 + i * 1_000, i as f64)).collect();
    let id = rig.block(&[("a", &samples)], (800_000, 900_000), false).await;
    let index = {
        let to = rig.dir.path().join("first");
        rig.base().await;
        rig.run(&RestoreRequest::new(Target::AsOf(rig.now_ms), &to)).await.unwrap();
        let index = rig::block_samples(&to);
        assert_eq!(index.len(), 100);
        assert_eq!(std::fs::read(to.join(id.to_string()).join("tombstones")).unwrap().len(), 9);
        tombstone_reference(&to.join(id.to_string()))
    };
    rig.hide(810_000, 819_999, &[index]).await;
    rig.base().await;
    rig.run(&RestoreRequest::new(Target::AsOf(rig.now_ms), rig.to())).await.unwrap();
    assert_eq!(block_samples(&rig.to()).len(), 90);
    let cut = rig.dir.path().join("cut");
    rig.run(&RestoreRequest::new(Target::Until(815_000), &cut)).await.unwrap();
    assert_eq!(block_samples(&cut).len(), 10);
}

fn tombstone_reference(folder: &std::path::Path) -> u64 {
    let index = crate::restore::tombstones::FileAt::open(&folder.join("index")).unwrap();
    let index = crate::tsdb::block::IndexReader::open(index).unwrap();
    let first = index.series().next().unwrap().unwrap();
    u64::from(first.reference)
}

#[tokio::test]
async fn a_log_after_a_checkpoint_is_written_as_one_and_markers_are_left_out() {
    let mut rig = Rig::new();
    rig.log(LogKind::Wal, &[series(&[(1, "a")]), floats(&[(1, 1_000_100, 1.0)])]).await;
    rig.next_segment();
    rig.put_checkpoint(0, &[series(&[(1, "a")]), floats(&[(1, 1_000_100, 1.0)])]).await;
    rig.base().await;
    rig.log(LogKind::Wal, &[floats(&[(1, 1_001_100, 2.0)])]).await;
    rig.log(
        LogKind::Wbl,
        &[Record::MmapMarkers(vec![MmapMarker { reference: 1, chunk: 8 }]), floats(&[(1, 900_000, 3.0)])],
    )
    .await;
    let request =
        RestoreRequest { head: HeadMode::Wal, ..RestoreRequest::new(Target::AsOf(rig.now_ms), rig.to()) };
    rig.run(&request).await.unwrap();
    let expected = set(&[("a", 1_000_100, 1.0), ("a", 1_001_100, 2.0), ("a", 900_000, 3.0)]);
    assert_eq!(all_samples(&rig.to(), i64::MIN), expected);
    assert_eq!(log_records(&rig.to(), "wbl").len(), 1);
    let names: Vec<_> =
        std::fs::read_dir(rig.to().join("wal")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["00000000"]);
}

#[tokio::test]
async fn series_that_were_given_up_or_numbered_anew_are_replayed_as_prometheus_does() {
    let mut rig = Rig::new();
    rig.base().await;
    rig.log(
        LogKind::Wal,
        &[
            series(&[(1, "a"), (2, "b")]),
            floats(&[(1, 1_000, 1.0), (2, 1_000, 2.0)]),
            // The same labels under another number are the same series.
            series(&[(3, "a")]),
            floats(&[(3, 900, 1.5), (3, 2_000, 3.0), (1, 1_500, 9.0)]),
            // Given up as a whole: the same labels come back as another series.
            deleted(2, i64::MIN, i64::MAX),
            series(&[(4, "b")]),
            floats(&[(4, 500, 4.0)]),
        ],
    )
    .await;
    let request = RestoreRequest {
        head: HeadMode::BlocksOnly,
        ..RestoreRequest::new(Target::AsOf(rig.now_ms), rig.to())
    };
    rig.run(&request).await.unwrap();
    assert_eq!(block_samples(&rig.to()), set(&[("a", 1_000, 1.0), ("a", 2_000, 3.0), ("b", 500, 4.0)]));
}

#[tokio::test]
async fn a_large_head_becomes_one_block_per_range_that_does_not_move_the_cut_off() {
    let mut rig = Rig::new();
    rig.base().await;
    let hour_ms = 3_600_000;
    let mut records =
        vec![series(&(0..50).map(|i| (i, ["x", "y"][(i % 2) as usize])).collect::<Vec<_>>()[..2])];
    for minute in 0..300 {
        let ts_ms = 100 * hour_ms + minute * 60_000;
        records.push(floats(&[(0, ts_ms, minute as f64), (1, ts_ms, f64::NAN)]));
    }
    rig.log(LogKind::Wal, &records).await;
    let request = RestoreRequest {
        head: HeadMode::BlocksOnly,
        ..RestoreRequest::new(Target::AsOf(rig.now_ms), rig.to())
    };
    let report = rig.run(&request).await.unwrap();
    assert_eq!((report.head_blocks, report.head_samples), (3, 600));
    assert_eq!(block_samples(&rig.to()).len(), 600);
    for entry in std::fs::read_dir(rig.to()).unwrap() {
        let path = entry.unwrap().path();
        if path.join("meta.json").exists() {
            assert!(crate::restore::rewrite::read_meta(&path).unwrap().is_out_of_order());
        }
    }
}

#[tokio::test]
async fn selectors_take_series_out_of_blocks_and_logs() {
    let rig = usual().await;
    let only_b = Selector::new("{s=\"b\"}", vec![Matcher::new(MatchKind::Equal, "s", "b").unwrap()]);
    for head in [HeadMode::Wal, HeadMode::Blocks] {
        let to = rig.dir.path().join(format!("{head:?}"));
        let request = RestoreRequest {
            head,
            selectors: vec![only_b.clone()],
            ..RestoreRequest::new(Target::AsOf(rig.now_ms), &to)
        };
        rig.run(&request).await.unwrap();
        let mut expected = everything();
        expected.retain(|(name, ..)| name == "b");
        assert_eq!(all_samples(&to, 900_000), expected, "{head:?}");
    }
}

#[tokio::test]
async fn a_block_without_wanted_series_still_keeps_older_samples_of_the_log_out() {
    let mut rig = Rig::new();
    // What the block had of b was deleted, and cleaned away.
    rig.block(&[("a", &[(800_000, 1.0), (860_000, 2.0)])], (800_000, 900_000), false).await;
    rig.base().await;
    rig.log(
        LogKind::Wal,
        &[series(&[(1, "a"), (2, "b")]), floats(&[(2, 850_000, 3.0)]), floats(&[(2, 1_000_100, 5.0)])],
    )
    .await;
    rig.log(LogKind::Wbl, &[floats(&[(2, 700_000, 4.0)])]).await;
    let only_b = Selector::new("{s=\"b\"}", vec![Matcher::new(MatchKind::Equal, "s", "b").unwrap()]);
    for head in [HeadMode::Wal, HeadMode::Blocks] {
        let to = rig.dir.path().join(format!("{head:?}"));
        let request = RestoreRequest {
            head,
            selectors: vec![only_b.clone()],
            ..RestoreRequest::new(Target::AsOf(rig.now_ms), &to)
        };
        rig.run(&request).await.unwrap();
        let expected = set(&[("b", 700_000, 4.0), ("b", 1_000_100, 5.0)]);
        assert_eq!(all_samples(&to, i64::MIN), expected, "{head:?}");
    }
}

#[tokio::test]
async fn start_times_are_left_out_for_older_versions_and_custom_buckets_refused() {
    let mut rig = Rig::new();
    rig.base().await;
    let sample = FloatSample { reference: 1, ts_ms: 1_000_100, value_bits: 5, start_ms: 77 };
    rig.log(LogKind::Wal, &[series(&[(1, "a")]), Record::SamplesV2(vec![sample])]).await;
    let request = RestoreRequest {
        for_version: Some(ServerVersion::new(2, 42)),
        head: HeadMode::Wal,
        ..RestoreRequest::new(Target::AsOf(rig.now_ms), rig.to())
    };
    rig.run(&request).await.unwrap();
    let kinds: Vec<RecordKind> =
        log_records(&rig.to(), "wal").iter().map(|data| RecordKind::of(data)).collect();
    assert_eq!(kinds, [RecordKind::Series, RecordKind::Samples]);

    let histogram = Histogram { schema: CUSTOM_BUCKETS_SCHEMA, ..Histogram::default() };
    let custom = HistogramSample { reference: 1, ts_ms: 1_001_100, start_ms: 0, histogram };
    rig.log(LogKind::Wal, &[Record::Histograms { custom_buckets: true, samples: vec![custom] }]).await;
    for head in [HeadMode::Wal, HeadMode::Blocks] {
        let to = rig.dir.path().join("refused");
        let request = RestoreRequest { head, ..RestoreRequest::new(Target::AsOf(rig.now_ms + 1), &to) };
        let request = RestoreRequest { for_version: Some(ServerVersion::new(2, 42)), ..request };
        let request = RestoreRequest { target: Target::AsOf(rig.now_ms), restart: true, ..request };
        let error = rig.run(&request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(!to.exists());
    }
}

#[tokio::test]
async fn events_name_the_time_just_before_the_first_trace_of_an_action() {
    let mut rig = usual().await;
    rig.event(EventKind::Delete, None).await;
    let first_ms = rig.now_ms;
    rig.now_ms += 900;
    rig.event(EventKind::Delete, Some(rig.ulid())).await;
    rig.now_ms += 60_000;
    rig.event(EventKind::Delete, None).await;
    rig.event(EventKind::Restart, None).await;
    let view = rig.view().await;
    let found = find_events(&view, &[EventFilter::Deletes], i64::MIN);
    let as_of: Vec<i64> = found.iter().map(|event| event.as_of_ms).collect();
    assert_eq!(as_of, [first_ms - 1, first_ms - 1, rig.now_ms - 1]);
    assert_eq!(find_events(&view, &[], rig.now_ms).len(), 2);
    let status = status(&view, rig.now_ms + 5);
    assert_eq!((status.deletes, status.bases, status.timelines.len()), (3, 1, 1));
    assert_eq!(status.last_entry_age_ms, 5);
}

#[tokio::test]
async fn times_outside_of_the_window_are_refused_with_the_nearest_one() {
    let rig = usual().await;
    for as_of_ms in [0, rig.now_ms + 60_000] {
        let error = rig.plan(&RestoreRequest::new(Target::AsOf(as_of_ms), rig.to())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfRange, "{error}");
        assert!(error.to_string().contains("nearest"), "{error}");
    }
}

#[tokio::test]
async fn an_end_before_the_first_sample_or_in_the_future_is_refused_with_the_nearest_one() {
    let rig = usual().await;
    let last = crate::model::format_time_ms(rig.now_ms);
    let future_ms = rig.context().clock.now_ms() + 60_000;
    for (until_ms, nearest) in [(799_999, "1970-01-01T00:13:20"), (future_ms, last.as_str())] {
        let error = rig.plan(&RestoreRequest::new(Target::Until(until_ms), rig.to())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfRange, "{error}");
        assert!(error.to_string().contains(nearest), "{error}");
    }
}

#[tokio::test]
async fn a_plan_warns_of_retention_and_of_newer_servers() {
    let mut rig = Rig::new();
    let flags = [("storage.tsdb.retention.time".to_owned(), "1d".to_owned())];
    rig.server = Some(crate::archive::ServerFacts {
        version: Some("3.9.1".to_owned()),
        flags: flags.into_iter().collect(),
        ..crate::archive::ServerFacts::default()
    });
    rig.block(&[("a", &[(800_000, 1.0)])], (800_000, 900_000), false).await;
    rig.base().await;
    let plan = rig.plan(&RestoreRequest::new(Target::AsOf(rig.now_ms), rig.to())).await.unwrap();
    assert_eq!(plan.warnings.len(), 2, "{:?}", plan.warnings);
    assert!(plan.warnings[0].contains("retention.time=1d"), "{:?}", plan.warnings);
    assert!(plan.warnings[1].contains("3.9"), "{:?}", plan.warnings);
    assert!(!rig.to().exists() && std::fs::read_dir(rig.dir.path()).unwrap().next().is_none());
}
