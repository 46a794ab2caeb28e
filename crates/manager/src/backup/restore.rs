//! A backup back into an empty place.
//!
//! Everything is unpacked beside the state folder, compared with the manifest, made durable, and then renamed to its
//! place: a restore that fails or is cut off leaves no state folder. Its secrets must open before that, by the keys that
//! this installation has or that were given; keys that were given are kept where the configuration wants them. A lake in a bucket gets its data files at once and
//! its log last, so nobody finds a table there before it is whole; control state on a server is one transaction. The
//! start after it settles what the backup left open, as it does after a crash ([`crate::recover`]).
//!
//! Since a backup is the same wherever state and lake were, this is also how an installation moves from a file to a
//! server, and from a disk to a bucket.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sakimori_journal::{Journal, MAX_RECORD, Options};
use sakimori_runtime::Clock;
use sakimori_store::control::{ALL_TENANTS, Control, audit, flushes, policies, tenants};
use sakimori_store::lake::TableWriter;
use tokio::runtime::Handle;

use super::archive::{header, read};
use super::collect::CONFIG;
use super::keys::Keys;
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
    /// The key file that the manager will open its secrets with.
    pub seal_key: PathBuf,
}

/// Restores an archive into the places that a configuration names, all of which must be empty. `key` is a file with the
/// keys that sealed it, where this installation has others or none. It blocks, outside of `runtime`.
///
/// # Errors
/// A place that is taken, an archive that is not whole, a disk that says no; then everything is as before.
pub fn restore(
    archive: &Path,
    config: &Config,
    key: Option<&Path>,
    clock: &dyn Clock,
    runtime: &Handle,
) -> Result<Restored, BackupError> {
    let keys = Keys::find(config, key, &header(archive)?)?;
    let state = io("find", &config.state_dir, std::path::absolute(&config.state_dir))?;
    vacant(&state)?;
    let mut bucket = runtime.block_on(vacant_elsewhere(config))?;
    let new = PathBuf::from(format!("{}{UNDER_WAY}", state.display()));
    if new.exists() {
        let left = format!("{} is left of a restore that was cut off", new.display());
        return Err(BackupError::Occupied(left, "delete it and restore again"));
    }
    if let Some(parent) = state.parent() {
        io("make", parent, fs::create_dir_all(parent))?;
    }
    io("make", &new, fs::DirBuilder::new().mode(0o700).create(&new))?;
    let outcome = unpack(archive, &new, &keys, bucket.as_mut(), runtime).and_then(|manifest| {
        keys.settle(&new)?;
        runtime.block_on(settle(&new, &manifest, clock))?;
        if let Some(bucket) = &mut bucket {
            upload_log(&new.join(LAKE), bucket, runtime)?;
        }
        // Before there is anything that needs it; one that is left of a restore that fails after this does no harm.
        keys.keep()?;
        if config.store.url.is_some() {
            runtime.block_on(take_over(config, &new.join(CONTROL)))?;
        }
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
        if let Some(bucket) = bucket {
            runtime.block_on(bucket.give_up());
        }
    }
    let manifest = outcome?;
    let aside = |name: &str| Some(state.join(ASIDE).join(name)).filter(|path| path.exists());
    Ok(Restored {
        manifest,
        content: aside("content"),
        config: aside("manager.toml"),
        state: state.clone(),
        seal_key: keys.file().to_owned(),
    })
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

/// Are server and bucket empty, where the configuration names them?
async fn vacant_elsewhere(config: &Config) -> Result<Option<TableWriter>, BackupError> {
    if config.store.url.is_some() {
        let control = Control::open(&config.control_url()).await?;
        let empty = control.is_empty().await?;
        control.close().await;
        if !empty {
            let taken = "the database of store.url holds an installation".to_owned();
            return Err(BackupError::Occupied(taken, "name an empty database"));
        }
    }
    let Some(options) = config.lake_options().bucket else { return Ok(None) };
    let writer = TableWriter::open(&options)?;
    if !writer.vacant().await? {
        let taken = format!("{} is not empty", options.url);
        return Err(BackupError::Occupied(taken, "name another prefix in lake.url"));
    }
    Ok(Some(writer))
}

/// What of a table makes it one: without it the data files are objects that nobody names.
fn is_log(name: &str) -> bool {
    name.starts_with("_delta_log/")
}

/// Puts the log, which lies in a folder until all else is there and compared, in the order of its versions.
fn upload_log(dir: &Path, bucket: &mut TableWriter, runtime: &Handle) -> Result<(), BackupError> {
    let log = dir.join("_delta_log");
    let entries = io("read", &log, fs::read_dir(&log))?;
    let mut names: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    names.sort();
    for path in names {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = io("read", &path, fs::read(&path))?;
        runtime.block_on(bucket.put(&format!("_delta_log/{name}"), bytes))?;
    }
    io("delete", dir, fs::remove_dir_all(dir))
}

/// Rows to the server; the file has done its work then.
async fn take_over(config: &Config, file: &Path) -> Result<(), BackupError> {
    let control = Control::open(&config.control_url()).await?;
    control.take_over(file).await?;
    control.close().await;
    io("delete", file, fs::remove_file(file))
}

/// Writes every entry to its place below `new`, data of the lake to the bucket where there is one.
fn unpack(
    archive: &Path,
    new: &Path,
    keys: &Keys,
    mut bucket: Option<&mut TableWriter>,
    runtime: &Handle,
) -> Result<Manifest, BackupError> {
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
            ("state", _) if super::folders::is_of_state(rest) => file(new, rest, mode, content),
            _ if name == CONFIG => {
                let text = keys.opened(name, content)?;
                file(&new.join(ASIDE), "manager.toml", 0o600, &mut text.expose().as_slice())
            }
            ("content", _) | ("config", "manager.toml") if !rest.is_empty() => {
                let name = if top == "config" { rest.to_owned() } else { name.to_owned() };
                file(&new.join(ASIDE), &name, mode, content)
            }
            (LAKE, _) if !rest.is_empty() => match &mut bucket {
                Some(bucket) if !is_log(rest) => {
                    let mut bytes = Vec::new();
                    io("read", archive, content.read_to_end(&mut bytes))?;
                    Ok(runtime.block_on(bucket.put(rest, bytes))?)
                }
                _ => file(new, name, 0o600, content),
            },
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
