//! How a user or a role is named, and the policies that are put on one. Not an action: [`super::sessions_revoke`] and
//! [`super::identity_quarantine`] share it.

use sakimori_model::{Order, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::short;

/// Kind of the target.
pub const KIND: &str = "identity";

/// A user or a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// An IAM user by its name.
    User(String),
    /// An IAM role by its name.
    Role(String),
}

impl Identity {
    /// Reads `user/alice`, `role/deploy`, or an ARN: of a user, a role (with or without a path), or of a session of a role.
    ///
    /// # Errors
    /// It names neither.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{:?} is neither user/NAME nor role/NAME nor the ARN of one", short(text));
        let resource = match text.strip_prefix("arn:") {
            None => text,
            Some(_) => text.splitn(6, ':').nth(5).ok_or_else(wrong)?,
        };
        let (kind, rest) = resource.split_once('/').ok_or_else(wrong)?;
        // A session is `assumed-role/NAME/SESSION`; a path comes before the name.
        let name = match kind {
            "assumed-role" => rest.split('/').next(),
            _ => rest.rsplit('/').next(),
        };
        let named = |name: &&str| {
            let right = |b: u8| b.is_ascii_alphanumeric() || b"+=,.@-_".contains(&b);
            !name.is_empty() && name.len() <= 64 && name.bytes().all(right)
        };
        let name = name.filter(named).ok_or_else(wrong)?.to_owned();
        match kind {
            "user" => Ok(Self::User(name)),
            "role" | "assumed-role" => Ok(Self::Role(name)),
            _ => Err(wrong()),
        }
    }

    /// The one that an order names.
    ///
    /// # Errors
    /// It names something else.
    pub fn of(order: &Order) -> Result<Self, String> {
        let name = order.target.name_of(KIND);
        name.ok_or_else(|| format!("{} acts on an identity, not on {}", order.action, order.target))
            .and_then(Self::parse)
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(name) => write!(f, "the user {name}"),
            Self::Role(name) => write!(f, "the role {name}"),
        }
    }
}

/// What was there before: nothing of ours. The record says where ours is and what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// Whose policy it is.
    pub identity: Identity,
    /// The name of our inline policy.
    pub policy: String,
    /// What it says.
    pub document: String,
}

/// Denies everything.
pub fn deny_all() -> String {
    json!({
        "Version": "2012-10-17",
        "Statement": [{ "Sid": "SakimoriQuarantine", "Effect": "Deny", "Action": "*", "Resource": "*" }],
    })
    .to_string()
}

/// Denies everything to sessions that began before.
pub fn deny_before(moment: Timestamp) -> String {
    let text = moment.to_chrono().format("%Y-%m-%dT%H:%M:%SZ").to_string();
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Sid": "SakimoriRevokedSessions",
            "Effect": "Deny",
            "Action": "*",
            "Resource": "*",
            "Condition": { "DateLessThan": { "aws:TokenIssueTime": text } },
        }],
    })
    .to_string()
}

/// Do two policies say the same, whatever the order of their keys and the white space?
pub fn same_policy(one: &str, other: &str) -> bool {
    let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    one == other || read(one).is_some_and(|one| Some(one) == read(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_roles_and_sessions_are_told_apart_by_any_of_their_names() {
        let user = |name: &str| Ok(Identity::User(name.to_owned()));
        let role = |name: &str| Ok(Identity::Role(name.to_owned()));
        assert_eq!(Identity::parse("user/alice"), user("alice"));
        assert_eq!(Identity::parse("arn:aws:iam::123456789012:user/team/a/alice"), user("alice"));
        assert_eq!(Identity::parse("arn:aws-cn:iam::123456789012:role/deploy"), role("deploy"));
        assert_eq!(Identity::parse("arn:aws:sts::123456789012:assumed-role/deploy/i-0a1b"), role("deploy"));
        for wrong in ["alice", "group/admins", "arn:aws:iam::123456789012:root", "user/", "user/a*", "arn:aws", ""] {
            assert!(Identity::parse(wrong).unwrap_err().contains("neither"), "{wrong}");
        }
    }

    #[test]
    fn policies_are_short_enough_for_a_user_and_compared_by_what_they_say() {
        let moment = Timestamp::from_secs(1_800_000_000);
        assert!(deny_before(moment).contains(r#""aws:TokenIssueTime":"2027-01-15T08:00:00Z""#));
        assert!(deny_all().len() + deny_before(moment).len() < 2_048, "AWS's limit of all inline policies of a user");
        assert!(same_policy(r#"{"a": 1, "b": 2}"#, r#"{"b":2,"a":1}"#));
        assert!(!same_policy(&deny_all(), &deny_before(moment)));
        assert!(!same_policy("x", "y"), "what cannot be read is equal to itself alone");
    }
}
