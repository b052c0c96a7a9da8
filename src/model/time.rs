//! Time ranges, raw windows and resolutions.

use serde::{Deserialize, Serialize};

/// The width of the aligned window that one row of raw data lies in: 8 h.
pub const RAW_WINDOW_MS: i64 = 8 * 3_600_000;

/// A half-open range of time, `[start_ms, end_ms)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TimeRange {
    /// First millisecond inside.
    pub start_ms: i64,
    /// First millisecond after.
    pub end_ms: i64,
}

impl TimeRange {
    /// All of time.
    pub const ALL: Self = Self { start_ms: i64::MIN, end_ms: i64::MAX };

    /// Makes a half-open range from bounds that are inclusive on the wire; saturates at the ends of time.
    #[must_use]
    pub const fn from_inclusive(min_ms: i64, max_ms: i64) -> Self {
        Self { start_ms: min_ms, end_ms: max_ms.saturating_add(1) }
    }

    /// Returns the aligned raw window that a time lies in.
    #[must_use]
    pub const fn raw_window(ts_ms: i64) -> Self {
        let start_ms = ts_ms.saturating_sub(ts_ms.rem_euclid(RAW_WINDOW_MS));
        Self { start_ms, end_ms: start_ms.saturating_add(RAW_WINDOW_MS) }
    }

    /// Returns whether a time lies inside.
    #[must_use]
    pub const fn contains(&self, ts_ms: i64) -> bool {
        self.start_ms <= ts_ms && ts_ms < self.end_ms
    }

    /// Returns whether two ranges share a millisecond.
    #[must_use]
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.start_ms < other.end_ms && other.start_ms < self.end_ms
    }

    /// Returns whether the range holds no millisecond.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.start_ms >= self.end_ms
    }
}

/// The distance between a block's samples: as they came, or one per window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Resolution {
    /// Samples as they came.
    #[serde(rename = "raw")]
    Raw,
    /// One row of aggregates per five minutes.
    #[serde(rename = "5m")]
    FiveMinutes,
    /// One row of aggregates per hour.
    #[serde(rename = "1h")]
    OneHour,
}

impl Resolution {
    /// Returns the window in milliseconds; 0 for raw samples.
    #[must_use]
    pub const fn window_ms(self) -> i64 {
        match self {
            Self::Raw => 0,
            Self::FiveMinutes => 300_000,
            Self::OneHour => 3_600_000,
        }
    }
}

/// Writes a time as RFC 3339 in UTC, with milliseconds where there are any.
#[must_use]
pub fn format_time_ms(time_ms: i64) -> String {
    match chrono::DateTime::from_timestamp_millis(time_ms) {
        Some(time) => time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true),
        None => time_ms.to_string(),
    }
}
