//! `access_key_deactivate`: a user's access key is deactivated, so that a stolen one opens nothing any more.

use sakimori_model::Order;
use serde::{Deserialize, Serialize};

use super::{Descriptor, Runs, Safety, TargetKind};

/// Slug.
pub const ID: &str = "access_key_deactivate";
/// Kind of its target.
pub const KIND: &str = "access_key";

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Deactivate an access key",
    title_ja: "アクセスキーを無効化",
    config: &[],
    inputs: &[],
    target: TargetKind::Resource(KIND),
    permissions: &["iam:GetAccessKeyLastUsed", "iam:ListAccessKeys", "iam:UpdateAccessKey"],
    safety: Safety::Converge,
    undo: Some("activates the key again"),
    expires: true,
    blast_radius: "all that uses this one key",
    verification: "lists the user's keys and reads the state of this one",
    runs: Runs::Account,
};

/// What was there before.
#[derive(Debug, Serialize, Deserialize)]
pub struct Former {
    /// Whose key it is.
    pub user: String,
}

/// The key that an order names.
///
/// # Errors
/// It names something else.
pub fn key(order: &Order) -> Result<&str, String> {
    order.target.name_of(KIND).ok_or_else(|| format!("{ID} acts on an access key, not on {}", order.target))
}

/// What was there before, for the ledger.
pub fn former(user: &str) -> String {
    serde_json::json!({ "user": user }).to_string()
}

/// What [`former`] wrote.
///
/// # Errors
/// It is not what this action wrote.
pub fn read(former: &str) -> Result<Former, String> {
    serde_json::from_str(former).map_err(|error| format!("the former state of {ID} cannot be read: {error}"))
}
