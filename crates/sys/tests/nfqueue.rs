//! NFQUEUE and its rules against the kernel, in network namespaces.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sakimori_sys::harness;
use sakimori_sys::lab::{End, Lab};
use sakimori_sys::nfqueue::{Options, Queue, Verdict};
use sakimori_sys::nft::Nft;
use sakimori_sys::nft::queue::{FAMILIES, Mark, Marks, Plan, install, remove};

const TABLE: &str = "skm_queue_test";

/// Stops the reader at the end of its scope, also where a test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn marks() -> Marks {
    Marks::at(28).unwrap()
}

fn plan(open: bool) -> Plan {
    Plan {
        first: 7,
        queues: 1,
        open,
        marks: marks(),
        interfaces: Vec::new(),
        ports: Vec::new(),
        acknowledgements: 1,
        except_ports: vec![22],
        probe: None,
    }
}

/// Two hosts; the rules are in `server`.
fn lab(open: bool) -> Option<Lab> {
    if !harness::root() {
        return None;
    }
    let mut lab = Lab::new("skmqueue").unwrap();
    lab.add("server").unwrap();
    lab.add("client").unwrap();
    let one = End { namespace: "server", device: "s0", addresses: &["10.9.0.1/24", "fd09::1/64"] };
    lab.join(one, End { namespace: "client", device: "c0", addresses: &["10.9.0.2/24", "fd09::2/64"] }).unwrap();
    lab.inside("server", || {
        let mut nft = Nft::open().unwrap();
        let form = nft.queue_form().unwrap();
        nft.apply(&install(TABLE, &plan(open), form)).unwrap();
    })
    .unwrap();
    Some(lab)
}

/// Answers each packet as `judge` says (accept, mark) until told to stop; gives how many there were.
fn answer(lab: &Lab, stop: &AtomicBool, judge: impl Fn(&[u8], u8) -> (bool, Option<Mark>) + Send + Sync) -> usize {
    lab.inside("server", || {
        let mut queue = Queue::bind(7, Options { length: 1_024, open: false }).unwrap();
        let mut count = 0;
        while !stop.load(Ordering::SeqCst) {
            let limit = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
            poll(&mut [PollFd::new(&queue, PollFlags::IN)], Some(&limit)).unwrap();
            let mut verdicts = Vec::new();
            let read = queue
                .read(|packet| {
                    let (accept, mark) = judge(packet.payload, packet.hook);
                    let mark = mark.map(|mark| marks().put(packet.mark, mark));
                    verdicts.push(Verdict { up_to: packet.id, accept, mark });
                })
                .unwrap();
            assert_eq!(read.odd, 0);
            count += read.packets;
            queue.answer(&verdicts).unwrap();
        }
        count
    })
    .unwrap()
}

/// Runs something while each packet is answered as `judge` says; gives how many there were.
fn while_answering(
    lab: &Lab,
    judge: impl Fn(&[u8], u8) -> (bool, Option<Mark>) + Send + Sync,
    run: impl FnOnce(),
) -> usize {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ended = Stop(&stop);
        let reader = scope.spawn(|| answer(lab, &stop, judge));
        run();
        drop(ended);
        reader.join().unwrap()
    })
}

/// Does the word stand in the packet?
fn has(packet: &[u8], word: &[u8]) -> bool {
    packet.windows(word.len()).any(|part| part == word)
}

/// A server that echoes what it reads, in its namespace, for so many connections.
fn echo(lab: &Lab, address: &str, connections: usize) -> std::thread::JoinHandle<()> {
    let listener = lab.inside("server", || TcpListener::bind(address).unwrap()).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(connections) {
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut bytes = [0; 65_536];
                while let Ok(got @ 1..) = stream.read(&mut bytes) {
                    if stream.write_all(&bytes[..got]).is_err() {
                        break;
                    }
                }
            });
        }
    })
}

fn connect(lab: &Lab, address: &str) -> std::io::Result<TcpStream> {
    let address: SocketAddr = address.parse().unwrap();
    let stream = lab.inside("client", || TcpStream::connect_timeout(&address, Duration::from_secs(3))).unwrap()?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    Ok(stream)
}

fn said(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(text)?;
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back)?;
    Ok(back)
}

#[test]
fn this_kernel_takes_one_of_the_forms_and_trying_leaves_nothing_behind() {
    let Some(lab) = lab(true) else { return };
    lab.inside("server", || Nft::open().unwrap().queue_form().unwrap()).unwrap();
    let out = lab.command("server", "nft").unwrap().args(["list", "tables"]).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let mut tables: Vec<&str> = text.lines().collect();
    tables.sort_unstable();
    assert_eq!(tables, ["table ip skm_queue_test", "table ip6 skm_queue_test"]);
}

