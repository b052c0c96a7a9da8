//! The repository's shape, held by tests: ranks of modules, sizes, headers, names, log texts, decisions, files.
//!
//! Every rule is a function from texts to complaints, so that each is shown to catch a planted violation.

mod rules;
mod source;

use std::path::{Path, PathBuf};

use rules::{Complaints, SourceFile};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the files below a folder with their paths relative to the package, sorted.
fn files(folder: &str) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for path in entries.map(|e| e.unwrap().path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if (name.starts_with('.') && name != ".ci") || ["target", "data"].contains(&name.as_ref()) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(), path));
            }
        }
    }
    found.sort();
    found
}

fn sources(folder: &str) -> Vec<SourceFile> {
    let rust = files(folder).into_iter().filter(|(name, _)| name.ends_with(".rs"));
    rust.map(|(name, path)| SourceFile::new(&name, &std::fs::read_to_string(path).unwrap())).collect()
}

fn expect_none(complaints: Complaints) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn modules_import_only_lower_ranks() {
    expect_none(rules::ranks(&sources("src")));
}

#[test]
fn files_and_functions_are_short() {
    let all = ["src", "tests", "benches"].iter().flat_map(|folder| sources(folder));
    expect_none(rules::sizes(&all.collect::<Vec<_>>()));
}

#[test]
fn modules_have_headers_and_telling_names() {
    expect_none(rules::headers(&sources("src")));
    let all = ["src", "tests", "benches"].iter().flat_map(|folder| sources(folder));
    expect_none(rules::names(&all.collect::<Vec<_>>()));
}

#[test]
fn log_texts_are_lower_case_without_full_stop() {
    expect_none(rules::log_texts(&sources("src")));
}

#[test]
fn no_work_is_left_marked_in_the_code() {
    let all = ["src", "tests", "benches"].iter().flat_map(|folder| sources(folder));
    expect_none(rules::leftovers(&all.collect::<Vec<_>>()));
}

#[test]
fn decisions_have_unique_numbers_and_a_known_status() {
    let decisions = files("docs/decisions").into_iter();
    let texts = decisions.map(|(name, path)| (name, std::fs::read_to_string(path).unwrap()));
    expect_none(rules::decisions(&texts.collect::<Vec<_>>()));
}

#[test]
fn files_a_newcomer_looks_for_exist() {
    for name in [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "Makefile",
        ".ci/run",
        "deny.toml",
        "rust-toolchain.toml",
        "docs/architecture.md",
        "schemas",
    ] {
        assert!(root().join(name).exists(), "{name} is missing");
    }
}

#[test]
fn no_file_names_places_of_one_machine() {
    let texts =
        files("").into_iter().filter_map(|(name, path)| Some((name, std::fs::read_to_string(path).ok()?)));
    expect_none(rules::machine_paths(&texts.collect::<Vec<_>>()));
}
