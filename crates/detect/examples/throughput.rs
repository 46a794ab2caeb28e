//! Lines per CPU second of parse and detect, on failed ssh logins of many addresses.
//!
//! `cargo run --release -p sakimori-detect --example throughput -- CONTENT_FOLDER [LINES] [ADDRESSES]`

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use sakimori_detect::{Detector, LineContext, LogSource, Normaliser, Options, Place};
use sakimori_model::Timestamp;
use sakimori_model::id::EventId;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let content = arguments.next().expect("the folder of the content");
    let lines: usize = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(200_000);
    let addresses: usize = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(10_000);
    let mut files = BTreeMap::new();
    read(Path::new(&content), "", &mut files);

    let source = LogSource::load("logs/linux/auth", &files).expect("the log source loads");
    let begin = Instant::now();
    let mut normaliser = Normaliser::new(&source).expect("the program compiles");
    println!("program compiled in {:?}", begin.elapsed());
    let options = Options { place: Place::Agent, ..Options::default() };
    let (mut detector, errors) = Detector::from_files(&files, options);
    assert!(errors.is_empty(), "{errors:?}");
    println!("{} rules make alerts", detector.rules().count());

    let received = Timestamp::parse("2026-11-24T12:00:00Z").expect("a time");
    let context = LineContext { host_name: "web-1", agent_id: "a", ..LineContext::at(received) };
    let texts: Vec<String> = (0..lines).map(|at| line(at, addresses)).collect();
    let mut id = EventId { batch: "agent:auth:1".into(), index: 0 };
    let mut out = Vec::new();

    let begin = cpu();
    for text in &texts {
        std::hint::black_box(normaliser.parse(text.as_bytes(), &context));
    }
    let parse = cpu() - begin;
    println!("parse alone: {:.0} lines per CPU second", lines as f64 / parse.as_secs_f64());

    let begin = cpu();
    for text in &texts {
        let event = normaliser.parse(text.as_bytes(), &context);
        detector.feed(&event, &id, received, "", &mut out);
        id.index += 1;
    }
    let both = cpu() - begin;
    println!("parse and detect: {:.0} lines per CPU second, {} alerts", lines as f64 / both.as_secs_f64(), out.len());
    println!("{:?}; snapshot {} bytes", detector.counters(), detector.snapshot().len());
}

/// Time that this process spent on a processor.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/schedstat").expect("the kernel tells it");
    let nanos = text.split(' ').next().and_then(|word| word.parse().ok()).expect("nanoseconds");
    Duration::from_nanos(nanos)
}

fn line(at: usize, addresses: usize) -> String {
    let second = at / 100 % 86_400;
    let address = at % addresses;
    format!(
        "Nov 23 {:02}:{:02}:{:02} web-1 sshd[{}]: Failed password for root from 198.{}.{}.{} port {} ssh2",
        second / 3600,
        second / 60 % 60,
        second % 60,
        1000 + at % 30_000,
        18 + address / 65_536,
        address / 256 % 256,
        address % 256,
        1024 + at % 60_000
    )
}

fn read(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).expect("the folder can be read").flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            read(&entry.path(), &format!("{name}/"), files);
        } else {
            files.insert(name, std::fs::read(entry.path()).expect("the file can be read"));
        }
    }
}