#[test]
fn packets_of_both_families_pass_are_dropped_and_refused_as_their_verdict_says() {
    let Some(lab) = lab(false) else { return };
    let judge = |packet: &[u8], hook| match hook {
        1 if has(packet, b"BAD") => (true, Some(Mark::DropFlow)),
        1 if has(packet, b"REJECT") => (true, Some(Mark::Reject)),
        1 if has(packet, b"GONE") => (false, None),
        // A SYN to port 81, where nobody listens; an answer by the kernel would pass as well.
        1 if packet[9] == 6 && packet[22..24] == [0, 81] => (true, Some(Mark::Reject)),
        3 if packet[9] == 6 && packet[20..22] == [0, 81] => (false, None),
        _ => (true, None),
    };
    let packets = while_answering(&lab, judge, || {
        for address in ["10.9.0.1:80", "[fd09::1]:80"] {
            let server = echo(&lab, address, 4);
            assert_eq!(said(&mut connect(&lab, address).unwrap(), b"hello").unwrap(), b"hello");
            let mut bad = connect(&lab, address).unwrap();
            assert_eq!(said(&mut bad, b"hello").unwrap(), b"hello");
            assert!(said(&mut bad, b"BAD").is_err());
            assert!(said(&mut bad, b"hello").is_err(), "the rest of the connection is dropped as well");
            let mut refused = connect(&lab, address).unwrap();
            let error = said(&mut refused, b"REJECT").unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            // TCP sends it again, and it is dropped again.
            assert!(said(&mut connect(&lab, address).unwrap(), b"GONE").is_err());
            server.join().unwrap();
        }
        // A connection that is refused at its first packet, which the kernel has not confirmed yet.
        let refused = connect(&lab, "10.9.0.1:81").unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        // What is no TCP is refused by ICMP, which the sender's socket tells.
        let (one, other) = lab
            .inside("client", || {
                let four = UdpSocket::bind("0.0.0.0:0").unwrap();
                four.connect("10.9.0.1:99").unwrap();
                let six = UdpSocket::bind("[::]:0").unwrap();
                six.connect("[fd09::1]:99").unwrap();
                (four, six)
            })
            .unwrap();
        for socket in [one, other] {
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            socket.send(b"REJECT").unwrap();
            let error = socket.recv(&mut [0; 10]).unwrap_err();
            assert!(matches!(error.raw_os_error(), Some(libc::EHOSTUNREACH | libc::EACCES)), "{error}");
        }
    });
    assert!(packets > 30);
    let dropped = lab.inside("server", || Nft::open().unwrap().bypassed(TABLE).unwrap().dropped).unwrap();
    assert!(dropped.packets > 0);
}

#[test]
fn a_connection_that_is_done_leaves_the_queue_and_replies_can_leave_it_alone() {
    let Some(lab) = lab(false) else { return };
    let judge = |packet: &[u8], hook| match hook {
        1 if has(packet, b"DONE") => (true, Some(Mark::Done)),
        1 if has(packet, b"MORE") => (true, Some(Mark::RepliesDone)),
        1 if has(packet, b"AGAIN") => (true, Some(Mark::Inspect)),
        // Whatever of these words is seen again would be lost.
        _ if has(packet, b"UNSEEN") => (false, None),
        3 if has(packet, b"SEEN") => (false, None),
        _ => (true, None),
    };
    while_answering(&lab, judge, || {
        let server = echo(&lab, "10.9.0.1:80", 2);
        let mut done = connect(&lab, "10.9.0.1:80").unwrap();
        assert_eq!(said(&mut done, b"DONE").unwrap(), b"DONE");
        assert_eq!(said(&mut done, b"UNSEEN").unwrap(), b"UNSEEN");
        let mut replies = connect(&lab, "10.9.0.1:80").unwrap();
        assert_eq!(said(&mut replies, b"MORE").unwrap(), b"MORE");
        assert_eq!(said(&mut replies, b"SEEN").unwrap(), b"SEEN", "its reply is not looked at");
        assert_eq!(said(&mut replies, b"AGAIN").unwrap(), b"AGAIN");
        assert!(said(&mut replies, b"SEEN").is_err(), "its reply is looked at again");
        server.join().unwrap();
    });
    let accepted = lab.inside("server", || Nft::open().unwrap().bypassed(TABLE).unwrap().accepted).unwrap();
    assert!(accepted.packets > 0 && accepted.bytes > 0);
}

