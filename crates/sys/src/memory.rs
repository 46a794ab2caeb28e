//! Memory as a file without a name: made by one process, sealed, and handed to workers as a descriptor.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};

/// No more writing, growing, shrinking, and no more sealing.
const ALL: SealFlags = SealFlags::WRITE.union(SealFlags::GROW).union(SealFlags::SHRINK).union(SealFlags::SEAL);

/// Empty memory that can be written to, by whoever holds it.
pub fn empty(name: &str) -> io::Result<File> {
    Ok(File::from(memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?))
}

/// Memory with this content, that nobody can change any more.
pub fn sealed(name: &str, content: &[u8]) -> io::Result<File> {
    let mut file = empty(name)?;
    file.write_all(content)?;
    seal(&file)?;
    Ok(file)
}

/// Seals it: whoever holds it reads the same from now on.
pub fn seal(file: &File) -> io::Result<()> {
    Ok(fcntl_add_seals(file, ALL)?)
}

/// Reads all of it, if nobody can change it any more and it is no larger than `most`.
pub fn read_sealed(file: &File, most: u64) -> io::Result<Vec<u8>> {
    let invalid = |text| io::Error::new(io::ErrorKind::InvalidData, text);
    if !fcntl_get_seals(file)?.contains(ALL) {
        return Err(invalid("the memory handed over is not sealed"));
    }
    let size = u64::try_from(rustix::fs::fstat(file)?.st_size).map_err(io::Error::other)?;
    if size > most {
        return Err(invalid("the memory handed over is too large"));
    }
    let mut content = vec![0; usize::try_from(size).map_err(io::Error::other)?];
    file.read_exact_at(&mut content, 0)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_stays_and_what_is_not_is_refused() {
        let file = sealed("test", b"content").unwrap();
        assert_eq!(read_sealed(&file, 7).unwrap(), b"content");
        assert!(read_sealed(&file, 6).unwrap_err().to_string().contains("too large"));
        assert!(file.write_at(b"x", 0).is_err());
        assert!(file.set_len(0).is_err());
        let open = empty("test").unwrap();
        open.write_at(b"content", 0).unwrap();
        assert!(read_sealed(&open, 7).unwrap_err().to_string().contains("not sealed"));
        seal(&open).unwrap();
        assert_eq!(read_sealed(&open, 7).unwrap(), b"content");
        assert!(read_sealed(&tempfile::tempfile().unwrap(), 7).is_err());
    }
}
