//! The catalog, the listing and the marks.

use std::collections::{BTreeMap, BTreeSet};

use super::inventory::Inventory;
use super::{Verify, VerifyReport};
use crate::archive::collect::{Mark, Named};
use crate::archive::{ArchiveError, ArchiveView, ChainEnd, Link};
use crate::bucket::{ArchiveObject, ObjectKey};
use crate::model::error_chain;

/// Sizes of the objects that are there, by key.
pub(super) type Listing = BTreeMap<String, u64>;

impl Verify<'_> {
    /// Reads the chain as far as it reads; the view is there only where it is whole.
    pub(super) async fn catalog(
        &self,
        report: &mut VerifyReport,
    ) -> Result<(Vec<Link>, Option<ArchiveView>), ArchiveError> {
        let mut links: Vec<Link> = Vec::new();
        let mut whole = true;
        let mut end: Option<ChainEnd> = None;
        for (key, read) in self.archive.links_each().await? {
            let link = match read {
                Ok(link) => link,
                Err(error) => {
                    (whole, end) = (false, None);
                    report.add_error(&key, error)?;
                    continue;
                }
            };
            let (_, previous) = link.begin();
            if end.is_some_and(|end| end.sha256 != previous) {
                report.add(&key, "its predecessor is not the one that it names");
                whole = false;
            }
            end = Some(link.end());
            links.push(link);
        }
        if !whole {
            return Ok((links, None));
        }
        match ArchiveView::fold(self.archive.source().clone(), links.clone()) {
            Ok(view) => Ok((links, Some(view))),
            Err(error) => {
                report.add(self.archive.catalog_folder(), error_chain(&error));
                Ok((links, None))
            }
        }
    }

    /// Lists the archive once and compares the sizes of what is named.
    pub(super) async fn hold_against_listing(
        &self,
        inventory: &Inventory,
        report: &mut VerifyReport,
    ) -> Result<Listing, ArchiveError> {
        let folder = ObjectKey::archive_folder(self.archive.source());
        let objects = self.archive.bucket().list(&folder).await?;
        let listing: Listing = objects.into_iter().map(|object| (object.key, object.size_bytes)).collect();
        let mut named: BTreeSet<String> = BTreeSet::new();
        for object in inventory.objects(self.archive.source()) {
            let key = object.key.to_string();
            report.objects += 1;
            match (listing.get(&key), object.bytes) {
                (None, _) => {
                    report.missing_objects += 1;
                    report.add(&key, "it is missing: the archive catalog names it");
                }
                (Some(found), Some(due)) if *found != due => {
                    report.add(&key, format!("it has {found} bytes and not {due}"));
                }
                (Some(found), _) => report.bytes += found,
            }
            named.insert(key);
        }
        for sealed in &inventory.sealed {
            let folder = format!("{}/", sealed.folder);
            let parts = listing.range(folder.clone()..).take_while(|(key, _)| key.starts_with(&folder));
            let parts: Vec<(&String, &u64)> = parts.filter(|(key, _)| **key != sealed.manifest).collect();
            let bytes: u64 = parts.iter().map(|(_, bytes)| **bytes).sum();
            report.objects += parts.len() as u64;
            report.bytes += bytes;
            if bytes < sealed.stored_bytes {
                let what = format!("its parts have {bytes} bytes and not {}", sealed.stored_bytes);
                report.add(&sealed.manifest, what);
            }
            named.extend(parts.into_iter().map(|(key, _)| key.clone()));
        }
        let unnamed = listing.iter().filter(|(key, _)| !named.contains(*key) && counts_as_unnamed(key));
        for (_, bytes) in unnamed {
            report.unnamed_objects += 1;
            report.unnamed_bytes += bytes;
        }
        Ok(listing)
    }

    /// Makes sure that no mark will delete what is needed, and that all holds can be read. Retention may have gone on
    /// since the catalog was read: what it has dropped from it meanwhile is not needed any more.
    pub(super) async fn check_marks(
        &self,
        inventory: &Inventory,
        links: &[Link],
        listing: &Listing,
        report: &mut VerifyReport,
    ) -> Result<(), ArchiveError> {
        let source = self.archive.source();
        let mut needed: BTreeSet<String> =
            inventory.objects(source).map(|object| object.key.to_string()).collect();
        needed.extend(links.iter().map(|link| link.key(self.archive).to_string()));
        let mut doomed: Vec<(String, String)> = Vec::new();
        for key in listing.keys() {
            let Some(key) = ObjectKey::parse(key) else { continue };
            let ObjectKey::Archive { object: ArchiveObject::Mark { .. }, .. } = key else { continue };
            match self.archive.read_mark(&key).await {
                Ok(Mark { keys, .. }) => {
                    let keys = keys.into_iter().filter(|marked| needed.contains(marked));
                    doomed.extend(keys.map(|marked| (marked, key.to_string())));
                }
                // It was done with since the listing.
                Err(ArchiveError::Missing { .. }) => {}
                Err(error) => report.add_error(&key, error)?,
            }
        }
        // A catalog that does not read has findings of its own, and what was read of it counts.
        let now_named = match doomed.is_empty() {
            true => None,
            false => self.archive.links().await.and_then(|links| Named::of(self.archive, &links)).ok(),
        };
        for (marked, mark) in doomed {
            let dropped = |named: &Named| ObjectKey::parse(&marked).is_some_and(|key| !named.has(&key));
            if !now_named.as_ref().is_some_and(dropped) {
                report.add(&marked, format!("{mark} marks it for deletion and the catalog names it"));
            }
        }
        if let Err(error) = self.archive.holds().await {
            report.add_error(format!("{}/holds", ObjectKey::archive_folder(source)), error)?;
        }
        Ok(())
    }
}

/// Holds, marks and the catalog's own objects are named by nobody.
fn counts_as_unnamed(key: &str) -> bool {
    match ObjectKey::parse(key) {
        Some(ObjectKey::Archive { object, .. }) => !matches!(
            object,
            ArchiveObject::Hold { .. }
                | ArchiveObject::Mark { .. }
                | ArchiveObject::Entry { .. }
                | ArchiveObject::Chapter { .. }
        ),
        _ => false,
    }
}
