//! What people restore for: a delete by mistake; and what other backups lose: late samples and exemplars.

use std::time::Duration;

use super::scene::check_known;
use crate::support::{
    ArchiverSetup, LATE_METRIC, LOAD_METRIC, Load, LocalBucket, SampleSet, Series, TsdbOptions, TsdbServer,
    installed, label_pairs, now_ms,
};

const LATE_SAMPLES: i64 = 40;
const EXEMPLARS: i64 = 30;

fn of_metric(set: &SampleSet, metric: &str) -> SampleSet {
    let mut kept = set.clone();
    kept.series.retain(|labels, _| labels.contains(&("__name__".to_owned(), metric.to_owned())));
    kept
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_series_come_back_also_after_the_tombstones_were_cleaned() {
    let test = "deleted_series_come_back_also_after_the_tombstones_were_cleaned";
    if !installed(test, &["prometheus", "promtool"]) {
        return;
    }
    let bucket = LocalBucket::new();
    let mut server = TsdbServer::new(TsdbOptions::short_blocks());
    server.start().await;
    let setup = ArchiverSetup::new(&server, &bucket.config());
    let archiver = setup.start().await;
    let load = Load::start(server.remote_write(), 20, Duration::from_millis(250));
    server.wait_for_block().await;
    let book = load.stop().await;
    archiver.catch_up().await;
    let before_ms = now_ms();
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.delete_series(LOAD_METRIC).await;
    assert_eq!(of_metric(&server.samples().await, LOAD_METRIC).samples(), 0, "the mistake is made");
    // Tombstones of blocks are seen by the scan, a second later at most.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    archiver.catch_up().await;
    let after_ms = now_ms();
    server.clean_tombstones().await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    archiver.catch_up().await;
    let cleaned_ms = now_ms();
    archiver.catch_up().await;
    archiver.stop();

    let restore = setup.restore();
    let found = restore.json("find", &["--deletes"]).to_string();
    assert!(found.contains("delete"), "the delete is found: {found}");
    for (time_ms, deleted) in [(before_ms, false), (after_ms, true), (cleaned_ms, true)] {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("data");
        restore.as_of(time_ms, &to);
        let restored = TsdbServer::opened(&to).await.samples().await;
        if deleted {
            assert_eq!(of_metric(&restored, LOAD_METRIC).samples(), 0, "a delete before the time stays done");
            assert!(of_metric(&restored, LATE_METRIC).samples() > 0, "others are there");
        } else {
            check_known(&book, &restored, time_ms, "before the delete");
        }
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn late_samples_and_exemplars_come_back_all_of_them() {
    let test = "late_samples_and_exemplars_come_back_all_of_them";
    if !installed(test, &["prometheus", "promtool"]) {
        return;
    }
    let bucket = LocalBucket::new();
    let mut server = TsdbServer::new(TsdbOptions::default());
    server.start().await;
    let setup = ArchiverSetup::new(&server, &bucket.config());
    let archiver = setup.start().await;
    let start_ms = now_ms() - 120_000;
    let labels = label_pairs(&[("__name__", "tardy_total"), ("job", "load")]);
    let send = async |samples: Vec<(i64, u64)>| {
        let series = Series { labels: labels.clone(), samples };
        let ack = server.remote_write().send_with_exemplars(&series).await.unwrap();
        assert!(ack.status < 300, "{} {}", ack.status, ack.body);
    };
    let newest_ms = start_ms + (LATE_SAMPLES + EXEMPLARS + 1) * 1_000;
    let in_order: Vec<(i64, u64)> = (0..EXEMPLARS)
        .map(|i| (newest_ms - (EXEMPLARS - i) * 1_000, 2.5f64.to_bits() + i.cast_unsigned()))
        .collect();
    for sample in &in_order {
        send(vec![*sample]).await;
    }
    let late: Vec<(i64, u64)> =
        (0..LATE_SAMPLES).map(|i| (start_ms + i * 1_000, (0.1f64 * i as f64).to_bits())).collect();
    for sample in late.iter().rev() {
        let series = Series { labels: labels.clone(), samples: vec![*sample] };
        let ack = server.remote_write().send(&[series]).await.unwrap();
        assert!(ack.status < 300, "{} {}", ack.status, ack.body);
    }
    let held = server.samples().await;
    let exemplars = server.exemplars("tardy_total").await;
    let told = exemplars.to_string().matches("trace_id").count();
    assert_eq!(told, usize::try_from(EXEMPLARS).unwrap(), "the server holds them: {exemplars}");
    archiver.catch_up().await;
    archiver.stop();

    let mut expected = SampleSet::default();
    expected.append(labels.clone(), late.into_iter().chain(in_order));
    expected.assert_same(&of_metric(&held, "tardy_total"), "the server before");
    for head in ["wal", "blocks"] {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("data");
        setup.restore().run(&["--as-of", "latest", "--head", head], &to);
        let restored = TsdbServer::opened(&to).await;
        expected.assert_same(&restored.samples().await, &format!("restored, --head {head}"));
        assert_eq!(restored.exemplars("tardy_total").await, exemplars, "exemplars, --head {head}");
    }
    server.stop();
}
