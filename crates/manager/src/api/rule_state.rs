//! Switching one rule by policy: off, detect, prevent, or as the layers below say. What is written is a version of a policy
//! layer like any other, with its history; `dry_run` gives the layer as it would be, for a preview or a roll-out in stages.

use axum::Json;
use axum::extract::{Path, State};
use sakimori_store::control::policies;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::App;
use super::access::Caller;
use super::extract::Body;
use super::policies::{PolicyLayer, check_layer, check_merge, reason, write};
use super::problem::{self, Problem};
use super::rules::one;
use crate::rules::Language;

/// What a rule is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Switched {
    /// Nothing.
    Off,
    /// Record.
    Detect,
    /// Record and drop.
    Prevent,
    /// As the layers below say.
    Inherit,
}

/// How a rule is to be switched, and where.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRuleState {
    /// `tenant`, `group:<tag>` or `host:<agent id>`.
    pub layer: String,
    /// What it is to do.
    pub state: Switched,
    /// The number that the layer had when it was read, as for writing it.
    pub over: Option<i64>,
    /// Why, at most 1000 bytes.
    #[serde(default)]
    pub reason: String,
    /// Write nothing; say how the layer would be.
    #[serde(default)]
    pub dry_run: bool,
}

/// What came of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct RuleSwitched {
    /// The layer's tree.
    #[schema(value_type = Object)]
    pub tree: Map<String, Value>,
    /// The version that was written; absent for a dry run.
    pub written: Option<PolicyLayer>,
}

/// `PUT /rules/{id}/state`
pub async fn put(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(new): Body<NewRuleState>,
) -> Result<Json<RuleSwitched>, Problem> {
    let opened = app.content.get(&app).await?;
    let rule = one(&opened, &id)?;
    let sid = id.parse::<u32>().ok().filter(|_| rule.language == Language::Suricata);
    let Some(sid) = sid else {
        return Err(Problem::new(problem::RULE_INVALID).detail(
            "only network rules are switched one by one; others are on where their module is, and an exception holds back \
             alerts of one",
        ));
    };
    check_layer(&app, &caller, &new.layer).await?;
    let why = match reason(&new.reason)? {
        "" => format!("rule {sid}"),
        why => format!("rule {sid}: {why}"),
    };
    let current = policies::current(app.shared.control.read(), caller.tenant()).await?;
    let before = current.iter().find(|version| version.layer == new.layer);
    let tree = switched(before.map(|version| version.tree.clone()).unwrap_or_default(), sid, new.state);
    if new.dry_run {
        check_merge(&new.layer, &tree, &current)?;
        return Ok(Json(RuleSwitched { tree, written: None }));
    }
    // What was read is what is written over, whether the caller said so or not.
    let over = new.over.unwrap_or_else(|| before.map_or(0, |version| version.number));
    let Json(written) = write(&app, &caller, &new.layer, tree.clone(), (Some(over), "policies:rule", &why)).await?;
    Ok(Json(RuleSwitched { tree, written: Some(written) }))
}

/// A layer in which one rule does something else. A layer that names no overrides adds to those below it.
fn switched(mut tree: Map<String, Value>, sid: u32, state: Switched) -> Map<String, Value> {
    let word = match state {
        Switched::Off => Some("off"),
        Switched::Detect => Some("detect"),
        Switched::Prevent => Some("prevent"),
        Switched::Inherit => None,
    };
    let mut old = tree.get("modules").and_then(|at| at.pointer("/intrusion_prevention/overrides")).cloned();
    let is_edit = !matches!(old, Some(Value::Array(_)));
    let list = match &mut old {
        Some(Value::Array(list)) => Some(list),
        Some(Value::Object(edit)) => edit.get_mut("add").and_then(Value::as_array_mut),
        _ => None,
    };
    let mut list = list.cloned().unwrap_or_default();
    list.retain(|one| one.get("rule").and_then(Value::as_u64) != Some(u64::from(sid)));
    if let Some(word) = word {
        list.push(json!({"rule": sid, "mode": word}));
    }
    let mut edit = match old {
        Some(Value::Object(edit)) => edit,
        _ => Map::new(),
    };
    let new = if is_edit {
        match list.is_empty() {
            true => edit.remove("add"),
            false => edit.insert("add".into(), Value::Array(list)),
        };
        (!edit.is_empty()).then_some(Value::Object(edit))
    } else {
        Some(Value::Array(list))
    };
    put_at(&mut tree, &["modules", "intrusion_prevention", "overrides"], new);
    tree
}

/// Puts a value at a path, or takes it out with the groups that are empty then.
fn put_at(tree: &mut Map<String, Value>, path: &[&str], value: Option<Value>) {
    let Some((name, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        match value {
            Some(value) => tree.insert((*name).into(), value),
            None => tree.remove(*name),
        };
        return;
    }
    let below = tree.entry(*name).or_insert_with(|| json!({}));
    if !below.is_object() {
        *below = json!({});
    }
    if let Some(below) = below.as_object_mut() {
        put_at(below, rest, value);
        if below.is_empty() {
            tree.remove(*name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overrides(tree: Value, state: Switched) -> Value {
        let tree = switched(tree.as_object().cloned().unwrap(), 7, state);
        Value::Object(tree)
    }

    fn layer(overrides: Value) -> Value {
        json!({"modules": {"intrusion_prevention": {"overrides": overrides}}})
    }

    #[test]
    fn a_layer_says_of_one_rule_what_it_is_to_do_and_keeps_all_else() {
        let off = json!({"rule": 7, "mode": "off"});
        let other = json!({"rule": 8, "mode": "detect"});
        assert_eq!(overrides(json!({}), Switched::Off), layer(json!({"add": [off]})));
        assert_eq!(
            overrides(layer(json!([off, other])), Switched::Prevent),
            layer(json!([other, {"rule": 7, "mode": "prevent"}]))
        );
        assert_eq!(
            overrides(layer(json!({"add": [off], "remove": [other]})), Switched::Inherit),
            layer(json!({"remove": [other]}))
        );
        assert_eq!(overrides(layer(json!({"add": [off]})), Switched::Inherit), json!({}));
        let with = json!({"modules": {"intrusion_prevention": {"mode": "detect"}}, "response": {"allow": []}});
        let after = overrides(with.clone(), Switched::Detect);
        assert_eq!(after["modules"]["intrusion_prevention"]["mode"], "detect");
        assert_eq!(overrides(after, Switched::Inherit), with);
        assert_eq!(
            overrides(layer(json!([off])), Switched::Inherit),
            layer(json!([])),
            "a list that replaces stays one"
        );
    }
}
