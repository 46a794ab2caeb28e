//! What a backup holds, gathered so that it is one moment.
//!
//! Of a running manager, in this order:
//!
//! 1. The journal is kept whole ([`Keep`]): a flush that is written meanwhile lets nothing of it go.
//! 2. The table is held at the version that it has now, with its flush F. Nothing of it is deleted meanwhile.
//! 3. The ingest task stands still between two batches ([`stand_still`]) while control state is copied; where the
//!    journal ends then is where the backup's journal ends. So control state knows of no batch that the backup lacks,
//!    and the journal holds no event of a change that control state lacks.
//! 4. Journal records after F's last one are written, and the journal may let go again; then all other files.
//!
//! Control state may know of flushes after F: a start gives them up, as it does after a crash, and their events are in
//! the journal's records. Of a stopped manager all of it is read as it lies.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt as _;
use futures::stream::BoxStream;
use sakimori_journal::{Journal, Options};
use sakimori_model::Timestamp;
use sakimori_runtime::sealing::Ring;
use sakimori_runtime::{Clock, Secret};
use sakimori_store::control::{Control, flushes};
use sakimori_store::lake::{Lake, LakeError, TableCopy};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::archive::Writer;
use super::folders::{MOST_FILE, add_file, is_of_state, walk};
use super::{BackupError, CONTROL, FORMAT, Header, JOURNAL, LAKE, Manifest, io};
use crate::WRITER;
use crate::config::Config;
use crate::sealing::{Sealing, in_backup};
use crate::shared::Shared;

/// Bytes of the journal that are one entry.
const PORTION: usize = 8 << 20;
/// The configuration, sealed.
pub(super) const CONFIG: &str = "config/manager.toml.sealed";
/// How copies of control state are called until they are in the archive.
const DRAFT: &str = "backup-";
/// Room that must be left when control state has been copied.
const ROOM: u64 = 64 << 20;

/// The journal's first record that a backup still needs; [`u64::MAX`] where none is made.
#[derive(Debug)]
pub struct Keep(Arc<AtomicU64>);

impl Keep {
    fn from(mark: &Arc<AtomicU64>, record: u64) -> Self {
        mark.store(record, Ordering::SeqCst);
        Self(Arc::clone(mark))
    }
}

impl Drop for Keep {
    fn drop(&mut self) {
        self.0.store(u64::MAX, Ordering::SeqCst);
    }
}

/// Asks the ingest task to stand still.
pub struct StandStill {
    file: PathBuf,
    reply: oneshot::Sender<Result<(Arc<Journal>, u64), BackupError>>,
}

/// A file that goes with its owner.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// All that a backup is made of.
pub struct Source {
    created: Timestamp,
    control: Draft,
    journal: Arc<Journal>,
    position: u64,
    end: u64,
    table: TableCopy,
    keep: Option<Keep>,
    state: PathBuf,
    content: Option<PathBuf>,
    config: Option<PathBuf>,
    ring: Arc<Ring>,
}

/// Gathers it of a running manager.
///
/// # Errors
/// Too little room for a copy of control state, or what control state, lake or journal say.
pub async fn of_running(shared: &Shared) -> Result<Source, BackupError> {
    let state = &shared.config.state_dir;
    let keep = Keep::from(&shared.journal_kept, 0);
    let table = shared.lake.table_copy().await?;
    // What a server holds is not known; a copy that finds no room is an error then.
    let needed = fs::metadata(state.join(CONTROL)).map_or(0, |data| data.len()) + ROOM;
    let free = shared.lake.status()?.disk_free;
    if free < needed {
        let (needed, free) = (needed >> 20, free >> 20);
        return Err(BackupError::Source(format!(
            "{needed} MiB are needed below {} for a copy of the control database and {free} are free; free some",
            state.display()
        )));
    }
    let control = draft(state);
    let (reply, answer) = oneshot::channel();
    let ask = StandStill { file: control.0.clone(), reply };
    let stopping = || BackupError::Source("the manager is stopping; start it, or back it up when it has ended".into());
    shared.stand_still.send(ask).await.map_err(|_| stopping())?;
    let (journal, end) = answer.await.map_err(|_| stopping())??;
    let position = position(&shared.control, &table).await?;
    Ok(Source {
        created: shared.clock.now(),
        control,
        journal,
        position,
        end,
        table,
        keep: Some(keep),
        state: state.clone(),
        content: shared.config.content_dir.clone(),
        config: shared.config.file.clone(),
        ring: shared.sealing.ring(),
    })
}

/// The ingest task's part: nothing is appended to the journal and nothing is folded while this runs.
pub async fn stand_still(control: &Control, journal: &Arc<Journal>, ask: StandStill) {
    let copied = control.snapshot(&ask.file).await;
    // All that was appended is synced before its senders are answered.
    let found = copied.map(|()| (Arc::clone(journal), journal.durable())).map_err(BackupError::from);
    // One that has gone away needs no answer.
    let _ = ask.reply.send(found);
}

