//! Merging of layers: a leaf is replaced whole, lists too unless `add:` or `remove:` is written; `inherit` as a leaf's value
//! means the layer says nothing. [`merge`] is pure and keeps for every leaf the layer that set it, so that "what applies here,
//! and why" has one answer.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::Policy;

/// Settings of several parts that are one: a layer replaces them whole.
pub(super) const WHOLE: &[&str] = &["modules.antimalware.absent"];

/// A layer: its name (`default`, `tenant`, `group:web`, `host`) and what it says.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Shown beside each leaf that it set.
    pub name: String,
    /// A tree in the form of [`Policy`], with any leaf left out.
    pub tree: Map<String, Json>,
}

/// The result of merging.
#[derive(Clone, Debug, PartialEq)]
pub struct Effective {
    /// What applies.
    pub policy: Policy,
    /// For each leaf, by dotted path, the layers that set it, the deciding one last.
    pub origin: BTreeMap<String, Vec<String>>,
}

/// A policy that cannot be used: the layer, the place in it, and why.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("policy layer {layer}: {path}: {reason}")]
pub struct PolicyError {
    /// Name of the layer.
    pub layer: String,
    /// Dotted path.
    pub path: String,
    /// What is wrong.
    pub reason: String,
}

/// Merges layers from the most general to the most special. The first must be complete
/// ([`super::default_layer`]).
///
/// # Errors
/// The first layer and path that is unknown or of the wrong type.
pub fn merge(layers: &[Layer]) -> Result<Effective, PolicyError> {
    let mut tree = Map::new();
    let mut origin: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut policy = None;
    for (number, layer) in layers.iter().enumerate() {
        if number > 0 {
            known(&tree, &layer.tree, "", layer)?;
        }
        overlay(&mut tree, &layer.tree, "", layer, &mut origin)?;
        // Checked after every layer, so that the error names the one that broke it.
        policy = Some(typed(&tree, layer)?);
    }
    policy.map(|policy| Effective { policy, origin }).ok_or_else(|| PolicyError {
        layer: "none".into(),
        path: String::new(),
        reason: "no layer was given".into(),
    })
}

fn typed(tree: &Map<String, Json>, layer: &Layer) -> Result<Policy, PolicyError> {
    serde_json::from_value(Json::Object(tree.clone())).map_err(|error| PolicyError {
        layer: layer.name.clone(),
        path: "policy".into(),
        reason: error.to_string(),
    })
}

/// Every group that a layer names must exist; a leaf's own content is checked by its type.
fn known(
    base: &Map<String, Json>,
    layer_tree: &Map<String, Json>,
    path: &str,
    layer: &Layer,
) -> Result<(), PolicyError> {
    for (name, value) in layer_tree {
        let path = join(path, name);
        match (base.get(name), value) {
            (None, _) => {
                let mut names: Vec<&str> = base.keys().map(String::as_str).collect();
                names.sort_unstable();
                return Err(PolicyError {
                    layer: layer.name.clone(),
                    path,
                    reason: format!("unknown key; known here: {}", names.join(", ")),
                });
            }
            (Some(Json::Object(_)), Json::Object(_)) if WHOLE.contains(&path.as_str()) => {}
            (Some(Json::Object(base)), Json::Object(inner)) => known(base, inner, &path, layer)?,
            (Some(Json::Object(_)), Json::String(word)) if word == "inherit" => {}
            (Some(Json::Object(_)), _) => {
                return Err(PolicyError {
                    layer: layer.name.clone(),
                    path,
                    reason: "expected a group of settings".into(),
                });
            }
            (Some(_), _) => {}
        }
    }
    Ok(())
}

