//! Files that are transferred in a flow.

use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::Sha256;

/// Most bytes of a file that are kept and looked at.
pub(crate) const MOST_KEPT: usize = 1 << 20;

/// One file.
#[derive(Debug, Default)]
pub(crate) struct File {
    pub name: Vec<u8>,
    pub data: Vec<u8>,
    pub size: u64,
    pub closed: bool,
    /// Something is missing: a gap, or more than is kept.
    pub cut: bool,
}

impl File {
    pub(crate) fn new(name: &[u8]) -> Self {
        Self { name: name.to_vec(), ..Self::default() }
    }

    pub(crate) fn append(&mut self, data: &[u8]) {
        if self.closed {
            return;
        }
        self.size += data.len() as u64;
        let free = MOST_KEPT.saturating_sub(self.data.len());
        self.cut |= free < data.len();
        self.data.extend_from_slice(data.get(..free.min(data.len())).unwrap_or_default());
    }

    pub(crate) fn close(&mut self, cut: bool) {
        if !self.closed {
            self.cut |= cut;
            self.closed = true;
        }
    }

    /// The hash of that length (16, 20 or 32 bytes) of a whole file.
    pub(crate) fn hash(&self, length: usize) -> Option<Vec<u8>> {
        if !self.closed || self.cut {
            return None;
        }
        Some(match length {
            16 => Md5::digest(&self.data).to_vec(),
            20 => Sha1::digest(&self.data).to_vec(),
            _ => Sha256::digest(&self.data).to_vec(),
        })
    }

    /// What the first bytes say that it is, in the words of `file`.
    pub(crate) fn magic(&self) -> &'static str {
        const KNOWN: &[(&[u8], &str)] = &[
            (b"MZ", "PE32 executable (MS-DOS executable)"),
            (b"\x7fELF", "ELF"),
            (b"%PDF-", "PDF document"),
            (b"PK\x03\x04", "Zip archive data"),
            (b"\x1f\x8b", "gzip compressed data"),
            (b"\x89PNG\r\n\x1a\n", "PNG image data"),
            (b"\xff\xd8\xff", "JPEG image data"),
            (b"GIF8", "GIF image data"),
            (b"Rar!", "RAR archive data"),
            (b"7z\xbc\xaf", "7-zip archive data"),
            (b"BZh", "bzip2 compressed data"),
            (b"\xd0\xcf\x11\xe0", "Composite Document File V2 Document"),
            (b"<?xml", "XML document text"),
            (b"<html", "HTML document, ASCII text"),
            (b"<!DOCTYPE html", "HTML document, ASCII text"),
            (b"#!", "a script text executable"),
            (b"CWS", "Macromedia Flash data (compressed)"),
            (b"FWS", "Macromedia Flash data"),
            (b"\xca\xfe\xba\xbe", "compiled Java class data"),
        ];
        let known = KNOWN.iter().find(|(start, _)| self.data.starts_with(start)).map(|known| known.1);
        known.unwrap_or(if self.data.is_ascii() { "ASCII text" } else { "data" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_only_of_whole_files() {
        let mut file = File::new(b"a");
        file.append(b"abc");
        assert_eq!(file.hash(16), None);
        file.close(false);
        assert_eq!(hex::encode(file.hash(16).unwrap()), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(file.magic(), "ASCII text");
    }

    #[test]
    fn keeps_no_more_than_allowed() {
        let mut file = File::new(b"");
        file.append(&vec![0; MOST_KEPT + 5]);
        assert_eq!((file.data.len(), file.cut, file.size), (MOST_KEPT, true, MOST_KEPT as u64 + 5));
    }
}
