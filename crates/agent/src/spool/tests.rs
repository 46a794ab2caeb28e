//! What the spool promises: batch and position together, nothing past its limits, nothing forgotten too early.

use super::*;
use sakimori_model::action::{Cause, Target};
use sakimori_model::field;

struct Sample {
    dir: tempfile::TempDir,
    fetched: bool,
    most_bytes: u64,
}

impl Sample {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("temporary folder"), fetched: true, most_bytes: 16 << 20 }
    }

    fn open(&self, origin: &str) -> Spool {
        Spool::open(SpoolOptions {
            dir: folder(self.dir.path()),
            origin: origin.into(),
            most_bytes: self.most_bytes,
            fetched: self.fetched,
        })
        .expect("opens")
    }
}

fn batch_of(spool: &Spool, origin: &str, stream: &str, lines: usize) -> Vec<u8> {
    let at = spool.stream(stream);
    let events = (0..lines)
        .map(|number| {
            let mut event = Event::new();
            event.set(field::MESSAGE, format!("line {}", at.next_event + number as u64));
            event
        })
        .collect();
    let header = BatchHeader {
        id: id::batch_id(origin, stream, at.sequence + 1),
        origin: origin.into(),
        stream: stream.into(),
        sequence: at.sequence + 1,
        first_event: at.next_event,
        losses: at.losses,
        position: Some(format!("after {}", at.sequence + 1).into_bytes()),
        ..BatchHeader::default()
    };
    batch::encode(&Batch { header, events }).expect("encodes")
}

fn add(spool: &mut Spool, stream: &str, lines: usize) {
    let bytes = batch_of(spool, "agent-1", stream, lines);
    spool.append(&bytes, &[], Timestamp::default()).expect("appended");
}

fn order(name: &str) -> Order {
    Order {
        id: name.into(),
        action: "block_address".into(),
        target: Target::Network("203.0.113.7".parse().expect("address")),
        expiry: None,
        cause: Cause::default(),
        via: None,
        probe: false,
        inputs: BTreeMap::new(),
        signatures: Vec::new(),
    }
}

#[test]
fn a_start_goes_on_where_the_last_durable_batch_ended() {
    let sample = Sample::new();
    let mut spool = sample.open("agent-1");
    add(&mut spool, "auth", 3);
    add(&mut spool, "web", 2);
    add(&mut spool, "auth", 4);
    spool.sync().expect("synced");
    drop(spool);
    let mut spool = sample.open("agent-1");
    let auth = spool.stream("auth");
    assert_eq!((auth.sequence, auth.next_event), (2, 7));
    assert_eq!(auth.position.as_deref(), Some(b"after 2".as_slice()));
    add(&mut spool, "auth", 1);
    assert_eq!(spool.stream("auth").next_event, 8);
    // A batch that is not the next one is refused: it would be a gap, or a line twice.
    let stale = batch_of(&sample_of_start(), "agent-1", "auth", 1);
    assert!(spool.append(&stale, &[], Timestamp::default()).is_err());
}

fn sample_of_start() -> Spool {
    Sample::new().open("agent-1")
}

#[test]
fn records_go_when_received_and_covered_and_the_stream_outlives_them() {
    let mut sample = Sample::new();
    sample.most_bytes = 1 << 20;
    let mut spool = sample.open("agent-1");
    for _ in 0..2_000 {
        add(&mut spool, "auth", 20);
    }
    spool.sync().expect("synced");
    let full = spool.bytes();
    assert!(!spool.received("auth", 2_000).expect("received"));
    assert_eq!(spool.waiting(), 0);
    assert_eq!(spool.bytes(), full, "a snapshot does not cover them yet, so a restart needs them");
    assert_eq!(Replay::new(&spool, &[("auth".into(), 1_990)]).count(), 10);
    spool.covered(&[("auth".into(), 2_000)]).expect("covered");
    assert!(spool.bytes() < full / 2, "{} of {full}", spool.bytes());
    drop(spool);
    let spool = sample.open("agent-1");
    let auth = spool.stream("auth");
    assert_eq!((auth.sequence, auth.next_event, auth.received), (2_000, 40_000, 2_000));
}

#[test]
fn orders_of_a_crash_come_back_once_their_batch_is_there() {
    let sample = Sample::new();
    let now = Timestamp::from_secs(1_800_000_000);
    let mut spool = sample.open("agent-1");
    let bytes = batch_of(&spool, "agent-1", "auth", 1);
    spool.append(&bytes, &[order("a"), order("b")], now).expect("appended");
    spool.sync().expect("synced");
    drop(spool);
    let mut spool = sample.open("agent-1");
    let ids: Vec<String> = spool.take_pending_orders(now.plus_secs(5)).into_iter().map(|order| order.id).collect();
    assert_eq!(ids, ["a", "b"]);
    assert_eq!(spool.stream("auth").sequence, 1);
    drop(spool);
    assert!(sample.open("agent-1").take_pending_orders(now.plus_secs(7_200)).is_empty(), "too old to be given again");
}

#[test]
fn a_full_spool_pauses_logs_and_keeps_a_reserve_for_actions() {
    let mut sample = Sample::new();
    sample.most_bytes = 256 << 10;
    let mut spool = sample.open("agent-1");
    while spool.has_room() {
        add(&mut spool, "auth", 200);
    }
    let mut event = Event::new();
    event.set(field::MESSAGE, "blocked");
    spool.append_own(ACTIONS_STREAM, vec![event.clone()], None).expect("the reserve");
    let mut told = 0;
    while spool.append_own(AGENT_STREAM, vec![event.clone(); 200], None).is_ok() {
        told += 1;
        assert!(told < 10_000, "the reserve is bounded");
    }
    assert_eq!(spool.stream(AGENT_STREAM).lost, 200, "what even the reserve cannot hold is counted");
    spool.received("auth", u64::MAX >> 1).expect("received");
}

