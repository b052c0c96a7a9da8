//! Stores pieces, then the entry that names them.

use futures::{StreamExt, TryStreamExt, stream};

use super::collect::SealedPiece;
use super::upload::Uploader;
use crate::archive::{ArchiveError, ChainEnd, Entry, SealedDigest};
use crate::runtime::crash_point;

/// So many pieces are stored at once.
const PIECES_AT_ONCE: usize = 4;

/// What an entry names, ready to be stored.
pub(super) type SealedObjects = (Vec<SealedPiece>, Vec<SealedDigest>);

impl Uploader {
    /// Stores pieces and digests and appends the entry that names them. Returns the new end of the chain and the entry.
    ///
    /// # Errors
    /// Another archiver's entry, or the store's failure after the stop.
    pub(super) async fn publish(
        &self,
        end: ChainEnd,
        (pieces, digests): SealedObjects,
        entry: Entry,
    ) -> Result<(ChainEnd, Entry), ArchiveError> {
        let puts = pieces.into_iter().map(|SealedPiece { entry, key, stored }| async move {
            self.put("a piece", &key, stored).await?;
            crash_point("archive.after-piece");
            self.instruments.pieces.inc();
            self.instruments.plain_bytes.inc_by(entry.plain_bytes);
            self.instruments.stored_bytes.inc_by(entry.stored_bytes);
            Ok::<(), ArchiveError>(())
        });
        stream::iter(puts).buffer_unordered(PIECES_AT_ONCE).try_collect::<Vec<()>>().await?;
        for SealedDigest { key, stored, .. } in digests {
            self.put("a digest", &key, stored).await?;
            crash_point("archive.after-digest");
        }
        crash_point("archive.before-entry");
        // The same entry every time: one whose reply was lost is found to be ours.
        let end = self
            .retry("an entry", || {
                let mut entry = entry.clone();
                async move { self.archive.append(end, &mut entry).await }
            })
            .await?;
        crash_point("archive.after-entry");
        Ok((end, entry))
    }
}
