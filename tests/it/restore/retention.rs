//! After roll-up and after retention every time in the window and every held one restores, and the archive verifies.

use std::path::Path;
use std::process::Output;

use perennial::archive::{Archive, RollUp, RollUpSettings};
use perennial::bucket::{Bucket, BucketConfig};
use perennial::envelope::Envelope;
use perennial::model::SourceName;
use perennial::runtime::{Cpu, Metrics, Random};
use rand::Rng;
use rand::rngs::StdRng;

use super::scene::{Scene, scene};
use crate::support::{
    LocalBucket, RestoreCommand, SOURCE, archive_folder, assert_code, files_below, now_ms, path_text, seeded,
    time_text,
};

const WINDOW_MS: i64 = 15_000;
const TIMES: usize = 3;

fn upkeep(bucket: &LocalBucket, verb: &str, arguments: &[&str]) -> Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_perennial"))
        .args(["archive", verb, SOURCE])
        .args(arguments)
        .arg(format!("--objstore.config={}", bucket.config()))
        .output()
        .unwrap()
}

fn verified(bucket: &LocalBucket, when: &str) {
    for level in ["L1", "L3"] {
        assert_code(&upkeep(bucket, "verify", &["--level", level]), 0, &format!("verify {level} {when}"));
    }
}

/// Rolls up as if everything had settled.
async fn roll_up(bucket: &Path) {
    let opened = Bucket::open(&BucketConfig::filesystem(bucket), &Metrics::new()).unwrap();
    let archive = Archive::new(opened, Envelope::none(), SourceName::new(SOURCE).unwrap());
    let (cpu, random) = (Cpu::start(2).unwrap(), Random::from_os());
    let roll_up = RollUp { archive: &archive, cpu: &cpu, random: &random, now_ms: now_ms() + 86_400_000 };
    let report = roll_up.run(RollUpSettings::default()).await.unwrap();
    assert!(report.replaced_pieces > report.pieces, "{report:?}");
}

async fn restores(scene: &Scene, bucket: &LocalBucket, time_ms: i64) {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("data");
    RestoreCommand::new(&bucket.config()).as_of(time_ms, &to);
    scene.check_as_of(&to, time_ms).await;
}

async fn restores_within(scene: &Scene, bucket: &LocalBucket, window: (i64, i64), random: &mut StdRng) {
    restores(scene, bucket, window.0).await;
    for _ in 0..TIMES {
        restores(scene, bucket, random.random_range(window.0..=window.1)).await;
    }
}

/// Runs retention until what it marked is deleted; returns its window's start.
fn retain(bucket: &LocalBucket) -> i64 {
    let window = format!("{WINDOW_MS}ms");
    let flags = ["--window", &window, "--hourly", "1", "--delete-delay", "1s", "--output", "json"];
    let mut start_ms = 0;
    for round in 0..3 {
        let output = upkeep(bucket, "retain", &flags);
        assert_code(&output, 0, &format!("retain, round {round}"));
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        start_ms = told["window_start_ms"].as_i64().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1_300));
    }
    start_ms
}

#[tokio::test(flavor = "multi_thread")]
async fn every_time_in_the_window_restores_after_roll_up_and_after_retention() {
    let test = "every_time_in_the_window_restores_after_roll_up_and_after_retention";
    let Some(scene) = scene(test).await else { return };
    let mut random = seeded(test);
    let bucket = scene.bucket_copy();
    verified(&bucket, "as it was archived");
    roll_up(bucket.path()).await;
    verified(&bucket, "after roll-up");
    restores_within(scene, &bucket, scene.window_ms, &mut random).await;

    let before = files_below(&archive_folder(bucket.path())).len();
    let start_ms = retain(&bucket);
    let after = files_below(&archive_folder(bucket.path())).len();
    assert!(after < before, "{before} objects before, {after} after");
    verified(&bucket, "after retention");
    restores_within(scene, &bucket, (start_ms, scene.window_ms.1), &mut random).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_restores_until_it_is_released() {
    let test = "what_is_held_restores_until_it_is_released";
    let Some(scene) = scene(test).await else { return };
    let bucket = scene.bucket_copy();
    let held_ms = scene.window_ms.0 + 10_000;
    let (from, to) = (time_text(held_ms - 2_000), time_text(held_ms + 2_000));
    let held =
        upkeep(&bucket, "hold", &["--from", &from, "--to", &to, "--reason", "an incident is looked into"]);
    assert_code(&held, 0, "hold");
    retain(&bucket);
    verified(&bucket, "with a hold");
    restores(scene, &bucket, held_ms).await;
    restores(scene, &bucket, scene.window_ms.1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_policy_is_an_error_and_deletes_nothing() {
    let test = "an_empty_policy_is_an_error_and_deletes_nothing";
    let Some(scene) = scene(test).await else { return };
    let bucket = scene.bucket_copy();
    let before = files_below(bucket.path());
    let output = upkeep(&bucket, "retain", &["--window", "0s", "--delete-delay", "1s"]);
    assert_code(&output, 2, "a policy that keeps nothing");
    assert_eq!(files_below(bucket.path()), before);
    assert!(!path_text(bucket.path()).is_empty());
}
