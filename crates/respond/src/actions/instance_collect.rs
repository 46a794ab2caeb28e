//! `instance_collect`: a command of AWS Systems Manager collects from an instance what an investigation begins with.
//!
//! The command is sent once: its comment carries the action's id, by which it is found again. What it answers is written by
//! the machine that is under suspicion, so it is bounded and of its control characters only line ends are left.

use sakimori_model::Order;
use serde::{Deserialize, Serialize};

use super::{Descriptor, Input, Runs, Safety, TargetKind, instance};

/// Slug.
pub const ID: &str = "instance_collect";
/// The document of Systems Manager that runs it.
pub const DOCUMENT: &str = "AWS-RunShellScript";
/// Input: where the whole output goes.
pub const BUCKET: Input = Input {
    name: "bucket",
    about: "S3 bucket for the whole output, which the instance's role must be allowed to write to; without it the beginning is kept",
    most: 63,
};
/// Longest part of the output that is kept in the ledger, in bytes.
pub const MAX_OUTPUT: usize = 8 << 10;
/// Seconds that the command may run.
pub const MAX_SECONDS: i32 = 300;
/// Longest comment of a command, in characters (AWS).
const MAX_COMMENT: usize = 100;

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Collect triage data from an instance",
    title_ja: "インスタンスから調査用データを収集",
    config: &[],
    inputs: &[BUCKET],
    target: TargetKind::Resource(instance::KIND),
    permissions: &[
        "ssm:DescribeInstanceInformation",
        "ssm:GetCommandInvocation",
        "ssm:ListCommands",
        "ssm:SendCommand",
    ],
    safety: Safety::Keyed,
    // A command that only reads leaves nothing to take back.
    undo: None,
    expires: false,
    blast_radius: "a command that reads, of at most five minutes, on one instance",
    verification: "reads that the command succeeded",
    runs: Runs::Account,
};

/// What is collected: a title and the command for it, each cut to what fits.
const PARTS: &[(&str, &str)] = &[
    ("time", "date -u '+%Y-%m-%dT%H:%M:%SZ'; uptime"),
    ("system", "uname -a; head -n 3 /etc/os-release"),
    ("signed in", "who; last -n 10 -w"),
    ("processes", "ps -eo pid,ppid,user,lstart,args --sort=-start_time | cut -c 1-200 | head -n 40"),
    ("programs that were deleted", "ls -l /proc/[0-9]*/exe 2>/dev/null | grep '(deleted)' | head -n 20"),
    ("sockets", "ss -tunap | cut -c 1-160 | head -n 40"),
    ("autoruns", "ls -lt /etc/cron* /var/spool/cron /etc/systemd/system 2>/dev/null | head -n 40"),
    ("accounts", "awk -F: '$3 == 0 || $3 >= 1000' /etc/passwd | head -n 30"),
    ("keys", "ls -lt /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys 2>/dev/null | head -n 20"),
    (
        "new files",
        "find /tmp /var/tmp /dev/shm -xdev -type f -mtime -2 -size -10M 2>/dev/null | head -n 40 | xargs -r -d '\\n' sha256sum",
    ),
];

/// The lines of the command.
pub fn script() -> Vec<String> {
    let part = |(title, command): &(&str, &str)| format!("echo '== {title}'; ({command}) 2>&1 | head -c 2000");
    PARTS.iter().map(part).collect()
}

/// What was there before: nothing that this action changes; what it was sent to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// The document that runs it.
    pub document: String,
}

/// The comment by which the command of an action is found again.
pub fn comment(action: &str) -> String {
    format!("sakimori {action}").chars().take(MAX_COMMENT).collect()
}

/// The bucket for the output, where the order names one.
///
/// # Errors
/// It cannot be a bucket's name.
pub fn bucket(order: &Order) -> Result<Option<&str>, String> {
    let Some(name) = order.inputs.get(BUCKET.name).map(String::as_str).filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let right = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    match (3..=63).contains(&name.len()) && name.bytes().all(right) {
        true => Ok(Some(name)),
        false => Err(format!("bucket: {} is no name of a bucket", super::short(name))),
    }
}

/// What is kept of an output: at most [`MAX_OUTPUT`] bytes, and no control characters but line ends and tabs.
pub fn kept(output: &str) -> String {
    let mut kept = String::new();
    for c in output.chars() {
        let c = if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c };
        if kept.len() + c.len_utf8() > MAX_OUTPUT - 64 {
            kept.push_str("\n[the rest is cut off]");
            break;
        }
        kept.push(c);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_command_is_found_by_its_comment() {
        assert_eq!(comment("abc"), "sakimori abc");
        assert_eq!(comment(&"x".repeat(300)).len(), MAX_COMMENT);
    }

    #[test]
    fn a_bucket_or_none() {
        let mut order = crate::testing::order("a", "192.0.2.1");
        assert_eq!(bucket(&order), Ok(None));
        order.inputs.insert("bucket".into(), "triage-1.example".into());
        assert_eq!(bucket(&order), Ok(Some("triage-1.example")));
        for wrong in ["ab", "Photos", "a b c", "../../x"] {
            order.inputs.insert("bucket".into(), wrong.into());
            assert!(bucket(&order).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_script_runs_in_a_shell() {
        let text = script().join("\n");
        let out = std::process::Command::new("sh").args(["-n", "-c", &text]).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }

    proptest! {
        #[test]
        fn what_is_kept_is_bounded_and_plain(text in "(?s).{0,3000}", times in 1_usize..8) {
            let kept = kept(&text.repeat(times));
            prop_assert!(kept.len() <= MAX_OUTPUT);
            prop_assert!(kept.chars().all(|c| !c.is_control() || c == '\n' || c == '\t'));
        }
    }
}
