//! Was what an archive holds sealed? An archiver that lost its keys' flag must not go on in plaintext.

use crate::archive::{Archive, ArchiveError, ArchiveView};
use crate::envelope::Envelope;

/// So many of an archive's newest pieces are asked for how they were stored, should some be gone.
const NEWEST_PIECES: usize = 8;

/// Refuses to go on in plaintext where an archive's newest objects are encrypted: a flag that was lost is no decision.
pub(super) async fn check_goes_on(
    archive: &Archive,
    view: &ArchiveView,
    in_plaintext: bool,
) -> Result<(), ArchiveError> {
    let source = archive.source();
    let seals = archive.envelope().is_encrypting();
    match (newest_is_sealed(archive, view).await?, seals) {
        (Some(true), false) if !in_plaintext => {
            return Err(ArchiveError::Invalid(format!(
                "the archive of {source} is encrypted and this archiver has no keys: give --encryption.recipients-file \
                 as before, or --encryption.continue-plaintext to store what comes as it is"
            )));
        }
        (Some(true), false) => tracing::warn!(%source, "an encrypted archive goes on in plaintext"),
        (Some(false), true) => tracing::warn!(
            %source,
            "encryption begins in an archive of plain objects: they stay as they are, and to read them \
             --encryption.allow-plaintext is needed"
        ),
        _ => {}
    }
    Ok(())
}

/// Returns whether an archive's newest piece is sealed; nothing where it has none that is there.
async fn newest_is_sealed(archive: &Archive, view: &ArchiveView) -> Result<Option<bool>, ArchiveError> {
    let pieces =
        view.timelines.values().rev().flat_map(|known| known.wal.iter().rev().chain(known.wbl.iter().rev()));
    let keys: Vec<_> = pieces.take(NEWEST_PIECES).map(|piece| piece.key(archive.source())).collect();
    for key in keys {
        match archive.read_stored(&key).await {
            Ok(stored) => return Ok(Some(Envelope::is_sealed(&stored))),
            // Verifying tells of it.
            Err(ArchiveError::Missing { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
