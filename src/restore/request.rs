//! What a restore is asked for.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use crate::archive::Target;
use crate::model::{Labels, Matcher, match_labels};

/// What is to be restored, where to and how.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// Which moment.
    pub target: Target,
    /// Whether the target came of the time of asking, as `-15m` and `latest` do: an unfinished restore then goes on with
    /// the target that it was begun for.
    pub target_moves: bool,
    /// Only this timeline.
    pub timeline: Option<u32>,
    /// The data directory to make.
    pub to: PathBuf,
    /// What becomes of the samples that the server had in memory.
    pub head: HeadMode,
    /// Only series that one of these selects; all where there is none.
    pub selectors: Vec<Selector>,
    /// The version that has to read the directory.
    pub for_version: Option<ServerVersion>,
    /// Whether an existing directory is brought to the target's state.
    pub delta: bool,
    /// Whether an unfinished restore of something else is thrown away.
    pub restart: bool,
    /// Whether changes and losses are accepted.
    pub confirmed: bool,
    /// How many bytes a second are fetched at most.
    pub limit_bytes_per_second: Option<u64>,
}

impl RestoreRequest {
    /// Asks for a moment in a fresh directory, everything else as it comes.
    #[must_use]
    pub fn new(target: Target, to: impl Into<PathBuf>) -> Self {
        Self {
            target,
            target_moves: false,
            timeline: None,
            to: to.into(),
            head: HeadMode::Auto,
            selectors: Vec::new(),
            for_version: None,
            delta: false,
            restart: false,
            confirmed: false,
            limit_bytes_per_second: None,
        }
    }
}

/// What becomes of the samples that the server had in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadMode {
    /// Blocks where replaying the log would take a second or more, else the log.
    #[default]
    Auto,
    /// The log as it was: the server replays it.
    Wal,
    /// Blocks; the log holds exemplars and metadata.
    Blocks,
    /// Blocks only, without a log: for looking at, as exemplars and metadata are left out.
    BlocksOnly,
}

/// A selector of series, as it was given.
#[derive(Debug, Clone)]
pub struct Selector {
    text: String,
    matchers: Arc<[Matcher]>,
}

impl Selector {
    /// Makes a selector of its text and what that means.
    #[must_use]
    pub fn new(text: impl Into<String>, matchers: Vec<Matcher>) -> Self {
        Self { text: text.into(), matchers: matchers.into() }
    }

    /// Returns the text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the matchers, all of which a series satisfies.
    pub(super) fn matchers(&self) -> &[Matcher] {
        &self.matchers
    }
}

/// Returns whether one of the selectors takes a series; no selectors take all.
pub(super) fn is_selected(selectors: &[Selector], labels: &Labels) -> bool {
    selectors.is_empty() || selectors.iter().any(|selector| match_labels(&selector.matchers, labels))
}

/// A version of Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion {
    /// Before the first dot.
    pub major: u32,
    /// After it.
    pub minor: u32,
}

impl ServerVersion {
    /// Names a version.
    #[must_use]
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl std::str::FromStr for ServerVersion {
    type Err = String;

    /// Reads `2.42`, `v3.9.1` or `2.42.0+ds`; what follows the minor number does not matter.
    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("{text:?} is no version of Prometheus: write one such as 2.42 or 3.9.1");
        let mut parts = text.trim().trim_start_matches('v').split('.');
        let major = parts.next().and_then(|part| part.parse().ok()).ok_or_else(refused)?;
        let minor = parts.next().map(|part| part.trim_end_matches(|c: char| !c.is_ascii_digit()));
        let minor = minor.and_then(|part| part.parse().ok()).ok_or_else(refused)?;
        Ok(Self { major, minor })
    }
}
