//! `--delta`: which files of the target are already what they should be.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use futures::{StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};

use super::RestoreError;
use super::context::RestoreContext;
use super::inventory::Inventory;
use super::request::RestoreRequest;
use crate::archive::Sha256Hash;

/// Files that are read at once, to hash them.
const READ_BYTES: usize = 1 << 20;

/// Files of the target that are hash-equal to archived ones, by their path below it.
#[derive(Debug, Clone, Default)]
pub(super) struct LocalFiles(BTreeSet<PathBuf>);

impl LocalFiles {
    /// Hashes the files of the target that have the right name and size.
    pub(super) async fn find(
        context: &RestoreContext,
        request: &RestoreRequest,
        inventory: &Inventory,
    ) -> Result<Self, RestoreError> {
        if !request.delta {
            return Ok(Self::default());
        }
        let files = inventory.blocks.iter().flat_map(|block| {
            block.all_files().map(|file| (block.path_of(file), file.size_bytes, file.sha256))
        });
        let checks = files.map(|(path, size_bytes, sha256)| {
            let there = request.to.join(&path);
            async move {
                let same = context.cpu.run(move || is_same(&there, size_bytes, sha256)).await?;
                Ok::<_, RestoreError>(same.then_some(path))
            }
        });
        let found: Vec<Option<PathBuf>> =
            futures::stream::iter(checks).buffered(context.threads).try_collect().await?;
        Ok(Self(found.into_iter().flatten().collect()))
    }

    pub(super) fn has(&self, path: &Path) -> bool {
        self.0.contains(path)
    }
}

fn is_same(path: &Path, size_bytes: u64, sha256: Sha256Hash) -> bool {
    let is_file =
        std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() == size_bytes);
    is_file && hash_file(path, &mut |_| {}).is_ok_and(|found| found == sha256)
}

/// Hashes a file, and tells how many bytes it read.
pub(super) fn hash_file(path: &Path, read: &mut dyn FnMut(u64)) -> std::io::Result<Sha256Hash> {
    let no_follow = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
    let mut file = File::options().read(true).custom_flags(no_follow).open(path)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; READ_BYTES]);
    loop {
        let bytes = file.read(&mut buffer)?;
        if bytes == 0 {
            return Ok(Sha256Hash::finish(hash));
        }
        hash.update(&buffer[..bytes]);
        read(bytes as u64);
    }
}
