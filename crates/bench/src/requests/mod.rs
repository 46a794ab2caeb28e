//! Attacks and harmless requests of a corpus against our own network rules: what is found, and what is hit by mistake.
//!
//! `tests.jsonl` has a test a line: what to send in one or more stages, and whether it is an attack (a rule of the
//! corpus' own must fire) or harmless. Each stage goes raw over loopback to a small server of this program's, which
//! answers 200, or at `/reflect` with what the body describes. What the server got and what the client got are then
//! the two sides of a TCP connection for the engine, with the rules of `content/network`: no root, no queue.
//!
//! A test counts as found where any rule of ours alerts, and as hit by mistake where any does on a harmless one. Rules
//! are tuned on three quarters of the tests, by the hash of their names; the last quarter, whose attacks nobody reads
//! while writing rules, says what they find elsewhere.

mod corpus;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use sakimori_network::testcases::{Case, Cut, Outcome};
use sakimori_network::{Engine, LoadOptions, RuleSet, Settings};
use serde_json::{Map, Value, json};

use corpus::Test;

/// Longest request.
const MOST: u64 = 4 << 20;
/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(20);

/// Options.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Folder with tests.jsonl, and perhaps benign-user-agents.txt.
    folder: PathBuf,
    /// Folder with rules.
    #[arg(long, default_value = "content/network")]
    rules: PathBuf,
    /// List the attacks that no rule found.
    #[arg(long)]
    misses: bool,
    /// Print one JSON document instead.
    #[arg(long)]
    json: bool,
}

/// Found and all.
type Share = [usize; 2];

/// Runs it.
///
/// # Errors
/// Rules or tests that cannot be read, a server that cannot be reached.
pub fn run(options: &Options) -> Result<()> {
    let path = options.folder.join("tests.jsonl");
    if !path.exists() {
        println!("{} is not there: nothing was played", path.display());
        return Ok(());
    }
    let rules = load(&options.rules)?;
    let mut tests = corpus::read(&path)?;
    tests.extend(corpus::agents(&options.folder.join("benign-user-agents.txt"))?);
    play(&mut tests, &rules)?;
    if options.json {
        println!("{:#}", document(&tests, rules.len()));
    } else {
        print(&tests, rules.len(), options.misses);
    }
    Ok(())
}

fn load(folder: &Path) -> Result<Arc<RuleSet>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "rules") {
            files.push((path.display().to_string(), fs::read_to_string(&path)?));
        }
    }
    let named: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let set = RuleSet::load(&named, &LoadOptions::default(), &|_| None);
    if let Some(refused) = set.refused.first() {
        bail!("a rule cannot be loaded: {refused:?}");
    }
    Ok(Arc::new(set))
}

/// Sends every request over loopback and has the engine judge what went over.
fn play(tests: &mut [Test], rules: &Arc<RuleSet>) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (send, received) = channel();
    std::thread::Builder::new().name("server".into()).spawn(move || serve(&listener, &send))?;
    let mut engine = Engine::new(Settings::inline(), rules.clone());
    let mut nth = 0;
    for test in tests {
        for request in &test.requests {
            let turns = exchange(address, request, &received).with_context(|| test.name.clone())?;
            let case = Case { name: test.name.clone(), outcome: Outcome::Pass, port: 80, udp: false, turns };
            if let Outcome::Alert(sids) | Outcome::Drop(sids) = case.play_in(&mut engine, nth, Cut::Whole) {
                test.sids.extend(sids);
            }
            nth += 1;
        }
        test.sids.sort_unstable();
        test.sids.dedup();
    }
    Ok(())
}

/// One connection: what the server read and what the client read.
fn exchange(address: SocketAddr, request: &[u8], received: &Receiver<Vec<u8>>) -> Result<Vec<(bool, Vec<u8>)>> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer)?;
    Ok(vec![(true, received.recv_timeout(PATIENCE)?), (false, answer)])
}

/// The server: one connection after the other, each read to its end and answered.
fn serve(listener: &TcpListener, send: &Sender<Vec<u8>>) {
    for stream in listener.incoming().flatten() {
        let mut request = Vec::new();
        let read =
            stream.set_read_timeout(Some(PATIENCE)).and_then(|()| (&stream).take(MOST).read_to_end(&mut request));
        // A client that went away is its own problem: it reports what it did not get.
        if read.is_ok() {
            let _ = (&stream).write_all(&answer(&request));
        }
        if send.send(request).is_err() {
            return;
        }
    }
}

/// 200 and two bytes; of `/reflect`, what the body says: a status, headers, and a body, plain or in base64.
fn answer(request: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(request);
    let asked = text.lines().next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    let wish: Value = if asked.starts_with("/reflect") {
        text.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str(body).ok()).unwrap_or_default()
    } else {
        Value::Null
    };
    let text = |name: &str| wish.get(name).and_then(Value::as_str);
    let decoded = text("encodedBody").and_then(|body| base64::engine::general_purpose::STANDARD.decode(body).ok());
    let body = decoded.unwrap_or_else(|| text("body").unwrap_or("ok").as_bytes().to_vec());
    let mut head = format!("HTTP/1.1 {} OK\r\n", wish.get("status").and_then(Value::as_u64).unwrap_or(200));
    for (name, value) in wish.get("headers").and_then(Value::as_object).into_iter().flatten() {
        head.push_str(&format!("{name}: {}\r\n", value.as_str().unwrap_or_default()));
    }
    head.push_str(&format!("Content-Length: {}\r\nConnection: close\r\n\r\n", body.len()));
    [head.as_bytes(), &body].concat()
}

