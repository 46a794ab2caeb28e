//! `desktop_stop`: a virtual desktop is stopped; its user is signed out.

use serde::{Deserialize, Serialize};

use super::{Descriptor, Runs, Safety, TargetKind, desktop};

/// Slug.
pub const ID: &str = "desktop_stop";

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Stop a virtual desktop",
    title_ja: "仮想デスクトップを停止",
    config: &[],
    inputs: &[],
    target: TargetKind::Resource(desktop::KIND),
    permissions: &["workspaces:DescribeWorkspaces", "workspaces:StartWorkspaces", "workspaces:StopWorkspaces"],
    safety: Safety::Converge,
    undo: Some("starts it again, without what was in its memory"),
    expires: true,
    blast_radius: "one desktop and its user",
    verification: "reads the state of the desktop",
    runs: Runs::Account,
};

/// What was there before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// The desktop that was meant.
    pub desktop: String,
    /// Its state, as AWS writes it.
    pub state: String,
}
