//! Answers to the [keeper](crate::keeper)'s questions about files: one thread hands them out to some others, each with a
//! judge of its own, so that one slow file does not hold the rest.
//!
//! The first judge takes whatever comes. The others hold memory of their own (rules, a process), so they are made ready
//! only when a file waits while another is judged, and give it back when none did for a while. What is malicious is
//! refused first and then told to the caller, with the descriptor that was judged, for quarantine and the event.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::opens::{Answers, Asked, Came, Opens, Question};

/// After so long without a file that waited, a judge that helps gives back what it holds.
const IDLE: Duration = Duration::from_secs(120);
/// After so long a judge that could not be made ready tries again.
const RETRY: Duration = Duration::from_secs(1);

/// What a judge says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling<D> {
    /// Nothing is wrong with it.
    Clean,
    /// It is told, and refused unless the policy only looks.
    Malicious {
        /// What was found.
        detection: D,
        /// The policy only looks.
        allow: bool,
    },
    /// Nobody can say; the policy decides, and nothing is remembered.
    Unknown {
        /// The policy's answer.
        allow: bool,
    },
}

/// Judges files. A judge is used by one thread.
pub trait Judge {
    /// What it says of a malicious file.
    type Detection;
    /// Judges the file of a question. It must not panic, and must come to an end.
    fn judge(&mut self, asked: &Asked) -> Ruling<Self::Detection>;
    /// Gets what judging takes, where it is not there; false where it cannot be had now.
    fn ready(&mut self) -> bool {
        true
    }
    /// Gives that back, until it is made ready again.
    fn rest(&mut self) {}
}

/// What was found.
#[derive(Debug)]
pub struct Found<D> {
    /// What was tried; for [`Question::Written`], nothing was: it was found when its writer closed it.
    pub question: Question,
    /// Which process.
    pub pid: i32,
    /// The file, as it was judged.
    pub file: File,
    /// What the judge says.
    pub detection: D,
}

/// Answers questions with these judges until the connection ends. `found` is called by any of the threads; `look` by
/// this one, at least as often as `every`, and with `true` after events about what was written were lost.
///
/// # Errors
/// The keeper says what no keeper says.
pub fn guard<J>(
    mut opens: Opens,
    judges: Vec<J>,
    found: impl Fn(Found<J::Detection>) + Sync,
    every: Duration,
    mut look: impl FnMut(&mut Opens, bool),
) -> io::Result<()>
where
    J: Judge + Send,
{
    let inbox = Inbox::default();
    let answers = opens.answers();
    std::thread::scope(|scope| {
        // However this ends, the judges end with it.
        let _closing = Closing(&inbox);
        for (number, mut judge) in judges.into_iter().enumerate() {
            let (inbox, answers, found) = (&inbox, answers.clone(), &found);
            scope.spawn(move || {
                let mut settle = |judge: &mut J, asked| {
                    answer(judge, asked, &answers, found);
                    inbox.judged();
                };
                if number > 0 {
                    return help(inbox, &mut judge, IDLE, &mut settle);
                }
                while let Some(asked) = inbox.take() {
                    settle(&mut judge, asked);
                }
            });
        }
        let mut due = Instant::now();
        loop {
            if due <= Instant::now() {
                look(&mut opens, false);
                due = Instant::now() + every;
            }
            match opens.next(due.saturating_duration_since(Instant::now()))? {
                Came::Asked(asked) => inbox.put(asked),
                Came::Lost => look(&mut opens, true),
                Came::Nothing => {}
                Came::Closed => return Ok(()),
            }
        }
    })
}

/// Judges what waits while others are at work, until the inbox is closed.
fn help<J: Judge, T>(inbox: &Inbox<T>, judge: &mut J, idle: Duration, settle: &mut impl FnMut(&mut J, T)) {
    loop {
        match inbox.behind(idle) {
            Behind::Closed => return,
            Behind::No => judge.rest(),
            Behind::Yes if !judge.ready() => inbox.pause(RETRY),
            Behind::Yes => {
                while let Some(asked) = inbox.take_waiting() {
                    settle(judge, asked);
                }
            }
        }
    }
}

fn answer<J: Judge>(judge: &mut J, asked: Asked, answers: &Answers, found: &impl Fn(Found<J::Detection>)) {
    let ruling = judge.judge(&asked);
    let Asked { id, question, pid, file } = asked;
    let (allow, remember) = match &ruling {
        Ruling::Clean => (true, true),
        Ruling::Malicious { allow, .. } | Ruling::Unknown { allow } => (*allow, false),
    };
    // Where the keeper is gone, the thread that reads sees it too.
    let _ = answers.answer(id, allow, remember);
    if let Ruling::Malicious { detection, .. } = ruling {
        found(Found { question, pid, file, detection });
    }
}

