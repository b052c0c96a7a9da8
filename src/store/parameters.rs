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

/// What a metadata request asks for.
#[derive(Debug)]
pub(super) struct Parameters {
    /// One set of matchers per selector; series satisfy any of them.
    pub(super) matchers: Vec<Vec<Matcher>>,
    pub(super) range: TimeRange,
    /// 0 for no limit.
    pub(super) limit: i64,
}

impl Parameters {
    /// Reads the pairs of a query string or form; unknown ones are left alone, as Prometheus does.
    pub(super) fn parse(encoded: &[&[u8]]) -> Result<Self, StoreError> {
        let (mut matchers, mut limit) = (Vec::new(), 0);
        let (mut start, mut end) = (None, None);
        for (name, value) in encoded.iter().flat_map(|pairs| form_urlencoded::parse(pairs)) {
            match name.as_ref() {
                "match[]" if matchers.len() >= SELECTORS_MAX => {
                    let allowed = "among the first 64 of a request";
                    return Err(refused("match[]", &value, allowed));
                }
                "match[]" => matchers.push(parse_match(&value)?),
                // The first one counts, and an empty one is none.
                "start" if start.is_none() && !value.is_empty() => start = Some(parse_time("start", &value)?),
                "end" if end.is_none() && !value.is_empty() => end = Some(parse_time("end", &value)?),
                "limit" if !value.is_empty() => limit = parse_limit(&value)?,
                _ => {}
            }
        }
        let range = TimeRange::from_inclusive(start.unwrap_or(i64::MIN), end.unwrap_or(i64::MAX));
        Ok(Self { matchers, range, limit })
    }
}

fn refused(name: &'static str, value: &str, allowed: &'static str) -> StoreError {
    StoreError::Parameter { name, value: StoreError::quote(value), allowed }
}

/// A selector that every series satisfies was hardly meant.
fn parse_match(text: &str) -> Result<Vec<Matcher>, StoreError> {
    let matchers = parse_selector(text)?;
    if matchers.iter().all(|m| m.matches("")) { Err(StoreError::EmptySelector) } else { Ok(matchers) }
}

fn parse_limit(text: &str) -> Result<i64, StoreError> {
    let number = text.parse().ok().filter(|limit| *limit >= 0);
    number.ok_or_else(|| refused("limit", text, "a number of 0 (no limit) or more"))
}

/// Reads Unix seconds with a fraction, or RFC 3339, into milliseconds; saturates at the ends of time.
pub(super) fn parse_time(name: &'static str, text: &str) -> Result<i64, StoreError> {
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
