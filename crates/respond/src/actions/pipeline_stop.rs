//! `pipeline_stop`: the executions of a pipeline that are under way are stopped, so that what was smuggled into one is not
//! delivered.

use sakimori_model::Order;
use serde::{Deserialize, Serialize};

use super::{Descriptor, Input, Runs, Safety, TargetKind};
use crate::former::input;

/// Slug.
pub const ID: &str = "pipeline_stop";
/// Kind of its target.
pub const KIND: &str = "pipeline";
/// Input: are the actions of a stage that run now given up?
pub const ABANDON: &str = "abandon";
/// Most executions that are stopped at once.
pub const MAX_EXECUTIONS: usize = 100;

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Stop the executions of a pipeline",
    title_ja: "パイプラインの実行を停止",
    config: &[],
    inputs: &[Input {
        name: ABANDON,
        about: "yes: what a stage does now is given up half way; no (the default): it ends, and nothing follows it",
        most: 3,
    }],
    target: TargetKind::Resource(KIND),
    permissions: &["codepipeline:ListPipelineExecutions", "codepipeline:StopPipelineExecution"],
    safety: Safety::Converge,
    // What was stopped is not taken up again: its source may be what the attacker put there.
    undo: None,
    expires: false,
    blast_radius: "the deliveries of this one pipeline that are under way; the next change starts a new one",
    verification: "lists the executions and looks that none of these goes on",
    runs: Runs::Account,
};

/// What was under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// Ids of the executions.
    pub executions: Vec<String>,
}

/// The pipeline that an order names, by its name or its ARN.
///
/// # Errors
/// It names something else.
pub fn pipeline(order: &Order) -> Result<&str, String> {
    let name = order.target.name_of(KIND);
    let name = name.ok_or_else(|| format!("{} acts on a pipeline, not on {}", order.action, order.target))?;
    Ok(name.rsplit(':').next().unwrap_or(name))
}

/// Is what runs now given up?
///
/// # Errors
/// The input is neither yes nor no.
pub fn abandons(order: &Order) -> Result<bool, String> {
    match input(order, ABANDON) {
        None | Some("no") => Ok(false),
        Some("yes") => Ok(true),
        Some(other) => Err(format!("{ABANDON} is yes or no, not {:?}", super::short(other))),
    }
}