fn share<'t>(tests: impl Iterator<Item = &'t Test>) -> Share {
    tests.fold([0, 0], |[hit, all], test| [hit + usize::from(test.hit()), all + 1])
}

/// By class: the shares of attacks by level, and of harmless ones.
fn by_class(tests: &[Test]) -> BTreeMap<&'static str, [Share; 5]> {
    let mut classes: BTreeMap<&'static str, [Share; 5]> = BTreeMap::new();
    for test in tests {
        let shares = classes.entry(test.class).or_default();
        let slot = shares.get_mut(test.level.map_or(4, |level| usize::from(level.clamp(1, 4)) - 1));
        if let Some([hit, all]) = slot {
            *hit += usize::from(test.hit());
            *all += 1;
        }
    }
    classes
}

fn percent([hit, all]: Share) -> String {
    if all == 0 { "-".into() } else { format!("{hit}/{all} {:.0} %", hit as f64 * 100.0 / all as f64) }
}

fn print(tests: &[Test], rules: usize, misses: bool) {
    println!("{rules} rules, {} tests over loopback", tests.len());
    let head = ["level 1", "level 2", "level 3", "level 4", "harmless, hit"];
    println!("{:<24}{}", "", head.map(|title| format!("{title:>16}")).concat());
    for (class, shares) in by_class(tests) {
        println!("{class:<24}{}", shares.map(|one| format!("{:>16}", percent(one))).concat());
    }
    for (name, part) in [("tuned on", Some(true)), ("held out", Some(false)), ("all", None)] {
        let part_of = || tests.iter().filter(|test| part.is_none_or(|tuned| test.tuned == tuned));
        let of = |level: u8| percent(share(part_of().filter(|test| test.level == Some(level))));
        let harmless = percent(share(part_of().filter(|test| test.level.is_none())));
        let cells = [of(1), of(2), of(3), of(4), harmless];
        println!("{name:<24}{}", cells.map(|cell| format!("{cell:>16}")).concat());
    }
    for test in tests.iter().filter(|test| test.level.is_none() && test.hit()) {
        println!("harmless, hit: {} ({}): {:?}", test.name, test.class, test.sids);
    }
    if misses {
        for (level, test) in tests.iter().filter(|test| !test.hit()).filter_map(|test| Some((test.level?, test))) {
            println!("not found: {} ({}, level {level})", test.name, test.class);
        }
    }
}

fn document(tests: &[Test], rules: usize) -> Value {
    let classes: Map<String, Value> = by_class(tests)
        .into_iter()
        .map(|(class, [one, two, three, four, harmless])| {
            (class.to_owned(), json!({"attacks": [one, two, three, four], "harmless": harmless}))
        })
        .collect();
    let list: Vec<Value> = tests
        .iter()
        .map(|test| {
            json!({"case": test.name, "class": test.class, "level": test.level, "tuned": test.tuned, "rules": test.sids})
        })
        .collect();
    json!({"rules": rules, "classes": classes, "tests": list})
}

#[cfg(test)]
mod tests {
    use super::*;

    const BENIGN: &str = r#"{"case":"a-1","category":"REQUEST-942-X","rule_id":942100,"kind":"benign","stages":[{"input":{"uri":"/a?b=c","headers":{"Host":"h"}}}]}"#;
    pub(super) const ATTACK: &str = r#"{"case":"a-2","category":"REQUEST-942-X","rule_id":942200,"kind":"attack","stages":[{"input":{"method":"POST","uri":"/reflect","data":"{\"body\":\"SECRET\"}","headers":{"Content-Type":"application/json"}}}]}"#;

    #[test]
    fn what_goes_over_loopback_is_judged_in_both_directions() {
        let rules = [
            r#"alert http any any -> any any (http.request_body; content:"SECRET"; sid:1;)"#,
            r#"alert http any any -> any any (flow:to_client; http.response_body; content:"SECRET"; bsize:6; sid:2;)"#,
        ];
        let rules = Arc::new(RuleSet::load(&[("r", &rules.join("\n"))], &LoadOptions::default(), &|_| None));
        let mut tests: Vec<Test> = [BENIGN, ATTACK].iter().map(|line| corpus::test(line).unwrap().unwrap()).collect();
        play(&mut tests, &rules).unwrap();
        assert_eq!(tests[0].sids, Vec::<u32>::new());
        assert_eq!((tests[1].level, tests[1].sids.clone()), (Some(2), vec![1, 2]));
        let classes = by_class(&tests);
        assert_eq!(classes["SQL injection"], [[0, 0], [1, 1], [0, 0], [0, 0], [0, 1]]);
    }

    #[test]
    fn a_folder_that_is_not_there_is_said_and_no_failure() {
        let options =
            Options { folder: "/nonexistent".into(), rules: "/nonexistent".into(), misses: false, json: false };
        assert!(run(&options).is_ok());
    }
}
