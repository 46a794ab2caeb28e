//! The rule bundle in force: built from the content in the binary and a folder of the user's, signed with the
//! manager's key, numbered, kept on disk.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use ed25519_dalek::SigningKey;
use sakimori_content::bundle::{self, Draft};
use sakimori_content::files::{self, Files};
use sakimori_content::store::BundleStore;
use sakimori_runtime::Clock;
use tracing::info;

use crate::shared::{Command, Release, Shared};

/// Makes the bundle of a start: the former one where the content is unchanged, else the next number; `at_least` this
/// one, where agents may have had later ones from before a restore.
///
/// # Errors
/// Content that cannot be read, or a state folder that cannot be written.
pub fn prepare(
    state: &Path,
    content_dir: Option<&Path>,
    at_least: u64,
    key: &SigningKey,
    clock: &dyn Clock,
) -> Result<(Release, Files), String> {
    let mut wanted = files::builtin();
    if let Some(dir) = content_dir {
        wanted.extend(files::read_dir(dir).map_err(|error| error.to_string())?);
    }
    let store = BundleStore::open(&state.join("bundles"), key.verifying_key()).map_err(|error| error.to_string())?;
    if let (Some(current), Ok(Some(bytes))) = (store.current(), store.current_bytes())
        && current.number >= at_least
        && files::digest(&current.files) == files::digest(&wanted)
    {
        return Ok((Release { number: current.number, bytes: Arc::new(bytes) }, wanted));
    }
    let number = (store.number() + 1).max(at_least);
    let draft = Draft { created: Some(clock.now()), ..Draft::from(number) };
    let bytes = bundle::build(&wanted, draft, key).map_err(|error| error.to_string())?;
    store.install(&bytes, |_| Ok(())).map_err(|error| error.to_string())?;
    info!(number, "rule bundle built");
    Ok((Release { number, bytes: Arc::new(bytes) }, wanted))
}

/// Takes a bundle that was built elsewhere with the same key: verified, newer, loadable. It reaches the agents
/// and the manager's own rules at once.
///
/// # Errors
/// Why it is refused; the former one stays.
pub fn install(shared: &Shared, bytes: Vec<u8>) -> Result<u64, String> {
    let dir = shared.config.state_dir.join("bundles");
    let _one_at_a_time = shared.exchange.lock().unwrap_or_else(PoisonError::into_inner);
    let store = BundleStore::open(&dir, shared.bundle_key).map_err(|error| error.to_string())?;
    let mut number = 0;
    store
        .install(&bytes, |bundle| {
            number = bundle.number;
            let errors = crate::fold::Fold::load(&bundle.files, bundle.number).errors().to_vec();
            if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
        })
        .map_err(|error| error.to_string())?;
    shared.bundle.store(Arc::new(Release { number, bytes: Arc::new(bytes) }));
    shared.rules.send_replace(number);
    shared.links.tell_all(&Command::Bundle);
    Ok(number)
}
