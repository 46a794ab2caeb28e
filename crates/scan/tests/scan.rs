//! Scans as a user sees them. This file has its own `main`, since a worker is this program started again.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sakimori_malware::{Limits, Skip, Verdict};
use sakimori_scan::message::{FromWorker, Judgement, ToWorker};
use sakimori_scan::{Compiled, Control, Exclusions, Judge, Options, Outcome, Totals, compile, judge, scan, worker};
use sakimori_sys::harness;
use sakimori_sys::worker::WorkerSpec;

const RULE: &str = "rule needle { meta: severity = \"critical\" strings: $a = \"needle-in-hay\" condition: $a }";

fn main() {
    let role = std::env::args().nth(1).unwrap_or_default();
    match role.as_str() {
        "role-worker" => sakimori_scan::worker::run(worker::QUIET).unwrap(),
        "role-restless" => sakimori_scan::worker::run(Duration::from_millis(20)).unwrap(),
        "role-fragile" => fragile(),
        _ => tests(&role),
    }
}

fn tests(filter: &str) {
    let all: &[(&str, fn())] = &[
        ("what_a_rule_matches_is_found_wherever_it_lies", found),
        ("our_own_rules_compile_and_find_eicar", own_rules),
        ("rules_with_errors_are_named_and_the_rest_load", rule_errors),
        ("what_is_left_out_and_what_is_no_file_is_passed_over", passed_over),
        ("a_worker_that_dies_costs_one_file", worker_dies),
        ("a_worker_without_files_gives_its_rules_back_and_judges_the_next", restless),
        ("a_file_that_shrinks_or_grows_while_it_is_read_is_no_failure", moving_file),
        ("a_paused_scan_waits_and_a_stopped_one_ends", paused),
        ("a_share_of_the_processor_is_kept", share),
        ("the_position_of_a_file_stays", position),
        ("rules_from_a_stranger_are_refused", stranger),
    ];
    harness::run(filter, all, || Ok(()));
}

fn spec() -> WorkerSpec {
    judge::spec(&["role-worker"])
}

fn rules() -> Compiled {
    let (compiled, errors) = compile(&spec(), &vec![("needle.yar".to_owned(), RULE.into())]).unwrap();
    assert!(errors.is_empty(), "{errors:?}");
    compiled
}

fn options() -> Options {
    Options {
        spec: spec(),
        limits: Limits { max_size: 1 << 20, seconds: 10 },
        jobs: 2,
        exclusions: Exclusions::default(),
        cpu_percent: 100,
        network: false,
        after: None,
    }
}

/// Scans; gives what was found, what was skipped and what could not be read, as paths below the folder.
fn run(folder: &Path, options: &Options) -> (Totals, [Vec<String>; 3]) {
    let mut lists = [Vec::new(), Vec::new(), Vec::new()];
    let compiled = rules();
    let totals = scan(&[folder.to_owned()], &compiled, options, &Control::default(), |outcome, _| {
        let (at, path) = match outcome {
            Outcome::Judged { verdict: Verdict::Clean, .. } => return,
            Outcome::Judged { path, verdict: Verdict::Malicious(_), .. } => (0, path),
            Outcome::Judged { path, verdict: Verdict::Skipped(_), .. } => (1, path),
            Outcome::Unreadable(path, _) => (2, path),
        };
        lists[at].push(path.strip_prefix(folder).unwrap().display().to_string());
    })
    .unwrap();
    lists.iter_mut().for_each(|list| list.sort());
    (totals, lists)
}

fn found() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("a/b/c");
    std::fs::create_dir_all(&deep).unwrap();
    for n in 0..500 {
        std::fs::write(folder.path().join(format!("clean-{n}")), format!("hay {n}")).unwrap();
    }
    std::fs::write(folder.path().join("top"), "needle-in-hay").unwrap();
    std::fs::write(deep.join("deep"), "x needle-in-hay x").unwrap();
    std::fs::write(deep.join("empty"), "").unwrap();
    std::fs::write(folder.path().join("large"), vec![0; (1 << 20) + 1]).unwrap();
    let (totals, [found, skipped, unreadable]) = run(folder.path(), &options());
    assert_eq!((found, skipped), (vec!["a/b/c/deep".into(), "top".into()], vec!["large".to_owned()]));
    assert!(unreadable.is_empty());
    assert_eq!((totals.files, totals.malicious, totals.skipped, totals.restarts), (504, 2, 1, 0));
    assert!(totals.bytes > 1 << 20 && !totals.stopped);
}

fn own_rules() {
    let own: Vec<_> =
        sakimori_content::builtin().into_iter().filter(|(path, _)| path.starts_with("malware/")).collect();
    let (compiled, errors) = compile(&spec(), &own).unwrap();
    assert!(errors.is_empty(), "{errors:?}");
    assert!(compiled.rules >= 18, "{}", compiled.rules);
    let mut judge = Judge::start(spec(), &compiled, Limits::default()).unwrap();
    assert!(["full", "partly", "none"].contains(&judge.landlock()));
    let mut file = tempfile::tempfile().unwrap();
    // Put together here, so that no scanner finds it in this file.
    let eicar = ["X5O!P%@AP[4\\PZX54(P^)7CC)7}$", "EICAR-STANDARD-ANTIVIRUS-TEST-FILE", "!$H+H*"].concat();
    file.write_all(eicar.as_bytes()).unwrap();
    let verdict = judge.judge(file).unwrap().verdict;
    assert_eq!(verdict.detection().unwrap().rule, "eicar-test-file");
    assert_eq!(judge.judge(File::open("/etc/passwd").unwrap()).unwrap().verdict, Verdict::Clean);
}

