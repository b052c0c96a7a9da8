//! A server that is killed, loses the end of its log, restarts, or goes on without an archiver.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::restore::scene::{check_known, without_late};
use crate::support::{
    Archiver, ArchiverSetup, CatalogFiles, Dump, LOAD_METRIC, Load, LocalBucket, TsdbOptions, TsdbServer,
    assert_code, installed, now_ms, path_text, time_text,
};

/// A base is made within seconds of a gap, also on a busy machine.
const BASE_LIMIT: Duration = Duration::from_secs(60);

fn options() -> TsdbOptions {
    TsdbOptions { block_seconds: None, scrape_itself: true, ..TsdbOptions::default() }
}

fn reasons(bucket: &LocalBucket) -> Vec<String> {
    let catalog = CatalogFiles::read(bucket.path());
    let forks = catalog.entries.iter().filter(|(_, entry)| entry["fork"].is_object());
    forks.map(|(_, entry)| entry["fork"]["reason"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_under_load_that_loses_the_end_of_its_log_restores_on_both_timelines() {
    let test = "a_server_killed_under_load_that_loses_the_end_of_its_log_restores_on_both_timelines";
    if !installed(test, &["prometheus", "promtool"]) {
        return;
    }
    let bucket = LocalBucket::new();
    let mut server = TsdbServer::new(options());
    server.start().await;
    let setup = ArchiverSetup::new(&server, &bucket.config());
    let archiver = setup.start().await;
    let load = Load::start(server.remote_write(), 30, Duration::from_millis(100));
    tokio::time::sleep(Duration::from_secs(5)).await;
    archiver.catch_up().await;
    server.kill();
    let killed_ms = now_ms();
    let first_book = load.stop().await;
    // The archiver has a flush and more while the server is away, as it would before a machine is up again.
    tokio::time::sleep(Duration::from_millis(1_700)).await;
    // What was not synced is gone after a power cut: the segment ends in the middle of a record.
    let segment = server.newest_segment();
    let length = segment.metadata().unwrap().len();
    std::fs::File::options().write(true).open(&segment).unwrap().set_len(length * 2 / 3 + 5).unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.start().await;
    assert!(server.log().contains("repair"), "the server repairs its log: {}", server.log());
    let load = Load::start(server.remote_write(), 30, Duration::from_millis(100));
    tokio::time::sleep(Duration::from_secs(3)).await;
    archiver.catch_up().await;
    let later_ms = now_ms();
    let second_book = load.stop().await;
    archiver.catch_up().await;
    archiver.stop();
    server.stop();

    let (restore, folder) = (setup.restore(), tempfile::tempdir().unwrap());
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    restore.as_of(killed_ms, &first);
    let restored = TsdbServer::opened(&first).await.samples().await;
    check_known(&first_book, &restored, killed_ms, "the archive outlives what the server lost");
    restore.as_of(later_ms, &second);
    let restored = TsdbServer::opened(&second).await.samples().await;
    let kept = TsdbServer::on_copy(server.data_dir()).await;
    without_late(&kept.within(0, later_ms - 2_000))
        .assert_same(&without_late(&restored.within(0, later_ms - 2_000)), "what the server went on with");
    let new = second_book.acknowledged_by(LOAD_METRIC, later_ms - 50);
    assert!(new.samples() > 0 && restored.samples() > new.samples());
    let lost = first_book.acknowledged_by(LOAD_METRIC, killed_ms).samples();
    let restored = restored.within(0, killed_ms);
    let left = restored.series.iter().filter(|(l, _)| is_load(l)).map(|(_, s)| s.len());
    assert!(left.sum::<usize>() < lost, "the new timeline does not have what the server lost");
    let reasons = reasons(&bucket);
    assert!(reasons.iter().any(|reason| reason == "repair" || reason == "rewritten"), "{reasons:?}");
    let found = restore.json("find", &["--repairs"]).to_string();
    assert!(found.contains("repair") || found.contains("rewritten"), "{found}");
}

fn is_load(labels: &[(String, String)]) -> bool {
    labels.contains(&("__name__".to_owned(), LOAD_METRIC.to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_are_recorded_and_times_on_both_sides_restore() {
    let test = "restarts_are_recorded_and_times_on_both_sides_restore";
    if !installed(test, &["prometheus", "promtool"]) {
        return;
    }
    let bucket = LocalBucket::new();
    let mut server = TsdbServer::new(options());
    server.start().await;
    let setup = ArchiverSetup::new(&server, &bucket.config());
    let archiver = setup.start().await;
    let load = Load::start(server.remote_write(), 10, Duration::from_millis(100));
    let mut times = Vec::new();
    for round in 0..3 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        archiver.catch_up().await;
        times.push(now_ms());
        tokio::time::sleep(Duration::from_millis(300)).await;
        if round < 2 {
            if round == 0 {
                server.stop()
            } else {
                server.kill()
            }
            server.start().await;
        }
    }
    let book = load.stop().await;
    archiver.catch_up().await;
    archiver.stop();
    server.stop();
    for time_ms in times {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("data");
        setup.restore().as_of(time_ms, &to);
        let restored = TsdbServer::opened(&to).await.samples().await;
        check_known(&book, &restored, time_ms, &format!("as of {time_ms}"));
    }
    let found = setup.restore().json("find", &["--restarts"]).to_string();
    assert!(found.matches("restart").count() >= 2, "{found}");
    let reasons = reasons(&bucket);
    assert!(reasons.iter().all(|reason| reason != "gap"), "{reasons:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archiver_that_was_away_past_a_checkpoint_records_the_gap_and_refuses_times_in_it() {
    let test = "an_archiver_that_was_away_past_a_checkpoint_records_the_gap_and_refuses_times_in_it";
    if !installed(test, &["prometheus", "promtool"]) {
        return;
    }
    let bucket = LocalBucket::new();
    let mut server = TsdbServer::new(TsdbOptions::short_blocks());
    server.start().await;
    let setup = ArchiverSetup::new(&server, &bucket.config());
    let load = Load::start(server.remote_write(), 10, Duration::from_millis(200));
    let archiver = setup.start().await;
    archiver.catch_up().await;
    archiver.stop();
    // No spool as well: as after a move to another disk.
    std::fs::remove_dir_all(server.data_dir().join("perennial-spool")).unwrap();
    server.wait_for_truncation().await;
    let away_ms = now_ms() - 5_000;
    let archiver = setup.start().await;
    archiver.catch_up().await;
    let back_ms = first_whole_moment(&setup, &archiver).await;
    let book = load.stop().await;
    archiver.catch_up().await;
    archiver.stop();
    server.stop();
    assert!(reasons(&bucket).contains(&"gap".to_owned()), "{:?}", reasons(&bucket));
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("data");
    let output = setup.restore().output("run", &["--as-of", &time_text(away_ms), "--to", path_text(&to)]);
    assert_code(&output, 3, "a time in the gap");
    assert!(!to.exists());
    setup.restore().as_of(back_ms, &to);
    let restored = TsdbServer::opened(&to).await.samples().await;
    check_known(&book, &restored, back_ms, "after the gap");
}

/// Waits for a time after a gap that restores whole, which takes a base of the time after it.
async fn first_whole_moment(setup: &ArchiverSetup, archiver: &Archiver) -> i64 {
    let begun = Instant::now();
    let nowhere = tempfile::tempdir().unwrap();
    let to = nowhere.path().join("data");
    loop {
        let now_ms = now_ms();
        archiver.catch_up().await;
        let wanted = ["--as-of", &time_text(now_ms), "--to", path_text(&to), "--output", "json"];
        let output = setup.restore().output("plan", &wanted);
        let plan: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if output.status.success() && plan["missing"].as_array().is_some_and(Vec::is_empty) {
            return now_ms;
        }
        assert!(begun.elapsed() < BASE_LIMIT, "no base after the gap: {output:?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_directory_lives_on_and_is_archived_on_a_timeline_of_its_own() {
    let test = "a_restored_directory_lives_on_and_is_archived_on_a_timeline_of_its_own";
    if !installed(test, &["prometheus", "promtool"]) {
        return;
    }
    let bucket = LocalBucket::new();
    let mut server = TsdbServer::new(TsdbOptions::short_blocks());
    server.start().await;
    let setup = ArchiverSetup::new(&server, &bucket.config());
    let archiver = setup.start().await;
    let load = Load::start(server.remote_write(), 10, Duration::from_millis(200));
    tokio::time::sleep(Duration::from_secs(18)).await;
    archiver.catch_up().await;
    let first_ms = now_ms();
    let first_book = load.stop().await;
    archiver.catch_up().await;
    archiver.stop();
    server.stop();
    let before = tempfile::tempdir().unwrap();
    let before = before.path().join("data");
    setup.restore().as_of(first_ms, &before);
    let expected = Dump::of(&before);
    let brought_back = TsdbServer::opened(&before).await.samples().await;
    check_known(&first_book, &brought_back, first_ms, "the time to go back to");

    let data = server.data_dir().to_owned();
    std::fs::rename(&data, data.with_file_name("broken")).unwrap();
    setup.restore().as_of(first_ms, &data);
    server.start().await;
    let archiver = setup.start().await;
    let load = Load::start(server.remote_write(), 10, Duration::from_millis(200));
    tokio::time::sleep(Duration::from_secs(18)).await;
    archiver.catch_up().await;
    let second_ms = now_ms();
    let second_book = load.stop().await;
    archiver.catch_up().await;
    archiver.stop();
    server.stop();
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    setup.restore().as_of(first_ms, &first);
    expected.assert_same(&Dump::of(&first), "the time before, after a restore went on");
    setup.restore().as_of(second_ms, &second);
    let restored = TsdbServer::opened(&second).await.samples().await;
    check_known(&second_book.after(&brought_back), &restored, second_ms, "a life after a restore");
    assert!(reasons(&bucket).len() > 1, "{:?}", reasons(&bucket));
}
