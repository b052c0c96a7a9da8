//! `promtool tsdb dump`: the samples of a data directory, read by neither the server nor us.

use std::path::Path;
use std::process::Command;

const DIFFERENCES_SHOWN: usize = 6;

/// The lines of a dump, sorted, with the time of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dump {
    lines: Vec<(String, i64)>,
}

/// Copies a folder with all that is in it.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap();
    assert!(status.success(), "cp -r {} {}", from.display(), to.display());
}

impl Dump {
    /// Dumps a copy of a data directory, as this promtool writes into what it reads.
    pub(crate) fn of(data: &Path) -> Self {
        let scratch = tempfile::Builder::new().prefix("dump-it-").tempdir().unwrap();
        let copy = scratch.path().join("data");
        copy_folder(data, &copy);
        std::fs::create_dir_all(copy.join("wal")).unwrap();
        let output = Command::new("promtool").args(["tsdb", "dump"]).arg(&copy).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "promtool tsdb dump: {}\n{error}", output.status);
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines: Vec<_> = text
            .lines()
            .map(|line| {
                let time = line.rsplit(' ').next().and_then(|t| t.parse().ok());
                (line.to_owned(), time.unwrap_or_else(|| panic!("no time in {line:?}")))
            })
            .collect();
        lines.sort();
        Self { lines }
    }

    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Returns the lines whose sample is not after a time.
    pub(crate) fn until(&self, time_ms: i64) -> Self {
        self.filtered(|_, time| time <= time_ms)
    }

    /// Returns the lines that do not belong to a metric.
    pub(crate) fn without(&self, metric: &str) -> Self {
        let start = format!("{{__name__=\"{metric}\"");
        self.filtered(|line, _| !line.starts_with(&start))
    }

    fn filtered(&self, keep: impl Fn(&str, i64) -> bool) -> Self {
        let lines = self.lines.iter().filter(|(line, time)| keep(line, *time)).cloned().collect();
        Self { lines }
    }

    /// Panics with the first differences when `got` is not this dump.
    pub(crate) fn assert_same(&self, got: &Self, what: &str) {
        if self == got {
            return;
        }
        let beyond = |a: &Self, b: &Self| -> Vec<String> {
            let held: std::collections::HashSet<&str> = b.lines.iter().map(|(l, _)| l.as_str()).collect();
            a.lines.iter().filter(|(l, _)| !held.contains(l.as_str())).map(|(l, _)| l.clone()).collect()
        };
        let (missing, added) = (beyond(self, got), beyond(got, self));
        let first = |lines: &[String]| lines[..lines.len().min(DIFFERENCES_SHOWN)].join("\n    ");
        panic!(
            "{what}: {} lines expected, {} came\n  {} are missing:\n    {}\n  {} are too many:\n    {}",
            self.len(),
            got.len(),
            missing.len(),
            first(&missing),
            added.len(),
            first(&added)
        );
    }
}
