//! `instance_replace`: an instance leaves its Auto Scaling group, which puts another one in its place; it stays there for
//! the investigation, on standby or detached.

use sakimori_model::Order;
use serde::{Deserialize, Serialize};

use super::{Descriptor, Input, Runs, Safety, TargetKind, instance};

/// Slug.
pub const ID: &str = "instance_replace";
/// Input: how it leaves.
pub const HOW: Input = Input {
    name: "how",
    about: "detach (as without it): it leaves the group, which launches another; standby: it stays in the group without work",
    most: 8,
};
/// Input: is the group told to do with one instance less?
pub const DECREMENT: Input = Input {
    name: "decrement",
    about: "only with standby: yes lowers the desired capacity by one, so that no other is launched; no (as without it)",
    most: 3,
};
/// Input: what of an instance that waits in a lifecycle hook of its launch?
pub const HOOK: Input = Input {
    name: "hook",
    about: "of an instance that waits in a lifecycle hook of its launch, out of which none can leave: wait (as without it) \
            until the hook is over; complete: end the wait, after which it is in service for a moment",
    most: 8,
};

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Replace an instance in its Auto Scaling group",
    title_ja: "Auto Scaling グループのインスタンスを入れ替える",
    config: &[],
    inputs: &[HOW, DECREMENT, HOOK],
    target: TargetKind::Resource(instance::KIND),
    permissions: &[
        "autoscaling:AttachInstances",
        "autoscaling:CompleteLifecycleAction",
        "autoscaling:DescribeAutoScalingGroups",
        "autoscaling:DescribeAutoScalingInstances",
        "autoscaling:DescribeLifecycleHooks",
        "autoscaling:DetachInstances",
        "autoscaling:EnterStandby",
        "autoscaling:ExitStandby",
        "autoscaling:SetInstanceProtection",
        "ec2:DescribeInstances",
    ],
    safety: Safety::Converge,
    undo: Some(
        "takes it out of standby or attaches it again; one that was launched in its place stays, and the remark says so",
    ),
    expires: true,
    blast_radius: "one instance of the group, until the one in its place is ready",
    verification: "reads the state of the instance in its group",
    runs: Runs::Account,
};

/// How the instance leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It leaves the group.
    Detach,
    /// It stays in the group, without work, and another is launched.
    Standby,
    /// It stays in the group, without work, and the group does with one less.
    StandbyLess,
}

/// What was there before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// Its Auto Scaling group.
    pub group: String,
    /// How it leaves.
    pub how: How,
    /// How many instances the group wanted.
    pub desired: i32,
    /// Was it protected from scale-in?
    pub protected: bool,
    /// Is its wait in hooks of its launch ended?
    #[serde(default)]
    pub complete: bool,
}

/// Is the wait in a hook of its launch ended?
///
/// # Errors
/// A value that means nothing.
pub fn completes(order: &Order) -> Result<bool, String> {
    match order.inputs.get(HOOK.name).map(String::as_str) {
        None | Some("" | "wait") => Ok(false),
        Some("complete") => Ok(true),
        Some(other) => Err(format!("hook: {} is neither wait nor complete", super::short(other))),
    }
}

/// How the order wants it.
///
/// # Errors
/// A value that means nothing.
pub fn how(order: &Order) -> Result<How, String> {
    let given = |name: &str| order.inputs.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let less = match given(DECREMENT.name) {
        None | Some("no") => false,
        Some("yes") => true,
        Some(other) => return Err(format!("decrement: {} is neither yes nor no", super::short(other))),
    };
    match given(HOW.name) {
        None | Some("detach") if less => {
            Err("decrement: yes goes with standby only; who detaches wants another one".to_owned())
        }
        None | Some("detach") => Ok(How::Detach),
        Some("standby") if less => Ok(How::StandbyLess),
        Some("standby") => Ok(How::Standby),
        Some(other) => Err(format!("how: {} is neither detach nor standby", super::short(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_is_read_or_refused() {
        let mut order = crate::testing::order("a", "192.0.2.1");
        assert_eq!(how(&order), Ok(How::Detach));
        order.inputs.insert("decrement".into(), "yes".into());
        assert!(how(&order).unwrap_err().contains("standby only"));
        order.inputs.insert("how".into(), "standby".into());
        assert_eq!(how(&order), Ok(How::StandbyLess));
        order.inputs.insert("decrement".into(), "no".into());
        assert_eq!(how(&order), Ok(How::Standby));
        order.inputs.insert("how".into(), "burn".into());
        assert!(how(&order).is_err());
        order.inputs.insert("decrement".into(), "perhaps".into());
        assert!(how(&order).is_err());
        for (given, wanted) in [("", Some(false)), ("wait", Some(false)), ("complete", Some(true)), ("abandon", None)] {
            order.inputs.insert("hook".into(), given.into());
            assert_eq!(completes(&order).ok(), wanted, "{given}");
        }
    }
}
