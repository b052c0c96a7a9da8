//! Times at the edges of blocks, inside compacted ones, and outside of what is kept.

use super::scene::scene;
use crate::support::{CatalogFiles, assert_code, path_text, time_text};

#[tokio::test(flavor = "multi_thread")]
async fn times_at_block_edges_and_inside_a_compacted_block_are_exact() {
    let test = "times_at_block_edges_and_inside_a_compacted_block_are_exact";
    let Some(scene) = scene(test).await else { return };
    let catalog = CatalogFiles::read(&scene.bucket());
    let base = *catalog.bases().last().unwrap();
    let blocks = base["blocks"].as_array().unwrap();
    let of = |block: &serde_json::Value, key: &str| block[key].as_i64().unwrap();
    let compacted = blocks.iter().find(|b| of(b, "level") > 1).expect("the server compacts within its life");
    let plain = blocks.iter().filter(|b| of(b, "level") == 1).max_by_key(|b| of(b, "min_time_ms")).unwrap();
    let times = [
        of(plain, "max_time_ms") - 1,
        of(plain, "max_time_ms"),
        of(plain, "min_time_ms"),
        (of(compacted, "min_time_ms") + of(compacted, "max_time_ms")) / 2,
    ];
    for time_ms in times {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("data");
        scene.restore().until(time_ms, &to);
        scene.check_until(&to, time_ms).await;
    }
    let inside_ms = times[3].max(scene.window_ms.0);
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("data");
    scene.restore().as_of(inside_ms, &to);
    scene.check_as_of(&to, inside_ms).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moments_around_each_change_of_the_blocks_restore_as_of_then() {
    let test = "moments_around_each_change_of_the_blocks_restore_as_of_then";
    let Some(scene) = scene(test).await else { return };
    let catalog = CatalogFiles::read(&scene.bucket());
    let changes: Vec<i64> = catalog.bases().iter().map(|base| base["changed_ms"].as_i64().unwrap()).collect();
    let inside = changes.into_iter().filter(|at| (scene.window_ms.0 + 1..scene.window_ms.1).contains(at));
    let last: Vec<i64> = inside.rev().take(2).collect();
    assert!(!last.is_empty(), "blocks change within the server's life");
    for time_ms in last.into_iter().flat_map(|at| [at - 1, at]) {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("data");
        scene.restore().as_of(time_ms, &to);
        scene.check_as_of(&to, time_ms).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn times_outside_of_the_window_are_refused_with_the_nearest_possible_one() {
    let test = "times_outside_of_the_window_are_refused_with_the_nearest_possible_one";
    let Some(scene) = scene(test).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("data");
    for time_ms in [scene.window_ms.0 - 86_400_000, scene.window_ms.1 + 86_400_000] {
        for verb in ["plan", "run"] {
            let at = time_text(time_ms);
            let mut arguments = vec!["--as-of", at.as_str()];
            if verb == "run" {
                arguments.extend(["--to", path_text(&to)]);
            }
            let output = scene.restore().output(verb, &arguments);
            assert_code(&output, 3, &format!("{verb} --as-of {at}"));
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let nearest = said.split_whitespace().find(|word| word.starts_with("20") && word.contains('T'));
            assert!(nearest.is_some(), "the nearest time is named: {said}");
            assert!(!to.exists(), "nothing is written");
        }
    }
    let before_all = scene.original.series.values().flatten().map(|s| s.0).min().unwrap() - 60_000;
    for time_ms in [before_all, scene.window_ms.1 + 86_400_000] {
        for verb in ["plan", "run"] {
            let at = time_text(time_ms);
            let output = scene.restore().output(verb, &["--until", &at, "--to", path_text(&to)]);
            assert_code(&output, 3, &format!("{verb} --until {at}"));
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains("nearest"), "the nearest time is named: {said}");
            assert!(!to.exists(), "nothing is written");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_source_or_time_is_told_before_anything_is_read() {
    let test = "a_wrong_source_or_time_is_told_before_anything_is_read";
    let Some(scene) = scene(test).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let to = path_text(folder.path()).to_owned() + "/data";
    let restore = scene.restore();
    for wrong in ["yesterdayish", "2026-13-01T00:00:00Z", ""] {
        let output = restore.output("run", &["--as-of", wrong, "--to", &to]);
        assert_code(&output, 2, &format!("--as-of {wrong:?}"));
    }
    assert_code(&restore.output("run", &["--to", &to]), 2, "no target");
    let both = ["--as-of", "latest", "--until", "latest", "--to", to.as_str()];
    assert_code(&restore.output("run", &both), 2, "two targets");
    let occupied = folder.path().join("occupied");
    std::fs::create_dir(&occupied).unwrap();
    std::fs::write(occupied.join("file"), "mine").unwrap();
    let output = restore.output("run", &["--as-of", "latest", "--to", path_text(&occupied), "--yes"]);
    assert!(!output.status.success(), "a directory that is not empty is not touched without --delta");
    assert_eq!(std::fs::read_to_string(occupied.join("file")).unwrap(), "mine");
}
