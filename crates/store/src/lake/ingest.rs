//! Batches in, flushes out: the life of the segments and the one lock that a search pins them under.

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::arrow::array::RecordBatch;
use deltalake_core::DeltaTable;
use sakimori_model::Timestamp;

use super::engine::Engine;
use super::place::Place;
use super::segment::{GATHER, Segment};
use super::{Committed, FlushSet, LakeError, LakeOptions, LakeStatus, StampedBatch, rows, table};

/// The lake. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Lake {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub engine: Engine,
    pub options: LakeOptions,
    pub(super) dir: PathBuf,
    /// Where the table lies.
    pub(super) place: Place,
    state: Mutex<State>,
    /// One commit at a time.
    pub(super) committing: Arc<tokio::sync::Mutex<()>>,
    /// Held by those who read a version for long: nothing is deleted meanwhile.
    pub(super) readers: Arc<tokio::sync::RwLock<()>>,
    #[cfg(test)]
    pub crash_before_commit: std::sync::atomic::AtomicBool,
}

struct State {
    table: Arc<DeltaTable>,
    /// The writer's number in that version.
    committed: u64,
    /// Waiting for their commit, in order.
    sealed: VecDeque<Arc<Segment>>,
    active: Segment,
    /// Batches of all segments.
    batches: HashSet<String>,
}

/// What one search reads.
#[derive(Clone)]
pub(super) struct Pin {
    pub table: Arc<DeltaTable>,
    pub memory: Vec<RecordBatch>,
}

impl Lake {
    /// Opens the table in its directory or bucket, creating it where there is none.
    ///
    /// # Errors
    /// Where the directory cannot be used or its log cannot be read.
    pub async fn open(mut options: LakeOptions) -> Result<Self, LakeError> {
        // A flush joins a day's rows, and a column of text holds 2 GiB.
        options.max_memory = options.max_memory.min(1 << 30);
        std::fs::create_dir_all(&options.dir).map_err(LakeError::file("create", &options.dir))?;
        let dir = options.dir.canonicalize().map_err(LakeError::file("open", &options.dir))?;
        let engine = Engine::new(&options)?;
        let place = Place::open(&dir, options.bucket.as_ref())?;
        let (there, writer) = (place.clone(), options.writer.clone());
        let (table, committed) = engine
            .finish(async move {
                let table = table::open(&there).await?;
                let committed = table::committed(&table, &writer).await?;
                Ok((Arc::new(table), committed))
            })
            .await?;
        let state = State {
            table,
            committed,
            sealed: VecDeque::new(),
            active: Segment::new(committed + 1),
            batches: HashSet::new(),
        };
        let inner = Inner {
            engine,
            options,
            dir,
            place,
            state: Mutex::new(state),
            committing: Arc::default(),
            readers: Arc::default(),
            #[cfg(test)]
            crash_before_commit: std::sync::atomic::AtomicBool::new(false),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Takes a batch into memory, where searches see it at once. It blocks for some µs an event.
    ///
    /// # Errors
    /// `Repeated` where the batch is in memory already (whether the table has it, the caller knows by its claims);
    /// `Full` while too much waits for a flush.
    pub fn ingest(&self, batch: Arc<StampedBatch>) -> Result<(), LakeError> {
        {
            let state = self.state();
            if state.batches.contains(&batch.header.id) {
                return Err(LakeError::Repeated(batch.header.id.clone()));
            }
            let waiting = state.waiting_bytes();
            if waiting > self.inner.options.max_memory {
                return Err(LakeError::Full(waiting));
            }
        }
        let large = batch.events.len() >= GATHER;
        let columns = large.then(|| rows::encode(std::slice::from_ref(&batch))).transpose()?;
        let mut state = self.state();
        if !state.batches.insert(batch.header.id.clone()) {
            return Err(LakeError::Repeated(batch.header.id.clone()));
        }
        let added = state.active.add(&batch, columns);
        if added.is_err() {
            state.batches.remove(&batch.header.id);
        }
        Ok(added?)
    }

    /// Is the batch in memory, not yet in the table?
    pub fn holds(&self, batch: &str) -> bool {
        self.state().batches.contains(batch)
    }

    /// Is a flush due, by size or age, or does a sealed one wait?
    pub fn due(&self, now: Timestamp) -> bool {
        let state = self.state();
        let aged = |oldest| now.since(oldest) >= self.inner.options.flush_seconds.saturating_mul(1_000_000);
        !state.sealed.is_empty()
            || state.active.bytes >= self.inner.options.flush_bytes
            || state.active.oldest.is_some_and(aged)
    }

    /// Closes the active segment as the next flush and says what it holds; what arrives from now on belongs to the
    /// one after it. `None` where nothing waits.
    ///
    /// # Errors
    /// Where columns cannot be made of it; then nothing is sealed.
    pub fn seal(&self) -> Result<Option<FlushSet>, LakeError> {
        let mut state = self.state();
        if state.active.is_empty() {
            return Ok(None);
        }
        state.active.settle_all()?;
        let next = Segment::new(state.active.flush + 1);
        let sealed = Arc::new(std::mem::replace(&mut state.active, next));
        let set = set_of(&sealed);
        state.sealed.push_back(sealed);
        Ok(Some(set))
    }

    /// The flushes that are sealed and wait for their commit, in order.
    pub fn sealed(&self) -> Vec<FlushSet> {
        self.state().sealed.iter().map(|segment| set_of(segment)).collect()
    }

    /// Writes and commits a sealed flush, durably. It goes on to its end even when the future is dropped. After an
    /// error the flush still waits and its events are still found; call it again.
    ///
    /// # Errors
    /// `NotNext` where an earlier one waits or none of that number does; those of disk and table.
    pub async fn commit(&self, number: u64) -> Result<Committed, LakeError> {
        let lake = self.clone();
        self.inner.engine.finish(async move { lake.commit_next(number).await }).await
    }

    /// Seals what waits and commits all that is sealed.
    ///
    /// # Errors
    /// The first commit's that fails.
    pub async fn flush(&self) -> Result<(), LakeError> {
        self.seal()?;
        for set in self.sealed() {
            match self.commit(set.number).await {
                // Another flush was quicker.
                Err(LakeError::NotNext(_)) if self.sealed().iter().all(|left| left.number != set.number) => {}
                other => {
                    other?;
                }
            }
        }
        Ok(())
    }

    /// The last flush of this writer that the table on disk has, asked anew: what open claims are settled by.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub async fn committed_flush(&self) -> Result<u64, LakeError> {
        let (table, writer) = (self.table(), self.inner.options.writer.clone());
        self.inner
            .engine
            .finish(async move {
                let mut table = DeltaTable::clone(&table);
                table.update_state().await.map_err(LakeError::table("read"))?;
                table::committed(&table, &writer).await
            })
            .await
    }

    /// Takes over what other writers have committed since; a commit of our own does so too.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub async fn refresh(&self) -> Result<(), LakeError> {
        let lake = self.clone();
        self.inner
            .engine
            .finish(async move {
                let _one = lake.inner.committing.lock().await;
                let mut table = DeltaTable::clone(&lake.table());
                table.update_state().await.map_err(LakeError::table("read"))?;
                let committed = table::committed(&table, &lake.inner.options.writer).await?;
                lake.replace(table, committed);
                Ok(())
            })
            .await
    }

