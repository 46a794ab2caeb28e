//! Room on the disk of the spool: how an error says that there is none, and the reserve that is given back then.

use std::path::Path;

use anyhow::{Context, Result};

/// A file of nothing beside the journal, and its size: what it gives back is enough to write down what may be let go when
/// the disk is full.
pub const RESERVE: &str = "reserve";
const RESERVE_BYTES: u64 = 1 << 20;

/// Does this error say that the disk is full?
pub fn no_room(error: &anyhow::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    let kinds = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    kinds.into_iter().any(|cause| matches!(cause.kind(), StorageFull | QuotaExceeded))
}

/// Takes the room of the reserve, where it is not taken.
pub fn make_reserve(folder: &Path) -> Result<()> {
    let path = folder.join(RESERVE);
    if path.exists() {
        return Ok(());
    }
    let file = std::fs::File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    let taken = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, RESERVE_BYTES);
    match taken.map_err(std::io::Error::from) {
        Ok(()) => Ok(()),
        // A file system that cannot promise room has no reserve.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) => Ok(()),
        Err(error) => {
            let _ = std::fs::remove_file(&path);
            Err(error).with_context(|| format!("cannot take the room of {}", path.display()))
        }
    }
}
