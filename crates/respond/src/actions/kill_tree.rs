//! `kill_tree`: ends a process of a host and all that descends from it.
//!
//! The pure part is [`super::process`]; the effect is [`crate::ports::HostEffect`], which stops the tree from its root down
//! before it ends any of it, so that none gets away by being faster; its life is [`crate::host`]. Nobody gives a process back,
//! so the order says so before: [`DESCRIPTOR`] has no undo, and whoever is not sure freezes instead
//! ([`super::freeze_processes`]). What was ended is in the record.

use super::{Descriptor, Input, Runs, Safety, TargetKind, process};

/// Slug.
pub const ID: &str = "kill_tree";

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "End a process and what descends from it",
    title_ja: "プロセスとその子孫を終了",
    config: &[
        ("response.never_kill", "programs that are never ended, by their paths"),
        ("response.playbooks_off", "playbooks that do not run"),
    ],
    inputs: &[Input { name: process::DRY_RUN, about: "true: only says what would be ended", most: 5 }],
    target: TargetKind::Resource(process::KIND),
    permissions: &["CAP_KILL on the host", "CAP_SYS_PTRACE on the host, to see which program a process runs"],
    safety: Safety::Converge,
    undo: None,
    expires: false,
    blast_radius: "the processes that are named and their descendants, on one host, for good: it cannot be taken back. A path \
                   or a hash means every process that runs that program. Never process 1, the agent, the kernel's threads, \
                   the listener of sshd and what response.never_kill names",
    verification: "reads the host's processes again until none of them is left",
    runs: Runs::Host,
};
