//! `sessions_revoke`: all sessions of a role or user that exist now are worth nothing any more; new ones are.

use super::identity::KIND;
use super::{Descriptor, Runs, Safety, TargetKind};

/// Slug.
pub const ID: &str = "sessions_revoke";

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Revoke the sessions of an identity",
    title_ja: "ユーザーまたはロールのセッションを失効",
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
        "iam:PutRolePolicy",
        "iam:PutUserPolicy",
        "sts:GetCallerIdentity",
    ],
    safety: Safety::Converge,
    undo: Some("removes its inline policy, so that the older sessions work again until they end"),
    expires: true,
    blast_radius: "every session of this one identity that began before; a program of it fails until it makes a new one",
    verification: "reads the inline policy back",
    runs: Runs::Account,
};
