//! `kill -9` of the archiver, at random and at every named crash point, while the server is under load.

use std::time::Duration;

use rand::Rng;

use crate::restore::scene::{check_known, without_late};
#[cfg(feature = "failpoints")]
use crate::support::crash_points;
use crate::support::{
    ArchiverSetup, CatalogFiles, Load, LocalBucket, TsdbOptions, TsdbServer, installed, now_ms, seeded,
};

const LOAD_SERIES: u32 = 20;

/// A server under load and its archiver's setup.
struct Stage {
    server: TsdbServer,
    bucket: LocalBucket,
    setup: ArchiverSetup,
    load: Load,
}

impl Stage {
    async fn new() -> Self {
        let bucket = LocalBucket::new();
        let mut server = TsdbServer::new(TsdbOptions { scrape_itself: false, ..TsdbOptions::short_blocks() });
        server.start().await;
        let setup = ArchiverSetup::new(&server, &bucket.config()).flags(&["--digest.range=4s"]);
        let load = Load::start(server.remote_write(), LOAD_SERIES, Duration::from_millis(200));
        Self { server, bucket, setup, load }
    }

    /// Archives the rest and checks that the newest time restores whole, on one timeline and without a gap.
    async fn check(mut self, when: &str) {
        self.setup.set_failpoints(None);
        let archiver = self.setup.start().await;
        let book = self.load.stop().await;
        archiver.catch_up().await;
        let end_ms = now_ms();
        archiver.catch_up().await;
        archiver.stop();
        self.server.stop();
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("data");
        self.setup.restore().as_of(end_ms, &to);
        let restored = TsdbServer::opened(&to).await.samples().await;
        check_known(&book, &restored, end_ms, when);
        let original = TsdbServer::on_copy(self.server.data_dir()).await;
        without_late(&original).assert_same(&without_late(&restored), when);
        check_catalog(&self.bucket, when);
    }
}

fn check_catalog(bucket: &LocalBucket, when: &str) {
    let catalog = CatalogFiles::read(bucket.path());
    let forks: Vec<String> = catalog
        .entries
        .iter()
        .filter(|(_, entry)| entry["fork"].is_object())
        .map(|(_, entry)| entry["fork"]["reason"].to_string())
        .collect();
    assert_eq!(forks, ["\"start\""], "{when}: a killed archiver loses nothing, so the timeline goes on");
    let gaps = catalog.entries.iter().filter(|(_, e)| e["events"].to_string().contains("\"gap\"")).count();
    assert_eq!(gaps, 0, "{when}: gaps");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archiver_killed_at_random_times_loses_and_doubles_nothing() {
    let test = "an_archiver_killed_at_random_times_loses_and_doubles_nothing";
    if !installed(test, &["prometheus", "promtool"]) {
        return;
    }
    let cycles: usize = std::env::var("PERENNIAL_ARCHIVER_KILLS").map_or(10, |n| n.parse().unwrap());
    let mut random = seeded(test);
    let stage = Stage::new().await;
    for _ in 0..cycles {
        let archiver = stage.setup.launch();
        tokio::time::sleep(Duration::from_millis(random.random_range(50..3_500))).await;
        archiver.kill();
    }
    stage.check(&format!("after {cycles} kills")).await;
}

#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread")]
async fn an_archiver_that_crashes_at_every_named_point_loses_and_doubles_nothing() {
    let test = "an_archiver_that_crashes_at_every_named_point_loses_and_doubles_nothing";
    if !installed(test, &["prometheus", "promtool"]) {
        return;
    }
    let names: Vec<String> = crash_points().into_iter().filter(|name| name.starts_with("archive.")).collect();
    assert!(names.len() >= 4, "crash points are found: {names:?}");
    let mut stage = Stage::new().await;
    let mut never = Vec::new();
    for name in names.iter().filter(|name| !OUT_OF_REACH.iter().any(|part| name.contains(part))) {
        let mut fired = false;
        for action in ["return", "1*off->return"] {
            stage.setup.set_failpoints(Some(&format!("{name}={action}")));
            let mut archiver = stage.setup.launch();
            // A new block comes every ten seconds, and with it everything that a base takes; a busy machine is slower.
            for _ in 0..350 {
                if archiver.ended().is_some() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            fired |= archiver.ended().is_some();
            archiver.kill();
            if action == "return" && !fired {
                break;
            }
        }
        if !fired {
            never.push(name);
        }
    }
    assert!(never.is_empty(), "these crash points were never reached: {never:?}");
    stage.check("after a crash at every point").await;
}

// Roll-up and retention are commands of their own, with tests of their own.
#[cfg(feature = "failpoints")]
const OUT_OF_REACH: [&str; 6] = ["chapter", "rolled-up", "condense", "delete", "hold", "after-lock"];
