//! `pipeline_transition_disable`: nothing goes into a stage of a pipeline any more, whatever starts it.

use sakimori_model::Order;
use serde::{Deserialize, Serialize};

use super::pipeline_stop::KIND;
use super::{Descriptor, Input, Runs, Safety, TargetKind};

/// Slug.
pub const ID: &str = "pipeline_transition_disable";
/// Input: the stage.
pub const STAGE: &str = "stage";

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Close a stage of a pipeline",
    title_ja: "パイプラインのステージへの遷移を無効化",
    config: &[],
    inputs: &[Input {
        name: STAGE,
        about: "the stage into which nothing goes any more; the second one where absent, so that nothing leaves the source",
        most: 100,
    }],
    target: TargetKind::Resource(KIND),
    permissions: &[
        "codepipeline:DisableStageTransition",
        "codepipeline:EnableStageTransition",
        "codepipeline:GetPipelineState",
    ],
    safety: Safety::Converge,
    undo: Some("lets deliveries into the stage again, unless somebody else closed it meanwhile; what waited goes on"),
    expires: true,
    blast_radius: "all deliveries of this one pipeline, which wait before the stage",
    verification: "reads the state of the stage back",
    runs: Runs::Account,
};

/// What was there before: an open stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// Which.
    pub stage: String,
}

/// What is written to the stage as the reason, by which ours is told from others'. Letters, digits and a few signs only.
pub fn reason(order: &Order) -> String {
    crate::former::own_name("closed", order)
}
