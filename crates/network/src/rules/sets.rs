//! Sets of values that rules look up and change: `dataset`, `datarep`, lists of file hashes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use base64::Engine as _;
use md5::{Digest, Md5};
use sha2::Sha256;

/// Most values that rules may add to one set.
const MOST_ADDED: usize = 200_000;
/// Most bytes of the values that rules added to one set.
const MOST_BYTES: usize = 32 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetType {
    Text,
    Md5,
    Sha256,
    Address,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetCommand {
    IsSet,
    IsNotSet,
    Set,
    Unset,
}

/// `dataset:…`: which set, and what is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DataSetTest {
    pub set: usize,
    pub command: SetCommand,
}

/// `datarep:…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReputationTest {
    pub set: usize,
    pub wanted: super::number::Compare<u16>,
}

/// `filemd5`, `filesha1`, `filesha256`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileHashes {
    pub negated: bool,
    pub hashes: Arc<HashSet<Vec<u8>>>,
    pub length: usize,
}

/// One named set.
#[derive(Clone, Debug)]
pub(crate) struct DataSet {
    pub name: String,
    pub kind: SetType,
    pub values: HashMap<Vec<u8>, u16>,
    /// What rules added, and the bytes of it.
    added: usize,
    bytes: usize,
}

/// All sets of a rule set; what rules change stays in here.
#[derive(Clone, Debug, Default)]
pub(crate) struct DataSets {
    sets: Vec<DataSet>,
    /// Values that had no room.
    pub full: u64,
}

impl DataSets {
    /// The set of this name, made if it is not there; the text of its file is read once.
    pub(crate) fn open(&mut self, name: &str, kind: SetType, file: Option<&str>, rated: bool) -> Result<usize, String> {
        if let Some(at) = self.sets.iter().position(|set| set.name == name) {
            return match self.sets.get(at) {
                Some(set) if set.kind != kind => Err(format!("set '{name}' has two types")),
                _ => Ok(at),
            };
        }
        let mut set = DataSet { name: name.to_owned(), kind, values: HashMap::new(), added: 0, bytes: 0 };
        for (number, line) in file.unwrap_or_default().lines().enumerate() {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let (value, rating) = match line.rsplit_once(',') {
                Some((value, rating)) => (value, rating.trim().parse().ok()),
                None if rated => (line, None),
                None => (line, Some(0)),
            };
            let rating = rating.ok_or_else(|| format!("line {} of set '{name}' has no rating", number + 1))?;
            let value = decode(kind, value.trim())
                .ok_or_else(|| format!("line {} of set '{name}' has no such value", number + 1))?;
            set.values.insert(value, rating);
        }
        self.sets.push(set);
        Ok(self.sets.len() - 1)
    }

    /// Whether the test holds for a buffer; changes the set where the command is to.
    pub(crate) fn test(&mut self, test: &DataSetTest, data: &[u8]) -> bool {
        let Some(set) = self.sets.get_mut(test.set) else { return false };
        let Some(key) = set.key(data) else { return test.command == SetCommand::IsNotSet };
        match test.command {
            SetCommand::IsSet => set.values.contains_key(&key),
            SetCommand::IsNotSet => !set.values.contains_key(&key),
            SetCommand::Set => {
                if set.values.contains_key(&key) {
                    return false;
                }
                if set.added >= MOST_ADDED || set.bytes + key.len() > MOST_BYTES {
                    self.full += 1;
                    return false;
                }
                set.added += 1;
                set.bytes += key.len();
                set.values.insert(key, 0);
                true
            }
            SetCommand::Unset => {
                let there = set.values.remove(&key).is_some();
                if there {
                    set.added = set.added.saturating_sub(1);
                    set.bytes = set.bytes.saturating_sub(key.len());
                }
                there
            }
        }
    }

    pub(crate) fn rated(&self, test: &ReputationTest, data: &[u8]) -> bool {
        let Some(set) = self.sets.get(test.set) else { return false };
        let rating = set.key(data).and_then(|key| set.values.get(&key).copied());
        rating.is_some_and(|rating| test.wanted.holds(rating))
    }
}

impl DataSet {
    /// A buffer as a key: hashes as they are, or made of it where the buffer is no hash.
    fn key(&self, data: &[u8]) -> Option<Vec<u8>> {
        Some(match self.kind {
            SetType::Text => data.to_vec(),
            SetType::Md5 if data.len() == 16 => data.to_vec(),
            SetType::Md5 => Md5::digest(data).to_vec(),
            SetType::Sha256 if data.len() == 32 => data.to_vec(),
            SetType::Sha256 => Sha256::digest(data).to_vec(),
            SetType::Address if matches!(data.len(), 4 | 16) => data.to_vec(),
            SetType::Address => return None,
        })
    }
}

fn decode(kind: SetType, value: &str) -> Option<Vec<u8>> {
    match kind {
        SetType::Text => base64::engine::general_purpose::STANDARD.decode(value).ok(),
        SetType::Md5 => hex::decode(value).ok().filter(|hash| hash.len() == 16),
        SetType::Sha256 => hex::decode(value).ok().filter(|hash| hash.len() == 32),
        SetType::Address => match value.parse().ok()? {
            std::net::IpAddr::V4(four) => Some(four.octets().to_vec()),
            std::net::IpAddr::V6(six) => Some(six.octets().to_vec()),
        },
    }
}

/// Reads a list of hashes in hexadecimal, one a line, with anything behind it.
pub(crate) fn hashes(file: &str, length: usize) -> HashSet<Vec<u8>> {
    file.lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter_map(|word| hex::decode(word).ok())
        .filter(|hash| hash.len() == length)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_change_and_are_bounded() {
        let mut sets = DataSets::default();
        let set = sets.open("s", SetType::Text, Some("YQ==\n"), false).unwrap();
        let mut test = |command, data: &[u8]| sets.test(&DataSetTest { set, command }, data);
        assert!(test(SetCommand::IsSet, b"a") && test(SetCommand::Set, b"b") && !test(SetCommand::Set, b"b"));
        assert!(test(SetCommand::Unset, b"b") && test(SetCommand::IsNotSet, b"b"));
        for number in 0..MOST_ADDED as u32 + 10 {
            test(SetCommand::Set, &number.to_be_bytes());
        }
        assert!(sets.sets[set].values.len() <= MOST_ADDED + 1 && sets.full > 0);
    }

    #[test]
    fn ratings() {
        let mut sets = DataSets::default();
        let set = sets.open("r", SetType::Text, Some("YQ==,30"), true).unwrap();
        let wanted = super::super::number::Compare::Greater(20);
        assert!(sets.rated(&ReputationTest { set, wanted }, b"a"));
        assert!(!sets.rated(&ReputationTest { set, wanted }, b"b"));
        assert!(sets.open("q", SetType::Md5, Some("zz"), false).is_err());
    }
}
