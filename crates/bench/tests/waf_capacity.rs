//! `sakimori-bench waf-capacity` at a size that a debug build does in seconds: it ends with an error where the sets do not
//! hold exactly the newest and those who come back, and where a rate of AWS was not kept. The full hour is
//! `sakimori-bench waf-capacity` without options.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

use std::process::Command;

fn bench(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sakimori-bench"));
    let out = command.arg("waf-capacity").args(arguments).env("RUST_LOG", "error").output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    println!("{text}");
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    text
}

#[test]
fn a_full_set_keeps_the_newest_and_who_comes_back() {
    // The set turns over in three minutes; who comes back is noted once a minute.
    let small = ["--attackers", "1600", "--minutes", "10", "--capacity", "400", "--returning", "6", "--every", "70"];
    // Simulated time alone: what a debug build on a busy machine takes says nothing.
    let text = bench(&[&small[..], &["--races", "5", "--without-own-time"]].concat());
    let p99: u64 = text.split("p99 ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(p99 < 5_000, "with one change in twenty lost to somebody else: {p99} ms");
}

#[test]
fn a_web_acl_in_front_of_nothing_is_said_and_no_block_claims_to_be_one() {
    let text = bench(&["--attackers", "20", "--minutes", "1", "--returning", "1", "--every", "30", "--unassociated"]);
    assert!(text.contains("stands in front of nothing; associate it with"), "{text}");
}
