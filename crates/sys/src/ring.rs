//! Packets from one process to another that is trusted with nothing: a ring in shared memory.
//!
//! The [`Giver`] (the pump, root) writes packets into slots, the [`Taker`] (the worker) judges them in order:
//!
//! ```text
//! packets  (the taker may only read)   head: handed, sleeps, words    │ slots: place, length, … │ bytes
//! verdicts (both write)                head: done, the taker sleeps   │ one number a slot
//! ```
//!
//! The giver never reads a place or a length back from shared memory: what it needs to know it keeps to itself, and of
//! the taker's memory it reads numbers, each once. `done` may only grow and never pass `handed`; anything else, or a
//! verdict that is none, is [`Broken`], and the taker is done with. The packets' memory is sealed against writing by
//! others (`F_SEAL_FUTURE_WRITE`, Linux 5.1), so that what a taker left behind can be handed to the next as it was.
//!
//! A byte on a socket pair (by read and write, which a worker's sandbox lets through) wakes a side that said that it sleeps; the other end's closing says that it is gone.
//! While packets follow each other closely ([`Pace`]), neither side sleeps in between.
//! Bounds: [`SLOTS`] packets and [`BYTES`] bytes; what does not fit waits in the kernel.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::pace::{LINGER, Pace};

/// Most packets in the ring.
pub const SLOTS: usize = 2_048;
/// Most bytes of packets in it.
pub const BYTES: usize = 16 << 20;
/// Longest packet.
pub const LONGEST: usize = 65_535;

/// The numbers at the front, each alone in its line of the cache.
const HEAD: usize = 256;
const SLOT: usize = size_of::<Slot>();
const PACKETS: usize = HEAD + SLOTS * SLOT + BYTES;
const VERDICTS: usize = HEAD + SLOTS * size_of::<AtomicU32>();

/// What the taker says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Let it go on.
    Accept = 1,
    /// Drop it.
    Drop = 2,
    /// Drop it and all others of its connection.
    DropFlow = 3,
    /// Refuse it.
    Reject = 4,
    /// Let it go on, and its connection without inspection from now on.
    Done = 5,
    /// Let it go on, and replies without inspection until further notice.
    RepliesDone = 6,
    /// Let it go on, and inspect replies again.
    Inspect = 7,
    /// As [`Word::RepliesDone`], and of bare acknowledgements some are enough. A giver of an earlier release, which outlives
    /// its agent, does not know it.
    RepliesFar = 8,
}

impl Word {
    const ALL: [Self; 8] = [
        Self::Accept,
        Self::Drop,
        Self::DropFlow,
        Self::Reject,
        Self::Done,
        Self::RepliesDone,
        Self::Inspect,
        Self::RepliesFar,
    ];

    /// The word in its place that a giver with so many words understands.
    fn among(self, words: u32) -> Self {
        if self == Self::RepliesFar && words < self as u32 { Self::RepliesDone } else { self }
    }

    fn read(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|word| *word as u32 == number)
    }
}

/// What stands beside a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Label {
    /// Microseconds since 1970.
    pub time: i64,
    /// Length on the way; larger than what is here where it was cut.
    pub whole: u32,
    /// EtherType.
    pub protocol: u16,
    /// Netfilter's number of the hook.
    pub hook: u8,
    /// 1 where its checksum was not looked at.
    pub unchecked: u8,
}

/// A packet's place in the ring.
#[derive(Clone, Copy)]
#[repr(C)]
struct Slot {
    label: Label,
    place: u32,
    length: u32,
}

/// The taker did what no taker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the worker gave a verdict that is none, or on a packet that it does not have")]
pub struct Broken;

/// A mapping of shared memory.
#[derive(Debug)]
struct Map {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to no thread; all access goes through atomics or by the rules of giver and taker.
unsafe impl Send for Map {}

impl Map {
    fn new(file: &impl AsFd, length: usize, writable: bool) -> io::Result<Self> {
        let size = usize::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0);
        if size != length {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the ring's memory has another size"));
        }
        let rights = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        let number = file.as_fd().as_raw_fd();
        // SAFETY: a new mapping at a place of the kernel's choice overlaps nothing of ours; the file cannot shrink
        // under it, since both files are sealed against that before they are handed out.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, rights, libc::MAP_SHARED, number, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("a mapping at no place"))?;
        Ok(Self { start, length })
    }

