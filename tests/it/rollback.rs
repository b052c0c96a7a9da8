//! A tenant rolled back to a kept catalog version while its receiver runs.

use std::time::Duration;

use crate::support::{Answer, SampleSet, Series, Setup, label_pairs};

const AT_MS: i64 = 1_704_095_400_000;
const TENANT: &str = "default-tenant";

fn series(number: i64) -> Series {
    Series {
        labels: label_pairs(&[("__name__", "rolled_total"), ("number", &number.to_string())]),
        samples: (0..20).map(|i| (AT_MS + i * 1_000, (number * 1_000 + i) as u64)).collect(),
    }
}

fn set_of(numbers: &[i64]) -> SampleSet {
    let mut set = SampleSet::default();
    numbers.iter().map(|n| series(*n)).for_each(|s| set.append(s.labels, s.samples));
    set
}

fn setup() -> Setup {
    Setup::standalone().flags(&["--ingest.max-age=100y", "--catalog.refresh=100ms"])
}

async fn write(setup: &Setup, number: i64) {
    let ack = setup.remote_write().send(&[series(number)]).await.unwrap();
    assert_eq!(ack.status, 204, "{}", ack.body);
}

async fn assert_served(setup: &Setup, numbers: &[i64], when: &str) {
    let served = async || setup.remote_read().all(0, i64::MAX / 2, Answer::Streamed).await;
    for _ in 0..50 {
        if served().await == set_of(numbers) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    set_of(numbers).assert_same(&served().await, when);
}

/// Runs `rollback` and returns its exit code, its answer and its errors.
fn rollback(setup: &Setup, flags: &[&str]) -> (i32, serde_json::Value, String) {
    let output = setup.output(&[&["rollback", TENANT, "--output=json"], flags].concat());
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code().unwrap(), answer, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The time at which the newest version was made, as printed.
fn newest_time(setup: &Setup) -> String {
    let (code, plan, error) = rollback(setup, &["--as-of=now"]);
    assert_eq!(code, 0, "{error}");
    plan["newest"]["written_at"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_receiver_goes_on_after_a_rollback_and_after_its_undoing() {
    let setup = setup();
    let perennial = setup.start().await;
    write(&setup, 1).await;
    perennial.flush().await;
    let good = newest_time(&setup);
    write(&setup, 2).await;
    perennial.flush().await;
    write(&setup, 3).await;

    let (code, plan, error) = rollback(&setup, &["--as-of", &good]);
    assert_eq!(code, 7, "{error}");
    assert!(error.contains(&format!("--as-of {good}")) && error.contains("--yes"), "{error}");
    assert_eq!((&plan["goes"]["count"], &plan["goes"]["samples"]), (&1.into(), &20.into()), "{plan}");
    assert_eq!((&plan["comes_back"]["count"], &plan["stays"]), (&0.into(), &1.into()), "{plan}");
    assert!(plan["committed"].is_null());
    assert_served(&setup, &[1, 2, 3], "a plan changes nothing").await;

    let (code, done, error) = rollback(&setup, &["--as-of", &good, "--yes"]);
    assert_eq!(code, 0, "{error}");
    assert_eq!(done["committed"]["version"], 3, "{done}");
    assert_served(&setup, &[1, 3], "what was in memory stays").await;
    perennial.flush().await;
    write(&setup, 4).await;
    perennial.flush().await;
    assert_served(&setup, &[1, 3, 4], "the receiver commits on the new version").await;

    // Its log was let go of before the rollback and must not bring anything back.
    perennial.stop();
    let perennial = setup.start().await;
    assert_served(&setup, &[1, 3, 4], "after a restart").await;
    let undo = done["undo"].as_str().unwrap();
    let words: Vec<&str> = undo.split(' ').skip(3).collect();
    let (code, undone, error) = rollback(&setup, &words);
    assert_eq!(code, 0, "{undo}: {error}");
    assert_eq!((&undone["comes_back"]["count"], &undone["goes"]["count"]), (&1.into(), &2.into()));
    assert_served(&setup, &[1, 2], "the version before the rollback").await;
    perennial.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_killed_before_its_commit_replays_its_log_onto_the_rolled_back_version() {
    let setup = setup();
    let perennial = setup.start().await;
    write(&setup, 1).await;
    perennial.flush().await;
    let good = newest_time(&setup);
    write(&setup, 2).await;
    perennial.flush().await;
    write(&setup, 3).await;
    perennial.kill();
    let (code, _, error) = rollback(&setup, &["--as-of", &good, "--yes"]);
    assert_eq!(code, 0, "{error}");
    let perennial = setup.start().await;
    assert_served(&setup, &[1, 3], "covered entries are not replayed").await;
    perennial.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_with_its_exit_code() {
    let setup = setup();
    assert_eq!(rollback(&setup, &["--as-of=now"]).0, 3, "no bucket");
    let perennial = setup.start().await;
    write(&setup, 1).await;
    perennial.flush().await;
    let good = newest_time(&setup);
    write(&setup, 2).await;
    perennial.flush().await;
    perennial.stop();

    let (code, _, error) = rollback(&setup, &["--as-of", "yesterday"]);
    assert!(code == 2 && error.contains("RFC 3339"), "{error}");
    let (code, _, error) = rollback(&setup, &["--as-of", "-1d"]);
    assert!(code == 3 && error.contains(&good), "{error}");
    let (code, _, error) = rollback(&setup, &["--as-of", "2100-01-01T00:00:00Z"]);
    assert!(code == 3 && error.contains("nearest possible"), "{error}");
    let nobody = setup.output(&["rollback", "nobody", "--as-of=now"]);
    assert_eq!(nobody.status.code(), Some(3));

    let blocks = setup.bucket_dir().join("tenants").join(TENANT).join("blocks");
    let (_, plan, _) = rollback(&setup, &["--as-of", &good]);
    let gone: Vec<String> =
        plan["goes"]["blocks"].as_array().unwrap().iter().map(|b| b["id"].to_string()).collect();
    let kept = std::fs::read_dir(&blocks).unwrap().map(|e| e.unwrap().path());
    let kept = kept.into_iter().find(|p| !gone.contains(&format!("{:?}", p.file_stem().unwrap()))).unwrap();
    std::fs::remove_file(&kept).unwrap();
    for flags in [&["--as-of", &good][..], &["--as-of", &good, "--yes"]] {
        let (code, plan, error) = rollback(&setup, flags);
        assert!(code == 5 && error.contains(kept.file_name().unwrap().to_str().unwrap()), "{error}");
        assert!(plan["committed"].is_null() && plan["lost"].as_array().unwrap().len() == 1, "{plan}");
    }
}
