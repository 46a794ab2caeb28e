//! The whole platform as real processes, small: exactly once under SIGKILL, the attack story, many blocks.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sakimori_sys::harness;

fn able() -> bool {
    let bench = Path::new(env!("CARGO_BIN_EXE_sakimori-bench"));
    let there = ["sakimori", "sakimori-agent"].into_iter().all(|name| bench.with_file_name(name).is_file());
    harness::root() && harness::needs(there, "sakimori and sakimori-agent beside the bench (make test builds them)")
}

/// One at a time: each looks at this machine's tables, and they would take each other's processor.
static TURN: Mutex<()> = Mutex::new(());

fn bench(arguments: &[&str]) {
    let out = Command::new(env!("CARGO_BIN_EXE_sakimori-bench")).args(arguments).output().unwrap();
    assert!(
        out.status.success(),
        "{arguments:?}\n{}\n{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
}

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn lines_arrive_exactly_once_while_both_ends_are_killed() {
    let _turn = turn();
    if able() {
        bench(&["exactly-once", "--lines", "8000", "--kills", "2", "--seed", "3", "--full-disks"]);
    }
}

#[test]
fn the_attack_story_happens_and_leaves_nothing_behind() {
    let _turn = turn();
    let simulator = std::env::var_os("SAKIMORI_MOTO").is_some();
    if !able() || !harness::needs(simulator, "the AWS simulator in SAKIMORI_MOTO (make test sets it)") {
        return;
    }
    let state = || {
        let out = Command::new("nft").args(["list", "tables"]).output().unwrap();
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let mounts: Vec<&str> = mounts.lines().filter(|line| line.contains("sakimori-demo")).collect();
        (String::from_utf8(out.stdout).unwrap(), mounts.join("\n"))
    };
    let before = state();
    bench(&["demo"]);
    assert_eq!(state(), before);
}

#[test]
fn a_replacement_is_protected_before_its_health_check_passes() {
    let _turn = turn();
    let simulator = std::env::var_os("SAKIMORI_MOTO").is_some();
    if able() && harness::needs(simulator, "the AWS simulator in SAKIMORI_MOTO (make test sets it)") {
        bench(&["replacement"]);
    }
}

#[test]
fn thousands_of_blocks_come_and_go() {
    let _turn = turn();
    if able() {
        bench(&["many-blocks", "--addresses", "5000"]);
    }
}
