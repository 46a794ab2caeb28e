//! `freeze_processes`: halts a process of a host and all that descends from it, and lets them go on where they were.
//!
//! The pure part is [`super::process`]; the effect is [`crate::ports::HostEffect`]; its life is [`crate::host`]. The kernel's
//! freezer of control groups holds them where the host has one that can be written to (version 2), `SIGSTOP` elsewhere, and
//! the record says which. It ends by its expiry, by its undo, and where the agent leaves the host; the kernel has no clock for
//! it, so an agent that is down at its end lets them go on when it is back.

use sakimori_model::{Action, Timestamp};

use super::{Descriptor, Input, Runs, Safety, TargetKind, process};
use crate::wide::Limits;

/// Slug.
pub const ID: &str = "freeze_processes";

/// Most such actions in effect at a time.
pub const MOST_LIVE: usize = 64;

/// How long they are frozen: an hour, and a week at the most.
pub const LIMITS: Limits = Limits { expiry_seconds: 3_600, expiry_most_seconds: 7 * 86_400, grace_seconds: 3_600 };

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Freeze a process and what descends from it",
    title_ja: "プロセスとその子孫を凍結",
    config: &[
        ("response.never_kill", "programs that are never frozen, by their paths"),
        ("response.playbooks_off", "playbooks that do not run"),
    ],
    inputs: &[Input { name: process::DRY_RUN, about: "true: only says what would be frozen", most: 5 }],
    target: TargetKind::Resource(process::KIND),
    permissions: &[
        "root on the host, for its control groups",
        "CAP_KILL on the host",
        "CAP_SYS_PTRACE on the host, to see which program a process runs",
    ],
    safety: Safety::Converge,
    undo: Some(
        "puts them back into the control groups that they were in, and lets those go on that it had stopped itself",
    ),
    expires: true,
    blast_radius: "the processes that are named and their descendants, on one host, until its end: what waits for them waits. \
                   A path or a hash means every process that runs that program. Never process 1, the agent, the kernel's \
                   threads, the listener of sshd and what response.never_kill names",
    verification: "the kernel says that the group is frozen, or the state of each process that it is stopped",
    runs: Runs::Host,
};

/// A person let this target go on and it is to be left alone until then.
pub fn grace<'a>(known: impl Iterator<Item = &'a Action>, wanted: &Action, now: Timestamp) -> Option<Timestamp> {
    let same = known.filter(|one| one.order.action == wanted.order.action && one.order.target == wanted.order.target);
    same.filter_map(|one| one.grace_until).filter(|until| *until > now).max()
}