/// What waits for a judge. Bounded by what the keeper lets an agent have in hand.
struct Inbox<T> {
    state: Mutex<State<T>>,
    came: Condvar,
    behind: Condvar,
}

struct State<T> {
    waiting: VecDeque<T>,
    /// How many are being judged.
    judging: usize,
    closed: bool,
}

/// Does a file wait while another is judged?
#[derive(Debug, PartialEq, Eq)]
enum Behind {
    Yes,
    /// Not within the time.
    No,
    Closed,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        let state = State { waiting: VecDeque::new(), judging: 0, closed: false };
        Self { state: Mutex::new(state), came: Condvar::new(), behind: Condvar::new() }
    }
}

impl<T> Inbox<T> {
    fn put(&self, asked: T) {
        let mut state = self.lock();
        state.waiting.push_back(asked);
        self.came.notify_one();
        if state.judging > 0 {
            self.behind.notify_all();
        }
    }

    /// The next, however long that takes; none when there are no more.
    fn take(&self) -> Option<T> {
        let open = |state: &mut State<T>| state.waiting.is_empty() && !state.closed;
        let mut state = self.came.wait_while(self.lock(), open).unwrap_or_else(PoisonError::into_inner);
        let next = state.waiting.pop_front()?;
        state.judging += 1;
        if !state.waiting.is_empty() {
            self.behind.notify_all();
        }
        Some(next)
    }

    /// The next that is there.
    fn take_waiting(&self) -> Option<T> {
        let mut state = self.lock();
        let next = state.waiting.pop_front()?;
        state.judging += 1;
        Some(next)
    }

    fn judged(&self) {
        self.lock().judging -= 1;
    }

    fn behind(&self, idle: Duration) -> Behind {
        let keeps_up = |state: &mut State<T>| !state.closed && (state.judging == 0 || state.waiting.is_empty());
        let waited = self.behind.wait_timeout_while(self.lock(), idle, keeps_up);
        let (state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        match (state.closed, waited.timed_out()) {
            (true, _) => Behind::Closed,
            (false, true) => Behind::No,
            (false, false) => Behind::Yes,
        }
    }

    /// Lets time pass, unless it is closed.
    fn pause(&self, time: Duration) {
        let open = |state: &mut State<T>| !state.closed;
        drop(self.behind.wait_timeout_while(self.lock(), time, open));
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Closing<'i, T>(&'i Inbox<T>);

impl<T> Drop for Closing<'_, T> {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.came.notify_all();
        self.0.behind.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Says what it is told to do, and is ready from the second time on.
    struct Told(Sender<&'static str>, bool);

    impl Judge for Told {
        type Detection = ();

        fn judge(&mut self, _: &Asked) -> Ruling<()> {
            Ruling::Clean
        }

        fn ready(&mut self) -> bool {
            self.0.send(if self.1 { "ready" } else { "not ready" }).unwrap();
            std::mem::replace(&mut self.1, true)
        }

        fn rest(&mut self) {
            let _ = self.0.send("rests");
        }
    }

    fn after<T>(inbox: &Receiver<T>, said: &T) -> bool
    where
        T: PartialEq,
    {
        inbox.iter().any(|one| one == *said)
    }

    #[test]
    fn a_second_judge_helps_while_a_file_waits_and_rests_after() {
        let inbox = Inbox::default();
        let (to, said) = channel();
        std::thread::scope(|scope| {
            let _closing = Closing(&inbox);
            inbox.put(1);
            assert_eq!(inbox.take(), Some(1), "the first judge's, which is at work from here on");
            let mut judge = Told(to.clone(), false);
            let inbox = &inbox;
            scope.spawn(move || {
                let told = judge.0.clone();
                help(inbox, &mut judge, Duration::from_millis(20), &mut |_, asked| {
                    told.send(if asked == 2 { "two" } else { "another" }).unwrap();
                    inbox.judged();
                });
            });
            assert!(after(&said, &"rests"), "nothing waits");
            inbox.put(2);
            let order: Vec<_> = said.iter().filter(|one| *one != "rests").take(3).collect();
            assert_eq!(order, ["not ready", "ready", "two"]);
            assert!(after(&said, &"rests"), "and nothing waits again");
            inbox.judged();
            inbox.put(3);
            assert!(after(&said, &"rests"));
            assert_eq!(inbox.take(), Some(3), "nobody was at work: it is left to the first");
            assert_eq!(inbox.behind(Duration::ZERO), Behind::No);
        });
        assert_eq!((inbox.behind(Duration::ZERO), inbox.take()), (Behind::Closed, None));
    }
}
