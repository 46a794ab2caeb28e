//! Opens and executions of files, as the agent sees them: its end of the connection to the [keeper](crate::keeper).
//!
//! [`Opens`] is the connection, [`Answers`] its half that tells; [`guard`](crate::guard) answers what comes over it.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use sakimori_sys::channel::{Channel, Waited};

use crate::keeper::message::{COUNTS, FromKeeper, ToKeeper};
pub use crate::keeper::message::{Count, Question, Silence};

/// How long the keeper may take to answer a request of the agent's own.
const PATIENCE: Duration = Duration::from_secs(10);

/// A question that waits for an answer.
#[derive(Debug)]
pub struct Asked {
    /// Its number.
    pub id: u64,
    /// What about.
    pub question: Question,
    /// Which process.
    pub pid: i32,
    /// The file. Reading it raises no further questions.
    pub file: File,
}

/// What comes over the connection.
#[derive(Debug)]
pub enum Came {
    /// A question.
    Asked(Asked),
    /// Events about what was written were lost; every open is still asked for.
    Lost,
    /// The keeper is gone.
    Closed,
    /// Nothing within the time.
    Nothing,
}

/// The connection to the keeper.
#[derive(Debug)]
pub struct Opens {
    channel: Channel,
    /// What came while something else was awaited.
    early: VecDeque<Came>,
}

/// The half that tells, for several threads.
#[derive(Clone, Debug)]
pub struct Answers(Channel);

impl Opens {
    /// Connects to the keeper that listens there. From then on this process is answered without asking.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        Ok(Self { channel: Channel::new(OwnedFd::from(stream)), early: VecDeque::new() })
    }

    /// The half that tells.
    pub fn answers(&self) -> Answers {
        Answers(self.channel.clone())
    }

    /// Ends the keeper, and waits until it has ended: nobody is asked any more.
    ///
    /// # Errors
    /// It does not listen, or has not ended after this long.
    pub fn end(self, limit: Duration) -> io::Result<()> {
        self.tell(&ToKeeper::End, None)?;
        let until = Instant::now() + limit;
        loop {
            match self.channel.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Waited::Frame(_)) => {}
                Ok(Waited::TimedOut) => return Err(io::Error::new(io::ErrorKind::TimedOut, "the keeper does not end")),
                // One that ends reads no more of what is on its way.
                Ok(Waited::Closed) | Err(_) => return Ok(()),
            }
        }
    }

    /// What to do when nobody answers, also when this agent is gone.
    pub fn silence(&self, silence: Silence) -> io::Result<()> {
        self.tell(&ToKeeper::Silence(silence), None)
    }

    /// These processes are answered without asking, beside this one; until the connection ends.
    pub fn exempt(&self, pids: &[i32]) -> io::Result<()> {
        self.tell(&ToKeeper::Exempt(pids.to_vec()), None)
    }

    /// From now on the keeper asks for every file of this place's file system.
    ///
    /// # Errors
    /// The kernel refuses: no permission events, or not on this file system.
    pub fn mark(&mut self, place: &File) -> io::Result<()> {
        self.tell(&ToKeeper::Mark, Some(place))?;
        self.done()
    }

    /// It asks no more.
    ///
    /// # Errors
    /// It was not marked.
    pub fn unmark(&mut self, place: &File) -> io::Result<()> {
        self.tell(&ToKeeper::Unmark, Some(place))?;
        self.done()
    }

    /// The keeper's counts.
    ///
    /// # Errors
    /// The keeper is gone.
    pub fn numbers(&mut self) -> io::Result<Vec<(Count, u64)>> {
        self.tell(&ToKeeper::Numbers, None)?;
        let mut numbers = Vec::new();
        while numbers.len() < COUNTS.len() {
            if let Some(FromKeeper::Number(which, value)) = self.await_other()? {
                numbers.push((which, value));
            }
        }
        Ok(numbers)
    }

    /// The next question, waiting no longer than this.
    ///
    /// # Errors
    /// The keeper sends what no keeper sends.
    pub fn next(&mut self, limit: Duration) -> io::Result<Came> {
        if let Some(early) = self.early.pop_front() {
            return Ok(early);
        }
        Ok(match self.receive(limit)? {
            Ok(came) => came,
            // Nobody awaits it any more.
            Err(_) => Came::Nothing,
        })
    }

    fn tell(&self, message: &ToKeeper, file: Option<&File>) -> io::Result<()> {
        tell(&self.channel, message, file)
    }

    fn done(&mut self) -> io::Result<()> {
        loop {
            match self.await_other()? {
                Some(FromKeeper::Done(0)) => return Ok(()),
                Some(FromKeeper::Done(error)) => return Err(io::Error::from_raw_os_error(error)),
                _ => {}
            }
        }
    }

    /// The next message that is no question; questions wait for [`Opens::next`].
    fn await_other(&mut self) -> io::Result<Option<FromKeeper>> {
        match self.receive(PATIENCE)? {
            Err(other) => Ok(Some(other)),
            Ok(Came::Closed) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the keeper is gone")),
            Ok(Came::Nothing) => Err(io::Error::new(io::ErrorKind::TimedOut, "the keeper does not answer")),
            Ok(came) => {
                self.early.push_back(came);
                Ok(None)
            }
        }
    }

    fn receive(&self, limit: Duration) -> io::Result<Result<Came, FromKeeper>> {
        let strange = |text| io::Error::new(io::ErrorKind::InvalidData, text);
        let (body, files) = match self.channel.recv_timeout(limit) {
            Ok(Waited::Frame(frame)) => frame,
            Ok(Waited::TimedOut) => return Ok(Ok(Came::Nothing)),
            Ok(Waited::Closed) => return Ok(Ok(Came::Closed)),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(Ok(Came::Closed)),
            Err(error) => return Err(error),
        };
        match FromKeeper::decode(&body) {
            Some(FromKeeper::Ask { id, question, pid }) => {
                let file = files.into_iter().next().ok_or_else(|| strange("a question came without its file"))?;
                Ok(Ok(Came::Asked(Asked { id, question, pid, file: File::from(file) })))
            }
            Some(FromKeeper::Lost) => Ok(Ok(Came::Lost)),
            Some(other) => Ok(Err(other)),
            None => Err(strange("the keeper says something that is not understood")),
        }
    }
}

