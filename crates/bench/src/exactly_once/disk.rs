//! A disk of limited size that can be filled to the last block: a tmpfs that is mounted for the run, with a file of nothing
//! in it that grows and is taken away again. It is unmounted when this is dropped.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// The file that fills it.
const BALLAST: &str = ".ballast";

/// A mounted disk.
#[derive(Debug)]
pub struct Disk {
    point: PathBuf,
}

impl Disk {
    /// Mounts one of this many MiB at a folder, which is made.
    ///
    /// # Errors
    /// Nothing may be mounted here (root is needed).
    pub fn mount(point: &Path, mib: u64) -> Result<Self> {
        std::fs::create_dir_all(point)?;
        let options = std::ffi::CString::new(format!("size={mib}m,mode=700"))?;
        mount("sakimori-bench", point, "tmpfs", MountFlags::NODEV | MountFlags::NOSUID, options.as_c_str())
            .with_context(|| format!("mount a tmpfs at {}; this measurement needs root", point.display()))?;
        Ok(Self { point: point.to_owned() })
    }

    /// Free bytes.
    pub fn free(&self) -> u64 {
        statvfs(&self.point).map_or(0, |stat| stat.f_bavail * stat.f_frsize)
    }

    /// Takes all the room that is left.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn fill(&self) -> Result<()> {
        let file = File::options().create(true).append(true).open(self.point.join(BALLAST))?;
        // Whoever else writes takes some meanwhile: smaller and smaller pieces until none fits.
        let mut piece = self.free().max(4096);
        while piece >= 4096 {
            let size = file.metadata()?.len();
            if fallocate(&file, FallocateFlags::empty(), size, piece).is_err() {
                piece /= 2;
            }
        }
        Ok(())
    }

    /// Gives it back.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn relieve(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.point.join(BALLAST))?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.point, UnmountFlags::DETACH);
    }
}
