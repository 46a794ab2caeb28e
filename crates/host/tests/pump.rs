//! The pump against the kernel: who answers for a packet, and when.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sakimori_host::keeper::message::Silence;
use sakimori_host::keeper::pump::{Settings, run};
use sakimori_host::keeper::pump_message::{COUNTS, Count, FromPump, ToPump};
use sakimori_host::queue_packets;
use sakimori_sys::channel::Channel;
use sakimori_sys::harness;
use sakimori_sys::lab::{End, Lab};
use sakimori_sys::nft::queue::{Marks, Plan};
use sakimori_sys::ring::{Taker, Woken, Word};

const TABLE: &str = "skm_pump_test";
const ADDRESS: &str = "10.8.0.1:80";
const PATIENCE: Duration = Duration::from_secs(30);

/// A lab with a pump that runs in the namespace `server`, and the agent's end of its channel.
struct Setting {
    lab: Lab,
    agent: Channel,
    pump: Option<std::thread::JoinHandle<std::io::Result<()>>>,
    _folder: tempfile::TempDir,
}

impl Setting {
    fn new(silence: Silence) -> Option<Self> {
        if !harness::root() {
            return None;
        }
        let mut lab = Lab::new("skmpump").unwrap();
        lab.add("server").unwrap();
        lab.add("client").unwrap();
        let one = End { namespace: "server", device: "s0", addresses: &["10.8.0.1/24"] };
        lab.join(one, End { namespace: "client", device: "c0", addresses: &["10.8.0.2/24"] }).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pump.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let marks = Marks::at(28).unwrap();
        // A thread that a thread of the namespace starts stays in it.
        let pump = lab
            .inside("server", || std::thread::spawn(move || run(&listener, Settings { queue: 9, marks, silence })))
            .unwrap();
        let agent = Channel::new(OwnedFd::from(UnixStream::connect(path).unwrap()));
        let setting = Self { lab, agent, pump: Some(pump), _folder: folder };
        // It answers, so it is bound.
        setting.numbers();
        let plan = Plan {
            first: 9,
            queues: 1,
            open: silence.allow,
            marks,
            interfaces: vec!["s0".into()],
            ports: vec![80],
            acknowledgements: 1,
            except_ports: Vec::new(),
            probe: None,
        };
        setting.lab.inside("server", || queue_packets::install(TABLE, &plan).unwrap()).unwrap();
        Some(setting)
    }

    fn tell(&self, message: ToPump) {
        self.agent.send(&message.encode(), &[]).unwrap();
    }

    fn next(&self) -> (FromPump, Vec<OwnedFd>) {
        let (bytes, files) = self.agent.recv().unwrap().unwrap();
        (FromPump::decode(&bytes).unwrap(), files)
    }

    fn numbers(&self) -> Vec<(Count, u64)> {
        self.tell(ToPump::Numbers);
        (0..COUNTS.len())
            .map(|_| match self.next().0 {
                FromPump::Number(which, value) => (which, value),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn attach(&self) -> (Taker, OwnedFd) {
        self.tell(ToPump::Attach);
        let (message, files) = self.next();
        assert_eq!(message, FromPump::Attached);
        let [packets, verdicts, bell]: [OwnedFd; 3] = files.try_into().unwrap();
        (Taker::new(&packets, &verdicts, bell).unwrap(), verdicts)
    }

    /// A server that sends back what it reads.
    fn echo(&self) {
        let listener = self.lab.inside("server", || TcpListener::bind(ADDRESS).unwrap()).unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut bytes = [0; 4096];
                    while let Ok(got @ 1..) = stream.read(&mut bytes) {
                        let _ = stream.write_all(&bytes[..got]);
                    }
                });
            }
        });
    }

    fn say(&self, text: &[u8], patience: Duration) -> std::io::Result<()> {
        let address: SocketAddr = ADDRESS.parse().unwrap();
        let mut stream = self.lab.inside("client", || TcpStream::connect_timeout(&address, patience)).unwrap()?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(text)?;
        stream.read_exact(&mut vec![0; text.len()])
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let _ = self.lab.inside("server", || queue_packets::remove(TABLE));
        let _ = self.agent.send(&ToPump::End.encode(), &[]);
        let ended = self.pump.take().map(std::thread::JoinHandle::join);
        if !std::thread::panicking() {
            ended.unwrap().unwrap().unwrap();
        }
    }
}

