//! Stock readers of the files: DuckDB and pyarrow, run by a Python that `make test-tools` set up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{LabelPairs, S3Server, SampleSet, Setup, skip};

const CHECK: &str = "import duckdb, pyarrow, boto3, moto.server";

/// A Python interpreter that has DuckDB, pyarrow and moto.
#[derive(Debug, Clone)]
pub(crate) struct Python {
    path: PathBuf,
}

impl Python {
    /// Returns the interpreter of `PERENNIAL_PYTHON`, else the one that `make test-tools` made; says what is skipped
    /// when there is none.
    pub(crate) fn find(test: &str) -> Option<Self> {
        let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
            || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"),
            PathBuf::from,
        );
        let made = cache.join("perennial/venv/bin/python");
        let path = std::env::var_os("PERENNIAL_PYTHON").map_or(made, PathBuf::from);
        let usable = Command::new(&path).args(["-c", CHECK]).output().is_ok_and(|o| o.status.success());
        if !usable {
            skip(test, "a Python with duckdb, pyarrow and moto");
        }
        usable.then_some(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns all samples that DuckDB sees through the views of `perennial sql-view`.
    pub(crate) fn duckdb_samples(&self, setup: &Setup, tenant: &str) -> SampleSet {
        let views = setup.folder().join("views.sql");
        let sql = setup.command(&["sql-view", "--engine", "duckdb", "--tenant", tenant]);
        std::fs::write(&views, sql).unwrap();
        self.read(&["duckdb", text(&views)], setup.folder())
    }

    /// Returns the rows of a query over views, every cell as a text.
    pub(crate) fn duckdb_rows(&self, views: &str, query: &str, scratch: &Path) -> Vec<Vec<String>> {
        let (file, out) = (scratch.join("views.sql"), scratch.join("rows.json"));
        std::fs::write(&file, views).unwrap();
        self.run(&["query", text(&file), query, text(&out)]);
        serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap()
    }

    /// Returns the rows of a Parquet file as pyarrow reads them, every cell as a text by its column.
    pub(crate) fn pyarrow_rows(&self, file: &Path, scratch: &Path) -> Vec<BTreeMap<String, String>> {
        let out = scratch.join("rows.json");
        self.run(&["lists", text(file), text(&out)]);
        serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap()
    }

    /// Returns all samples in the files that the newest catalog version of a bucket on disk names, as pyarrow reads
    /// them.
    pub(crate) fn parquet_samples(&self, bucket: &Path, tenant: &str, scratch: &Path) -> SampleSet {
        self.read(&["parquet", text(bucket), tenant], scratch)
    }

    /// Copies an S3 bucket into a folder.
    pub(crate) fn mirror(&self, server: &S3Server, folder: &Path) {
        self.run(&["mirror", &server.endpoint(), "perennial", text(folder)]);
    }

    fn read(&self, arguments: &[&str], scratch: &Path) -> SampleSet {
        let out = scratch.join("samples.bin");
        self.run(&[arguments, &[text(&out)]].concat());
        decode(&std::fs::read(&out).unwrap())
    }

    fn run(&self, arguments: &[&str]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/reader.py");
        let output = Command::new(&self.path).arg(script).args(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "reader.py {arguments:?}: {}\n{error}", output.status);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("test folders have plain names")
}

fn decode(mut bytes: &[u8]) -> SampleSet {
    let mut set = SampleSet::default();
    while !bytes.is_empty() {
        let length = take_u32(&mut bytes);
        let (json, rest) = bytes.split_at(length);
        bytes = rest;
        let labels: BTreeMap<String, String> = serde_json::from_slice(json).unwrap();
        let labels: LabelPairs = labels.into_iter().collect();
        let count = take_u32(&mut bytes);
        let (times, rest) = bytes.split_at(count * 8);
        let (values, rest) = rest.split_at(count * 8);
        bytes = rest;
        let eight = |chunk: &[u8]| <[u8; 8]>::try_from(chunk).unwrap();
        let times = times.chunks_exact(8).map(|c| i64::from_le_bytes(eight(c)));
        set.append(labels, times.zip(values.chunks_exact(8).map(|c| u64::from_le_bytes(eight(c)))));
    }
    set
}

fn take_u32(bytes: &mut &[u8]) -> usize {
    let (head, rest) = bytes.split_at(4);
    *bytes = rest;
    usize::try_from(u32::from_le_bytes(head.try_into().unwrap())).unwrap()
}
