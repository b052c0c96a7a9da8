//! Which metadata this process has put into blocks, so that a repeat costs nothing.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::{MetadataEntry, TenantId};

/// Families of one tenant that are remembered; beyond, all are forgotten and written once more.
const FAMILIES_MAX: usize = 1 << 20;

/// What was said about families, as hashes: for each the texts.
pub(super) type Said = HashMap<u64, Vec<u64>>;

/// What the last cut that had a family said about it. Clones share it.
///
/// A family whose sources contradict each other says the same two things in every cut; one whose text changed and
/// changed back says something else than in the cut before.
#[derive(Debug, Clone, Default)]
pub struct WrittenMetadata {
    hasher: RandomState,
    tenants: Arc<Mutex<HashMap<TenantId, Said>>>,
}

impl WrittenMetadata {
    fn tenants(&self) -> MutexGuard<'_, HashMap<TenantId, Said>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what entries say.
    pub(super) fn said(&self, entries: &[MetadataEntry]) -> Said {
        let mut said = Said::new();
        for entry in entries {
            let texts = said.entry(self.hasher.hash_one(&entry.family)).or_default();
            texts.push(self.hasher.hash_one(&entry.metadata));
        }
        said
    }

    /// Leaves the entries that are not in earlier blocks.
    pub(super) fn retain_fresh(&self, tenant: &TenantId, entries: &mut Vec<MetadataEntry>) {
        if let Some(written) = self.tenants().get(tenant) {
            entries.retain(|entry| {
                let texts = written.get(&self.hasher.hash_one(&entry.family));
                texts.is_none_or(|texts| !texts.contains(&self.hasher.hash_one(&entry.metadata)))
            });
        }
    }

    /// Notes that all that a cut said is in committed blocks.
    pub(super) fn note(&self, tenant: &TenantId, said: &Said) {
        let mut tenants = self.tenants();
        let written = tenants.entry(tenant.clone()).or_default();
        if written.len() > FAMILIES_MAX {
            written.clear();
        }
        written.extend(said.iter().map(|(family, texts)| (*family, texts.clone())));
    }
}
