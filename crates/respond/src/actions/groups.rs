//! Isolation by security groups, the pure part: which interface needs which step, what is kept for the way back, and where.
//!
//! The groups that an interface had are kept twice: in the ledger, and as tags of the isolated resource, where a person
//! finds them without us. Used by `instance_isolate` and `desktop_isolate`.

use std::collections::{BTreeMap, BTreeSet};

use sakimori_model::Order;
use serde::{Deserialize, Serialize};

use super::Input;

/// Name of the isolation group, where the order names none: made in the VPC where it is missing, with no rule at all.
pub const NAME: &str = "sakimori-isolation";
/// Begin of the names of the groups that end tracked connections; the action's id follows.
pub const CUT_PREFIX: &str = "sakimori-cut-";
/// Begin of the tags that keep the former groups; the action's id and the interface follow.
pub const TAG_PREFIX: &str = "sakimori:groups:";
/// Tag of the groups that we made, with its value.
pub const OURS: (&str, &str) = ("sakimori:made-for", "isolation");
/// Longest value of a tag, in characters (AWS).
const MAX_TAG: usize = 256;
/// So much of an action's id goes into names.
const MAX_ID: usize = 72;

/// Input: the isolation group, where not the one that is called [`NAME`].
pub const ISOLATION_GROUP: Input = Input {
    name: "isolation_group",
    about: "id of the security group to isolate with; without it sakimori-isolation of the VPC, made where it is missing",
    most: 32,
};
/// Input: what becomes of connections that are open.
pub const CONNECTIONS: Input = Input {
    name: "connections",
    about: "cut (as without it): tracked connections are ended, for which all ports are open for a moment; keep: they go on",
    most: 8,
};

/// What an order wants.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The isolation group that it names.
    pub group: Option<&'a str>,
    /// Are tracked connections ended?
    pub cut: bool,
}

/// Reads the inputs of an order.
///
/// # Errors
/// A value that means nothing.
pub fn wanted(order: &Order) -> Result<Wanted<'_>, String> {
    let given = |name: &str| order.inputs.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let group = given(ISOLATION_GROUP.name);
    if let Some(group) = group.filter(|group| !super::instance::is_id("sg-", group)) {
        return Err(format!("isolation_group: {} is no security group's id, like sg-0a1b2c3d", super::short(group)));
    }
    let cut = match given(CONNECTIONS.name) {
        None | Some("cut") => true,
        Some("keep") => false,
        Some(other) => return Err(format!("connections: {} is neither cut nor keep", super::short(other))),
    };
    Ok(Wanted { group, cut })
}

/// What was there before: the interfaces that this action isolates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// Id of the resource that carries the tags.
    pub holder: String,
    /// By interface.
    pub interfaces: BTreeMap<String, Held>,
}

/// One interface as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its VPC: a security group belongs to one.
    pub vpc: String,
    /// Its security groups.
    pub groups: Vec<String>,
}

/// Name of the group with which this action ends tracked connections.
pub fn cut_name(action: &str) -> String {
    format!("{CUT_PREFIX}{}", plain(action))
}

/// Key of the tag that keeps an interface's groups for this action.
pub fn tag(action: &str, interface: &str) -> String {
    format!("{TAG_PREFIX}{}:{interface}", plain(action))
}

/// The interface that a tag of this action is about.
pub fn of_tag<'a>(action: &str, key: &'a str) -> Option<&'a str> {
    key.strip_prefix(TAG_PREFIX)?.strip_prefix(plain(action).as_str())?.strip_prefix(':')
}

/// Groups as the value of a tag; `None` where there are more than a tag holds.
pub fn to_value(groups: &[String]) -> Option<String> {
    let text = groups.join(" ");
    (text.len() <= MAX_TAG).then_some(text)
}

/// What [`to_value`] wrote. Tags are anybody's to write: what is no group's id is left out.
pub fn from_value(value: &str) -> Vec<String> {
    value.split_whitespace().filter(|group| super::instance::is_id("sg-", group)).map(str::to_owned).collect()
}

/// Names and tags of AWS take few characters.
fn plain(action: &str) -> String {
    action.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' }).take(MAX_ID).collect()
}

/// What isolating an interface still needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is isolated.
    Nothing,
    /// Its tracked connections are to be ended first.
    CutFirst,
    /// It goes into the isolation group.
    Isolate,
}

/// The next step of an interface with these groups.
pub fn next(current: &[String], isolation: &str, cut: Option<&str>) -> Step {
    let only = |group: &str| matches!(current, [one] if one == group);
    match cut {
        _ if only(isolation) => Step::Nothing,
        Some(cut) if !only(cut) => Step::CutFirst,
        _ => Step::Isolate,
    }
}

/// What the way back is for an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Back {
    /// It has what it had.
    Already,
    /// These groups are put back.
    Put(Vec<String>),
    /// Somebody else gave it groups meanwhile, none of them ours: they stay.
    ByOthers,
    /// None of its groups exists any more.
    Gone,
}

