//! Points in time as a person writes them: RFC 3339, Unix time, or relative to now.

use super::duration::parse_duration_ms;

#[cfg(test)]
mod tests;

/// Unix numbers from here on are milliseconds. As seconds it is the year 5138, as milliseconds March of 1973.
const UNIX_MS_FROM: i64 = 100_000_000_000;

/// The longest text that is looked at.
const TEXT_BYTES_MAX: usize = 64;

/// Why a point in time was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no point in time: {reason}; write RFC 3339 (2026-11-22T14:02:59Z), Unix seconds (1795356179 or \
1795356179.5), Unix milliseconds (1795356179500), now, -15m or \"15m ago\""
)]
pub struct InstantError {
    text: String,
    reason: &'static str,
}

/// Reads a point in time in milliseconds since the Unix epoch, rounded down to one.
///
/// Unix numbers of 100,000,000,000 and more are milliseconds, lesser ones seconds. Relative forms count back from
/// `now_ms`: `-15m`, `now-15m`, `15m ago`, `now`.
///
/// # Errors
/// Anything else; a number with a sign and no unit, which could be meant either way; a date and time without a zone;
/// what does not fit into 64 bits.
pub fn parse_instant_ms(text: &str, now_ms: i64) -> Result<i64, InstantError> {
    let trimmed = text.trim();
    let outcome = if trimmed.len() > TEXT_BYTES_MAX {
        Err("it is too long")
    } else {
        match parse_relative(trimmed, now_ms) {
            Some(relative) => relative,
            None if trimmed.bytes().all(|b| b.is_ascii_digit() || b == b'.') => parse_unix(trimmed),
            None => parse_rfc3339(trimmed),
        }
    };
    outcome.map_err(|reason| InstantError { text: text.chars().take(TEXT_BYTES_MAX).collect(), reason })
}

/// Reads the forms that count from now; nothing if the text is none of them.
fn parse_relative(text: &str, now_ms: i64) -> Option<Result<i64, &'static str>> {
    if text.eq_ignore_ascii_case("now") {
        return Some(Ok(now_ms));
    }
    let back = if let Some(rest) = text.strip_suffix("ago") {
        rest
    } else {
        let rest =
            text.get(..3).filter(|start| start.eq_ignore_ascii_case("now")).map_or(text, |_| &text[3..]);
        match rest.trim_start().as_bytes().first() {
            Some(b'-') => &rest.trim_start()[1..],
            Some(b'+') => return Some(Err("it would lie ahead")),
            _ => return None,
        }
    };
    let back = back.trim();
    if back.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Some(Err("a time span needs a unit, as in -15m"));
    }
    let ms = parse_duration_ms(back).map_err(|_| "its time span is not numbers with y, w, d, h, m, s or ms");
    Some(ms.map(|ms| now_ms.saturating_sub(ms)))
}

/// Reads Unix time without going through a float, which has not enough digits for milliseconds with decimals.
fn parse_unix(text: &str) -> Result<i64, &'static str> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    if whole.is_empty() || decimals.is_empty() || decimals.contains('.') {
        return Err("the number is not complete");
    }
    let whole: i64 = whole.parse().map_err(|_| "the number is too large")?;
    if whole >= UNIX_MS_FROM {
        return Ok(whole);
    }
    let mut digits = decimals.bytes().map(|b| i64::from(b - b'0')).chain(std::iter::repeat(0));
    let ms = digits.by_ref().take(3).fold(0, |ms, digit| ms * 10 + digit);
    Ok(whole * 1_000 + ms)
}

fn parse_rfc3339(text: &str) -> Result<i64, &'static str> {
    let zoned = chrono::DateTime::parse_from_rfc3339(text).map(|time| time.timestamp_millis());
    zoned.map_err(|_| {
        let without_zone = chrono::DateTime::parse_from_rfc3339(&format!("{text}Z")).is_ok();
        let date_only = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok();
        match (without_zone, date_only) {
            (true, _) => "it lacks a time zone: add Z for UTC or an offset such as +02:00",
            (_, true) => "it is a date: add a time and zone, such as T00:00:00Z",
            _ => "its form is not known",
        }
    })
}
