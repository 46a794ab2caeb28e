//! The file of an item. Integers are little-endian.
//!
//! ```text
//! item = magic "SAKIQUAR" | version u32 = 1 | zero u32 | key (32 bytes)
//!      | content, each byte XOR the key's at its place (mod 32) XOR 0x5A
//!      | metadata (JSON) | length of the metadata u32 | magic "SAKIQEND"
//! ```
//!
//! The key is there to make the content inert, not secret: no loader takes it for a program, no scanner for malware,
//! and copying it anywhere harms nobody. What is read back is checked against the SHA-256 of the metadata.

use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::Stat;
use sakimori_model::Timestamp;
use serde::{Deserialize, Serialize};

use super::QuarantineError;

/// Bytes before the content.
pub const HEAD: usize = 48;
const MAGIC: &[u8; 8] = b"SAKIQUAR";
const END: &[u8; 8] = b"SAKIQEND";
const VERSION: u32 = 1;
const TAIL: usize = 12;
/// Largest metadata, in bytes: extended attributes are bounded by the kernel to 64 KiB of names, 64 KiB a value.
const MAX_METADATA: u64 = 16 << 20;

/// Why a file was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Id of the rule.
    pub rule: String,
    /// What people call what was found.
    pub title: String,
    /// Id of the action that took it, where one did.
    #[serde(default)]
    pub action: String,
}

/// An item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Its id.
    pub id: String,
    /// Where the file was. For people; the bytes are in `path_bytes`.
    pub path: String,
    /// The path's bytes, hex.
    pub path_bytes: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of the content, hex.
    pub sha256: String,
    /// When it was taken.
    pub taken: Timestamp,
    /// Why.
    pub cause: Cause,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits, set-user-id and the like included.
    pub mode: u32,
    /// Time of last access: seconds, nanoseconds.
    pub accessed: (i64, i64),
    /// Time of last change of the content: seconds, nanoseconds.
    pub modified: (i64, i64),
    /// Extended attributes by name, values hex: access lists and capabilities are among them.
    pub attributes: Vec<(String, String)>,
    /// Inode flags (`chattr`), as the file system keeps them; 0 where it keeps none.
    pub flags: u32,
    /// Names that it had.
    pub links: u64,
}

impl Item {
    /// What the file is, content and path aside.
    pub(super) fn describe(stat: &Stat, attributes: Vec<(String, Vec<u8>)>, flags: u32) -> Self {
        Self {
            id: String::new(),
            path: String::new(),
            path_bytes: String::new(),
            size: 0,
            sha256: String::new(),
            taken: Timestamp::default(),
            cause: Cause::default(),
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode & 0o7777,
            accessed: (stat.st_atime, nanoseconds(stat.st_atime_nsec)),
            modified: (stat.st_mtime, nanoseconds(stat.st_mtime_nsec)),
            attributes: attributes.into_iter().map(|(name, value)| (name, hex::encode(value))).collect(),
            flags,
            #[allow(clippy::useless_conversion, reason = "it is 32 bits wide on other machines")]
            links: u64::from(stat.st_nlink),
        }
    }

    pub(super) fn with_path(mut self, path: &std::path::Path) -> Self {
        self.path = path.display().to_string();
        self.path_bytes = hex::encode(path.as_os_str().as_bytes());
        self
    }

    /// The path, byte by byte.
    pub fn original_path(&self) -> Option<PathBuf> {
        Some(PathBuf::from(std::ffi::OsString::from_vec(hex::decode(&self.path_bytes).ok()?)))
    }
}

#[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions)] // its type differs between platforms
fn nanoseconds(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(0)
}

/// The head of an item with this key.
pub fn head(key: &[u8; 32]) -> Vec<u8> {
    [MAGIC.as_slice(), &VERSION.to_le_bytes(), &[0; 4], key].concat()
}

/// The metadata and what stands after it.
pub fn tail(item: &Item) -> Result<Vec<u8>, QuarantineError> {
    let error = |error: serde_json::Error| QuarantineError::Io { attempt: "write metadata", source: error.into() };
    let mut out = serde_json::to_vec(item).map_err(error)?;
    let length = u32::try_from(out.len()).map_err(|_| QuarantineError::Unfit("its attributes are too large"))?;
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(END);
    Ok(out)
}

/// Makes content inert, or opens it: the same step. `at` is the place of its first byte.
pub fn turn(bytes: &mut [u8], key: &[u8; 32], at: u64) {
    let start = usize::try_from(at % 32).unwrap_or(0);
    for (byte, key) in bytes.iter_mut().zip(key.iter().cycle().skip(start)) {
        *byte ^= key ^ 0x5A;
    }
}

/// Reads the metadata of an item.
pub fn read(file: &File, id: &str) -> Result<Item, QuarantineError> {
    let damaged = |reason| QuarantineError::Damaged { id: id.to_owned(), reason };
    let io = QuarantineError::std("read an item");
    let size = file.metadata().map_err(&io)?.len();
    let end = size.checked_sub(TAIL as u64).ok_or_else(|| damaged("it is cut off"))?;
    let mut tail = [0_u8; TAIL];
    file.read_exact_at(&mut tail, end).map_err(&io)?;
    let (length, magic) = tail.split_first_chunk::<4>().ok_or_else(|| damaged("it is cut off"))?;
    if magic != END {
        return Err(damaged("it is cut off"));
    }
    let length = u64::from(u32::from_le_bytes(*length));
    let start = end.checked_sub(length).filter(|_| length <= MAX_METADATA);
    let start = start.ok_or_else(|| damaged("its metadata cannot be found"))?;
    let mut json = vec![0; usize::try_from(length).map_err(|_| damaged("its metadata is too large"))?];
    file.read_exact_at(&mut json, start).map_err(&io)?;
    let item: Item = serde_json::from_slice(&json).map_err(|_| damaged("its metadata cannot be read"))?;
    if item.id != id || item.size.checked_add(HEAD as u64) != Some(start) {
        return Err(damaged("its metadata does not fit"));
    }
    Ok(item)
}

/// The key of an item.
pub fn key(file: &File, id: &str) -> Result<[u8; 32], QuarantineError> {
    let damaged = |reason| QuarantineError::Damaged { id: id.to_owned(), reason };
    let mut head = [0_u8; HEAD];
    file.read_exact_at(&mut head, 0).map_err(QuarantineError::std("read an item"))?;
    let (before, key) = head.split_last_chunk::<32>().ok_or_else(|| damaged("it is cut off"))?;
    if before.get(..8) != Some(MAGIC.as_slice()) || before.get(8..12) != Some(VERSION.to_le_bytes().as_slice()) {
        return Err(damaged("it is of another version"));
    }
    Ok(*key)
}
