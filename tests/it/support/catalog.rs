//! An archive's objects on disk, read and rewritten by the test's own hand: JSON in zstd, each entry naming the hash of
//! the one before.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::archiver::SOURCE;

/// The entries of an archive in a local bucket; none of them is rolled up.
#[derive(Debug)]
pub(crate) struct CatalogFiles {
    folder: PathBuf,
    pub(crate) entries: Vec<(PathBuf, Value)>,
}

/// Returns the folder of the archive in a local bucket.
pub(crate) fn archive_folder(bucket: &Path) -> PathBuf {
    bucket.join("archives").join(SOURCE)
}

/// Returns all files below a folder, sorted.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).into_iter().flatten().map(|e| e.unwrap().path()) {
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Returns the SHA-256 of every file below a folder, by relative path; folders are listed with a slash.
pub(crate) fn tree(folder: &Path) -> BTreeMap<String, String> {
    let relative = |path: &Path| path.strip_prefix(folder).unwrap().display().to_string();
    let mut tree: BTreeMap<String, String> = files_below(folder)
        .iter()
        .map(|path| (relative(path), sha256(&std::fs::read(path).unwrap())))
        .collect();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for path in std::fs::read_dir(&next).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()) {
            tree.insert(format!("{}/", relative(&path)), String::new());
            folders.push(path);
        }
    }
    tree
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_json(path: &Path) -> Value {
    let mut json = Vec::new();
    let stored = std::fs::File::open(path).unwrap();
    zstd::Decoder::new(stored).unwrap().read_to_end(&mut json).unwrap();
    serde_json::from_slice(&json).unwrap()
}

/// Stores a document and returns its hash.
fn write_json(path: &Path, document: &Value) -> String {
    let stored = zstd::encode_all(&serde_json::to_vec(document).unwrap()[..], 3).unwrap();
    std::fs::write(path, &stored).unwrap();
    sha256(&stored)
}

impl CatalogFiles {
    pub(crate) fn read(bucket: &Path) -> Self {
        let folder = archive_folder(bucket);
        let mut files = files_below(&folder.join("catalog"));
        // A store that was killed leaves its temporary files, and roll-up has a folder of its own.
        let is_entry = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy();
            path.parent().is_some_and(|p| p.ends_with("catalog")) && name.bytes().all(|b| b.is_ascii_digit())
        };
        files.retain(is_entry);
        let entries = files.into_iter().map(|path| (path.clone(), read_json(&path))).collect();
        Self { folder, entries }
    }

    /// Writes the entries back, each with the hash of the one before.
    pub(crate) fn write(&mut self) {
        let mut previous: Option<String> = None;
        for (path, entry) in &mut self.entries {
            if let Some(previous) = previous {
                entry["previous_sha256"] = Value::String(previous);
            }
            previous = Some(write_json(path, entry));
        }
    }

    /// Returns all bases, in order.
    pub(crate) fn bases(&self) -> Vec<&Value> {
        self.entries.iter().map(|(_, entry)| &entry["base"]).filter(|base| base.is_object()).collect()
    }

    /// Returns the stored blocks of the newest base.
    pub(crate) fn newest_stored_blocks(&self) -> Vec<Value> {
        let base = self.bases().last().copied().cloned().expect("an archive has a base");
        let blocks = base["blocks"].as_array().unwrap();
        blocks.iter().flat_map(|block| block["stored"].as_array().unwrap().clone()).collect()
    }

    /// Changes the manifests of every stored block and names their new hashes in all bases.
    pub(crate) fn change_manifests(&mut self, change: impl Fn(&mut Value)) {
        let folder = self.folder.clone();
        let mut changed: BTreeMap<String, String> = BTreeMap::new();
        self.each_stored_block(|stored| {
            let upload = stored["upload"].as_str().unwrap().to_owned();
            let path =
                folder.join("blocks").join(stored["id"].as_str().unwrap()).join(&upload).join("manifest");
            let hash = changed.entry(upload).or_insert_with(|| {
                let mut manifest = read_json(&path);
                change(&mut manifest);
                write_json(&path, &manifest)
            });
            stored["manifest_sha256"] = Value::String(hash.clone());
        });
        self.write();
    }

    /// Changes what the bases say of stored blocks.
    pub(crate) fn each_stored_block(&mut self, mut change: impl FnMut(&mut Value)) {
        for (_, entry) in self.entries.iter_mut().filter(|(_, entry)| entry["base"].is_object()) {
            for block in entry["base"]["blocks"].as_array_mut().unwrap() {
                block["stored"].as_array_mut().unwrap().iter_mut().for_each(&mut change);
            }
        }
    }
}
