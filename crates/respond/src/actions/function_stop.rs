//! `function_stop`: a Lambda function is run no more, by a reserved concurrency of 0.

use sakimori_model::Order;
use serde::{Deserialize, Serialize};

use super::{Descriptor, Runs, Safety, TargetKind};

/// Slug.
pub const ID: &str = "function_stop";
/// Kind of its target.
pub const KIND: &str = "function";

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Stop a Lambda function",
    title_ja: "Lambda 関数を停止",
    config: &[],
    inputs: &[],
    target: TargetKind::Resource(KIND),
    permissions: &[
        "lambda:DeleteFunctionConcurrency",
        "lambda:GetFunctionConcurrency",
        "lambda:PutFunctionConcurrency",
    ],
    safety: Safety::Converge,
    undo: Some("puts the reserved concurrency back, or removes it where there was none"),
    expires: true,
    blast_radius: "all callers of this one function; what runs now ends by itself",
    verification: "reads the reserved concurrency back",
    runs: Runs::Account,
};

/// What was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// The reserved concurrency; none where absent.
    pub reserved: Option<i32>,
}

/// The function that an order names, by its name or its ARN.
///
/// # Errors
/// It names something else.
pub fn function(order: &Order) -> Result<&str, String> {
    order.target.name_of(KIND).ok_or_else(|| format!("{ID} acts on a function, not on {}", order.target))
}