#[test]
fn while_the_end_of_replies_is_far_some_acknowledgements_are_queued_and_all_that_brings_something() {
    let Some(lab) = lab(false) else { return };
    if !lab.inside("server", || Nft::open().unwrap().queue_form().unwrap().some).unwrap() {
        eprintln!("skipped: this kernel has no limit");
        return;
    }
    let small = std::sync::atomic::AtomicUsize::new(0);
    let judge = |packet: &[u8], hook| match hook {
        1 if has(packet, b"DONE") => (true, Some(Mark::RepliesDone)),
        1 if has(packet, b"FAR!") => (true, Some(Mark::RepliesFar)),
        1 if has(packet, b"SEEN") => (false, None),
        1 => {
            small.fetch_add(1, Ordering::SeqCst);
            (true, None)
        }
        _ => (true, None),
    };
    while_answering(&lab, judge, || {
        for address in ["10.9.0.1:80", "[fd09::1]:80"] {
            let listener = lab.inside("server", || TcpListener::bind(address).unwrap()).unwrap();
            // Much, and then an echo if there is something.
            let serve = |mut stream: TcpStream| {
                let mut word = [0; 4];
                stream.read_exact(&mut word).unwrap();
                stream.write_all(&vec![5; 64 << 20]).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(4))).unwrap();
                let _ = stream.read_exact(&mut word).and_then(|()| stream.write_all(&word));
            };
            let server = std::thread::spawn(move || {
                let streams = listener.incoming().take(2).map(Result::unwrap);
                let serving: Vec<_> = streams.map(|stream| std::thread::spawn(move || serve(stream))).collect();
                serving.into_iter().for_each(|one| one.join().unwrap());
            });
            let counts = [b"DONE", b"FAR!"].map(|word| {
                let mut stream = connect(&lab, address).unwrap();
                small.store(0, Ordering::SeqCst);
                stream.write_all(word).unwrap();
                let mut piece = vec![0; 64 << 20];
                stream.read_exact(&mut piece).unwrap();
                let count = small.load(Ordering::SeqCst);
                // Four bytes are no bare acknowledgement.
                assert!(said(&mut stream, b"SEEN").is_err());
                count
            });
            assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
            server.join().unwrap();
        }
    });
    // How many a receiver sends depends on how busy it is.
    for family in ["ip", "ip6"] {
        let mut nft = lab.command("server", "nft").unwrap();
        let out = nft.args(["list", "chain", family, TABLE, "input"]).output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        let counted = |line: &str| line.split("packets ").nth(1)?.split(' ').next()?.parse::<u64>().ok();
        let passed: u64 = text.lines().filter(|line| line.contains("limit rate over")).filter_map(counted).sum();
        assert!(passed > 10, "{text}");
    }
}

#[test]
fn packets_come_whole_and_a_large_transfer_passes() {
    let Some(lab) = lab(false) else { return };
    let longest = std::sync::atomic::AtomicUsize::new(0);
    let judge = |packet: &[u8], _| {
        longest.fetch_max(packet.len(), Ordering::SeqCst);
        (true, None)
    };
    while_answering(&lab, judge, || {
        let listener = lab.inside("server", || TcpListener::bind("10.9.0.1:80").unwrap()).unwrap();
        let sender = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&vec![5; 16 << 20]).unwrap();
        });
        let mut stream = connect(&lab, "10.9.0.1:80").unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert!(all.len() == 16 << 20 && all.iter().all(|byte| *byte == 5));
        sender.join().unwrap();
    });
    assert!(longest.load(Ordering::SeqCst) > 3_000, "no packet came whole: {longest:?}");
}

#[test]
fn without_a_reader_the_rule_says_whether_packets_pass_and_a_port_that_is_left_out_does() {
    for open in [true, false] {
        let Some(lab) = lab(open) else { return };
        let server = echo(&lab, "10.9.0.1:80", 1);
        let ssh = echo(&lab, "10.9.0.1:22", 1);
        assert_eq!(connect(&lab, "10.9.0.1:80").is_ok(), open);
        assert_eq!(said(&mut connect(&lab, "10.9.0.1:22").unwrap(), b"hello").unwrap(), b"hello");
        ssh.join().unwrap();
        lab.inside("server", || {
            let mut nft = Nft::open().unwrap();
            for family in FAMILIES {
                nft.apply(&[remove(TABLE, family)]).unwrap();
                assert!(!nft.has_table_in(family, TABLE).unwrap());
            }
        })
        .unwrap();
        if !open {
            assert_eq!(said(&mut connect(&lab, "10.9.0.1:80").unwrap(), b"hello").unwrap(), b"hello");
        }
        server.join().unwrap();
    }
}

#[test]
fn a_queue_has_one_reader() {
    let Some(lab) = lab(false) else { return };
    lab.inside("server", || {
        let _first = Queue::bind(7, Options { length: 16, open: false }).unwrap();
        let second = Queue::bind(7, Options { length: 16, open: false }).unwrap_err();
        assert!(second.to_string().contains("queue 7"), "{second}");
    })
    .unwrap();
}