    /// What waits, and what the disk has left.
    ///
    /// # Errors
    /// Where the disk cannot be asked.
    pub fn status(&self) -> Result<LakeStatus, LakeError> {
        let disk = rustix::fs::statvfs(&self.inner.dir)
            .map_err(|error| LakeError::file("ask the disk of", &self.inner.dir)(error.into()))?;
        let state = self.state();
        Ok(LakeStatus {
            waiting_events: state.segments().map(|segment| segment.events).sum(),
            waiting_bytes: state.waiting_bytes(),
            sealed: state.sealed.len(),
            version: state.table.version().unwrap_or(0),
            committed: state.committed,
            disk_free: disk.f_bavail.saturating_mul(disk.f_frsize),
            disk_size: disk.f_blocks.saturating_mul(disk.f_frsize),
        })
    }

    async fn commit_next(&self, number: u64) -> Result<Committed, LakeError> {
        let _one = self.inner.committing.lock().await;
        let segment = {
            let state = self.state();
            match state.sealed.front() {
                Some(segment) if segment.flush == number => Arc::clone(segment),
                _ if number <= state.committed => return Ok(Committed::Already),
                _ => return Err(LakeError::NotNext(number)),
            }
        };
        let inner = &self.inner;
        let mut table = DeltaTable::clone(&self.table());
        table.update_state().await.map_err(LakeError::table("read"))?;
        let writer = inner.options.writer.clone();
        let committed = table::committed(&table, &writer).await?;
        if committed >= number {
            inner.place.sync_log(&table).await?;
            self.replace(table, committed);
            return Ok(Committed::Already);
        }
        let adds = table::write_files(&inner.place, &writer, &segment).await?;
        #[cfg(test)]
        if inner.crash_before_commit.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(LakeError::Internal("crash".into()));
        }
        let table = table::commit(&table, &inner.options.writer, number, adds).await?;
        inner.place.sync_log(&table).await?;
        let version = table.version().unwrap_or(0);
        self.replace(table, number);
        Ok(Committed::Now { version })
    }

    /// The new version and the end of the segments that it holds, in one instant.
    pub(super) fn replace(&self, table: DeltaTable, committed: u64) {
        let mut state = self.state();
        state.table = Arc::new(table);
        state.committed = committed;
        while state.sealed.front().is_some_and(|segment| segment.flush <= committed) {
            if let Some(segment) = state.sealed.pop_front() {
                for batch in &segment.batches {
                    state.batches.remove(batch);
                }
            }
        }
    }

    pub(super) fn pin(&self, tenant: &str) -> Result<Pin, LakeError> {
        let mut state = self.state();
        state.active.settle(tenant)?;
        let memory = state
            .segments()
            .filter(|segment| segment.flush > state.committed)
            .flat_map(|segment| segment.of(tenant))
            .cloned()
            .collect();
        Ok(Pin { table: Arc::clone(&state.table), memory })
    }

    pub(super) fn table(&self) -> Arc<DeltaTable> {
        Arc::clone(&self.state().table)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds it can leave it half changed.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.sealed.iter().map(AsRef::as_ref).chain(std::iter::once(&self.active))
    }

    fn waiting_bytes(&self) -> usize {
        self.segments().map(|segment| segment.bytes).sum()
    }
}

fn set_of(segment: &Segment) -> FlushSet {
    FlushSet { number: segment.flush, batches: segment.batches.clone(), events: segment.events }
}
