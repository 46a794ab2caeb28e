//! A new sealing key: written before the others, then everything sealed anew, then, if asked for, the older ones go.
//!
//! Until the last step the key file holds old and new, so a crash anywhere leaves secrets that open; the next start
//! seals anew what is left. Older keys stay by default, since backups of before are sealed under them.

use std::path::Path;
use std::sync::Arc;

use sakimori_runtime::sealing::{KeyId, SealingError};
use sakimori_store::control::Control;

use super::{Error, Opener, Result, Sealing, Step, files, rows};

/// What a rotation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The new key.
    pub key: KeyId,
    /// Secrets that were sealed anew.
    pub sealed: usize,
    /// Older keys that are kept.
    pub older: usize,
}

/// Makes a new key and seals everything under it. Nobody else does this, or makes a backup, at the same time.
///
/// # Errors
/// A key file that cannot be changed, or is not the one that the manager started with; a disk or database that says no.
pub async fn rotate(
    sealing: &Sealing,
    state: &Path,
    control: &Control,
    forget_older: bool,
    step: Step<'_>,
) -> Result<Rotated> {
    let place = &sealing.place;
    let changed = || Error::Changed(place.path().to_owned());
    // From the file, which may hold more older keys by now.
    let kept = place.load()?.filter(|kept| kept.newest() == sealing.ring().newest()).ok_or_else(changed)?;
    let ring = match kept.renewed() {
        Err(SealingError::Full) if forget_older => kept.newest_alone().renewed()?,
        Err(SealingError::Full) => return Err(Error::Full),
        other => other?,
    };
    step("key file");
    place.save(&ring, step)?;
    // From here on whatever is set is sealed by the new key.
    sealing.ring.store(Arc::new(ring.clone()));
    let opener = Opener { ring: &ring, place: place.path() };
    let sealed = files::settle(&opener, state, step)? + rows::settle(&opener, control, step).await?;
    let ring = if forget_older { ring.newest_alone() } else { ring };
    if forget_older {
        step("key file");
        place.save(&ring, step)?;
        sealing.ring.store(Arc::new(ring.clone()));
    }
    Ok(Rotated { key: ring.newest(), sealed, older: ring.ids().count() - 1 })
}
