//! One Prometheus under load, archived once and shared by all tests that only read its archive.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::OnceCell;

use crate::support::{
    ArchiverSetup, Book, Dump, LATE_METRIC, LOAD_METRIC, Load, LocalBucket, RestoreCommand, SampleSet,
    TsdbOptions, TsdbServer, copy_folder, installed, local_bucket_config, now_ms,
};

/// A scrape is written this long after the time that it is stamped with, at the latest.
pub(crate) const SCRAPE_SLACK_MS: i64 = 2_000;

/// The archiver looks at the log at least this often, also on a busy machine.
const LOOK_SLACK_MS: i64 = 1_500;

/// An acknowledged sample may miss a restore to the very moment, by the time that a look at the log takes.
const ACKNOWLEDGE_SLACK_MS: i64 = 50;

const LOAD_SERIES: u32 = 100;
const LOAD_EVERY: Duration = Duration::from_millis(250);

/// An archived life of a server, and what is known of it from elsewhere.
#[derive(Debug)]
pub(crate) struct Scene {
    folder: PathBuf,
    /// Every time in between can be restored.
    pub(crate) window_ms: (i64, i64),
    pub(crate) book: Book,
    /// What the server held at its end.
    pub(crate) original: SampleSet,
    pub(crate) dump: Dump,
}

static SCENE: OnceCell<Scene> = OnceCell::const_new();

/// Returns the shared scene; the first that asks waits while it is played.
pub(crate) async fn scene(test: &str) -> Option<&'static Scene> {
    if !installed(test, &["prometheus", "promtool"]) {
        return None;
    }
    Some(SCENE.get_or_init(Scene::play).await)
}

/// How long the server lives: five generations of blocks and checkpoints, or `PERENNIAL_SCENE_SECONDS`.
fn life() -> Duration {
    Duration::from_secs(std::env::var("PERENNIAL_SCENE_SECONDS").map_or(75, |s| s.parse().unwrap()))
}

impl Scene {
    async fn play() -> Self {
        let folder = own_folder();
        let bucket = folder.join("bucket");
        std::fs::create_dir(&bucket).unwrap();
        let mut server = TsdbServer::new(TsdbOptions::short_blocks());
        server.start().await;
        let archiver_setup = ArchiverSetup::new(&server, &local_bucket_config(&bucket));
        let archiver = archiver_setup.start().await;
        let load = Load::start(server.remote_write(), LOAD_SERIES, LOAD_EVERY);
        archiver.catch_up().await;
        let begin_ms = now_ms();
        tokio::time::sleep(life()).await;
        let book = load.stop().await;
        archiver.catch_up().await;
        let end_ms = now_ms();
        archiver.catch_up().await;
        archiver.stop();
        assert!(!server.log().contains("level=error"), "{}", server.log());
        server.stop();
        let data = folder.join("original");
        copy_folder(server.data_dir(), &data);
        std::fs::remove_dir_all(data.join("perennial-spool")).ok();
        let dump = Dump::of(&data);
        let original = TsdbServer::opened(&data).await.samples().await;
        println!(
            "scene: {} samples, {} blocks written",
            original.samples(),
            server.log().matches("write block").count()
        );
        Self { folder, window_ms: (begin_ms, end_ms), book, original, dump }
    }

    /// The archive's bucket; nobody changes it.
    pub(crate) fn bucket(&self) -> PathBuf {
        self.folder.join("bucket")
    }

    /// The data directory of the server at its end; nobody changes it.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("original")
    }

    /// A copy of the bucket for a test that changes it.
    pub(crate) fn bucket_copy(&self) -> LocalBucket {
        LocalBucket::copy_of(&self.bucket())
    }

    pub(crate) fn restore(&self) -> RestoreCommand {
        RestoreCommand::new(&local_bucket_config(&self.bucket()))
    }

    /// Checks what was restored `--as-of` a time, with what the server says of it and with promtool.
    pub(crate) async fn check_as_of(&self, data: &Path, time_ms: i64) {
        let dump = Dump::of(data);
        let restored = TsdbServer::opened(data).await.samples().await;
        let what = format!("--as-of {time_ms}");
        check_known(&self.book, &restored, time_ms, &what);
        let settled_ms = time_ms - SCRAPE_SLACK_MS;
        without_late(&self.original.within(0, settled_ms))
            .assert_same(&without_late(&restored.within(0, settled_ms)), &what);
        let after = restored.within(time_ms + 1, i64::MAX);
        assert_eq!(after.samples(), 0, "{what}: samples after it: {after:?}");
        let [expected, got] = [&self.dump, &dump].map(|dump| dump.without(LATE_METRIC).until(settled_ms));
        expected.assert_same(&got, &format!("{what}, promtool"));
        assert_eq!(dump.until(time_ms), dump, "{what}, promtool: samples after it");
    }

    /// Checks what was restored `--until` a time.
    pub(crate) async fn check_until(&self, data: &Path, time_ms: i64) {
        let dump = Dump::of(data);
        let restored = TsdbServer::opened(data).await.samples().await;
        let what = format!("--until {time_ms}");
        self.original.within(0, time_ms).assert_same(&restored, &what);
        self.dump.until(time_ms).assert_same(&dump, &format!("{what}, promtool"));
    }
}

/// Checks the samples of the load against the book: all that the server had acknowledged are there, none of later.
pub(crate) fn check_known(book: &Book, restored: &SampleSet, time_ms: i64, what: &str) {
    for (metric, slack_ms) in [(LOAD_METRIC, 0), (LATE_METRIC, LOOK_SLACK_MS)] {
        let known = book.acknowledged_by(metric, time_ms - ACKNOWLEDGE_SLACK_MS);
        let possible = book.begun_by(metric, time_ms + slack_ms);
        for (labels, samples) in &known.series {
            let held: std::collections::BTreeMap<i64, u64> =
                restored.series.get(labels).into_iter().flatten().copied().collect();
            let lost: Vec<i64> =
                samples.iter().filter(|(at, bits)| held.get(at) != Some(bits)).map(|(at, _)| *at).collect();
            assert!(lost.is_empty(), "{what}: {labels:?} was known with samples at {lost:?}");
        }
        let is_metric = |labels: &&(String, String)| labels.0 == "__name__" && labels.1 == metric;
        for (labels, samples) in restored.series.iter().filter(|(l, _)| l.iter().any(|p| is_metric(&p))) {
            let sent: std::collections::BTreeMap<i64, u64> =
                possible.series.get(labels).into_iter().flatten().copied().collect();
            let added: Vec<i64> =
                samples.iter().filter(|(at, bits)| sent.get(at) != Some(bits)).map(|(at, _)| *at).collect();
            assert!(
                added.is_empty(),
                "{what}: {labels:?} has samples at {added:?} that were not sent by then"
            );
        }
    }
}

/// Leaves out the metric whose samples come late, of which only the book tells when they were known.
pub(crate) fn without_late(set: &SampleSet) -> SampleSet {
    let mut kept = set.clone();
    kept.series.retain(|labels, _| !labels.contains(&("__name__".to_owned(), LATE_METRIC.to_owned())));
    kept
}

/// Makes a folder for this process below the target folder and removes those of processes that are gone: what a
/// static holds is never dropped.
fn own_folder() -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in std::fs::read_dir(root).into_iter().flatten().map(Result::unwrap) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let gone = name.strip_prefix("scene-").is_some_and(|pid| !Path::new("/proc").join(pid).exists());
        if gone {
            std::fs::remove_dir_all(entry.path()).ok();
        }
    }
    let folder = root.join(format!("scene-{}", std::process::id()));
    std::fs::remove_dir_all(&folder).ok();
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