#[test]
fn without_a_manager_the_oldest_goes_and_is_counted() {
    let mut sample = Sample::new();
    sample.most_bytes = 256 << 10;
    sample.fetched = false;
    let mut spool = sample.open("agent-1");
    for _ in 0..2_000 {
        add(&mut spool, "auth", 50);
        assert!(spool.has_room(), "detection goes on");
    }
    assert!(spool.bytes() < 1 << 20, "{}", spool.bytes());
    let auth = spool.stream("auth");
    assert!(auth.lost > 0);
    let kept: u64 = Replay::new(&spool, &[])
        .map(|bytes| u64::from(batch::peek(&bytes.expect("read")).expect("a batch").count))
        .sum();
    // Whole segments go, so a little more than what is counted as kept may still lie there.
    assert!(kept + auth.lost >= auth.next_event, "{kept} + {} of {}", auth.lost, auth.next_event);
}

#[test]
fn another_agent_id_keeps_positions_and_drops_records() {
    let sample = Sample::new();
    let mut spool = sample.open("agent-1");
    add(&mut spool, "auth", 3);
    spool.sync().expect("synced");
    drop(spool);
    let spool = sample.open("agent-2");
    let auth = spool.stream("auth");
    assert_eq!((auth.sequence, auth.next_event), (0, 0));
    assert_eq!(auth.position.as_deref(), Some(b"after 1".as_slice()));
    assert_eq!(spool.range().0, spool.range().1);
}

#[test]
fn a_manager_that_is_ahead_moves_the_stream_on() {
    let sample = Sample::new();
    let mut spool = sample.open("agent-1");
    add(&mut spool, "auth", 3);
    assert!(spool.received("auth", 9).expect("received"));
    assert_eq!(spool.stream("auth").sequence, 9);
}

/// A disk of a few MiB, for as long as it lives; `None` without root.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(point: PathBuf, mib: u32) -> Option<Self> {
        if !sakimori_sys::harness::root() {
            return None;
        }
        std::fs::create_dir_all(&point).expect("a folder");
        let options = std::ffi::CString::new(format!("size={mib}m")).expect("no zero byte");
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("small", &point, "tmpfs", flags, options.as_c_str()).expect("a small disk");
        Some(Self(point))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

/// A batch of bytes that zstd cannot make smaller.
fn add_large(spool: &mut Spool, stream: &str) -> Result<()> {
    let at = spool.stream(stream);
    let mut state = at.sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let noise: String = (0..60_000)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(b' ' + u8::try_from(state % 95).unwrap_or(0))
        })
        .collect();
    let mut event = Event::new();
    event.set(field::MESSAGE, noise);
    let header = BatchHeader {
        id: id::batch_id("agent-1", stream, at.sequence + 1),
        origin: "agent-1".into(),
        stream: stream.into(),
        sequence: at.sequence + 1,
        first_event: at.next_event,
        position: Some(vec![1]),
        ..BatchHeader::default()
    };
    let bytes = batch::encode(&Batch { header, events: vec![event] })?;
    spool.append(&bytes, &[], Timestamp::default()).map(drop)
}

#[test]
fn a_full_disk_stops_what_is_new_keeps_what_is_there_and_ends() {
    let sample = Sample::new();
    let Some(_disk) = SmallDisk::mount(folder(sample.dir.path()), 6) else { return };
    let mut spool = sample.open("agent-1");
    let mut durable = 0;
    while !spool.is_disk_full() {
        let appended = add_large(&mut spool, "auth");
        if appended.is_ok() && spool.try_sync().expect("a full disk is no failure") {
            durable = spool.stream("auth").sequence;
        }
    }
    assert!(durable > 20, "{durable} batches on a disk of 6 MiB");
    assert!(!spool.has_room());
    // Own events that find no room are counted, and tried no further.
    let mut told = 0;
    while spool.append_own(AGENT_STREAM, vec![Event::new(); 500], None).is_ok() && told < 10_000 {
        told += 1;
    }
    assert!(spool.stream(AGENT_STREAM).lost >= 500, "{:?}", spool.stream(AGENT_STREAM));
    // Nothing changes by itself.
    spool.look_for_room().expect("no failure");
    assert!(spool.is_disk_full());
    // A crash on the full disk: it opens again, with all that was durable.
    drop(spool);
    let mut spool = sample.open("agent-1");
    assert!(spool.stream("auth").sequence >= durable);
    let waiting = spool.waiting();
    assert!(waiting >= durable);
    // The manager gets them: by the reserve there is room to write that down, and then room.
    let last = spool.stream("auth").sequence;
    spool.covered(&[("auth".into(), last)]).expect("no failure");
    spool.received("auth", last).expect("no failure");
    spool.look_for_room().expect("no failure");
    assert!(spool.has_room(), "{} bytes are in use", spool.bytes());
    assert!(spool.waiting() < waiting);
    add_large(&mut spool, "auth").expect("there is room");
    spool.sync().expect("and it is durable");
    drop(spool);
    let spool = sample.open("agent-1");
    assert_eq!(spool.stream("auth").sequence, last + 1, "no sequence is used twice or left out");
}