fn tell(channel: &Channel, message: &ToKeeper, file: Option<&File>) -> io::Result<()> {
    let files: Vec<_> = file.iter().map(|file| file.as_fd()).collect();
    channel.send(&message.encode(), &files)
}

impl Answers {
    /// New rules: no former verdict counts.
    pub fn forget(&self) -> io::Result<()> {
        tell(&self.0, &ToKeeper::Forget, None)
    }

    /// This file is always allowed while it stays as it is.
    pub fn keep(&self, file: &File) -> io::Result<()> {
        tell(&self.0, &ToKeeper::Keep, Some(file))
    }

    /// Ends the keeper: nobody is asked any more.
    pub fn end(&self) -> io::Result<()> {
        tell(&self.0, &ToKeeper::End, None)
    }

    /// Ends the connection; the thread that reads sees [`Came::Closed`].
    pub fn close(&self) {
        self.0.close();
    }

    /// Answers a question.
    ///
    /// # Errors
    /// The keeper is gone.
    pub fn answer(&self, id: u64, allow: bool, remember: bool) -> io::Result<()> {
        tell(&self.0, &ToKeeper::Answer { id, allow, remember }, None)
    }
}

/// What this program needs to be started again: itself, its libraries and how they are found. Workers are this program,
/// and while they start they are nobody that the keeper knows: a judge that waits for its worker must not be what the
/// worker's start waits for, and a policy that is closed must not keep the agent away.
pub fn own_files() -> Vec<File> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    // By path, each with the range of its first mapping: where another mount namespace hides the path, the kernel
    // still opens what is mapped.
    let mut mapped: Vec<(&str, &str)> = maps
        .lines()
        .filter_map(|line| Some((line.find('/').and_then(|at| line.get(at..))?, line.split_once(' ')?.0)))
        .collect();
    mapped.sort_unstable();
    mapped.dedup_by_key(|(path, _)| *path);
    let open = |(path, range): (&str, &str)| {
        File::open(format!("/proc/self/map_files/{range}")).or_else(|_| File::open(path)).ok()
    };
    let mut files: Vec<File> = mapped.into_iter().filter_map(open).collect();
    files.extend(["/etc/ld.so.cache", "/etc/ld.so.preload"].into_iter().filter_map(|path| File::open(path).ok()));
    files.extend(File::open("/proc/self/exe"));
    files
}
