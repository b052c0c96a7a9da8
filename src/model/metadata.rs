//! Metadata of metric families: type, help and unit, with when each became known.

/// What kind of metric a family is. The numbers are those of remote write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum MetricType {
    /// Nothing is known.
    #[default]
    Unknown,
    /// A counter.
    Counter,
    /// A gauge.
    Gauge,
    /// A histogram, classic or native.
    Histogram,
    /// A histogram whose buckets may fall.
    GaugeHistogram,
    /// A summary.
    Summary,
    /// An info metric.
    Info,
    /// A state set.
    StateSet,
}

impl MetricType {
    const ALL: [(Self, &str); 8] = [
        (Self::Unknown, "unknown"),
        (Self::Counter, "counter"),
        (Self::Gauge, "gauge"),
        (Self::Histogram, "histogram"),
        (Self::GaugeHistogram, "gaugehistogram"),
        (Self::Summary, "summary"),
        (Self::Info, "info"),
        (Self::StateSet, "stateset"),
    ];

    /// Returns the type that a number of remote write stands for; unknown for numbers that nobody defined yet.
    #[must_use]
    pub fn from_number(number: i64) -> Self {
        let place = usize::try_from(number).ok();
        place.and_then(|place| Self::ALL.get(place)).map_or(Self::Unknown, |(kind, _)| *kind)
    }

    /// Returns the number of remote write.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Returns the name that Prometheus' API uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// Returns the type of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }
}

/// What is said about a metric family.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Metadata {
    /// Its type.
    pub kind: MetricType,
    /// Its help text.
    pub help: String,
    /// Its unit.
    pub unit: String,
}

/// One entry in the history of a family's metadata.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MetadataEntry {
    /// The metric family's name.
    pub family: String,
    /// When this was first received, in milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// What was said.
    pub metadata: Metadata,
}

/// Sorts entries by family and time and leaves, of entries in a row that say the same, the earliest.
pub fn normalize_metadata(entries: &mut Vec<MetadataEntry>) {
    entries.sort();
    entries.dedup_by(|later, kept| later.family == kept.family && later.metadata == kept.metadata);
}
