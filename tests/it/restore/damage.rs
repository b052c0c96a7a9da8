//! Damage of every kind of object and of every kind of local file.

use std::path::{Path, PathBuf};

use rand::Rng;
use rand::rngs::StdRng;

use super::scene::{Scene, scene};
use crate::support::{
    CatalogFiles, Dump, RestoreCommand, archive_folder, assert_code, files_below, path_text, seeded,
    time_text,
};

const DAMAGES: [&str; 3] = ["one flipped bit", "truncation", "deletion"];

/// Damages a file.
fn damage(how: &str, path: &Path, random: &mut StdRng) {
    let mut bytes = std::fs::read(path).unwrap();
    match how {
        "one flipped bit" => {
            let at = random.random_range(0..bytes.len());
            bytes[at] ^= 1 << random.random_range(0..8);
            std::fs::write(path, bytes).unwrap();
        }
        "truncation" => {
            bytes.truncate(random.random_range(0..bytes.len()));
            std::fs::write(path, bytes).unwrap();
        }
        _ => std::fs::remove_file(path).unwrap(),
    }
}

const IS_LOG: [&str; 3] = ["WAL segment", "WBL segment", "checkpoint"];

/// Damages the records of a log: what it is padded with says nothing, and a log may end after any record.
fn damage_log(how: &str, path: &Path, random: &mut StdRng) {
    let mut bytes = std::fs::read(path).unwrap();
    let last = bytes.iter().rposition(|byte| *byte != 0).expect("a log with records");
    if how == "truncation" {
        bytes.truncate(last);
    } else {
        bytes[random.random_range(0..=last)] ^= 1 << random.random_range(0..8);
    }
    std::fs::write(path, bytes).unwrap();
}

/// Returns one object of each kind that a restore of the newest time needs, or nothing for a kind that there is not.
fn objects(bucket: &Path) -> Vec<(&'static str, Option<PathBuf>)> {
    let root = archive_folder(bucket);
    let catalog = CatalogFiles::read(bucket);
    let base = catalog.bases().last().copied().cloned().unwrap();
    let files = files_below(&root);
    let named = |part: &str, end: &str| {
        let wanted = |path: &&PathBuf| {
            let text = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
            text.contains(part) && text.contains(end)
        };
        files.iter().rfind(wanted).cloned()
    };
    let uploads: Vec<String> = catalog
        .newest_stored_blocks()
        .iter()
        .map(|stored| format!("{}/{}", stored["id"].as_str().unwrap(), stored["upload"].as_str().unwrap()))
        .collect();
    let upload = uploads.first().expect("the newest base has a block");
    let checkpoint = base["checkpoint"]["number"].as_u64().map(|n| format!("checkpoints/{n:08}/"));
    let entries: Vec<&PathBuf> = catalog.entries.iter().map(|(path, _)| path).collect();
    vec![
        ("entry in the middle", Some(entries[entries.len() / 2].clone())),
        ("newest entry", entries.last().map(|path| (*path).clone())),
        ("piece of the WAL", named("/wal/", "-")),
        ("piece of the WBL", named("/wbl/", "-")),
        ("manifest", named(upload, "manifest")),
        ("index", named(upload, "/index.")),
        ("chunks", named(upload, "/chunks-")),
        ("meta.json", named(upload, "/meta.json.")),
        ("checkpoint", checkpoint.and_then(|part| named(&part, "."))),
    ]
}

/// Restores from a damaged bucket: either what came before, by another path, or exit code 5 and no directory.
fn restore_damaged(restore: &RestoreCommand, time_ms: i64, expected: &Dump, what: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("data");
    let at = time_text(time_ms);
    let output = restore.output("run", &["--as-of", &at, "--to", path_text(&to), "--yes"]);
    if output.status.success() {
        expected.assert_same(&Dump::of(&to), what);
        return true;
    }
    // Without its newest entry an archive is a whole one that ends a little earlier.
    let code = if what == "newest entry, deletion" { 3 } else { 5 };
    assert_code(&output, code, what);
    assert!(!to.exists(), "{what}: a damaged directory appeared");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let named = said.contains("archives/") || said.contains("at entry ") || code == 3;
    assert!(named, "{what}: the object is named: {said}");
    false
}

