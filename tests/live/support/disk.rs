//! A small disk, which takes root to mount.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Mounted until it is dropped.
pub struct Disk(PathBuf);

impl Disk {
    /// A `tmpfs` with these options at a folder that is there.
    pub fn mount(at: PathBuf, options: &str) -> Disk {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&at).status();
        assert!(mounted.is_ok_and(|status| status.success()), "this test mounts a small disk, which takes root");
        Disk(at)
    }

    /// Until nothing more goes onto it.
    pub fn fill(&self) {
        // Fails when it is full, which is what is wanted.
        let _ = fs::write(self.0.join("noise"), vec![7_u8; 4 << 20]);
    }

    pub fn free(&self) {
        fs::remove_file(self.0.join("noise")).expect("the noise");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