fn rule_errors() {
    let files = vec![
        ("a.yar".to_owned(), b"rule bad {\n condition: none_such }".to_vec()),
        ("needle.yar".to_owned(), RULE.into()),
        ("c.hashes".to_owned(), b"zz\n".to_vec()),
    ];
    let (compiled, errors) = compile(&spec(), &files).unwrap();
    assert_eq!((compiled.rules, compiled.sums), (1, 0));
    let places: Vec<_> = errors.iter().map(|error| (error.file.as_str(), error.line)).collect();
    assert_eq!(places, [("a.yar", 2), ("c.hashes", 1)]);
}

fn passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let inside = |name: &str| folder.path().join(name);
    std::fs::create_dir(inside("out")).unwrap();
    for name in ["out/needle", "a.skip", "kept"] {
        std::fs::write(inside(name), "needle-in-hay").unwrap();
    }
    std::os::unix::fs::symlink(inside("kept"), inside("link")).unwrap();
    std::os::unix::fs::symlink(folder.path(), inside("loop")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, inside("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(inside("socket")).unwrap();
    let patterns = ["*.skip".to_owned(), inside("out").display().to_string()];
    let options = Options { exclusions: Exclusions::new(&patterns).unwrap(), ..options() };
    let (totals, [found, skipped, unreadable]) = run(folder.path(), &options);
    assert_eq!((found, skipped, unreadable), (vec!["kept".to_owned()], vec![], vec![]));
    assert_eq!(totals.files, 1);
    // A path that was named and is not there is told.
    let (totals, [_, _, unreadable]) = run(&inside("nothing"), &options);
    assert_eq!((totals.unreadable, unreadable.len()), (1, 1));
}

/// In a worker without a sandbox: ends at every file that begins with "kill".
fn fragile() {
    let channel = sakimori_sys::worker::connect().unwrap();
    let send = |message: &FromWorker| channel.send(&postcard(message), &[]).unwrap();
    send(&FromWorker::Ready { landlock: "none".into() });
    while let Some((body, files)) = channel.recv().unwrap() {
        match message(&body) {
            ToWorker::Load(_) => send(&FromWorker::Loaded { rules: 1, sums: 0 }),
            ToWorker::Scan(first) => {
                let judged = |file| {
                    // The position is its parent's too, which may hand the file to another worker.
                    let mut text = [0; 4];
                    std::os::unix::fs::FileExt::read_exact_at(&File::from(file), &mut text, 0).unwrap();
                    if text == *b"kill" {
                        std::process::abort();
                    }
                    Judgement { bytes: 4, verdict: Verdict::Clean, kind: None }
                };
                let all = files.into_iter().map(judged).collect();
                send(&FromWorker::Judged { first, all });
            }
            ToWorker::Compile => std::process::abort(),
        }
    }
}

fn postcard(message: &FromWorker) -> Vec<u8> {
    postcard::to_stdvec(message).unwrap()
}

fn message(body: &[u8]) -> ToWorker {
    postcard::from_bytes(body).unwrap()
}

fn worker_dies() {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..40 {
        let text = if n % 20 == 7 { "kill" } else { "fine" };
        std::fs::write(folder.path().join(format!("{n:02}")), text).unwrap();
    }
    let compiled = rules();
    let options = Options { spec: judge::spec(&["role-fragile"]), jobs: 1, ..options() };
    let mut skipped = Vec::new();
    let totals = scan(&[folder.path().into()], &compiled, &options, &Control::default(), |outcome, _| {
        if let Outcome::Judged { path, verdict: Verdict::Skipped(why), .. } = outcome {
            assert!(matches!(why, Skip::Failed(reason) if reason.contains("ended")), "{why:?}");
            skipped.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
    })
    .unwrap();
    assert_eq!(skipped, ["07", "27"]);
    // It ends once among others, and once alone.
    assert_eq!((totals.files, totals.skipped, totals.restarts), (40, 2, 4));
    // One that never starts is an error, not a hang.
    let options = Options { spec: judge::spec(&["role-nothing"]), ..options };
    assert!(scan(&[folder.path().into()], &compiled, &options, &Control::default(), |_, _| {}).is_err());
}

fn restless() {
    // Each rule has a text of its own, so that the rules take megabytes.
    let mut text = RULE.to_owned();
    for n in 0..2_000 {
        text += &format!(
            "rule other_{n} {{ strings: $a = \"{:x}\" xor condition: $a }}",
            n * 0x1234_5678_9abc_u64 + 0x1000_0000_0000
        );
    }
    let (compiled, errors) = compile(&spec(), &vec![("many.yar".to_owned(), text.into_bytes())]).unwrap();
    assert!(errors.is_empty(), "{errors:?}");
    let mut judge = Judge::start(judge::spec(&["role-restless"]), &compiled, Limits::default()).unwrap();
    let path = PathBuf::from(format!("/proc/{}/statm", judge.pid()));
    let resident = || -> u64 { std::fs::read_to_string(&path).unwrap().split(' ').nth(1).unwrap().parse().unwrap() };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "needle-in-hay").unwrap();
    let mut finds = |times| {
        (0..times)
            .map(|_| {
                let verdict = judge.judge(File::open(&file).unwrap()).unwrap().verdict;
                assert_eq!(verdict.detection().map(|found| found.rule.as_str()), Some("needle"));
                resident()
            })
            .max()
    };
    let most = finds(100).unwrap();
    for _ in 0..2 {
        let began = Instant::now();
        while resident() + 512 >= most {
            assert!(began.elapsed() < Duration::from_secs(60), "the rules are not given back");
            std::thread::sleep(Duration::from_millis(10));
        }
        finds(1);
    }
    assert_eq!(judge.restarts(), 0);
}

fn moving_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("moving");
    std::fs::write(&path, vec![b'x'; 900_000]).unwrap();
    let compiled = rules();
    let mut judge = Judge::start(spec(), &compiled, Limits { max_size: 1 << 20, seconds: 10 }).unwrap();
    let writer = File::options().write(true).open(&path).unwrap();
    for n in 0_u64..60 {
        judge.hand(File::open(&path).unwrap());
        writer.set_len(if n % 2 == 0 { 0 } else { 1_000_000 }).unwrap();
        if !judge.has_room() {
            judge.collect().unwrap();
        }
    }
    while let Some(judged) = judge.collect().unwrap() {
        assert_eq!(judged.verdict, Verdict::Clean);
    }
    assert_eq!(judge.restarts(), 0);
}