fn reference(scene: &Scene, time_ms: i64, to: &Path) -> Dump {
    scene.restore().as_of(time_ms, to);
    Dump::of(to)
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_of_each_kind_of_object_never_gives_a_damaged_directory() {
    let test = "damage_of_each_kind_of_object_never_gives_a_damaged_directory";
    let Some(scene) = scene(test).await else { return };
    let mut random = seeded(test);
    let folder = tempfile::tempdir().unwrap();
    let time_ms = scene.window_ms.1;
    let expected = reference(scene, time_ms, &folder.path().join("data"));
    let (mut stopped, mut came) = (0, 0);
    for (kind, object) in objects(&scene.bucket()) {
        let object = object.unwrap_or_else(|| panic!("the archive has no {kind}"));
        let relative = object.strip_prefix(scene.bucket()).unwrap().to_owned();
        for how in DAMAGES {
            let bucket = scene.bucket_copy();
            damage(how, &bucket.path().join(&relative), &mut random);
            let restore = RestoreCommand::new(&bucket.config());
            let what = format!("{kind}, {how}");
            if restore_damaged(&restore, time_ms, &expected, &what) {
                came += 1;
            } else {
                stopped += 1;
            }
        }
    }
    println!("{stopped} damages stopped the restore, {came} were gone round");
    assert!(stopped > 0, "no damage was noticed");
}

/// Returns one file of each kind in a data directory.
fn local_files(data: &Path) -> Vec<(&'static str, Option<PathBuf>)> {
    let files = files_below(data);
    let named = |test: &dyn Fn(&str) -> bool| {
        let relative = |path: &PathBuf| path.strip_prefix(data).unwrap().to_string_lossy().into_owned();
        files.iter().rfind(|path| test(&relative(path)) && path.metadata().unwrap().len() > 8).cloned()
    };
    vec![
        ("index", named(&|p| p.ends_with("/index"))),
        ("chunks", named(&|p| p.contains("/chunks/"))),
        ("meta.json", named(&|p| p.ends_with("/meta.json"))),
        ("tombstones", named(&|p| p.ends_with("/tombstones"))),
        ("WAL segment", named(&|p| p.starts_with("wal/0"))),
        ("WBL segment", named(&|p| p.starts_with("wbl/0"))),
        ("checkpoint", named(&|p| p.starts_with("wal/checkpoint"))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn check_finds_damage_of_each_kind_of_local_file_and_names_it() {
    let test = "check_finds_damage_of_each_kind_of_local_file_and_names_it";
    let Some(scene) = scene(test).await else { return };
    let mut random = seeded(test);
    let folder = tempfile::tempdir().unwrap();
    let restored = folder.path().join("restored");
    scene.restore().as_of(scene.window_ms.1, &restored);
    let check = |data: &Path| {
        std::process::Command::new(env!("CARGO_BIN_EXE_perennial"))
            .args(["restore", "check", path_text(data)])
            .output()
            .unwrap()
    };
    assert_code(&check(&restored), 0, "check of what was restored");
    let mut seen = std::collections::BTreeSet::new();
    for data in [restored, scene.data()] {
        assert_code(&check(&data), 0, "check of a whole directory");
        for (kind, file) in local_files(&data) {
            let Some(file) = file else { continue };
            seen.insert(kind);
            for how in &DAMAGES[..2] {
                let whole = std::fs::read(&file).unwrap();
                if IS_LOG.contains(&kind) {
                    damage_log(how, &file, &mut random);
                } else if kind == "meta.json" && *how == "one flipped bit" {
                    // It has no checksum: a flip that leaves it JSON and says nothing else wrong cannot be told.
                    std::fs::write(&file, [b"[", &whole[1..]].concat()).unwrap();
                } else {
                    damage(how, &file, &mut random);
                }
                let output = check(&data);
                std::fs::write(&file, whole).unwrap();
                // A torn end of the log is what every crash leaves: the server cuts it off. It is told, and no damage.
                if !(kind.contains("segment") && *how == "truncation" && output.status.success()) {
                    assert_code(&output, 5, &format!("{kind}, {how}: {}", file.display()));
                }
                let said = String::from_utf8_lossy(&output.stdout).into_owned()
                    + &String::from_utf8_lossy(&output.stderr);
                let name = file.file_name().unwrap().to_string_lossy().into_owned();
                assert!(said.contains(&name), "{kind}, {how}: names {name}: {said}");
            }
        }
    }
    assert!(seen.len() >= 6, "files of nearly all kinds were there: {seen:?}");
}
