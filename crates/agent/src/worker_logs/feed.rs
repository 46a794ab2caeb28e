//! One input in the worker: its files or its pipe, and where its stream stands.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use sakimori_model::policy::LogInput;
use sakimori_wire::batch::Loss;
use sakimori_wire::ipc::{FilePosition, InputCounters, Position};

use super::tail::{Found, Line, MAX_LINES, Splitter, Tail};

/// Most files of one input that are read at a time: the current one and those rotated away.
const MAX_FILES: usize = 68;
/// A file that was rotated away is watched for late lines while no more than this many are.
const LATE_FILES: usize = 4;
/// A trickle of lines is gathered for this long, so that a batch is worth its cost.
const LINGER: Duration = Duration::from_millis(5);
/// A batch of fewer lines is a trickle.
const TRICKLE: usize = 64;

/// Where lines come from.
pub enum Origin {
    /// Files, the oldest first.
    Files(VecDeque<Tail>),
    /// The read end of a pipe with journal entries.
    Pipe(Pipe),
}

/// A pipe of JSON lines.
pub struct Pipe {
    file: File,
    splitter: Splitter,
    read: u64,
    /// Cursor of the last entry that was handed out.
    cursor: Option<String>,
    /// The other end closed.
    pub ended: bool,
}

/// An input that is open.
pub struct Feed {
    /// As the policy says.
    pub input: LogInput,
    /// Where its lines come from.
    pub origin: Origin,
    /// Next sequence of its stream.
    pub sequence: u64,
    /// Next event of its stream.
    pub event: u64,
    /// To be told in the next batch.
    pub losses: Vec<Loss>,
    /// A file was cut; nothing is read until the supervisor opens it anew.
    pub held: bool,
    /// There may be something to read.
    pub ready: bool,
    /// Not read before this moment.
    pub not_before: Instant,
    /// End of what was there before the input was read for the first time, in its first file.
    pub history: u64,
    /// Figures.
    pub counters: InputCounters,
}

/// What one read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Something; there may be more.
    More,
    /// All that there is.
    End,
    /// A file was cut.
    Cut,
}

impl Feed {
    /// An input as it was opened.
    pub fn new(input: LogInput, sequence: u64, event: u64, losses: Vec<Loss>) -> Self {
        let counters = InputCounters { name: input.name.clone(), ..InputCounters::default() };
        Self {
            input,
            origin: Origin::Files(VecDeque::new()),
            sequence,
            event,
            losses,
            held: false,
            ready: true,
            not_before: Instant::now(),
            history: 0,
            counters,
        }
    }

    /// Takes files: in the place of those it has, or after them. One that it has already is left out.
    pub fn take_files(&mut self, files: Vec<(File, FilePosition)>, replace: bool, fresh: bool) {
        let now = Instant::now();
        if replace {
            self.history = 0;
            if fresh && let Some((file, _)) = files.first() {
                self.history = super::tail::size_of(file).unwrap_or(0);
            }
        }
        let mut tails = match (&mut self.origin, replace) {
            (Origin::Files(tails), false) => std::mem::take(tails),
            _ => VecDeque::new(),
        };
        for (file, position) in files {
            if tails.len() < MAX_FILES && !tails.iter().any(|tail| tail.identity() == position.file) {
                tails.push_back(Tail::new(file, position, now));
            }
        }
        self.origin = Origin::Files(tails);
        self.held = false;
        self.ready = true;
    }

    /// Takes a pipe.
    pub fn take_pipe(&mut self, pipe: OwnedFd) {
        let cursor = match &self.origin {
            Origin::Pipe(old) => old.cursor.clone(),
            Origin::Files(_) => None,
        };
        // Read until nothing is there, which must not wait.
        if let Ok(flags) = rustix::fs::fcntl_getfl(&pipe) {
            let _ = rustix::fs::fcntl_setfl(&pipe, flags | rustix::fs::OFlags::NONBLOCK);
        }
        self.origin =
            Origin::Pipe(Pipe { file: File::from(pipe), splitter: Splitter::default(), read: 0, cursor, ended: false });
        self.ready = true;
    }

    /// May it be read now?
    pub fn is_due(&self, now: Instant) -> bool {
        self.ready && !self.held && self.not_before <= now
    }

    /// Reads at most one batch's worth of lines.
    ///
    /// # Errors
    /// Where the file or pipe cannot be read.
    pub fn read(&mut self, buffer: &mut [u8], mut each: impl FnMut(Line<'_>)) -> std::io::Result<Step> {
        let now = Instant::now();
        match &mut self.origin {
            Origin::Pipe(pipe) => {
                let got = match pipe.file.read(buffer) {
                    Ok(0) => {
                        pipe.ended = true;
                        self.ready = false;
                        return Ok(Step::End);
                    }
                    Ok(got) => got,
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        self.ready = false;
                        return Ok(Step::End);
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(Step::More),
                    Err(error) => return Err(error),
                };
                // Every line of a chunk is handed out: what was read from a pipe cannot be read again.
                pipe.splitter.feed(buffer.get(..got).unwrap_or_default(), pipe.read, usize::MAX, each);
                pipe.read += got as u64;
                Ok(Step::More)
            }
            Origin::Files(tails) => {
                let count = tails.len();
                for (at, tail) in tails.iter_mut().enumerate() {
                    let mut lines = 0;
                    loop {
                        let found = tail.read(buffer, MAX_LINES, now, |line| {
                            lines += 1;
                            each(line);
                        })?;
                        match found {
                            Found::Cut if at + 1 == count => return Ok(Step::Cut),
                            // A file that was rotated away and then cut is done with.
                            Found::Cut | Found::End => break,
                            Found::More if lines > 0 => return Ok(Step::More),
                            Found::More => {}
                        }
                    }
                }
                while tails.len() > 1 && tails.front().is_some_and(|tail| tail.is_done(now, count > LATE_FILES)) {
                    if let Some(mut tail) = tails.pop_front()
                        && let Some((bytes, dropped)) = tail.finish()
                    {
                        each(Line { bytes: &bytes, offset: 0, dropped });
                        return Ok(Step::More);
                    }
                }
                self.ready = false;
                Ok(Step::End)
            }
        }
    }

    /// A batch of this many lines was made.
    pub fn made(&mut self, lines: usize, now: Instant) {
        if lines < TRICKLE {
            self.not_before = now + LINGER;
        }
    }

    /// Notes the cursor of a journal entry that was handed out.
    pub fn at_cursor(&mut self, cursor: &str) {
        if let Origin::Pipe(pipe) = &mut self.origin {
            pipe.cursor = Some(cursor.to_owned());
        }
    }

    /// Where it goes on after what was handed out.
    pub fn position(&mut self) -> Option<Position> {
        match &mut self.origin {
            Origin::Files(_) => Some(Position::Files(self.files())),
            Origin::Pipe(pipe) => pipe.cursor.clone().map(|cursor| Position::Journal { cursor }),
        }
    }

    /// Where it stands in its files.
    pub fn files(&mut self) -> Vec<FilePosition> {
        match &mut self.origin {
            Origin::Files(tails) => tails.iter_mut().map(Tail::position).collect(),
            Origin::Pipe(_) => Vec::new(),
        }
    }

    /// The pipe, for poll.
    pub fn pipe(&self) -> Option<&File> {
        match &self.origin {
            Origin::Pipe(pipe) if !pipe.ended => Some(&pipe.file),
            _ => None,
        }
    }
}
