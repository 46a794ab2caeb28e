//! Processes of a host as a target, which `kill_tree` and `freeze_processes` share: how one is named, and what is asked of an
//! order before the host looks at its processes. Pure; who is in the tree and who is spared is the host's part
//! (`host::processes`).
//!
//! A process is named in one of three ways:
//! - `4711@123456`: its number, and the moment of its start in clock ticks since the host's own start. Both together name one
//!   process for good, so that a number that was used again is never hit;
//! - `/tmp/.x/miner`: every process that runs this program;
//! - `sha256:…`: every process that runs a program of this content.
//!
//! Each time what descends from them is meant too.

use std::collections::BTreeMap;

use sakimori_model::action::Target;
use sakimori_model::{Order, Timestamp};

use super::Descriptor;
use crate::guard::{Rate, Verdict};
use crate::wide;

/// Kind of the target.
pub const KIND: &str = "process";
/// Name of the input that asks for nothing but what would be done.
pub const DRY_RUN: &str = "dry_run";
/// Most such actions that alerts may lead to in a minute: a person is not held up by what a flood asked for.
pub const MOST_PER_MINUTE: u32 = 30;

/// Which processes are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aim {
    /// One.
    One {
        /// Its number.
        pid: u32,
        /// When it began, in clock ticks since the start of the host (`/proc/PID/stat`, field 22).
        start: u64,
    },
    /// All that run the program at this path.
    Program(String),
    /// All that run a program of this content: SHA-256, hexadecimal, in small letters.
    Content(String),
}

/// The name of one process.
pub fn name(pid: u32, start: u64) -> String {
    format!("{pid}@{start}")
}

/// What an order is about.
///
/// # Errors
/// It names no process.
pub fn aim(order: &Order) -> Result<Aim, String> {
    let wrong = || {
        let said = super::short(&order.target.to_string());
        format!("{said:?} names no process: 4711@123456 (number and start), the path of a program, or sha256:…")
    };
    let name = order.target.name_of(KIND).ok_or_else(wrong)?;
    if name.len() > super::MAX_NAME || name.contains(char::is_control) {
        return Err(wrong());
    }
    if let Some(sum) = name.strip_prefix("sha256:") {
        let right = sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
        return if right { Ok(Aim::Content(sum.to_ascii_lowercase())) } else { Err(wrong()) };
    }
    if name.starts_with('/') {
        return Ok(Aim::Program(name.to_owned()));
    }
    let (pid, start) = name.split_once('@').ok_or_else(wrong)?;
    // As the kernel writes them, and in no other way.
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(pid) || !plain(start) {
        return Err(wrong());
    }
    let (pid, start) = (pid.parse().map_err(|_| wrong())?, start.parse().map_err(|_| wrong())?);
    if pid < 2 {
        return Err(format!("process {pid} is never touched"));
    }
    Ok(Aim::One { pid, start })
}

/// Does the order ask for nothing but what would be done?
pub fn is_dry_run(order: &Order) -> bool {
    order.inputs.get(DRY_RUN).is_some_and(|value| value == "true")
}

/// May it be begun, as far as the order itself tells? `rate` counts what alerts led to lately.
pub fn judge(order: &Order, descriptor: &Descriptor, rate: &mut Rate, now: Timestamp) -> Verdict {
    if let Err(reason) = check_inputs(&order.inputs, descriptor).and_then(|()| aim(order)) {
        return Verdict::Refused(reason);
    }
    if order.inputs.get(DRY_RUN).is_some_and(|value| value != "true" && value != "false") {
        return Verdict::Refused(format!("{DRY_RUN} is true or false"));
    }
    in_time(order, descriptor, rate, now)
}

/// Are these inputs that the action knows, and no longer than they may be?
///
/// # Errors
/// Which is not, or how long it may be.
pub fn check_inputs(inputs: &BTreeMap<String, String>, descriptor: &Descriptor) -> Result<(), String> {
    for (name, value) in inputs {
        match descriptor.inputs.iter().find(|input| input.name == name) {
            None => return Err(format!("{} has no input {}", descriptor.id, super::short(name))),
            Some(input) if value.len() > input.most => return Err(format!("{name} has at most {} bytes", input.most)),
            Some(_) => {}
        }
    }
    Ok(())
}

