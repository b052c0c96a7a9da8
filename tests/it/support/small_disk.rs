//! A small file system that a test can fill.

use std::path::Path;
use std::process::Command;

use super::{path_text, say_skipped};

/// A small file system of its own, where that is permitted.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    pub(crate) fn mount(test: &str, kib: u32) -> Option<Self> {
        let disk = Self { folder: tempfile::Builder::new().prefix("disk-it-").tempdir().unwrap() };
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs", path_text(disk.path())])
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            say_skipped(test, "permission to mount a tmpfs");
            return None;
        }
        Some(disk)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn resize(&self, kib: u32) {
        let option = format!("remount,size={kib}k");
        let status = Command::new("mount").args(["-o", &option, path_text(self.path())]).status().unwrap();
        assert!(status.success(), "mount -o {option}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Left mounted where it is busy, which the next start of the machine ends.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}
