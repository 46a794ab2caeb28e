//! Who holds a file: processes that have it open or mapped, read from `/proc` by device and inode number.
//!
//! What a process got hold of before a verdict it keeps; a person has to know which one that is.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Most descriptors that are looked at: a process may have very many, and this is asked beside other work.
const MAX_LOOKED_AT: usize = 200_000;
/// Largest table of mappings that is read, in bytes.
const MAX_MAPS: usize = 4 << 20;

/// Process ids of those that hold this file, this process aside, in rising order. What cannot be read (a process that
/// ends, one of another user without root) is passed over.
pub fn holders(file: &File) -> Vec<i32> {
    let Ok(wanted) = file.metadata() else { return Vec::new() };
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let mut left = MAX_LOOKED_AT;
    let mut found: Vec<i32> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != own)
        .filter(|pid| {
            let place = Path::new("/proc").join(pid.to_string());
            has_open(&place, wanted.dev(), wanted.ino(), &mut left) || has_mapped(&place, &wanted)
        })
        .collect();
    found.sort_unstable();
    found
}

fn has_open(process: &Path, device: u64, inode: u64, left: &mut usize) -> bool {
    let Ok(entries) = std::fs::read_dir(process.join("fd")) else { return false };
    for entry in entries.flatten() {
        let Some(rest) = left.checked_sub(1) else { return false };
        *left = rest;
        if std::fs::metadata(entry.path()).is_ok_and(|stat| (stat.dev(), stat.ino()) == (device, inode)) {
            return true;
        }
    }
    false
}

/// The table has `range flags offset major:minor inode path`, the numbers of the device in hexadecimal.
fn has_mapped(process: &Path, wanted: &std::fs::Metadata) -> bool {
    let Ok(table) = std::fs::read(process.join("maps")) else { return false };
    let (major, minor) = (rustix::fs::major(wanted.dev()), rustix::fs::minor(wanted.dev()));
    let device = format!("{major:02x}:{minor:02x}");
    let inode = wanted.ino().to_string();
    let text = String::from_utf8_lossy(table.get(..MAX_MAPS).unwrap_or(&table));
    text.lines().any(|line| {
        let mut words = line.split_ascii_whitespace().skip(3);
        words.next() == Some(device.as_str()) && words.next() == Some(inode.as_str())
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_process_that_has_it_open_is_named_until_it_ends() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, b"held").unwrap();
        let own = File::open(file.path()).unwrap();
        assert_eq!(holders(&own), [0; 0]);
        let input = File::open(file.path()).unwrap();
        let mut child =
            Command::new("sleep").arg("600").stdin(Stdio::from(input)).stdout(Stdio::null()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        while holders(&own) != [pid] {
            assert!(Instant::now() < until, "{:?} instead of {pid}", holders(&own));
            std::thread::sleep(Duration::from_millis(10));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(holders(&own), [0; 0]);
    }

    #[test]
    fn a_program_that_runs_is_mapped() {
        let own = File::open("/proc/self/exe").unwrap();
        let wanted = own.metadata().unwrap();
        assert!(has_mapped(Path::new("/proc/self"), &wanted));
        let other = tempfile::NamedTempFile::new().unwrap();
        assert!(!has_mapped(Path::new("/proc/self"), &other.as_file().metadata().unwrap()));
    }
}