/// Is there time for it, and room in the minute?
pub(crate) fn in_time(order: &Order, descriptor: &Descriptor, rate: &mut Rate, now: Timestamp) -> Verdict {
    if order.expiry.is_some_and(|end| end <= now) {
        return Verdict::Refused("its time was up before it could be carried out".to_owned());
    }
    if !wide::by_hand(&order.cause) && !rate.take(now, MOST_PER_MINUTE) {
        let id = descriptor.id;
        return Verdict::Refused(format!("the most {id} a minute that alerts lead to, {MOST_PER_MINUTE}, were begun"));
    }
    Verdict::Allowed
}

/// As a target.
pub fn target(name: &str) -> Target {
    Target::resource(KIND, name)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::actions::kill_tree::{DESCRIPTOR, ID};
    use crate::testing::now;
    use proptest::prelude::*;

    pub(crate) fn order(action: &str, name: &str) -> Order {
        let mut order = crate::testing::order("a", "192.0.2.1");
        (order.action, order.target) = (action.to_owned(), target(name));
        order
    }

    #[test]
    fn three_ways_to_name_processes_and_no_other() {
        let sum = "aB".repeat(32);
        for (name, meant) in [
            ("4711@123456", Aim::One { pid: 4711, start: 123_456 }),
            ("/tmp/. x/mi ner", Aim::Program("/tmp/. x/mi ner".into())),
            (&format!("sha256:{sum}"), Aim::Content(sum.to_lowercase())),
        ] {
            assert_eq!(aim(&order(ID, name)), Ok(meant), "{name}");
        }
        for wrong in [
            "",
            "4711",
            "4711@",
            "@5",
            "+4711@5",
            "4711@-5",
            " 1@5",
            "1@5",
            "0@0",
            "sha256:ab",
            "x/y",
            "/a\nb",
            "99999999999999@1",
        ] {
            assert!(aim(&order(ID, wrong)).is_err(), "{wrong:?}");
        }
        let mut other = order(ID, "4711@5");
        other.target = Target::File("/bin/sh".into());
        assert!(aim(&other).is_err());
        assert!(
            super::super::resource(KIND, "/tmp/a b").is_ok() && super::super::resource("bucket", "/tmp/a b").is_err()
        );
    }

    #[test]
    fn what_is_wrong_is_refused_and_a_flood_is_bounded() {
        let (mut rate, fine) = (Rate::default(), order(ID, "4711@5"));
        let mut strange = fine.clone();
        strange.inputs.insert("signal".into(), "9".into());
        let mut unsure = fine.clone();
        unsure.inputs.insert(DRY_RUN.into(), "maybe".into());
        let late = Order { expiry: Some(now(0)), ..fine.clone() };
        for wrong in [&strange, &unsure, &late, &order(ID, "x")] {
            assert!(matches!(judge(wrong, &DESCRIPTOR, &mut rate, now(0)), Verdict::Refused(_)), "{wrong:?}");
        }
        let begun = (0..100).filter(|_| judge(&fine, &DESCRIPTOR, &mut rate, now(0)) == Verdict::Allowed).count();
        assert_eq!(begun, 30);
        let mut by_hand = fine;
        by_hand.cause.alert.clear();
        assert_eq!(judge(&by_hand, &DESCRIPTOR, &mut rate, now(0)), Verdict::Allowed, "a person is not held up");
    }

    proptest! {
        #[test]
        fn a_name_is_read_as_it_is_written(pid in 2_u32.., start: u64, any in ".{0,80}") {
            prop_assert_eq!(aim(&order(ID, &name(pid, start))), Ok(Aim::One { pid, start }));
            let _ = aim(&order(ID, &any));
        }
    }
}
