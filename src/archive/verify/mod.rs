//! Verification: is what the archive catalog names there, unchanged, and does it decode?
//!
//! Vocabulary: a *level* is how much is read. **L1** lists the archive: the chain of the catalog, the sizes of all named
//! objects, the log without holes from every base on, nothing needed marked for deletion. **L2** also reads a *share*
//! of the objects again and hashes them: one *part* out of so many, which the caller names. **L3** reads and decodes everything: records, blocks
//! down to the chunks, checkpoints, digests. (L4 is the drill, in `restore`.) A *finding* is one thing that is wrong
//! with one object.
//!
//! Flow
//! 1. The catalog is read link by link; what does not read is a finding and the rest goes on.
//! 2. The links give the inventory: pieces, manifests, parts of files, digests, with sizes and hashes.
//! 3. One listing is held against it; continuity is derived from the folded view.
//! 4. L2 and L3 read objects, several at once within a budget of memory; hashing and decoding run on compute threads.
//!
//! **Invariants**
//! - A finding never ends the run: all of them are reported, each with its object.
//! - Damage is told apart from a store that does not answer: the latter is counted by itself, and ends the run only
//!   where it goes on. A missing key ends the run at once: it is no damage.
//! - L1 and L2 need no keys but for blocks whose manifests are encrypted; without them those blocks' parts are only
//!   counted, and the report says how many.
//! - Nothing is written.
//!
//! What it does not do: repair. A restore takes another way around what is damaged, where there is one.

mod blocks;
mod catalog;
mod continuity;
mod decode;
mod inventory;
mod progress;
mod reading;

#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;

use super::ArchiveError;
use super::chain::Archive;
use crate::model::SourceName;
use crate::runtime::Cpu;

pub use progress::VerifyProgress;

use inventory::Inventory;
use reading::Reader;

/// More findings tell nothing new.
const FINDINGS_MAX: usize = 10_000;

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum VerifyLevel {
    /// Inventory, chain and continuity, by listing.
    L1,
    /// Also the hashes of a share of the objects.
    L2,
    /// Everything, decoded.
    L3,
}

impl VerifyLevel {
    /// Returns the name, as in flags and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::L1 => "L1",
            Self::L2 => "L2",
            Self::L3 => "L3",
        }
    }
}

impl fmt::Display for VerifyLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for VerifyLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let level = [Self::L1, Self::L2, Self::L3].into_iter().find(|l| l.name().eq_ignore_ascii_case(text));
        level.ok_or_else(|| "write L1, L2 or L3".to_owned())
    }
}

/// What to verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifySettings {
    /// How much is read.
    pub level: VerifyLevel,
    /// L2 reads one part out of this many: each object falls into the same one as long as this stays the same.
    pub share: u64,
    /// Which part, counted from 0; beyond the last one it begins anew.
    pub turn: u64,
    /// A finding where not every second of so many milliseconds before the newest entry can be restored.
    pub window_ms: Option<i64>,
}

/// Something that is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct VerifyFinding {
    /// The object's key.
    pub key: String,
    /// What is wrong.
    pub what: String,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// The source.
    pub source: SourceName,
    /// What was read.
    pub level: VerifyLevel,
    /// What is wrong, sorted by key; nothing where all is well.
    pub findings: Vec<VerifyFinding>,
    /// How many more there are than `findings` lists.
    pub omitted_findings: u64,
    /// Objects that the store did not give in time: not verified, not known to be damaged.
    pub unavailable: Vec<VerifyFinding>,
    /// Objects that the catalog names.
    pub objects: u64,
    /// Their size.
    pub bytes: u64,
    /// Of them, not there.
    pub missing_objects: u64,
    /// Objects that nothing names: under way, or to be collected.
    pub unnamed_objects: u64,
    /// Their size.
    pub unnamed_bytes: u64,
    /// Blocks whose manifest is encrypted, where there was no key: their parts were only counted.
    pub sealed_manifests: u64,
    /// Every second from here on can be restored, as far as the catalog says.
    pub continuous_since_ms: Option<i64>,
    /// When the newest entry was made.
    pub newest_ms: Option<i64>,
    /// What L2 read: the number of the part, from 1, and of how many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<(u64, u64)>,
    /// Objects that were read and hashed.
    pub read_objects: u64,
    /// Their size.
    pub read_bytes: u64,
    /// Records of the logs that were decoded.
    pub records: u64,
    /// Samples that were decoded, in records and blocks.
    pub samples: u64,
    /// Blocks that were decoded.
    pub blocks: u64,
}

