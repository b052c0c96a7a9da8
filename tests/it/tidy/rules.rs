//! The rules, as functions from texts to complaints.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{closing, code_only, line_of};

const LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const BANNED_NAMES: [&str; 8] = ["utils", "util", "helpers", "common", "misc", "manager", "types", "traits"];
const STATUSES: [&str; 4] = ["Proposed", "Accepted", "Rejected", "Superseded"];
const LOG_MACROS: [&str; 5] = ["error!", "warn!", "info!", "debug!", "trace!"];
const RANKS: [(u8, &[&str]); 9] = [
    (0, &["model"]),
    (1, &["runtime", "wire", "tsdb"]),
    (2, &["bucket", "envelope", "load"]),
    (3, &["block", "log"]),
    (4, &["catalog", "head"]),
    (5, &["select", "compact", "downsample", "archive", "sql"]),
    (6, &["store", "restore", "ledger"]),
    (7, &["receive", "server", "jobs"]),
    (8, &["cli"]),
];

/// One line per violation: where, what, and what is allowed.
pub(super) type Complaints = Vec<String>;

/// A Rust file with its path relative to the package.
#[derive(Debug)]
pub(super) struct SourceFile {
    path: String,
    text: String,
    code: String,
}

impl SourceFile {
    pub(super) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), code: code_only(text) }
    }

    /// Returns the module below `src/` that the file belongs to.
    fn module(&self) -> Option<&str> {
        let rest = self.path.strip_prefix("src/")?;
        let first = rest.split('/').next()?;
        Some(first.strip_suffix(".rs").unwrap_or(first)).filter(|m| !["lib", "main"].contains(m))
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }

    fn is_generated(&self) -> bool {
        self.path.contains("/generated/")
    }
}

fn rank(module: &str) -> Option<u8> {
    RANKS.iter().find(|(_, names)| names.contains(&module)).map(|(rank, _)| *rank)
}

