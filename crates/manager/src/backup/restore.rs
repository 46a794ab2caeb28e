//! A backup back into an empty place.
//!
//! Everything is unpacked beside the state folder, compared with the manifest, made durable, and then renamed to its
//! place: a restore that fails or is cut off leaves no state folder. The start after it settles what the backup left
//! open, as it does after a crash ([`crate::recover`]).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sakimori_journal::{Journal, MAX_RECORD, Options};
use sakimori_runtime::Clock;
use sakimori_store::control::{ALL_TENANTS, Control, audit, flushes, policies, tenants};
use tokio::runtime::Handle;

use super::archive::read;
use super::since::{self, Since};
use super::{BackupError, CONTROL, JOURNAL, LAKE, Manifest, io};
use crate::WRITER;
use crate::config::Config;

/// Folder below the state folder for what has its place elsewhere: the user's content and configuration.
pub const ASIDE: &str = "restored";
/// What is appended to the state folder's name while a restore is under way.
const UNDER_WAY: &str = ".restoring";

/// What a restore did.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The backup.
    pub manifest: Manifest,
    /// Where it is now.
    pub state: PathBuf,
    /// The user's content, where the backup had some.
    pub content: Option<PathBuf>,
    /// The configuration of the manager that was backed up, where it had a file.
    pub config: Option<PathBuf>,
}

/// Restores an archive into the places that a configuration names, all of which must be empty. It blocks, outside of
/// `runtime`.
///
/// # Errors
/// A place that is taken, an archive that is not whole, a disk that says no; then everything is as before.
pub fn restore(archive: &Path, config: &Config, clock: &dyn Clock, runtime: &Handle) -> Result<Restored, BackupError> {
    let state = io("find", &config.state_dir, std::path::absolute(&config.state_dir))?;
    vacant(&state)?;
    let new = PathBuf::from(format!("{}{UNDER_WAY}", state.display()));
    if new.exists() {
        let left = format!("{} is left of a restore that was cut off", new.display());
        return Err(BackupError::Occupied(left, "delete it and restore again"));
    }
    if let Some(parent) = state.parent() {
        io("make", parent, fs::create_dir_all(parent))?;
    }
    io("make", &new, fs::DirBuilder::new().mode(0o700).create(&new))?;
    let outcome = unpack(archive, &new).and_then(|manifest| {
        runtime.block_on(settle(&new, &manifest, clock))?;
        // One call for all that was written.
        io("make durable", &new, File::open(&new).and_then(|dir| Ok(rustix::fs::syncfs(dir)?)))?;
        if state.exists() {
            io("replace", &state, fs::remove_dir(&state))?;
        }
        io("rename", &new, fs::rename(&new, &state))?;
        if let Some(parent) = state.parent() {
            io("make durable", parent, File::open(parent).and_then(|dir| dir.sync_all()))?;
        }
        Ok(manifest)
    });
    if outcome.is_err() {
        // This restore made it.
        let _ = fs::remove_dir_all(&new);
    }
    let manifest = outcome?;
    let aside = |name: &str| Some(state.join(ASIDE).join(name)).filter(|path| path.exists());
    Ok(Restored { manifest, content: aside("content"), config: aside("manager.toml"), state: state.clone() })
}

fn vacant(state: &Path) -> Result<(), BackupError> {
    let taken = match fs::read_dir(state) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return io("read", state, Err(error)),
    };
    if !taken {
        return Ok(());
    }
    let taken = format!("{} is not empty", state.display());
    Err(BackupError::Occupied(taken, "stop the manager and move that folder away, or name another state_dir"))
}