impl VerifyReport {
    fn new(source: SourceName, level: VerifyLevel) -> Self {
        Self {
            source,
            level,
            findings: Vec::new(),
            omitted_findings: 0,
            unavailable: Vec::new(),
            objects: 0,
            bytes: 0,
            missing_objects: 0,
            unnamed_objects: 0,
            unnamed_bytes: 0,
            sealed_manifests: 0,
            continuous_since_ms: None,
            newest_ms: None,
            part: None,
            read_objects: 0,
            read_bytes: 0,
            records: 0,
            samples: 0,
            blocks: 0,
        }
    }

    /// Returns whether nothing is wrong and everything was read that should be.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty() && self.unavailable.is_empty()
    }

    fn add(&mut self, key: impl fmt::Display, what: impl Into<String>) {
        if self.findings.len() == FINDINGS_MAX {
            self.omitted_findings += 1;
            return;
        }
        self.findings.push(VerifyFinding { key: key.to_string(), what: what.into() });
    }

    /// Notes why an object could not be read or decoded.
    ///
    /// # Errors
    /// A failure that is nothing about the object: keys that are missing, a defect.
    fn add_error(&mut self, key: impl fmt::Display, error: ArchiveError) -> Result<(), ArchiveError> {
        use crate::model::ErrorKind;
        let what = crate::model::error_chain(&error);
        if matches!(error, ArchiveError::Missing { .. }) {
            self.missing_objects += 1;
        }
        match error.kind() {
            ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::TooLarge => self.add(key, what),
            ErrorKind::Unavailable | ErrorKind::Overloaded | ErrorKind::Cancelled
                if self.unavailable.len() < reading::UNAVAILABLE_MAX =>
            {
                self.unavailable.push(VerifyFinding { key: key.to_string(), what });
            }
            _ => return Err(error),
        }
        Ok(())
    }
}

/// A verification of one archive.
#[derive(Debug, Clone, Copy)]
pub struct Verify<'a> {
    /// The archive.
    pub archive: &'a Archive,
    /// Compute threads.
    pub cpu: &'a Cpu,
    /// Where it stands, for whoever waits.
    pub progress: &'a VerifyProgress,
}

impl Verify<'_> {
    /// Verifies.
    ///
    /// # Errors
    /// [`ArchiveError::NoSource`], a key that is needed and missing, or a store that goes on failing. What is wrong
    /// with the archive is no error but a finding.
    pub async fn run(&self, settings: VerifySettings) -> Result<VerifyReport, ArchiveError> {
        let mut report = VerifyReport::new(self.archive.source().clone(), settings.level);
        let (links, view) = self.catalog(&mut report).await?;
        let mut inventory = Inventory::of(&links);
        let reader = Reader::new(self.archive, self.cpu, self.progress);
        inventory.read_manifests(&reader, &mut report).await?;
        let listing = self.hold_against_listing(&inventory, &mut report).await?;
        self.check_marks(&inventory, &links, &listing, &mut report).await?;
        if let Some(view) = &view {
            continuity::check(view, &links, settings.window_ms, &mut report);
        }
        match settings.level {
            VerifyLevel::L1 => {}
            VerifyLevel::L2 => {
                let share = settings.share.max(1);
                let turn = settings.turn % share;
                report.part = Some((turn + 1, share));
                reader.hash_share(&inventory, (share, turn), &mut report).await?;
            }
            VerifyLevel::L3 => reader.decode_all(inventory, &mut report).await?,
        }
        report.findings.sort();
        report.findings.dedup();
        Ok(report)
    }
}
