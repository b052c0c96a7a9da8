//! A restore that dies and is started again ends with the bytes of one that was left alone.

use std::path::Path;
use std::time::Duration;

use rand::Rng;

use super::scene::scene;
use crate::support::{RestoreCommand, assert_code, crash_points, path_text, seeded, time_text, tree};

/// Between two crashes this many objects are fetched, so that a run of `make test` stays short; 1 for `make soak`.
fn stride() -> usize {
    std::env::var("PERENNIAL_RESTORE_STRIDE").map_or(6, |n| n.parse().unwrap())
}

fn arguments<'a>(at: &'a str, to: &'a Path) -> [&'a str; 5] {
    ["--as-of", at, "--to", path_text(to), "--yes"]
}

fn crashed(output: &std::process::Output) -> bool {
    // A crash point aborts: there is no exit code.
    output.status.code().is_none()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_interrupted_again_and_again_gives_the_bytes_of_an_uninterrupted_one() {
    let test = "a_restore_interrupted_again_and_again_gives_the_bytes_of_an_uninterrupted_one";
    let Some(scene) = scene(test).await else { return };
    let (at, folder) = (time_text(scene.window_ms.1), tempfile::tempdir().unwrap());
    let (whole, to) = (folder.path().join("whole"), folder.path().join("data"));
    scene.restore().run(&arguments(&at, &whole)[..2], &whole);
    let points = format!("restore.after-object={}*off->return", stride() - 1);
    let mut crashes = 0;
    loop {
        let output = scene.restore().crashing(&points, "run", &arguments(&at, &to));
        if !crashed(&output) {
            assert_code(&output, 0, "the run that is not interrupted any more");
            break;
        }
        assert!(!to.exists(), "the directory appears whole");
        crashes += 1;
        assert!(crashes < 2_000, "every run gets further than the one before");
    }
    assert!(crashes > 3, "the crash point was reached {crashes} times only");
    assert_eq!(tree(&to), tree(&whole), "after {crashes} crashes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_survives_a_crash_at_every_named_point() {
    let test = "a_restore_survives_a_crash_at_every_named_point";
    let Some(scene) = scene(test).await else { return };
    let mut names: Vec<String> = crash_points().into_iter().filter(|n| n.starts_with("restore.")).collect();
    // The test of merging replicas runs into its own.
    names.retain(|name| !name.starts_with("restore.merge-"));
    assert!(names.len() >= 2, "crash points are found: {names:?}");
    let (at, folder) = (time_text(scene.window_ms.1), tempfile::tempdir().unwrap());
    let whole = folder.path().join("whole");
    scene.restore().run(&arguments(&at, &whole)[..2], &whole);
    let expected = tree(&whole);
    for name in names {
        let to = folder.path().join(&name);
        // Between the renames there is only a crash where the two directories cannot change places.
        let cannot = if name == "restore.between-renames" { ";restore.exchange=return" } else { "" };
        let points = format!("{name}=return{cannot}");
        let mut output = scene.restore().crashing(&points, "run", &arguments(&at, &to));
        let mut delta: &[&str] = &[];
        if !crashed(&output) {
            // What replaces a directory is only reached where there is one.
            delta = &["--delta"];
            std::fs::write(to.join("stranger"), "not of this archive").unwrap();
            output = scene.restore().crashing(&points, "run", &[&arguments(&at, &to), delta].concat());
        }
        assert!(crashed(&output), "{name} was never reached: {output:?}");
        finish(&scene.restore(), &[&arguments(&at, &to), delta].concat(), &to);
        assert_eq!(tree(&to), expected, "after a crash at {name}");
    }
}

/// Runs the restore to its end; a crash after the rename leaves a directory that is whole already.
fn finish(restore: &RestoreCommand, arguments: &[&str], to: &Path) {
    let output = restore.output("run", arguments);
    if !to.exists() || !output.status.success() {
        assert!(to.exists(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_survives_kills_at_random_times() {
    let test = "a_restore_survives_kills_at_random_times";
    let Some(scene) = scene(test).await else { return };
    let mut random = seeded(test);
    let (at, folder) = (time_text(scene.window_ms.1), tempfile::tempdir().unwrap());
    let (whole, to) = (folder.path().join("whole"), folder.path().join("data"));
    let start = std::time::Instant::now();
    scene.restore().run(&arguments(&at, &whole)[..2], &whole);
    let took = start.elapsed();
    for _ in 0..8 {
        let mut child = scene
            .restore()
            .command("run", &arguments(&at, &to))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(took.mul_f64(random.random_range(0.02..0.9)).max(Duration::from_millis(5))).await;
        child.kill().ok();
        child.wait().unwrap();
        if to.exists() {
            break;
        }
    }
    finish(&scene.restore(), &arguments(&at, &to), &to);
    assert_eq!(tree(&to), tree(&whole));
}

#[tokio::test(flavor = "multi_thread")]
async fn delta_onto_a_damaged_directory_gives_the_bytes_of_a_fresh_restore() {
    let test = "delta_onto_a_damaged_directory_gives_the_bytes_of_a_fresh_restore";
    let Some(scene) = scene(test).await else { return };
    let (at, folder) = (time_text(scene.window_ms.1), tempfile::tempdir().unwrap());
    let (whole, to) = (folder.path().join("whole"), folder.path().join("data"));
    scene.restore().run(&["--as-of", &at], &whole);
    crate::support::copy_folder(&whole, &to);
    let file = crate::support::files_below(&to).into_iter().find(|path| path.ends_with("index")).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    std::fs::write(to.join("stranger"), "not of this archive").unwrap();
    let unconfirmed = scene.restore().output("run", &["--as-of", &at, "--to", path_text(&to), "--delta"]);
    assert_code(&unconfirmed, 7, "--delta changes a directory and wants --yes");
    scene.restore().run(&["--as-of", &at, "--delta"], &to);
    assert_eq!(tree(&to), tree(&whole));
}
