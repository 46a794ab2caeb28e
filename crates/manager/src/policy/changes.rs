//! What a change of a layer changes: of the layer itself, and of what applies to hosts. Pure.
//!
//! Hosts with the same layers are one group: what applies is merged once for each, before and after, and compared leaf by
//! leaf, each with the layers that set it.

use std::collections::{BTreeMap, BTreeSet};

use sakimori_model::policy::{Effective, Layer, PolicyError, default_layer, merge};
use serde_json::{Map, Value as Json};

use super::names_of;

/// A host as far as policy is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Agent.
    pub agent: String,
    /// Host name.
    pub name: String,
    /// Its groups.
    pub tags: Vec<String>,
}

/// A leaf that a layer says otherwise; `None` where it says nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// Dotted path.
    pub path: String,
    /// Before.
    pub before: Option<Json>,
    /// After.
    pub after: Option<Json>,
}

/// A setting that applies otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Applies {
    /// Dotted path.
    pub path: String,
    /// What applied.
    pub before: Json,
    /// What is to apply.
    pub after: Json,
    /// Layers that set it, the deciding one last.
    pub before_from: Vec<String>,
    /// Likewise afterwards.
    pub after_from: Vec<String>,
}

/// Hosts that have the same layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The layers that are there, the most general first.
    pub layers: Vec<String>,
    /// The hosts.
    pub hosts: Vec<Host>,
    /// What applies to them otherwise; empty where nothing does.
    pub changes: Vec<Applies>,
}