fn overlay(
    tree: &mut Map<String, Json>,
    over: &Map<String, Json>,
    path: &str,
    layer: &Layer,
    origin: &mut BTreeMap<String, Vec<String>>,
) -> Result<(), PolicyError> {
    for (name, value) in over {
        let path = join(path, name);
        match (tree.get_mut(name), value) {
            (_, Json::String(word)) if word == "inherit" => {}
            (Some(Json::Object(below)), Json::Object(inner)) if !WHOLE.contains(&path.as_str()) => {
                overlay(below, inner, &path, layer, origin)?;
            }
            (None, Json::Object(inner)) => {
                let mut below = Map::new();
                overlay(&mut below, inner, &path, layer, origin)?;
                tree.insert(name.clone(), Json::Object(below));
            }
            (Some(Json::Array(list)), Json::Object(edit)) => {
                edit_list(list, edit).map_err(|reason| PolicyError {
                    layer: layer.name.clone(),
                    path: path.clone(),
                    reason,
                })?;
                origin.entry(path).or_default().push(layer.name.clone());
            }
            (_, value) => {
                tree.insert(name.clone(), value.clone());
                origin.insert(path, vec![layer.name.clone()]);
            }
        }
    }
    Ok(())
}

/// `add:` appends what is not there, `remove:` takes out equal values, or, of named items, those of that name.
fn edit_list(list: &mut Vec<Json>, edit: &Map<String, Json>) -> Result<(), String> {
    for (verb, values) in edit {
        let Json::Array(values) = values else { return Err(format!("{verb}: expected a list")) };
        match verb.as_str() {
            "add" => {
                for value in values {
                    if !list.contains(value) {
                        list.push(value.clone());
                    }
                }
            }
            "remove" => list.retain(|one| !values.iter().any(|value| value == one || one.get("name") == Some(value))),
            other => return Err(format!("a list is replaced, or edited by add and remove; found {other}")),
        }
    }
    Ok(())
}

pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::super::{Mode, default_layer};
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn layer(name: &str, tree: Json) -> Layer {
        match tree {
            Json::Object(tree) => Layer { name: name.into(), tree },
            other => panic!("not an object: {other}"),
        }
    }

    #[test]
    fn the_nearest_layer_wins_and_is_named() {
        let effective = merge(&[
            default_layer(),
            layer("tenant", json!({"modules": {"block_address": {"expiry_seconds": 60, "mode": "detect"}}})),
            layer("host", json!({"modules": {"block_address": {"mode": "prevent", "expiry_seconds": "inherit"}}})),
        ])
        .expect("valid");
        assert_eq!(effective.policy.modules.block_address.expiry_seconds, 60);
        assert_eq!(effective.policy.modules.block_address.mode, Mode::Prevent);
        assert_eq!(effective.origin["modules.block_address.expiry_seconds"], ["tenant"]);
        assert_eq!(effective.origin["modules.block_address.mode"], ["host"]);
        assert_eq!(effective.origin["response.allow"], ["default"]);
    }

    #[test]
    fn lists_are_replaced_or_edited() {
        let added = merge(&[
            default_layer(),
            layer("tenant", json!({"response": {"allow": ["192.0.2.0/24"]}})),
            layer(
                "host",
                json!({"response": {"allow": {"add": ["2001:db8::/32"], "remove": ["192.0.2.0/24"]}},
                "modules": {"log_inspection": {"sources": {"remove": ["auth"]}}}}),
            ),
        ])
        .expect("valid");
        assert_eq!(added.policy.response.allow.iter().map(ToString::to_string).collect::<Vec<_>>(), ["2001:db8::/32"]);
        assert_eq!(added.origin["response.allow"], ["tenant", "host"]);
        assert!(added.policy.modules.log_inspection.sources.iter().all(|input| input.name != "auth"));
    }

    #[test]
    fn what_is_wrong_is_named_with_layer_and_path() {
        let error =
            merge(&[default_layer(), layer("tenant", json!({"modules": {"block_adress": {}}}))]).expect_err("typo");
        assert_eq!((error.layer.as_str(), error.path.as_str()), ("tenant", "modules.block_adress"));
        let error =
            merge(&[default_layer(), layer("host", json!({"response": {"allow": ["x"]}}))]).expect_err("no network");
        assert_eq!(error.layer, "host");
        assert!(error.reason.contains("192.0.2.0/24"), "{error}");
    }

    proptest! {
        #[test]
        fn a_layer_that_says_nothing_changes_nothing(seconds in any::<u32>()) {
            let own = layer("host", json!({"modules": {"block_address": {"expiry_seconds": seconds}}}));
            let with = merge(&[default_layer(), layer("tenant", json!({})), own.clone()]).expect("valid");
            let without = merge(&[default_layer(), own]).expect("valid");
            prop_assert_eq!(with, without);
        }
    }
}