    /// A number at a place of the head, or a verdict.
    fn word<T>(&self, at: usize) -> &T {
        assert!(at + size_of::<T>() <= self.length && at.is_multiple_of(align_of::<T>()));
        // SAFETY: within the mapping and aligned (checked above; mappings begin at a page). Only called for atomics,
        // of which any bytes are a value, and which both sides use as such.
        unsafe { self.start.add(at).cast::<T>().as_ref() }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: ours, and nothing borrowed from it outlives it.
        let _ = unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// Places of the numbers at the front of either memory.
const COUNT: usize = 0;
const SLEEPS: usize = 64;
/// How many words the giver knows; nothing where it is of a release that did not say it.
const WORDS: usize = 128;

fn memory(name: &str, length: usize) -> io::Result<OwnedFd> {
    let file = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&file, u64::try_from(length).map_err(io::Error::other)?)?;
    Ok(file)
}

/// The side that has packets.
#[derive(Debug)]
pub struct Giver {
    packets: Map,
    file: OwnedFd,
    /// Of the taker that is there.
    desk: Option<Desk>,
    /// Packets in the ring, oldest first: where each ends, for letting go of its bytes.
    held: VecDeque<usize>,
    /// Number of the oldest.
    oldest: u64,
    /// Where the next packet's bytes may begin.
    front: usize,
    /// Where the oldest one's bytes begin.
    back: usize,
}

#[derive(Debug)]
struct Desk {
    verdicts: Map,
    bell: OwnedFd,
    /// The next packet whose verdict was not taken.
    next: u64,
}

/// What a new taker is given: packets, verdicts, bell.
#[derive(Debug)]
pub struct Handed {
    /// Memory of packets.
    pub packets: OwnedFd,
    /// Memory of verdicts.
    pub verdicts: OwnedFd,
    /// Its end of the bell.
    pub bell: OwnedFd,
}

impl Giver {
    /// An empty ring.
    pub fn new() -> io::Result<Self> {
        let file = memory("packets", PACKETS)?;
        let packets = Map::new(&file, PACKETS, true)?;
        packets.word::<AtomicU32>(WORDS).store(Word::RepliesFar as u32, Ordering::Release);
        let seals = SealFlags::FUTURE_WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        fcntl_add_seals(&file, seals)?;
        Ok(Self { packets, file, desk: None, held: VecDeque::new(), oldest: 0, front: 0, back: 0 })
    }