/// Leaves of a layer, by their dotted paths. A list is a leaf, and what edits one (`add`, `remove`) is one too.
fn leaves(tree: &Map<String, Json>) -> BTreeMap<String, &Json> {
    fn walk<'a>(tree: &'a Map<String, Json>, above: &str, out: &mut BTreeMap<String, &'a Json>) {
        for (name, value) in tree {
            let path = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
            match value {
                Json::Object(below) if !below.contains_key("add") && !below.contains_key("remove") => {
                    walk(below, &path, out);
                }
                leaf => {
                    out.insert(path, leaf);
                }
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(tree, "", &mut out);
    out
}

/// What a layer says otherwise, by path.
pub fn of_layer(before: &Map<String, Json>, after: &Map<String, Json>) -> Vec<Said> {
    let (before, after) = (leaves(before), leaves(after));
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let said = paths.into_iter().map(|path| Said {
        path: path.clone(),
        before: before.get(path).map(|value| (*value).clone()),
        after: after.get(path).map(|value| (*value).clone()),
    });
    said.filter(|said| said.before != said.after).collect()
}

/// What applies otherwise, by path.
fn of_effective(before: &Effective, after: &Effective) -> Vec<Applies> {
    let tree = |effective: &Effective| serde_json::to_value(&effective.policy).unwrap_or_default();
    let (old, new) = (tree(before), tree(after));
    let at = |tree: &Json, path: &str| {
        path.split('.').try_fold(tree, |at, name| at.get(name)).cloned().unwrap_or(Json::Null)
    };
    let from = |effective: &Effective, path: &str| effective.origin.get(path).cloned().unwrap_or_default();
    let paths: BTreeSet<&String> = before.origin.keys().chain(after.origin.keys()).collect();
    let all = paths.into_iter().map(|path| Applies {
        before: at(&old, path),
        after: at(&new, path),
        before_from: from(before, path),
        after_from: from(after, path),
        path: path.clone(),
    });
    all.filter(|one| one.before != one.after).collect()
}

/// What a layer's change does to these hosts. `current` are the layers in force without the changed one, by name.
///
/// # Errors
/// Layers that cannot be merged, before or after.
pub fn of_hosts(
    current: &BTreeMap<String, Map<String, Json>>,
    layer: &str,
    (before, after): (Option<&Map<String, Json>>, Option<&Map<String, Json>>),
    hosts: &[Host],
) -> Result<Vec<Group>, PolicyError> {
    let mut groups: BTreeMap<Vec<String>, Vec<Host>> = BTreeMap::new();
    for host in hosts {
        let mut names = names_of(&host.agent, &host.tags);
        names.retain(|name| name == layer || current.contains_key(name));
        groups.entry(names).or_default().push(host.clone());
    }
    let merged = |names: &[String], of: Option<&Map<String, Json>>| {
        let mut layers = vec![default_layer()];
        for name in names {
            let tree = if name == layer { of } else { current.get(name) };
            layers.extend(tree.map(|tree| Layer { name: name.clone(), tree: tree.clone() }));
        }
        merge(&layers)
    };
    let mut out = Vec::new();
    for (layers, hosts) in groups {
        let changes = match layers.iter().any(|name| name == layer) {
            true => of_effective(&merged(&layers, before)?, &merged(&layers, after)?),
            false => Vec::new(),
        };
        out.push(Group { layers, hosts, changes });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn object(json: Json) -> Map<String, Json> {
        json.as_object().cloned().unwrap()
    }

    fn host(agent: &str, tags: &[&str]) -> Host {
        let tags = tags.iter().map(ToString::to_string).collect();
        Host { agent: agent.into(), name: format!("name-{agent}"), tags }
    }

    fn seconds(seconds: i64) -> Map<String, Json> {
        object(json!({"modules": {"block_address": {"expiry_seconds": seconds}}}))
    }

    #[test]
    fn what_a_layer_says_is_compared_leaf_by_leaf() {
        let before = object(json!({"a": {"b": 1, "c": 2}, "list": [1]}));
        let after = object(json!({"a": {"b": 1, "d": "x"}, "list": {"add": [2]}}));
        let said = of_layer(&before, &after);
        let shown: Vec<_> =
            said.iter().map(|said| (said.path.as_str(), said.before.clone(), said.after.clone())).collect();
        assert_eq!(
            shown,
            [
                ("a.c", Some(json!(2)), None),
                ("a.d", None, Some(json!("x"))),
                ("list", Some(json!([1])), Some(json!({"add": [2]}))),
            ]
        );
        assert_eq!(of_layer(&before, &before), []);
    }

    #[test]
    fn only_hosts_are_affected_to_whom_no_nearer_layer_says_something_else() {
        let web = ("group:web".to_owned(), seconds(60));
        let pinned = ("host:c".to_owned(), seconds(5));
        let current = BTreeMap::from([web, pinned]);
        let hosts = [host("a", &[]), host("b", &["web"]), host("c", &[]), host("d", &[])];
        let groups = of_hosts(&current, "tenant", (None, Some(&seconds(9))), &hosts).unwrap();
        let changed: Vec<&Group> = groups.iter().filter(|group| !group.changes.is_empty()).collect();
        assert_eq!(changed.len(), 1);
        let names: Vec<&str> = changed[0].hosts.iter().map(|host| host.agent.as_str()).collect();
        assert_eq!(names, ["a", "d"]);
        let one = &changed[0].changes[0];
        assert_eq!(
            (one.path.as_str(), &one.before, &one.after),
            ("modules.block_address.expiry_seconds", &json!(3600), &json!(9))
        );
        assert_eq!(
            (one.before_from.as_slice(), one.after_from.as_slice()),
            (["default".to_owned()].as_slice(), ["tenant".to_owned()].as_slice())
        );
        assert_eq!(groups.iter().map(|group| group.hosts.len()).sum::<usize>(), 4);
    }

    #[test]
    fn a_layer_of_a_group_concerns_its_hosts_and_one_that_breaks_is_named() {
        let hosts = [host("a", &["web", "eu"]), host("b", &["eu"])];
        let groups = of_hosts(&BTreeMap::new(), "group:web", (Some(&seconds(1)), None), &hosts).unwrap();
        assert_eq!(groups.iter().filter(|group| !group.changes.is_empty()).count(), 1);
        let wrong = object(json!({"modules": {"nothing": 1}}));
        let error = of_hosts(&BTreeMap::new(), "group:web", (None, Some(&wrong)), &hosts).unwrap_err();
        assert_eq!((error.layer.as_str(), error.path.as_str()), ("group:web", "modules.nothing"));
    }

    proptest! {
        #[test]
        fn the_same_layer_changes_nothing_and_back_is_the_opposite(one in 0_i64..50, two in 0_i64..50) {
            let hosts = [host("a", &[])];
            let changes = |before: i64, after: i64| {
                let (before, after) = (seconds(before), seconds(after));
                of_hosts(&BTreeMap::new(), "tenant", (Some(&before), Some(&after)), &hosts).unwrap()[0].changes.clone()
            };
            prop_assert_eq!(changes(one, one), Vec::new());
            let (there, back) = (changes(one, two), changes(two, one));
            prop_assert_eq!(there.len(), back.len());
            for (there, back) in there.iter().zip(&back) {
                prop_assert_eq!((&there.before, &there.after), (&back.after, &back.before));
            }
        }
    }
}