/// Writes every entry to its place below `new`.
fn unpack(archive: &Path, new: &Path) -> Result<Manifest, BackupError> {
    let mut journal: Option<Journal> = None;
    let (mut records, mut first_record) = (0, None);
    let manifest = read(archive, |(name, mode, content)| {
        let refused = || BackupError::Archive(format!("{name} has no place in a state folder"));
        let (top, rest) = name.split_once('/').unwrap_or((name, ""));
        match (top, rest) {
            (CONTROL, "") => file(new, CONTROL, 0o600, content),
            (JOURNAL, number) => {
                let first: u64 = number.parse().map_err(|_| refused())?;
                let kept = match &journal {
                    Some(kept) => kept,
                    None => {
                        first_record = Some(first);
                        let options = Options { max_bytes: u64::MAX, compress: false, ..Options::default() };
                        journal.insert(Journal::create_at(new.join(JOURNAL), first, options)?)
                    }
                };
                if kept.next() != first {
                    return Err(BackupError::Archive(format!("journal record {} is missing", kept.next())));
                }
                records += append(kept, content)?;
                Ok(())
            }
            ("state", _) if super::collect::is_of_state(rest) => file(new, rest, mode, content),
            ("content", _) | ("config", "manager.toml") if !rest.is_empty() => {
                let name = if top == "config" { rest.to_owned() } else { name.to_owned() };
                file(&new.join(ASIDE), &name, mode, content)
            }
            (LAKE, _) if !rest.is_empty() => file(new, name, 0o600, content),
            _ if top == "sakimori-backup.json" => Ok(()),
            _ => Err(refused()),
        }
    })?;
    if records != manifest.records || first_record.is_some_and(|first| first != manifest.position + 1) {
        return Err(BackupError::Archive("its journal does not follow its table".into()));
    }
    match journal {
        Some(journal) => journal.sync()?,
        // The next record must follow the ones that the table holds.
        None => drop(Journal::create_at(new.join(JOURNAL), manifest.position + 1, Options::default())?),
    }
    Ok(manifest)
}

fn file(root: &Path, name: &str, mode: u32, content: &mut dyn Read) -> Result<(), BackupError> {
    let path = root.join(name);
    if let Some(folder) = path.parent() {
        io("make", folder, fs::DirBuilder::new().recursive(true).mode(0o700).create(folder))?;
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
    let mut file = io("create", &path, file)?;
    io("write", &path, io::copy(content, &mut file)).map(drop)
}

/// Records of one entry; gives how many.
fn append(journal: &Journal, content: &mut dyn Read) -> Result<u64, BackupError> {
    let cut = |_| BackupError::Archive("a journal record is cut off".into());
    let (mut count, mut length) = (0, [0; 4]);
    loop {
        match content.read(&mut length[..1]) {
            Ok(0) => return Ok(count),
            Ok(_) => {}
            Err(error) => return Err(cut(error)),
        }
        content.read_exact(&mut length[1..]).map_err(cut)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_RECORD {
            return Err(BackupError::Archive(format!("a journal record has {length} bytes")));
        }
        let mut record = vec![0; length];
        content.read_exact(&mut record).map_err(cut)?;
        journal.append(&record)?;
        count += 1;
    }
}

/// Looks whether control state and table belong together, and lets the numbers that agents know go on above all that
/// the former manager may have told them since.
async fn settle(new: &Path, manifest: &Manifest, clock: &dyn Clock) -> Result<(), BackupError> {
    let now = clock.now();
    let control = Control::open(&format!("sqlite:{}", new.join(CONTROL).display())).await?;
    if manifest.flush > 0 {
        let flush = flushes::flush(control.read(), WRITER, manifest.flush.cast_signed()).await?;
        if flush.is_none_or(|flush| flush.position.cast_unsigned() != manifest.position) {
            return Err(BackupError::Archive("its control state does not know its table".into()));
        }
    }
    let mut change = control.begin().await?;
    for tenant in tenants::list(control.read(), "", i64::MAX).await? {
        policies::step(change.connection(), &tenant.id, since::STEP.cast_signed(), now).await?;
    }
    let target = manifest.header.created.to_string();
    let entry = audit::Entry {
        tenant: ALL_TENANTS,
        time: now,
        actor: "system",
        action: "backups:restore",
        target: &target,
        before: None,
        after: None,
        address: "",
        request: "",
    };
    change.audit(&entry).await?;
    change.commit().await?;
    control.close().await;
    let bundle = newest_bundle(&new.join("bundles")) + since::STEP;
    Since { backup: manifest.header.created, restored: now, bundle, streams: None }.save(new)
}

fn newest_bundle(dir: &Path) -> u64 {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    names.filter_map(|entry| entry.path().file_stem()?.to_str()?.parse().ok()).max().unwrap_or(0)
}