fn many(folder: &Path, count: usize) -> Vec<PathBuf> {
    for n in 0..count {
        std::fs::write(folder.join(format!("{n:04}")), vec![b'x'; 100_000]).unwrap();
    }
    vec![folder.to_owned()]
}

fn paused() {
    let folder = tempfile::tempdir().unwrap();
    let paths = many(folder.path(), 400);
    let (compiled, options, control) = (rules(), Options { jobs: 1, ..options() }, Control::default());
    let seen = AtomicU64::new(0);
    control.pause(true);
    std::thread::scope(|scope| {
        let scanning = scope.spawn(|| {
            scan(&paths, &compiled, &options, &control, |_, _| {
                seen.fetch_add(1, Ordering::SeqCst);
            })
        });
        std::thread::sleep(Duration::from_millis(600));
        assert_eq!(seen.load(Ordering::SeqCst), 0, "nothing moves while it is paused");
        control.pause(false);
        let totals = scanning.join().unwrap().unwrap();
        assert_eq!((totals.files, totals.stopped), (400, false));
    });
    let control = Control::default();
    let totals = scan(&paths, &compiled, &options, &control, |_, totals| {
        if totals.files == 3 {
            control.stop();
        }
    })
    .unwrap();
    assert!(totals.stopped && totals.files < 200, "{totals:?}");
}

fn share() {
    let folder = tempfile::tempdir().unwrap();
    let paths = many(folder.path(), 300);
    let compiled = rules();
    let time = |cpu_percent| {
        let options = Options { jobs: 1, cpu_percent, ..options() };
        let began = Instant::now();
        scan(&paths, &compiled, &options, &Control::default(), |_, _| {}).unwrap();
        began.elapsed()
    };
    let (all, tenth) = (time(100), time(5));
    assert!(tenth > all * 2, "{all:?} with all of it, {tenth:?} with a twentieth");
}

fn position() {
    use std::io::{Read, Seek};
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"0123456789").unwrap();
    file.seek(std::io::SeekFrom::Start(4)).unwrap();
    let compiled = rules();
    let mut judge = Judge::start(spec(), &compiled, Limits::default()).unwrap();
    let judged = judge.judge(file.try_clone().unwrap()).unwrap();
    assert_eq!((judged.bytes, judged.verdict), (10, Verdict::Clean));
    let mut rest = String::new();
    file.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "456789");
}

fn stranger() {
    // A worker takes compiled rules only from memory that nobody can change, and only ours.
    let worker = sakimori_sys::worker::spawn(&spec()).unwrap();
    worker.channel.recv().unwrap().unwrap();
    let send = |memory: &File| {
        use std::os::fd::AsFd;
        let body = postcard::to_stdvec(&ToWorker::Load(Limits::default())).unwrap();
        worker.channel.send(&body, &[memory.as_fd()]).unwrap();
        let (body, _) = worker.channel.recv().unwrap().unwrap();
        let FromWorker::Refused(reason) = postcard::from_bytes(&body).unwrap() else { panic!("it was taken") };
        reason
    };
    assert!(send(&sakimori_sys::memory::empty("x").unwrap()).contains("not sealed"));
    assert!(send(&sakimori_sys::memory::sealed("x", b"something").unwrap()).contains("something else"));
}