/// Judges until told to stop or the pump is gone.
fn judge(mut taker: Taker, stop: &AtomicBool, word: impl Fn(&[u8]) -> Word) {
    let (never, _kept) = UnixStream::pair().unwrap();
    while !stop.load(Ordering::SeqCst) {
        while let Some((label, bytes)) = taker.packet() {
            assert!(label.time > 1_600_000_000_000_000 && label.protocol == 0x0800 && matches!(label.hook, 1 | 3));
            let word = word(bytes);
            taker.say(word);
        }
        taker.ring();
        if taker.wait(never.as_fd(), Duration::from_millis(20)).unwrap() == Woken::Gone {
            return;
        }
    }
}

fn has(packet: &[u8], word: &[u8]) -> bool {
    packet.windows(word.len()).any(|part| part == word)
}

#[test]
fn a_worker_decides_and_another_goes_on_where_it_ended() {
    let Some(setting) = Setting::new(Silence { allow: false, absent_ms: 20_000, slow_ms: 20_000 }) else { return };
    setting.echo();
    let short = Duration::from_secs(2);
    let (stop, stop_next) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (taker, _) = setting.attach();
        let worker = scope.spawn(|| {
            judge(taker, &stop, |packet| if has(packet, b"BAD") { Word::DropFlow } else { Word::Accept });
        });
        setting.say(b"hello", short).unwrap();
        assert!(setting.say(b"BAD", short).is_err());
        stop.store(true, Ordering::SeqCst);
        worker.join().unwrap();
        assert_eq!(setting.next().0, FromPump::Gone);
        // Without a worker a packet waits for the next one.
        let waiting = scope.spawn(|| setting.say(b"patience", PATIENCE));
        let until = Instant::now() + PATIENCE;
        while setting.numbers().iter().all(|(which, value)| *which != Count::Waiting || *value == 0) {
            assert!(Instant::now() < until, "no packet waits");
        }
        let (taker, _) = setting.attach();
        let worker = scope.spawn(|| judge(taker, &stop_next, |_| Word::Accept));
        waiting.join().unwrap().unwrap();
        stop_next.store(true, Ordering::SeqCst);
        worker.join().unwrap();
    });
}

#[test]
fn without_a_worker_the_policy_answers_and_it_can_change() {
    let Some(setting) = Setting::new(Silence::CLOSED) else { return };
    setting.echo();
    assert!(setting.say(b"hello", Duration::from_secs(1)).is_err());
    setting.tell(ToPump::Silence(Silence::OPEN));
    setting.say(b"hello", PATIENCE).unwrap();
    let silent = setting.numbers().into_iter().find(|(which, _)| *which == Count::Silent).unwrap().1;
    assert!(silent > 5, "{silent}");
}

#[test]
fn a_worker_that_says_nothing_is_told_of_and_packets_go_by_policy() {
    let Some(setting) = Setting::new(Silence { allow: true, absent_ms: 0, slow_ms: 200 }) else { return };
    setting.echo();
    let (_taker, _) = setting.attach();
    setting.say(b"hello", PATIENCE).unwrap();
    assert_eq!(setting.next().0, FromPump::Late);
    setting.say(b"again", PATIENCE).unwrap();
}

#[test]
fn a_worker_that_claims_what_it_was_not_given_is_done_with() {
    let Some(setting) = Setting::new(Silence { allow: true, absent_ms: 0, slow_ms: 20_000 }) else { return };
    setting.echo();
    let (taker, verdicts) = setting.attach();
    rustix::io::pwrite(&verdicts, &1_000_000_u64.to_ne_bytes(), 0).unwrap();
    taker.ring();
    setting.say(b"hello", PATIENCE).unwrap();
    assert_eq!(setting.next().0, FromPump::Gone);
}
