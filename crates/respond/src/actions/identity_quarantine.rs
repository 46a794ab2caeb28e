//! `identity_quarantine`: a role or user may do nothing any more, by an inline policy that denies everything.

use super::identity::KIND;
use super::{Descriptor, Runs, Safety, TargetKind};

/// Slug.
pub const ID: &str = "identity_quarantine";
/// How the names of its policies go on after [`crate::former::PREFIX`].
pub const NAME: &str = "quarantine";

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Quarantine an identity",
    title_ja: "ユーザーまたはロールを隔離",
    config: &[],
    inputs: &[],
    target: TargetKind::Resource(KIND),
    permissions: &[
        "iam:DeleteRolePolicy",
        "iam:DeleteUserPolicy",
        "iam:GetRole",
        "iam:GetRolePolicy",
        "iam:GetUser",
        "iam:GetUserPolicy",
        "iam:ListRolePolicies",
        "iam:ListUserPolicies",
        "iam:PutRolePolicy",
        "iam:PutUserPolicy",
        "sts:GetCallerIdentity",
    ],
    safety: Safety::Converge,
    undo: Some("removes its inline policy"),
    expires: true,
    blast_radius: "everything that works as this one identity, sessions and keys alike",
    verification: "reads the inline policy back",
    runs: Runs::Account,
};
