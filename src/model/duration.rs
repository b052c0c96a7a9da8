//! Durations as Prometheus writes them: `7d`, `1h30m`, `100y`.

/// The units, largest first, with their length in milliseconds (Prometheus' `model.ParseDuration`).
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Why a duration was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a duration: write numbers with y, w, d, h, m, s or ms, largest first, such as 30m or 1h30m"
)]
pub struct DurationError(String);

/// Parses a duration into milliseconds. Units come once each, largest first; a bare `0` is allowed.
///
/// # Errors
/// Anything else, and what does not fit into 64 bits.
pub fn parse_duration_ms(text: &str) -> Result<i64, DurationError> {
    let refused = || DurationError(text.to_owned());
    if text == "0" {
        return Ok(0);
    }
    let (mut rest, mut total_ms, mut next_unit) = (text, 0i64, 0);
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: i64 = rest[..digits].parse().map_err(|_| refused())?;
        let letters = rest[digits..].find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len() - digits);
        let unit = &rest[digits..digits + letters];
        let index = UNITS.iter().position(|(name, _)| *name == unit).ok_or_else(refused)?;
        if index < next_unit {
            return Err(refused());
        }
        next_unit = index + 1;
        let part_ms = number.checked_mul(UNITS[index].1).ok_or_else(refused)?;
        total_ms = total_ms.checked_add(part_ms).ok_or_else(refused)?;
        rest = &rest[digits + letters..];
    }
    if text.is_empty() { Err(refused()) } else { Ok(total_ms) }
}

/// Writes a duration in the form that [`parse_duration_ms`] reads.
#[must_use]
pub fn format_duration_ms(mut ms: i64) -> String {
    if ms <= 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, unit_ms) in UNITS {
        // Years and weeks only where they divide evenly, as Prometheus prints them.
        let exact_only = matches!(unit, "y" | "w");
        if ms >= unit_ms && (!exact_only || ms % unit_ms == 0) {
            text.push_str(&format!("{}{unit}", ms / unit_ms));
            ms %= unit_ms;
        }
    }
    text
}
