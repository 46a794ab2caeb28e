//! The keys that open a backup's secrets: those of this installation, or those that were given.

use std::io::Read;
use std::path::Path;

use sakimori_runtime::Secret;
use sakimori_runtime::sealing::{KeyId, Ring};

use super::{BackupError, Header, io};
use crate::config::Config;
use crate::sealing::keyfile::{self, KeyPlace};
use crate::sealing::{Opener, files, in_backup};

/// The keys that a backup needs.
pub struct Keys {
    place: KeyPlace,
    ring: Ring,
    /// They are not all in the key file yet.
    new: bool,
}

impl Keys {
    /// Of this installation, and of the file that was given.
    pub fn find(config: &Config, given: Option<&Path>, header: &Header) -> Result<Self, BackupError> {
        let place = KeyPlace::of(config)?;
        let here = place.load()?;
        let given_ring = given.map(keyfile::read).transpose()?;
        if header.sealed_by.is_empty() {
            // Of a version that sealed nothing: it is sealed by what this installation has, or gets.
            return match here.clone().or(given_ring) {
                Some(ring) => Ok(Self { place, ring, new: here.is_none() }),
                None => Ok(Self { place, ring: Ring::generate().map_err(crate::sealing::Error::from)?, new: true }),
            };
        }
        let id = &header.sealed_by;
        let needed: KeyId =
            id.parse().map_err(|_| BackupError::Archive(format!("it names {id} as its key, which is none")))?;
        let file = place.path().display().to_string();
        match (here, given_ring) {
            (Some(ring), _) if ring.has(needed) => Ok(Self { place, ring, new: false }),
            (here, Some(given_ring)) if given_ring.has(needed) => {
                if matches!(place, KeyPlace::Credential(_)) {
                    return Err(crate::sealing::Error::Fixed(place.path().to_owned()).into());
                }
                let ring = match here {
                    Some(here) => given_ring.with(&here).map_err(|_| crate::sealing::Error::Full)?,
                    None => given_ring,
                };
                Ok(Self { place, ring, new: true })
            }
            (_, Some(_)) => Err(BackupError::Key(format!(
                "this backup is sealed under the key {id}, which {} does not hold; give the seal.key that its manager had \
                 then, with --key FILE",
                given.unwrap_or(Path::new("")).display()
            ))),
            (here, None) => Err(BackupError::Key(format!(
                "this backup is sealed under the key {id}, and {file} {}; give the seal.key of its manager with --key FILE, \
                 or put it there",
                if here.is_some() { "holds another" } else { "is missing" }
            ))),
        }
    }

    /// The key file that the manager will have.
    pub fn file(&self) -> &Path {
        self.place.path()
    }

    /// A sealed entry.
    pub fn opened(&self, name: &str, content: &mut dyn Read) -> Result<Secret<Vec<u8>>, BackupError> {
        let mut text = String::new();
        let most = 2 * sakimori_runtime::sealing::MOST as u64;
        io("read", Path::new(name), content.take(most).read_to_string(&mut text))?;
        Ok(self.opener().open(in_backup(name), name, &text)?)
    }

    /// Looks whether each private key of a state folder opens, and seals what an older version had in plain.
    pub fn settle(&self, state: &Path) -> Result<(), BackupError> {
        for name in files::FILES {
            files::load(&self.opener(), state, name)?;
        }
        files::settle(&self.opener(), state, &mut |_| {})?;
        Ok(())
    }

    /// Keeps them where the configuration wants them.
    pub fn keep(&self) -> Result<(), BackupError> {
        if self.new {
            self.place.save(&self.ring, &mut |_| {})?;
        }
        Ok(())
    }

    fn opener(&self) -> Opener<'_> {
        Opener { ring: &self.ring, place: self.place.path() }
    }
}
