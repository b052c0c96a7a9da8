//! Which metadata this process has put into blocks, so that a repeat costs nothing.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::{MetadataEntry, TenantId};

/// Families of one tenant that are remembered; beyond, all are forgotten and written once more.
const FAMILIES_MAX: usize = 1 << 20;

/// What was said about families, as hashes: for each the set of texts.
pub(super) type Said = HashMap<u64, BTreeSet<u64>>;

/// What the last cut that had a family said about it. Clones share it.
///
/// A family whose sources contradict each other says the same two things in every cut. One whose text changed says something
/// else than in the cut before, also where it changed back within a cut and goes on with the earlier text.
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
            texts.insert(self.hasher.hash_one(&entry.metadata));
        }
        said
    }

    /// Leaves the entries of the families about which the last cut that had them said something else.
    pub(super) fn retain_fresh(&self, tenant: &TenantId, entries: &mut Vec<MetadataEntry>) {
        if let Some(written) = self.tenants().get(tenant) {
            let said = self.said(entries);
            entries.retain(|entry| {
                let family = self.hasher.hash_one(&entry.family);
                written.get(&family) != said.get(&family)
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