/// Returns what follows `crate::`: one name, or the first names of a braced list.
fn imported(code: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for (at, _) in code.match_indices("crate::") {
        let standing_alone = at == 0 || !code.as_bytes()[at - 1].is_ascii_alphanumeric();
        let rest = &code[at + "crate::".len()..];
        if !standing_alone {
            continue;
        }
        if rest.starts_with('{') {
            let inner = &rest[1..closing(rest, 0).unwrap_or(rest.len())];
            for part in top_level(inner) {
                found.insert(identifier(part.trim_start()), line_of(code, at));
            }
        } else {
            found.insert(identifier(rest), line_of(code, at));
        }
    }
    found
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Splits at commas outside of brackets.
fn top_level(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0i32);
    for (at, c) in text.char_indices() {
        match c {
            '(' | '{' | '[' => depth += 1,
            ')' | '}' | ']' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// A module imports only modules of lower rank.
pub(super) fn ranks(files: &[SourceFile]) -> Complaints {
    let mut complaints = Vec::new();
    for file in files {
        let Some(own) = file.module() else { continue };
        let Some(own_rank) = rank(own) else {
            complaints.push(format!("{}: module `{own}` has no rank: add it to RANKS", file.path));
            continue;
        };
        for (other, line) in imported(&file.code) {
            let Some(other_rank) = rank(&other).filter(|_| other != own) else { continue };
            if other_rank >= own_rank {
                complaints.push(format!(
                    "{}:{line}: `{own}` (rank {own_rank}) imports `{other}` (rank {other_rank}): only lower ranks",
                    file.path
                ));
            }
        }
    }
    complaints
}

/// Files stay below 500 lines without tests, functions below 70.
pub(super) fn sizes(files: &[SourceFile]) -> Complaints {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|f| !f.is_generated()) {
        let tests = file.code.find("#[cfg(test)]\nmod tests {").unwrap_or(file.code.len());
        let lines = file.text[..tests].lines().count();
        if lines > LINES_MAX && (!file.path.starts_with("src/") || !file.is_test()) {
            complaints.push(format!("{}: {lines} lines: at most {LINES_MAX} without tests", file.path));
        }
        complaints.extend(long_functions(file));
    }
    complaints
}

fn long_functions(file: &SourceFile) -> Complaints {
    let mut complaints = Vec::new();
    for (at, _) in file.code.match_indices("fn ") {
        let starts_word = at == 0 || file.code.as_bytes()[at - 1].is_ascii_whitespace();
        let name = identifier(&file.code[at + 3..]);
        let Some(body) = file.code[at..].find(['{', ';']).map(|b| at + b) else { continue };
        if !starts_word || name.is_empty() || file.code.as_bytes()[body] == b';' {
            continue;
        }
        let Some(end) = closing(&file.code, body) else { continue };
        let lines = file.code[body..end].lines().filter(|l| !l.trim().is_empty()).count();
        if lines > FUNCTION_LINES_MAX {
            let line = line_of(&file.code, at);
            complaints.push(format!(
                "{}:{line}: `{name}` has {lines} lines: at most {FUNCTION_LINES_MAX}",
                file.path
            ));
        }
    }
    complaints
}

/// The root of a module begins with a header.
pub(super) fn headers(files: &[SourceFile]) -> Complaints {
    let roots = files.iter().filter(|f| {
        let rest = f.path.strip_prefix("src/").unwrap_or("");
        rest == "lib.rs" || rest.split('/').count() == 1 || rest.ends_with("/mod.rs")
    });
    roots
        .filter(|f| !f.text.starts_with("//! ") && !f.is_generated())
        .map(|f| format!("{}: begins without a `//!` header that says what it owns", f.path))
        .collect()
}

/// No file or module is named after nothing.
pub(super) fn names(files: &[SourceFile]) -> Complaints {
    let banned = |part: &str| {
        let part = part.strip_suffix(".rs").unwrap_or(part);
        BANNED_NAMES.contains(&part) || part.ends_with("_impl") || part.ends_with("_utils")
    };
    let bad = files.iter().filter(|f| f.path.split('/').any(banned));
    bad.map(|f| format!("{}: the name says nothing about the content", f.path)).collect()
}

/// Log texts are lower-case and end without a full stop.
pub(super) fn log_texts(files: &[SourceFile]) -> Complaints {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|f| !f.is_generated()) {
        for name in LOG_MACROS {
            for (at, _) in file.code.match_indices(name) {
                let before = file.code[..at].chars().next_back();
                let open = at + name.len();
                if before.is_some_and(|c| c.is_alphanumeric() || c == '_')
                    || !file.code[open..].starts_with('(')
                {
                    continue;
                }
                let end = closing(&file.code, open).unwrap_or(file.code.len());
                complaints.extend(log_call(file, open + 1, end));
            }
        }
    }
    complaints
}

fn log_call(file: &SourceFile, start: usize, end: usize) -> Option<String> {
    let mut at = start;
    for part in top_level(&file.code[start..end]) {
        let blank = part.len() - part.trim_start().len();
        if part.trim_start().starts_with('"') {
            let text = file.text[at + blank..at + part.len()].trim().trim_matches('"');
            let mut letters = text.chars();
            let capital = letters.next().is_some_and(char::is_uppercase)
                && letters.next().is_some_and(char::is_lowercase);
            return (capital || text.ends_with('.')).then(|| {
                let line = line_of(&file.text, at + blank);
                format!("{}:{line}: log text {text:?}: lower-case, without a full stop", file.path)
            });
        }
        at += part.len() + 1;
    }
    None
}

/// Nothing is left marked as to be done.
pub(super) fn leftovers(files: &[SourceFile]) -> Complaints {
    let marks = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["XX", "X"].concat()];
    let macros = ["todo!", "unimplemented!", "dbg!"];
    let mut complaints = Vec::new();
    for file in files {
        for mark in &marks {
            let lines = file.text.lines().enumerate();
            let found =
                lines.filter(|(_, l)| l.split(|c: char| !c.is_alphanumeric()).any(|word| word == mark));
            complaints.extend(found.map(|(i, _)| format!("{}:{}: `{mark}` is left over", file.path, i + 1)));
        }
        for name in macros.iter().filter(|name| file.code.contains(**name)) {
            complaints.push(format!("{}: `{name}` is left over", file.path));
        }
    }
    complaints
}

/// Decisions `NNNN-title.md` have unique numbers and a line `Status: <known word>`.
pub(super) fn decisions(files: &[(String, String)]) -> Complaints {
    let mut numbers = BTreeSet::new();
    let mut complaints = Vec::new();
    for (path, text) in files {
        let name = path.rsplit('/').next().unwrap_or(path);
        let number = name.split('-').next().unwrap_or("");
        if number.len() != 4 || !number.bytes().all(|b| b.is_ascii_digit()) {
            complaints.push(format!("{path}: is not named NNNN-title.md"));
        } else if !numbers.insert(number.to_owned()) {
            complaints.push(format!("{path}: number {number} is taken"));
        }
        let status = text.lines().find_map(|l| l.strip_prefix("Status: "));
        if !status.is_some_and(|s| STATUSES.contains(&s.split(' ').next().unwrap_or(s))) {
            complaints.push(format!("{path}: wants a line `Status: <{}>`", STATUSES.join("|")));
        }
    }
    complaints
}