/// The way back from `current` to `former`, of which only `existing` are still there. `ours` are the groups that we isolate
/// and cut with.
pub fn back(current: &[String], former: &[String], ours: &BTreeSet<String>, existing: &BTreeSet<String>) -> Back {
    let set = |groups: &[String]| groups.iter().cloned().collect::<BTreeSet<_>>();
    if set(current) == set(former) {
        return Back::Already;
    }
    if set(current).is_disjoint(ours) {
        return Back::ByOthers;
    }
    let left: Vec<String> = former.iter().filter(|group| existing.contains(*group)).cloned().collect();
    match left.is_empty() {
        true => Back::Gone,
        false if set(&left) == set(current) => Back::Already,
        false => Back::Put(left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn inputs_are_read_or_refused() {
        let mut order = crate::testing::order("a", "192.0.2.1");
        assert_eq!(wanted(&order), Ok(Wanted { group: None, cut: true }));
        order.inputs.insert("isolation_group".into(), "sg-0a1b2c3d".into());
        order.inputs.insert("connections".into(), "keep".into());
        assert_eq!(wanted(&order), Ok(Wanted { group: Some("sg-0a1b2c3d"), cut: false }));
        order.inputs.insert("connections".into(), "perhaps".into());
        assert!(wanted(&order).unwrap_err().contains("neither cut nor keep"));
        order.inputs.insert("isolation_group".into(), "default".into());
        assert!(wanted(&order).unwrap_err().contains("isolation_group"));
    }

    #[test]
    fn steps_in_their_order() {
        assert_eq!(next(&list("sg-a sg-b"), "sg-i", Some("sg-c")), Step::CutFirst);
        assert_eq!(next(&list("sg-c"), "sg-i", Some("sg-c")), Step::Isolate);
        assert_eq!(
            next(&list("sg-i sg-a"), "sg-i", Some("sg-c")),
            Step::CutFirst,
            "isolated means by this group alone"
        );
        assert_eq!(next(&list("sg-a"), "sg-i", None), Step::Isolate);
        assert_eq!(next(&list("sg-i"), "sg-i", Some("sg-c")), Step::Nothing);
    }

    #[test]
    fn a_tag_keeps_what_fits_and_gives_back_groups_only() {
        let groups: Vec<String> = (0..12).map(|n| format!("sg-0a1b2c3d4e5f607{n:02}")).collect();
        assert_eq!(from_value(&to_value(&groups).unwrap()), groups);
        let many: Vec<String> = (0..13).map(|n| format!("sg-0a1b2c3d4e5f607{n:02}")).collect();
        assert_eq!(to_value(&many), None);
        assert_eq!(from_value("sg-0a1b2c3d rm -rf sg- sg-zz"), ["sg-0a1b2c3d"]);
        let key = tag("a/b c", "eni-1");
        assert_eq!(key, "sakimori:groups:a-b-c:eni-1");
        assert_eq!(of_tag("a/b c", &key), Some("eni-1"));
        assert_eq!(of_tag("a/b", &key), None, "of another action");
        assert!(tag(&"x".repeat(300), "eni-0a1b2c3d4e5f60718").len() <= 128);
    }

    #[test]
    fn the_way_back_respects_what_others_did() {
        let ours: BTreeSet<String> = ["sg-i".to_owned(), "sg-c".to_owned()].into();
        let all: BTreeSet<String> = list("sg-a sg-b").into_iter().collect();
        assert_eq!(back(&list("sg-i"), &list("sg-a sg-b"), &ours, &all), Back::Put(list("sg-a sg-b")));
        assert_eq!(
            back(&list("sg-c"), &list("sg-a"), &ours, &all),
            Back::Put(list("sg-a")),
            "after a crash on the way in"
        );
        assert_eq!(back(&list("sg-b sg-a"), &list("sg-a sg-b"), &ours, &all), Back::Already);
        assert_eq!(back(&list("sg-x"), &list("sg-a"), &ours, &all), Back::ByOthers);
        let one: BTreeSet<String> = list("sg-b").into_iter().collect();
        assert_eq!(back(&list("sg-i"), &list("sg-a sg-b"), &ours, &one), Back::Put(list("sg-b")));
        assert_eq!(back(&list("sg-i"), &list("sg-a"), &ours, &BTreeSet::new()), Back::Gone);
    }

    proptest! {
        #[test]
        fn from_wherever_it_stopped_the_way_in_ends_isolated_and_the_way_back_as_before(
            former in prop::collection::btree_set("sg-[a-f]", 1..6), at in 0_usize..3, cut in any::<bool>(),
        ) {
            let former: Vec<String> = former.into_iter().collect();
            let cutting = cut.then_some("sg-cut");
            let mut current = former.clone();
            let step = |current: &mut Vec<String>| match next(current, "sg-iso", cutting) {
                Step::Nothing => {}
                Step::CutFirst => *current = vec!["sg-cut".to_owned()],
                Step::Isolate => *current = vec!["sg-iso".to_owned()],
            };
            for _ in 0..at {
                step(&mut current);
            }
            let ours: BTreeSet<String> = ["sg-iso".to_owned(), "sg-cut".to_owned()].into();
            let existing: BTreeSet<String> = former.iter().cloned().collect();
            match back(&current, &former, &ours, &existing) {
                Back::Already => prop_assert_eq!(&current, &former),
                Back::Put(groups) => prop_assert_eq!(groups, former.clone()),
                other => prop_assert!(false, "{:?}", other),
            }
            for _ in 0..3 {
                step(&mut current);
            }
            prop_assert_eq!(current, vec!["sg-iso".to_owned()]);
        }
    }
}
