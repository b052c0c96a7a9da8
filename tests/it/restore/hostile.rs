//! Manifests and entries made by somebody who wants to write elsewhere, or to fill the disk.

use std::path::Path;

use serde_json::Value;

use super::scene::{SCRAPE_SLACK_MS, Scene, scene};
use crate::support::{
    CatalogFiles, Dump, LATE_METRIC, LocalBucket, RestoreCommand, assert_code, files_below, path_text,
    time_text, tree,
};

/// Runs a restore from a bucket that somebody tampered with. It stops with exit code 5, or goes round what was tampered
/// with and gives what was archived; nothing but the target and its working folder may appear.
fn harmless(bucket: &LocalBucket, scene: &Scene, what: &str) {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("a/b/c");
    std::fs::create_dir_all(&inside).unwrap();
    let to = inside.join("data");
    let before = tree(folder.path());
    let at = time_text(scene.window_ms.1);
    let restore = RestoreCommand::new(&bucket.config());
    let output = restore.output("run", &["--as-of", &at, "--to", path_text(&to), "--yes"]);
    if !output.status.success() {
        assert_code(&output, 5, what);
        assert!(!to.exists(), "{what}: a directory appeared");
    } else {
        let expected = scene.dump.without(LATE_METRIC).until(scene.window_ms.1 - SCRAPE_SLACK_MS);
        let got = Dump::of(&to).without(LATE_METRIC).until(scene.window_ms.1 - SCRAPE_SLACK_MS);
        expected.assert_same(&got, what);
        std::fs::remove_dir_all(&to).unwrap();
    }
    let mut after = tree(folder.path());
    after.retain(|path, _| !path.starts_with("a/b/c/data.restore"));
    assert_eq!(after, before, "{what}: something was written elsewhere");
}

fn with_manifests(bucket: &LocalBucket, change: impl Fn(&mut Value)) {
    CatalogFiles::read(bucket.path()).change_manifests(change);
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_of_a_manifest_cannot_leave_the_target() {
    let test = "paths_of_a_manifest_cannot_leave_the_target";
    let Some(scene) = scene(test).await else { return };
    let evil = std::env::temp_dir().join(format!("perennial-evil-{}", std::process::id()));
    let absolute = path_text(&evil).to_owned();
    for path in [
        "../../evil",
        "../evil",
        "chunks/../../../evil",
        absolute.as_str(),
        "",
        ".",
        "index/",
        "chunks/",
        "wal/0",
        "index\0",
    ] {
        let bucket = scene.bucket_copy();
        with_manifests(&bucket, |manifest| manifest["files"][0]["path"] = Value::from(path));
        harmless(&bucket, scene, &format!("a manifest with the path {path:?}"));
        assert!(!evil.exists(), "{path:?} was written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn absurd_sizes_are_refused_before_anything_is_allocated_or_written() {
    let test = "absurd_sizes_are_refused_before_anything_is_allocated_or_written";
    let Some(scene) = scene(test).await else { return };
    let huge = Value::from(1u64 << 60);
    for (place, part) in [("size_bytes", false), ("plain_bytes", true), ("stored_bytes", true)] {
        let bucket = scene.bucket_copy();
        with_manifests(&bucket, |manifest| {
            let file = &mut manifest["files"][0];
            let target = if part { &mut file["parts"][0][place] } else { &mut file[place] };
            *target = huge.clone();
        });
        harmless(&bucket, scene, &format!("a manifest with {place} of 2^60"));
    }
    let bucket = scene.bucket_copy();
    with_manifests(&bucket, |manifest| {
        let part = manifest["files"][0]["parts"][0].clone();
        manifest["files"][0]["parts"] = Value::from(vec![part; 4_096]);
    });
    harmless(&bucket, scene, "a manifest with one part 4,096 times");
    let bucket = scene.bucket_copy();
    with_manifests(&bucket, |manifest| {
        let file = manifest["files"][0].clone();
        manifest["files"].as_array_mut().unwrap().push(file);
    });
    harmless(&bucket, scene, "a manifest with one file twice");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn symbolic_links_at_the_target_are_refused() {
    let test = "symbolic_links_at_the_target_are_refused";
    let Some(scene) = scene(test).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = folder.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let at = time_text(scene.window_ms.1);
    for name in ["data", "other.restore"] {
        std::os::unix::fs::symlink(&elsewhere, folder.path().join(name)).unwrap();
        let to = folder.path().join(name.trim_end_matches(".restore"));
        for extra in [&["--yes"][..], &["--yes", "--delta"]] {
            let arguments = [&["--as-of", &at, "--to", path_text(&to)], extra].concat();
            let output = scene.restore().output("run", &arguments);
            assert!(!output.status.success(), "{name}: a link is not followed");
            assert!(output.status.code().is_some(), "{name}: {output:?}");
            assert!(files_below(&elsewhere).is_empty(), "{name}: written through the link");
        }
    }
    inside_links(&folder.path().join("inside"), &elsewhere, &at, &scene.restore());
}

/// A data directory with a link in it, onto which `--delta` is told to restore.
fn inside_links(data: &Path, elsewhere: &Path, at: &str, restore: &RestoreCommand) {
    std::fs::create_dir(data).unwrap();
    std::os::unix::fs::symlink(elsewhere, data.join("wal")).unwrap();
    let output = restore.output("run", &["--as-of", at, "--to", path_text(data), "--yes", "--delta"]);
    assert!(files_below(elsewhere).is_empty(), "written through a link inside of the target");
    if output.status.success() {
        assert!(!data.join("wal").is_symlink(), "the link was replaced");
    }
}
