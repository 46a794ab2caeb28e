use super::*;
use proptest::prelude::*;

fn pair() -> (Giver, Taker) {
    let mut giver = Giver::new().unwrap();
    let taker = taker(&mut giver);
    (giver, taker)
}

fn taker(giver: &mut Giver) -> Taker {
    let handed = giver.attach().unwrap();
    Taker::new(&handed.packets, &handed.verdicts, handed.bell).unwrap()
}

fn label(time: i64) -> Label {
    Label { time, ..Label::default() }
}

#[test]
fn packets_come_in_order_with_what_stands_beside_them_and_verdicts_go_back() {
    let (mut giver, mut taker) = pair();
    assert!(giver.push(label(1), b"one") && giver.push(label(2), b"") && giver.push(label(3), b"three"));
    assert_eq!(giver.verdict(), Ok(None));
    for (time, bytes, word) in
        [(1, b"one".as_slice(), Word::Accept), (2, b"", Word::DropFlow), (3, b"three", Word::Done)]
    {
        let (label, found) = taker.packet().unwrap();
        assert_eq!((label.time, found), (time, bytes));
        taker.say(word);
        assert_eq!(giver.verdict(), Ok(Some(word)));
        assert_eq!(giver.verdict(), Ok(None));
    }
    assert!(taker.packet().is_none() && giver.is_empty());
}

#[test]
fn slots_and_bytes_are_bounded_and_free_again_after_their_verdicts() {
    let (mut giver, mut taker) = pair();
    let mut count = 0;
    while giver.push(label(0), &[7; 100]) {
        count += 1;
    }
    assert_eq!(count, SLOTS);
    for _ in 0..count {
        taker.say(Word::Accept);
        giver.verdict().unwrap().unwrap();
    }
    let long = vec![1; LONGEST];
    assert!(!giver.push(label(0), &vec![1; LONGEST + 1]));
    count = 0;
    while giver.push(label(0), &long) {
        count += 1;
    }
    assert_eq!(count, BYTES / LONGEST);
    taker.say(Word::Drop);
    assert!(!giver.push(label(0), &long));
    giver.verdict().unwrap().unwrap();
    assert!(!giver.push(label(0), &long), "the one byte that stays free");
    assert!(giver.push(label(0), &long[1..]));
}

#[test]
fn a_giver_of_an_earlier_release_is_not_told_words_that_it_does_not_know() {
    let (mut giver, mut new) = pair();
    giver.push(label(0), b"a");
    new.say(Word::RepliesFar);
    assert_eq!(giver.verdict(), Ok(Some(Word::RepliesFar)));
    giver.packets.word::<AtomicU32>(WORDS).store(0, Ordering::SeqCst);
    let mut taker = taker(&mut giver);
    for (said, understood) in [(Word::RepliesFar, Word::RepliesDone), (Word::Inspect, Word::Inspect)] {
        giver.push(label(0), b"a");
        taker.say(said);
        assert_eq!(giver.verdict(), Ok(Some(understood)));
    }
}

#[test]
fn a_new_taker_gets_what_the_former_left_as_it_was() {
    let (mut giver, mut former) = pair();
    for number in 0..5_u8 {
        giver.push(label(0), &[number]);
    }
    former.say(Word::Accept);
    former.say(Word::Accept);
    assert_eq!(giver.verdict(), Ok(Some(Word::Accept)));
    assert_eq!(giver.verdict(), Ok(Some(Word::Accept)));
    drop(former);
    assert!(!giver.heard(), "its end closed");
    giver.detach();
    assert!(giver.let_go(), "the one that it had in hand");
    let next = taker(&mut giver);
    assert_eq!(next.packet().unwrap().1, [3]);
}

#[test]
fn a_taker_that_breaks_the_rules_is_found() {
    let forge = |done: u64, word: u32| {
        let (mut giver, taker) = pair();
        giver.push(label(0), b"x");
        taker.verdicts.word::<AtomicU32>(HEAD).store(word, Ordering::Relaxed);
        taker.verdicts.word::<AtomicU64>(COUNT).store(done, Ordering::Release);
        giver.verdict()
    };
    assert_eq!(forge(1, 1), Ok(Some(Word::Accept)));
    assert_eq!(forge(1, 0), Err(Broken), "no verdict");
    assert_eq!(forge(1, 99), Err(Broken), "an unknown one");
    assert_eq!(forge(2, 1), Err(Broken), "on a packet that it does not have");
    let (mut giver, mut taker) = pair();
    giver.push(label(0), b"x");
    taker.say(Word::Accept);
    giver.verdict().unwrap().unwrap();
    taker.verdicts.word::<AtomicU64>(COUNT).store(0, Ordering::Release);
    assert_eq!(giver.verdict(), Err(Broken), "a second time");
}

#[test]
fn a_taker_cannot_write_packets_and_memory_of_another_size_is_refused() {
    let mut giver = Giver::new().unwrap();
    let handed = giver.attach().unwrap();
    assert!(Map::new(&handed.packets, PACKETS, true).is_err(), "sealed against writing");
    assert!(rustix::io::pwrite(&handed.packets, b"x", 0).is_err());
    assert!(rustix::fs::ftruncate(&handed.verdicts, 0).is_err());
    let small = memory("small", 10).unwrap();
    let (bell, _) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    assert!(Taker::new(&small, &handed.verdicts, bell).is_err());
}

#[test]
fn a_sleeper_is_woken_and_one_that_has_work_does_not_sleep() {
    let (mut giver, mut taker) = pair();
    giver.push(label(0), b"x");
    let (other, _kept) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    assert_eq!(taker.wait(other.as_fd(), Duration::from_secs(60)).unwrap(), Woken::Packets);
    taker.say(Word::Accept);
    assert!(!giver.sleep(), "a verdict is there");
    giver.verdict().unwrap().unwrap();
    assert!(giver.sleep());
    std::thread::scope(|scope| {
        // By the only reference: a taker belongs to one thread at a time.
        let (sleeper, other) = (&mut taker, &other);
        scope.spawn(move || assert_eq!(sleeper.wait(other.as_fd(), Duration::from_secs(60)).unwrap(), Woken::Packets));
        // Rung until it is heard: the sleeper may not lie down yet.
        while giver.desk.as_ref().unwrap().verdicts.word::<AtomicU32>(SLEEPS).load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        giver.push(label(0), b"y");
        giver.ring();
    });
    drop(giver);
    taker.say(Word::Accept);
    assert_eq!(taker.wait(other.as_fd(), Duration::from_secs(60)).unwrap(), Woken::Gone);
}

proptest! {
    #[test]
    fn whatever_the_lengths_every_packet_arrives_as_it_was(
        lengths in proptest::collection::vec(0_usize..LONGEST, 1..600), in_hand in 1_usize..400,
    ) {
        let (mut giver, mut taker) = pair();
        let mut waiting: VecDeque<(usize, u8)> = VecDeque::new();
        for (number, length) in lengths.iter().enumerate() {
            let letter = (number % 251) as u8;
            let bytes = vec![letter; *length];
            while waiting.len() >= in_hand || !giver.push(label(number as i64), &bytes) {
                let (length, letter) = waiting.pop_front().unwrap();
                let (_, found) = taker.packet().unwrap();
                prop_assert!(found.len() == length && found.iter().all(|byte| *byte == letter));
                taker.say(Word::Accept);
                prop_assert_eq!(giver.verdict(), Ok(Some(Word::Accept)));
            }
            waiting.push_back((*length, letter));
        }
    }
}