/// Gathers it of a manager that does not run.
///
/// # Errors
/// [`sakimori_journal::Error::Busy`] where it does run; what control state, lake or journal say.
pub async fn of_stopped(config: &Config, clock: &dyn Clock) -> Result<Source, BackupError> {
    let state = &config.state_dir;
    if !state.join(JOURNAL).is_dir() {
        return Err(BackupError::Source(format!(
            "{} is no state folder of a manager; name its configuration with --config",
            state.display()
        )));
    }
    let options = Options { max_bytes: config.lake.journal_bytes, compress: false, ..Options::default() };
    let (journal, _) = Journal::open(state.join(JOURNAL), options)?;
    remove_drafts(state);
    let lake = Lake::open(config.lake_options()).await?;
    let control = Control::open(&config.control_url()).await?;
    // What an older version left in plain does not go into a backup.
    let sealing = Sealing::open(config, &control).await?;
    let draft = draft(state);
    control.snapshot(&draft.0).await?;
    let table = lake.table_copy().await?;
    let position = position(&control, &table).await?;
    control.close().await;
    let end = journal.durable();
    Ok(Source {
        created: clock.now(),
        control: draft,
        journal: Arc::new(journal),
        position,
        end,
        table,
        keep: None,
        state: state.clone(),
        content: config.content_dir.clone(),
        config: config.file.clone(),
        ring: sealing.ring(),
    })
}

/// Deletes copies of control state that a crash left.
pub fn remove_drafts(state: &Path) {
    for entry in fs::read_dir(state).into_iter().flatten().flatten() {
        if is_draft(&entry.file_name().to_string_lossy()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn draft(state: &Path) -> Draft {
    Draft(state.join(format!("{DRAFT}{}.db", uuid::Uuid::now_v7().simple())))
}

pub(super) fn is_draft(name: &str) -> bool {
    name.starts_with(DRAFT) && name.ends_with(".db")
}

/// Last journal record that the table's last flush holds.
async fn position(control: &Control, table: &TableCopy) -> Result<u64, BackupError> {
    if table.flush == 0 {
        return Ok(0);
    }
    let flush = flushes::flush(control.read(), WRITER, table.flush.cast_signed()).await?;
    flush.map(|flush| flush.position.cast_unsigned()).ok_or_else(|| {
        BackupError::Source(format!(
            "the lake's table has flush {} and control state does not know it; do both belong to this manager?",
            table.flush
        ))
    })
}

/// Writes the archive. It blocks, on a thread that is for that and outside of `runtime`.
///
/// # Errors
/// A file that cannot be read, or `out`'s.
pub fn write(source: Source, out: impl Write, runtime: &Handle) -> Result<Manifest, BackupError> {
    let Source { created, control, journal, position, end, table, keep, state, content, config, ring } = source;
    let sealed_by = ring.newest().to_string();
    let header = Header { format: FORMAT, version: env!("CARGO_PKG_VERSION").into(), created, sealed_by };
    let place = Path::new("the archive");
    let mut archive = io("write", place, Writer::begin(out, header.clone()))?;
    add_file(&mut archive, CONTROL, &control.0, u64::MAX)?;
    drop(control);
    let records = add_journal(&mut archive, &journal, position + 1, end)?;
    drop(keep);
    for (name, path) in walk(&state, &is_of_state)? {
        add_file(&mut archive, &format!("state/{name}"), &path, MOST_FILE)?;
    }
    if let Some(dir) = content.filter(|dir| dir.is_dir()) {
        for (name, path) in walk(&dir, &|_| true)? {
            add_file(&mut archive, &format!("content/{name}"), &path, MOST_FILE)?;
        }
    }
    if let Some(path) = config.filter(|path| path.is_file()) {
        let text = Secret::new(io("read", &path, fs::read(&path))?);
        let sealed = ring.seal(in_backup(CONFIG), text.expose()).map_err(crate::sealing::Error::from)?;
        io("write", place, archive.add(CONFIG, 0o600, sealed.len() as u64, sealed.as_bytes()))?;
    }
    for file in table.data.iter().chain(&table.log) {
        let stream = runtime.block_on(table.read(&file.name))?;
        let bytes = Pieces { stream, rest: bytes::Bytes::new(), runtime };
        io("write", place, archive.add(&format!("{LAKE}/{}", file.name), 0o600, file.size, bytes))?;
    }
    let (table_version, flush) = (table.version, table.flush);
    let manifest = Manifest { header, table_version, flush, position, records, files: Vec::new() };
    let mut out = io("write", place, archive.finish(manifest.clone()))?;
    io("write", place, out.flush())?;
    Ok(manifest)
}

/// Journal records of this range, in portions; gives how many.
fn add_journal<W: Write>(archive: &mut Writer<W>, journal: &Journal, from: u64, end: u64) -> Result<u64, BackupError> {
    let mut reader = journal.reader();
    let (mut next, mut count) = (from, 0);
    while next < end {
        let portion = reader.read(next, PORTION)?;
        let Some((first, _)) = portion.first() else { break };
        if *first != next {
            return Err(BackupError::Source(format!("journal record {next} is gone; try again")));
        }
        let mut bytes = Vec::new();
        for (_, record) in portion.iter().filter(|(number, _)| *number < end) {
            bytes.extend(u32::try_from(record.len()).unwrap_or(u32::MAX).to_le_bytes());
            bytes.extend(record);
            next += 1;
            count += 1;
        }
        let name = format!("{JOURNAL}/{first:020}");
        io("write", Path::new(&name), archive.add(&name, 0o600, bytes.len() as u64, bytes.as_slice()))?;
    }
    Ok(count)
}

/// A stream of bytes for who reads.
struct Pieces<'a> {
    stream: BoxStream<'static, Result<bytes::Bytes, LakeError>>,
    rest: bytes::Bytes,
    runtime: &'a Handle,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.runtime.block_on(self.stream.next()) {
                None => return Ok(0),
                Some(piece) => self.rest = piece.map_err(io::Error::other)?,
            }
        }
        let piece = self.rest.split_to(self.rest.len().min(buffer.len()));
        if let Some(room) = buffer.get_mut(..piece.len()) {
            room.copy_from_slice(&piece);
        }
        Ok(piece.len())
    }
}
