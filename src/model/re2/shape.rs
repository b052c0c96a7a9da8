//! What an expression amounts to, when that is simpler than an automaton.

use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// How many values an expression may stand for to be kept as a set, and how many bytes they may have.
const VALUES_MAX: usize = 4_096;
const VALUE_BYTES_MAX: usize = 1 << 20;

/// How many characters a class may have to be taken apart.
const CLASS_CHARS_MAX: usize = 64;

/// How whole values are matched.
#[derive(Debug)]
pub(super) enum Shape {
    /// One of these, sorted and unique.
    Values(Vec<String>),
    /// `prefix.*suffix`, with at least so many bytes between.
    Around { prefix: String, between_min: usize, suffix: String },
    /// `.*text.*`
    Contains(String),
    /// Anything else.
    Other(regex::Regex),
}

impl Shape {
    pub(super) fn matches(&self, value: &str) -> bool {
        match self {
            Self::Values(values) => values.binary_search_by(|v| v.as_str().cmp(value)).is_ok(),
            Self::Around { prefix, between_min, suffix } => {
                value.len() >= prefix.len() + between_min + suffix.len()
                    && value.starts_with(prefix.as_str())
                    && value.ends_with(suffix.as_str())
            }
            Self::Contains(text) => value.contains(text.as_str()),
            Self::Other(regex) => regex.is_match(value),
        }
    }
}

/// Returns the shape of an expression that needs no automaton.
pub(super) fn simple_shape(hir: &Hir) -> Option<Shape> {
    let parts = anchored_parts(hir);
    if let Some(mut values) = concat_values(parts) {
        values.sort_unstable();
        values.dedup();
        return Some(Shape::Values(values));
    }
    let around = |prefix: &str, between_min, suffix: &str| {
        Some(Shape::Around { prefix: prefix.to_owned(), between_min, suffix: suffix.to_owned() })
    };
    match parts {
        [any] => around("", run_of_any(any)?, ""),
        [a, b] => match (literal(a), literal(b)) {
            (Some(prefix), _) => around(prefix, run_of_any(b)?, ""),
            (_, Some(suffix)) => around("", run_of_any(a)?, suffix),
            _ => None,
        },
        [a, b, c] => match (literal(a), literal(b), literal(c)) {
            (Some(prefix), None, Some(suffix)) => around(prefix, run_of_any(b)?, suffix),
            (None, Some(text), None) if run_of_any(a)? == 0 && run_of_any(c)? == 0 => {
                Some(Shape::Contains(text.to_owned()))
            }
            _ => None,
        },
        _ => None,
    }
}

/// Returns the literal that every match starts with; empty where there is none.
pub(super) fn literal_prefix(hir: &Hir) -> String {
    anchored_parts(hir).first().and_then(literal).unwrap_or("").to_owned()
}

/// Returns what all of some sorted values start with.
pub(super) fn common_prefix(values: &[String]) -> String {
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return String::new() };
    first.chars().zip(last.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
}

/// Returns the parts of a concatenation, without `^` in front and `$` at the end: matching is anchored anyway.
fn anchored_parts(hir: &Hir) -> &[Hir] {
    let mut parts = match hir.kind() {
        HirKind::Concat(parts) => parts.as_slice(),
        _ => std::slice::from_ref(hir),
    };
    let is = |part: &Hir, look| *part.kind() == HirKind::Look(look);
    while let Some((first, rest)) = parts.split_first()
        && is(first, Look::Start)
    {
        parts = rest;
    }
    while let Some((last, rest)) = parts.split_last()
        && is(last, Look::End)
    {
        parts = rest;
    }
    parts
}

fn literal(hir: &Hir) -> Option<&str> {
    match hir.kind() {
        HirKind::Literal(literal) => std::str::from_utf8(&literal.0).ok(),
        _ => None,
    }
}

/// Returns the least length of `.*` (0) or `.+` (1).
fn run_of_any(hir: &Hir) -> Option<usize> {
    let HirKind::Repetition(run) = hir.kind() else { return None };
    let HirKind::Class(Class::Unicode(class)) = run.sub.kind() else { return None };
    let any = matches!(class.ranges(), [range] if range.start() == '\0' && range.end() == char::MAX);
    (any && run.max.is_none() && run.min <= 1).then_some(run.min as usize)
}

/// Returns all strings that an expression stands for.
fn values(hir: &Hir) -> Option<Vec<String>> {
    match hir.kind() {
        HirKind::Empty => Some(vec![String::new()]),
        HirKind::Literal(_) => Some(vec![literal(hir)?.to_owned()]),
        HirKind::Class(Class::Unicode(class)) => {
            let chars: usize = class.ranges().iter().map(|r| r.len()).sum();
            let each = || class.ranges().iter().flat_map(|r| r.start()..=r.end());
            (chars <= CLASS_CHARS_MAX).then(|| each().map(String::from).collect())
        }
        HirKind::Repetition(run) if run.max == Some(1) => {
            let mut values = values(&run.sub)?;
            if run.min == 0 {
                values.push(String::new());
            }
            Some(values)
        }
        HirKind::Capture(capture) => values(&capture.sub),
        HirKind::Concat(parts) => concat_values(parts),
        HirKind::Alternation(branches) => {
            let mut all = Vec::new();
            for branch in branches {
                all.append(&mut values(branch)?);
                if all.len() > VALUES_MAX || byte_len(&all) > VALUE_BYTES_MAX {
                    return None;
                }
            }
            Some(all)
        }
        _ => None,
    }
}

fn concat_values(parts: &[Hir]) -> Option<Vec<String>> {
    let mut all = vec![String::new()];
    for part in parts {
        let part = values(part)?;
        let (all_bytes, part_bytes) = (byte_len(&all), byte_len(&part));
        let bytes = all_bytes.saturating_mul(part.len()) + part_bytes.saturating_mul(all.len());
        if all.len().saturating_mul(part.len()) > VALUES_MAX || bytes > VALUE_BYTES_MAX {
            return None;
        }
        all = all.iter().flat_map(|head| part.iter().map(move |tail| format!("{head}{tail}"))).collect();
    }
    Some(all)
}

fn byte_len(values: &[String]) -> usize {
    values.iter().map(String::len).sum()
}