    /// Begins anew with another taker: it gets what is held, from the oldest on.
    pub fn attach(&mut self) -> io::Result<Handed> {
        self.detach();
        let verdicts = memory("verdicts", VERDICTS)?;
        let map = Map::new(&verdicts, VERDICTS, true)?;
        fcntl_add_seals(&verdicts, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        map.word::<AtomicU64>(COUNT).store(self.oldest, Ordering::Release);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (bell, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let packets = self.file.try_clone()?;
        self.desk = Some(Desk { verdicts: map, bell, next: self.oldest });
        Ok(Handed { packets, verdicts, bell: theirs })
    }

    /// The taker is gone, or not wanted any more.
    pub fn detach(&mut self) {
        self.desk = None;
    }

    /// Is there a taker?
    pub fn attached(&self) -> bool {
        self.desk.is_some()
    }

    /// Packets in the ring.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Is it empty?
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Would so many packets fit, however long they are?
    pub fn has_room_for(&self, packets: usize) -> bool {
        let used = match self.held.is_empty() {
            true => 0,
            false if self.front >= self.back => self.front - self.back,
            false => BYTES - self.back + self.front,
        };
        // The end of the memory may be left empty by one that does not fit there.
        self.held.len() + packets <= SLOTS && used + (packets + 2) * LONGEST <= BYTES
    }

    /// Puts a packet in; false where there is no room.
    pub fn push(&mut self, label: Label, payload: &[u8]) -> bool {
        if self.held.len() >= SLOTS || payload.len() > LONGEST {
            return false;
        }
        let Some(place) = self.room(payload.len()) else { return false };
        let number = self.oldest + self.held.len() as u64;
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let slot = Slot { label, place: small(place), length: small(payload.len()) };
        let at = HEAD + slot_of(number) * SLOT;
        // SAFETY: both places lie within the mapping (the slot's number is below SLOTS, `room` gives places below
        // BYTES), and the taker reads neither before `handed` passes this packet, nor after it was let go.
        unsafe {
            self.packets.start.add(at).cast::<Slot>().write(slot);
            let bytes = self.packets.start.add(HEAD + SLOTS * SLOT + place);
            bytes.copy_from_nonoverlapping(NonNull::from(payload).cast(), payload.len());
        }
        self.front = place + payload.len();
        self.held.push_back(self.front);
        self.packets.word::<AtomicU64>(COUNT).store(number + 1, Ordering::Release);
        true
    }

    /// A place for so many bytes in one piece. A packet that would pass the end begins at the front.
    fn room(&mut self, length: usize) -> Option<usize> {
        if self.held.is_empty() {
            (self.front, self.back) = (0, 0);
            return Some(0);
        }
        if self.front >= self.back {
            if self.front + length <= BYTES {
                return Some(self.front);
            }
            // One byte stays free, so that "full" and "empty" differ.
            return (length < self.back).then_some(0);
        }
        (self.front + length < self.back).then_some(self.front)
    }

    /// Wakes the taker if it sleeps.
    pub fn ring(&self) {
        let Some(desk) = &self.desk else { return };
        fence(Ordering::SeqCst);
        if desk.verdicts.word::<AtomicU32>(SLEEPS).swap(0, Ordering::SeqCst) != 0 {
            // A full socket wakes it just as well.
            let _ = rustix::io::write(&desk.bell, &[1]);
        }
    }

    /// Is there a verdict?
    pub fn has_verdict(&self) -> bool {
        let done = |desk: &Desk| desk.verdicts.word::<AtomicU64>(COUNT).load(Ordering::Acquire);
        self.desk.as_ref().is_some_and(|desk| done(desk) != desk.next)
    }

    /// Says that this side is going to sleep; false where a verdict is there already.
    pub fn sleep(&self) -> bool {
        self.packets.word::<AtomicU32>(SLEEPS).store(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let idle = !self.has_verdict();
        if !idle {
            self.awake();
        }
        idle
    }

    /// Says that it sleeps no more.
    pub fn awake(&self) {
        self.packets.word::<AtomicU32>(SLEEPS).store(0, Ordering::SeqCst);
    }

    /// The taker's end, for poll: readable where it rang or is gone.
    pub fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.desk.as_ref().map(|desk| desk.bell.as_fd())
    }

    /// Empties the bell; false where the taker is gone.
    pub fn heard(&self) -> bool {
        self.desk.as_ref().is_none_or(|desk| drain(&desk.bell))
    }

    /// The verdict on the oldest packet, which is let go by that; `None` where there is none yet.
    ///
    /// # Errors
    /// The taker broke the rules.
    pub fn verdict(&mut self) -> Result<Option<Word>, Broken> {
        let Some(desk) = &mut self.desk else { return Ok(None) };
        let done = desk.verdicts.word::<AtomicU64>(COUNT).load(Ordering::Acquire);
        let handed = self.oldest + self.held.len() as u64;
        if done < desk.next || done > handed {
            return Err(Broken);
        }
        if done == desk.next || self.held.is_empty() {
            return Ok(None);
        }
        let at = HEAD + slot_of(desk.next) * size_of::<AtomicU32>();
        let word = Word::read(desk.verdicts.word::<AtomicU32>(at).load(Ordering::Relaxed)).ok_or(Broken)?;
        desk.next += 1;
        self.let_go();
        Ok(Some(word))
    }

    /// Lets go of the oldest packet without a verdict, while there is no taker that may be reading it. False where
    /// none is left.
    pub fn let_go(&mut self) -> bool {
        let Some(end) = self.held.pop_front() else { return false };
        self.oldest += 1;
        self.back = end;
        // The next one may have begun at the front.
        if self.held.front().is_some_and(|next| *next < end) {
            self.back = 0;
        }
        true
    }
}

fn slot_of(number: u64) -> usize {
    usize::try_from(number % SLOTS as u64).unwrap_or(0)
}

/// Reads all bytes; false at the end. A reading that does not fill the place has taken all that was there, so there
/// is no second one.
fn drain(bell: &OwnedFd) -> bool {
    let mut bytes = [0_u8; 64];
    loop {
        match rustix::io::read(bell, &mut bytes) {
            Ok(0) => return false,
            Ok(count) if count < bytes.len() => return true,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return true,
            Err(_) => return false,
        }
    }
}

/// The side that judges.
#[derive(Debug)]
pub struct Taker {
    packets: Map,
    verdicts: Map,
    bell: OwnedFd,
    next: u64,
    /// How many words the giver knows.
    words: u32,
    pace: Pace,
}

/// What a wait brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// There are packets.
    Packets,
    /// Something else that was waited for, or time.
    Other,
    /// The giver is gone.
    Gone,
}

impl Taker {
    /// From what was handed over.
    ///
    /// # Errors
    /// It is no ring.
    pub fn new(packets: &OwnedFd, verdicts: &OwnedFd, bell: OwnedFd) -> io::Result<Self> {
        let packets = Map::new(packets, PACKETS, false)?;
        let verdicts = Map::new(verdicts, VERDICTS, true)?;
        let next = verdicts.word::<AtomicU64>(COUNT).load(Ordering::Acquire);
        let words = packets.word::<AtomicU32>(WORDS).load(Ordering::Acquire);
        Ok(Self { packets, verdicts, bell, next, words, pace: Pace::default() })
    }