/// No text names a place that only one machine has.
pub(super) fn machine_paths(files: &[(String, String)]) -> Complaints {
    let places = ["root", "work", "home"].map(|place| format!("/{place}/"));
    let mut complaints = Vec::new();
    for (path, text) in files {
        for (i, line) in text.lines().enumerate() {
            let named = places.iter().find(|place| {
                line.match_indices(place.as_str()).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    before.is_none_or(|c| c.is_whitespace() || "\"'`(=:".contains(c))
                })
            });
            if let Some(place) = named {
                complaints.push(format!("{path}:{}: names {place}", i + 1));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(path: &str, text: &str) -> Vec<SourceFile> {
        vec![SourceFile::new(path, text)]
    }

    #[test]
    fn an_import_of_an_equal_or_higher_rank_is_caught() {
        assert_eq!(ranks(&one("src/wire/a.rs", "use crate::bucket::Bucket;")).len(), 1);
        assert_eq!(ranks(&one("src/log/a.rs", "use crate::{model::Sample, block::B};")).len(), 1);
        assert_eq!(ranks(&one("src/odd/mod.rs", "")).len(), 1, "a module without a rank");
        assert!(
            ranks(&one("src/log/a.rs", "use crate::{model::{A, B}, bucket}; use crate::log::X;")).is_empty()
        );
        assert!(ranks(&one("src/log/a.rs", "// crate::cli\nlet a = \"crate::cli\";")).is_empty());
    }

    #[test]
    fn long_files_and_functions_are_caught() {
        assert_eq!(sizes(&one("src/log/a.rs", &"// x\n".repeat(501))).len(), 1);
        let long = format!("fn f() {{\n{}}}\n", "    g();\n".repeat(71));
        assert_eq!(sizes(&one("src/log/a.rs", &long)).len(), 1);
        assert!(sizes(&one("src/log/tests.rs", &"// x\n".repeat(501))).is_empty());
    }

    #[test]
    fn missing_headers_and_empty_names_are_caught() {
        assert_eq!(headers(&one("src/log/mod.rs", "use std::fs;")).len(), 1);
        assert!(headers(&one("src/log/mod.rs", "//! The log.")).is_empty());
        assert_eq!(names(&one("src/log/utils.rs", "")).len(), 1);
        assert_eq!(names(&one("src/common/mod.rs", "")).len(), 1);
    }

    #[test]
    fn log_texts_out_of_form_are_caught() {
        assert_eq!(log_texts(&one("src/log/a.rs", "info!(seq = 1, \"Segment opened\");")).len(), 1);
        assert_eq!(log_texts(&one("src/log/a.rs", "tracing::warn!(\"segment lost.\");")).len(), 1);
        assert!(log_texts(&one("src/log/a.rs", "info!(name = \"Abc.\", \"S3 answered\");")).is_empty());
    }

    #[test]
    fn leftovers_are_caught() {
        let mark = ["// TO", "DO: later"].concat();
        assert_eq!(leftovers(&one("src/log/a.rs", &mark)).len(), 1);
        assert_eq!(leftovers(&one("src/log/a.rs", "fn f() { todo!() }")).len(), 1);
    }

    #[test]
    fn decisions_out_of_order_are_caught() {
        let file = |name: &str, text: &str| (format!("docs/decisions/{name}"), text.to_owned());
        let good = file("0001-a.md", "# A\nStatus: Accepted\n");
        assert!(decisions(std::slice::from_ref(&good)).is_empty());
        assert_eq!(decisions(&[good, file("0001-b.md", "Status: Accepted")]).len(), 1);
        assert_eq!(decisions(&[file("0002-c.md", "Status: approved")]).len(), 1);
        assert_eq!(decisions(&[file("notes.md", "Status: Proposed")]).len(), 1);
    }

    #[test]
    fn places_of_one_machine_are_caught() {
        let planted = format!("see {}{}", "/ho", "me/me/file");
        assert_eq!(machine_paths(&[("a.md".to_owned(), planted)]).len(), 1);
        assert!(machine_paths(&[("a.md".to_owned(), "src/work/ and $HOME/x".to_owned())]).is_empty());
    }
}
