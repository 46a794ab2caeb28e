//! `disks_snapshot`: snapshots of all disks of an instance, for the evidence and before something is done to it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Descriptor, Runs, Safety, TargetKind, instance};

/// Slug.
pub const ID: &str = "disks_snapshot";
/// Tag of a snapshot: the action that made it. It is what keeps a repeated action from making a second one.
pub const ACTION_TAG: &str = "sakimori:action";
/// Tag of a snapshot: the instance whose disk it was.
pub const INSTANCE_TAG: &str = "sakimori:instance";

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Snapshot the disks of an instance",
    title_ja: "インスタンスのディスクのスナップショットを取得",
    config: &[],
    inputs: &[],
    target: TargetKind::Resource(instance::KIND),
    permissions: &[
        "ec2:CreateSnapshot",
        "ec2:CreateSnapshots",
        "ec2:CreateTags",
        "ec2:DescribeInstances",
        "ec2:DescribeSnapshots",
    ],
    safety: Safety::Converge,
    // What was kept as evidence is not thrown away by a machine.
    undo: None,
    expires: false,
    blast_radius: "nothing is interrupted; snapshots cost until a person deletes them",
    verification: "reads that each disk has a completed snapshot with the action's tag",
    runs: Runs::Account,
};

/// What was there before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// Volumes to snapshot.
    pub volumes: BTreeSet<String>,
}

/// One snapshot with our tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id.
    pub id: String,
    /// Of which volume.
    pub volume: String,
    /// How far it is.
    pub state: State,
    /// Like `40%`.
    pub progress: String,
}

/// How far a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It failed.
    Failed,
    /// It is being made.
    Pending,
    /// It is there.
    Completed,
}

/// The best snapshot of each volume.
pub fn best(found: &[Snapshot]) -> BTreeMap<&str, &Snapshot> {
    let mut best: BTreeMap<&str, &Snapshot> = BTreeMap::new();
    for one in found {
        let known = best.entry(&one.volume).or_insert(one);
        if one.state > known.state {
            *known = one;
        }
    }
    best
}

/// Volumes that no snapshot of ours shows, whatever became of it: a failed one is not made again by itself.
pub fn missing<'a>(former: &'a Former, found: &[Snapshot]) -> Vec<&'a str> {
    let best = best(found);
    former.volumes.iter().map(String::as_str).filter(|volume| !best.contains_key(volume)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(id: &str, volume: &str, state: State) -> Snapshot {
        Snapshot { id: id.into(), volume: volume.into(), state, progress: String::new() }
    }

    #[test]
    fn each_volume_once() {
        let former = Former { volumes: ["vol-1".to_owned(), "vol-2".to_owned()].into() };
        assert_eq!(missing(&former, &[]), ["vol-1", "vol-2"]);
        let found = [
            one("snap-1", "vol-1", State::Failed),
            one("snap-2", "vol-1", State::Completed),
            one("snap-3", "vol-1", State::Pending),
            one("snap-4", "vol-9", State::Completed),
        ];
        assert_eq!(missing(&former, &found), ["vol-2"]);
        assert_eq!(best(&found)["vol-1"].id, "snap-2");
    }
}