    /// The next packet. [`Taker::say`] moves on.
    pub fn packet(&self) -> Option<(Label, &[u8])> {
        let handed = self.packets.word::<AtomicU64>(COUNT).load(Ordering::Acquire);
        if handed == self.next {
            return None;
        }
        let at = HEAD + slot_of(self.next) * SLOT;
        // SAFETY: within the mapping; the giver wrote it before `handed` passed it and leaves it until `say`.
        let slot = unsafe { self.packets.start.add(at).cast::<Slot>().read() };
        let (place, length) = (slot.place as usize, slot.length as usize);
        if place.checked_add(length).is_none_or(|end| end > BYTES) {
            return None;
        }
        // SAFETY: checked to lie within the mapping; the giver leaves the bytes of a packet as they are until `say`,
        // which needs this borrow to be over.
        let bytes =
            unsafe { std::slice::from_raw_parts(self.packets.start.add(HEAD + SLOTS * SLOT + place).as_ptr(), length) };
        Some((slot.label, bytes))
    }

    /// The verdict on the packet that [`Taker::packet`] gave.
    pub fn say(&mut self, word: Word) {
        let at = HEAD + slot_of(self.next) * size_of::<AtomicU32>();
        self.verdicts.word::<AtomicU32>(at).store(word.among(self.words) as u32, Ordering::Relaxed);
        self.next += 1;
        self.verdicts.word::<AtomicU64>(COUNT).store(self.next, Ordering::Release);
    }

    /// Wakes the giver if it sleeps.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        // The giver's memory cannot be written to: it says itself that it is awake again.
        if self.packets.word::<AtomicU32>(SLEEPS).load(Ordering::SeqCst) != 0 {
            let _ = rustix::io::write(&self.bell, &[1]);
        }
    }

    /// Waits for packets, for `other` to be readable, or so long.
    ///
    /// # Errors
    /// The descriptors cannot be waited for.
    pub fn wait(&mut self, other: BorrowedFd<'_>, limit: Duration) -> io::Result<Woken> {
        let began = Instant::now();
        let close = self.pace.is_close();
        while close && began.elapsed() < LINGER {
            if self.has_packet() {
                self.pace.waited(began.elapsed());
                return Ok(Woken::Packets);
            }
            thread::yield_now();
        }
        let woken = self.sleep(other, limit)?;
        if woken == Woken::Packets {
            self.pace.waited(began.elapsed());
        }
        Ok(woken)
    }

    fn has_packet(&self) -> bool {
        self.packets.word::<AtomicU64>(COUNT).load(Ordering::Acquire) != self.next
    }

    fn sleep(&self, other: BorrowedFd<'_>, limit: Duration) -> io::Result<Woken> {
        let sleeps = self.verdicts.word::<AtomicU32>(SLEEPS);
        sleeps.store(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.has_packet() {
            sleeps.store(0, Ordering::SeqCst);
            return Ok(Woken::Packets);
        }
        let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
        let mut wanted = [PollFd::new(&self.bell, PollFlags::IN), PollFd::from_borrowed_fd(other, PollFlags::IN)];
        match poll(&mut wanted, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        sleeps.store(0, Ordering::SeqCst);
        let [bell, _] = wanted;
        if bell.revents().is_empty() {
            return Ok(Woken::Other);
        }
        Ok(if drain(&self.bell) { Woken::Packets } else { Woken::Gone })
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
