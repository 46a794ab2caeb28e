//! A policy of a manager of another version (D21): keys that this build does not know are passed over and named, so that one
//! new setting does not keep a host from all the others. Whoever writes a policy is still told of every unknown key, by
//! [`super::merge()`].

use serde_json::{Map, Value as Json};

use super::merge::{WHOLE, join};
use super::{Policy, default_layer};

/// Most unknown keys that are named.
const MAX_NAMED: usize = 20;

/// Reads the effective policy of one host; gives the keys that were passed over beside it.
///
/// # Errors
/// A value of a known key, or an item of a list, that this build does not understand.
pub fn read(json: &[u8]) -> Result<(Policy, Vec<String>), serde_json::Error> {
    let mut tree: Json = serde_json::from_slice(json)?;
    let mut unknown = Vec::new();
    if let Json::Object(tree) = &mut tree {
        prune(tree, &default_layer().tree, "", &mut unknown);
    }
    Ok((serde_json::from_value(tree)?, unknown))
}

fn prune(tree: &mut Map<String, Json>, known: &Map<String, Json>, path: &str, unknown: &mut Vec<String>) {
    tree.retain(|name, value| {
        let path = join(path, name);
        match (known.get(name), value) {
            (None, _) => {
                if unknown.len() < MAX_NAMED {
                    unknown.push(path);
                }
                return false;
            }
            (Some(Json::Object(known)), Json::Object(inner)) if !WHOLE.contains(&path.as_str()) => {
                prune(inner, known, &path, unknown);
            }
            _ => {}
        }
        true
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Absent, Layer, merge};
    use serde_json::json;

    fn effective(section: Json) -> Result<Policy, String> {
        let Json::Object(tree) = json!({ "modules": { "antimalware": section } }) else { panic!("an object") };
        let merged = merge(&[default_layer(), Layer { name: "host".into(), tree }]);
        merged.map(|effective| effective.policy).map_err(|error| error.to_string())
    }

    #[test]
    fn keys_of_a_later_version_are_passed_over_and_named() {
        let own = effective(json!({"state": "on", "absent": {"answer": "open_after", "seconds": 7}})).expect("valid");
        let mut tree = serde_json::to_value(&own).expect("json");
        tree["modules"]["antimalware"]["heuristics"] = json!({"level": 3});
        tree["modules"]["decoys"] = json!({"state": "on"});
        let (read, unknown) = read(tree.to_string().as_bytes()).expect("understood");
        assert_eq!((read, unknown), (own, vec!["modules.antimalware.heuristics".into(), "modules.decoys".into()]));
    }

    #[test]
    fn a_value_that_is_not_understood_is_no_policy() {
        let mut tree = serde_json::to_value(effective(json!({})).expect("valid")).expect("json");
        tree["modules"]["antimalware"]["mode"] = json!("clean");
        let error = read(tree.to_string().as_bytes()).expect_err("unknown mode").to_string();
        assert!(error.contains("clean"), "{error}");
        assert!(read(b"[]").is_err() && read(b"").is_err());
    }

    #[test]
    fn a_setting_of_several_parts_is_replaced_whole() {
        let policy = effective(json!({"absent": {"answer": "open_after", "seconds": 7}})).expect("valid");
        assert_eq!(policy.modules.antimalware.absent, Absent::OpenAfter { seconds: 7 });
        let error = effective(json!({"absent": {"answer": "open_after"}})).expect_err("no seconds");
        assert!(error.contains("seconds"), "{error}");
    }
}
