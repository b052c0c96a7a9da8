//! Parameters of Prometheus' HTTP API.

use chrono::DateTime;

use super::error::StoreError;
use super::selector_text::parse_selector;
use crate::model::{Matcher, TimeRange};

#[cfg(test)]
mod tests;

/// The times that Prometheus' own clients send for "no bound".
const MIN_TIME_TEXT: &str = "-292273086-05-16T16:47:06Z";
const MAX_TIME_TEXT: &str = "292277025-08-18T07:12:54.999999999Z";

/// The most selectors in one request.
const SELECTORS_MAX: usize = 64;

/// The most labels that one request may name as replicas'.
const REPLICA_LABELS_MAX: usize = 64;

/// What a metadata request asks for.
#[derive(Debug)]
pub(super) struct Parameters {
    /// One set of matchers per selector; series satisfy any of them.
    pub(super) matchers: Vec<Vec<Matcher>>,
    pub(super) range: TimeRange,
    /// 0 for no limit.
    pub(super) limit: i64,
    pub(super) hiding: Hiding,
}

/// The labels of replicas that a request wants hidden, named as Thanos Query names the parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Hiding {
    dedup: bool,
    replica_labels: Vec<String>,
}

impl Hiding {
    /// Reads `dedup` and `replicaLabels[]`; the first `dedup` counts.
    pub(super) fn parse(form: &Form) -> Result<Self, StoreError> {
        let dedup = form.first("dedup").map_or(Ok(false), |text| parse_bool("dedup", text))?;
        let name = "replicaLabels[]";
        let named = form.pairs.iter().filter(|(own, value)| own == name && !value.is_empty());
        let replica_labels: Vec<String> = named.map(|(_, value)| value.clone()).collect();
        match replica_labels.get(REPLICA_LABELS_MAX) {
            Some(value) => Err(refused(name, value, "among the first 64 of a request")),
            None => Ok(Self { dedup, replica_labels }),
        }
    }

    /// Returns the labels to hide: none unless asked for, those of the request before the configured ones.
    pub(super) fn labels(&self, configured: &[String]) -> Vec<String> {
        match (self.dedup, self.replica_labels.is_empty()) {
            (false, _) => Vec::new(),
            (true, true) => configured.to_vec(),
            (true, false) => self.replica_labels.clone(),
        }
    }
}

/// Reads a truth value as Go's `ParseBool` does.
pub(super) fn parse_bool(name: &'static str, text: &str) -> Result<bool, StoreError> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(refused(name, text, "true or false")),
    }
}

/// The pairs of a form and a query string, in this order.
#[derive(Debug)]
pub(super) struct Form {
    pairs: Vec<(String, String)>,
}

impl Form {
    /// Reads pairs; unknown ones are left alone, as Prometheus does.
    pub(super) fn parse(encoded: &[&[u8]]) -> Self {
        let pairs = encoded.iter().flat_map(|pairs| form_urlencoded::parse(pairs));
        Self { pairs: pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect() }
    }

    /// Returns the first value of a name that is not empty.
    pub(super) fn first(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(own, value)| own == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// Reads `start` and `end`; without them the range has no bounds.
    pub(super) fn range(&self) -> Result<TimeRange, StoreError> {
        let time = |name, otherwise| self.first(name).map_or(Ok(otherwise), |text| parse_time(name, text));
        Ok(TimeRange::from_inclusive(time("start", i64::MIN)?, time("end", i64::MAX)?))
    }
}

impl Parameters {
    /// Reads what a form asks for.
    pub(super) fn parse(form: &Form) -> Result<Self, StoreError> {
        let mut matchers = Vec::new();
        for (_, value) in form.pairs.iter().filter(|(name, _)| name == "match[]") {
            if matchers.len() >= SELECTORS_MAX {
                return Err(refused("match[]", value, "among the first 64 of a request"));
            }
            matchers.push(parse_match(value)?);
        }
        let limit = form.first("limit").map_or(Ok(0), parse_limit)?;
        Ok(Self { matchers, range: form.range()?, limit, hiding: Hiding::parse(form)? })
    }
}

fn refused(name: &'static str, value: &str, allowed: &'static str) -> StoreError {
    StoreError::Parameter { name, value: StoreError::quote(value), allowed }
}

/// A selector that every series satisfies was hardly meant.
fn parse_match(text: &str) -> Result<Vec<Matcher>, StoreError> {
    let name = "match[]";
    let matchers = parse_selector(text).map_err(|source| StoreError::Selector { name, source })?;
    if is_empty(&matchers) { Err(StoreError::EmptySelector(name)) } else { Ok(matchers) }
}

/// Returns whether matchers take a series without any label.
pub(super) fn is_empty(matchers: &[Matcher]) -> bool {
    matchers.iter().all(|m| m.matches(""))
}

fn parse_limit(text: &str) -> Result<i64, StoreError> {
    let number = text.parse().ok().filter(|limit| *limit >= 0);
    number.ok_or_else(|| refused("limit", text, "a number of 0 (no limit) or more"))
}

/// Reads a number that may be below 0.
pub(super) fn parse_count(name: &'static str, text: &str) -> Result<i64, StoreError> {
    text.parse().map_err(|_| refused(name, text, "a whole number"))
}

/// Reads Unix seconds with a fraction, or RFC 3339, into milliseconds; saturates at the ends of time.
fn parse_time(name: &'static str, text: &str) -> Result<i64, StoreError> {
    if let Ok(seconds) = text.parse::<f64>()
        && !seconds.is_nan()
    {
        return Ok((seconds * 1000.0).round() as i64);
    }
    match text {
        MIN_TIME_TEXT => return Ok(i64::MIN),
        MAX_TIME_TEXT => return Ok(i64::MAX),
        _ => {}
    }
    let time = DateTime::parse_from_rfc3339(text).map(|time| time.timestamp_millis());
    time.map_err(|_| refused(name, text, "a Unix time in seconds or an RFC 3339 time"))
}

/// Returns the label name that a path names: `U__` starts Prometheus' escaped form of UTF-8 names.
pub(super) fn unescape_label_name(name: &str) -> String {
    name.strip_prefix("U__").and_then(unescape).unwrap_or_else(|| name.to_owned())
}

/// `__` is `_`, `_<hex>_` a code point; `None` where neither fits.
fn unescape(escaped: &str) -> Option<String> {
    let (mut name, mut rest) = (String::with_capacity(escaped.len()), escaped);
    while let Some((plain, tail)) = rest.split_once('_') {
        name.push_str(plain);
        let (code, tail) = tail.split_once('_')?;
        if code.is_empty() {
            name.push('_');
        } else if code.len() <= 6 && code.bytes().all(|b| b.is_ascii_hexdigit()) {
            name.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?);
        } else {
            return None;
        }
        rest = tail;
    }
    name.push_str(rest);
    Some(name)
}
