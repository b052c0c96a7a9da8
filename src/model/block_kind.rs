//! What a block holds.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a block holds. Each kind is a file form of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum BlockKind {
    /// Float samples.
    Samples,
    /// Samples that are native histograms.
    Histograms,
    /// Exemplars.
    Exemplars,
    /// Metadata of metric families.
    Metadata,
    /// A kind of a newer writer, by its name. Readers leave such blocks alone.
    Other(String),
}

impl BlockKind {
    /// Returns the kind's name, as it stands in catalogs and files.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Samples => "samples",
            Self::Histograms => "histograms",
            Self::Exemplars => "exemplars",
            Self::Metadata => "metadata",
            Self::Other(name) => name,
        }
    }
}

impl fmt::Display for BlockKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<String> for BlockKind {
    fn from(name: String) -> Self {
        let known = [Self::Samples, Self::Histograms, Self::Exemplars, Self::Metadata];
        known.into_iter().find(|kind| kind.name() == name).unwrap_or(Self::Other(name))
    }
}

impl From<BlockKind> for String {
    fn from(kind: BlockKind) -> Self {
        kind.name().to_owned()
    }
}
