//! `bucket_deny`: one statement in a bucket's policy that denies reading it, or everything, to all but its administrators.
//!
//! Administrators are the account's root, the manager's own role or user (else it could not be taken back), and whom the
//! input names. AWS's own services are not denied, so that logs go on being delivered. Everything here is pure: the policy
//! goes in and out as text.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::bucket_close::KIND;
use super::identity::{Identity, same_policy};
use super::{Descriptor, Input, Runs, Safety, TargetKind};

/// Slug.
pub const ID: &str = "bucket_deny";
/// Input: what is denied.
pub const DENY: &str = "deny";
/// Input: who else is an administrator.
pub const ADMINISTRATORS: &str = "administrators";
/// Largest policy of a bucket, in bytes (Amazon S3's quota).
pub const MAX_POLICY: usize = 20 << 10;
/// Most administrators that the input names.
const MAX_ADMINISTRATORS: usize = 16;

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Deny access to a bucket",
    title_ja: "バケットへのアクセスを拒否",
    config: &[],
    inputs: &[
        Input { name: DENY, about: "read (objects and their list; the default) or all", most: 8 },
        Input {
            name: ADMINISTRATORS,
            about: "who goes on as before, beside the account's root and the manager: role/NAME or user/NAME, up to 16 with \
                    commas between",
            most: 1024,
        },
    ],
    target: TargetKind::Resource(KIND),
    permissions: &["s3:DeleteBucketPolicy", "s3:GetBucketPolicy", "s3:PutBucketPolicy", "sts:GetCallerIdentity"],
    safety: Safety::Converge,
    undo: Some("takes its statement out; the policy is then byte for byte what it was, or gone where there was none"),
    expires: true,
    blast_radius: "everybody who uses this one bucket, programs of the account too, but for its administrators",
    verification: "reads the policy back and looks for the statement",
    runs: Runs::Account,
};

/// What was there before, and what is put in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// The policy as it was read; none where absent.
    pub policy: Option<String>,
    /// Our statement.
    pub statement: Value,
}

/// What is known of the caller, from its ARN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// `aws`, `aws-cn`, …
    pub partition: String,
    /// The account's number.
    pub account: String,
    /// Who it is; none for the root.
    pub identity: Option<Identity>,
}

impl Caller {
    /// From an ARN like `arn:aws:sts::123456789012:assumed-role/sakimori/session`.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(arn: &str) -> Result<Self, String> {
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        match parts.as_slice() {
            ["arn", partition, "iam" | "sts", _, account, _] if !account.is_empty() => Ok(Self {
                partition: (*partition).to_owned(),
                account: (*account).to_owned(),
                identity: Identity::parse(arn).ok(),
            }),
            _ => Err(format!("AWS names the caller {:?}, which is no ARN of a user or role", super::short(arn))),
        }
    }
}

/// The statement of this order for a bucket. `sid` is made of the order's id.
///
/// # Errors
/// An input that is not as it should be.
pub fn statement(
    bucket: &str,
    sid: &str,
    deny: Option<&str>,
    administrators: Option<&str>,
    caller: &Caller,
) -> Result<Value, String> {
    let actions = match deny.unwrap_or("read") {
        "read" => json!(["s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket", "s3:ListBucketVersions"]),
        "all" => json!("s3:*"),
        other => return Err(format!("{DENY} is read or all, not {:?}", super::short(other))),
    };
    let Caller { partition, account, identity } = caller;
    let named = administrators.unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty());
    let mut all: Vec<Identity> = named.map(Identity::parse).collect::<Result<_, _>>()?;
    if all.len() > MAX_ADMINISTRATORS {
        return Err(format!("{ADMINISTRATORS} names {} identities; at most {MAX_ADMINISTRATORS}", all.len()));
    }
    all.extend(identity.clone());
    let mut arns = vec![format!("arn:{partition}:iam::{account}:root")];
    for one in all {
        let (kind, name) = match one {
            Identity::User(name) => ("user", name),
            Identity::Role(name) => ("role", name),
        };
        // With a path before it, or without.
        for arn in [format!("{kind}/{name}"), format!("{kind}/*/{name}")] {
            let arn = format!("arn:{partition}:iam::{account}:{arn}");
            if !arns.contains(&arn) {
                arns.push(arn);
            }
        }
    }
    Ok(json!({
        "Sid": sid,
        "Effect": "Deny",
        "Principal": "*",
        "Action": actions,
        "Resource": [format!("arn:{partition}:s3:::{bucket}"), format!("arn:{partition}:s3:::{bucket}/*")],
        "Condition": {
            "StringNotLike": { "aws:PrincipalArn": arns },
            // "If exists": a stranger without credentials has no such key, and is denied.
            "BoolIfExists": { "aws:PrincipalIsAWSService": "false" },
        },
    }))
}

/// Is our statement in this policy?
pub fn holds(policy: Option<&str>, ours: &Value) -> bool {
    policy
        .and_then(|text| serde_json::from_str::<Value>(text).ok())
        .is_some_and(|read| statements(&read).contains(ours))
}

/// The policy with our statement in place.
///
/// # Errors
/// A policy that cannot be read, or one that would be too large.
pub fn with(policy: Option<&str>, ours: &Value) -> Result<String, String> {
    let mut read: Value = match policy {
        None => json!({ "Version": "2012-10-17", "Statement": [] }),
        Some(text) => {
            serde_json::from_str(text).map_err(|error| format!("the bucket's policy cannot be read: {error}"))?
        }
    };
    let mut all = statements(&read);
    all.retain(|one| one.get("Sid") != ours.get("Sid"));
    all.push(ours.clone());
    let whole = read.as_object_mut().ok_or("the bucket's policy is no JSON object")?;
    whole.insert("Statement".to_owned(), Value::Array(all));
    let text = read.to_string();
    match text.len() <= MAX_POLICY {
        true => Ok(text),
        false => {
            Err(format!("with the statement the bucket's policy would be {} bytes; S3 takes {MAX_POLICY}", text.len()))
        }
    }
}

/// What is to be done about a bucket's policy so that our statement is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Back {
    /// Nothing: the statement is not there.
    Nothing {
        /// Is the policy as it was before we came?
        as_before: bool,
    },
    /// There was none before, and there is to be none.
    Delete,
    /// This one is put.
    Put {
        /// The whole policy.
        policy: String,
        /// Did somebody else change it meanwhile? Then it is not the former one.
        changed: bool,
    },
}

/// How the statement is taken out of the policy as it is now.
///
/// # Errors
/// A policy that cannot be read.
pub fn without(now: Option<&str>, former: &Former) -> Result<Back, String> {
    let before = former.policy.as_deref();
    let Some(text) = now else { return Ok(Back::Nothing { as_before: before.is_none() }) };
    let mut read: Value =
        serde_json::from_str(text).map_err(|error| format!("the bucket's policy cannot be read: {error}"))?;
    let (mut all, sid) = (statements(&read), former.statement.get("Sid"));
    let many = all.len();
    all.retain(|one| one.get("Sid") != sid);
    if all.len() == many {
        return Ok(Back::Nothing { as_before: before.is_some_and(|before| same_policy(before, text)) });
    }
    // The very same policy as we made of the former one: nobody else was at it.
    let untouched = with(before, &former.statement).is_ok_and(|made| same_policy(&made, text));
    match before {
        Some(before) if untouched => Ok(Back::Put { policy: before.to_owned(), changed: false }),
        None if untouched => Ok(Back::Delete),
        // Ours was the last: a policy without a statement is refused.
        _ if all.is_empty() => Ok(Back::Delete),
        _ => {
            if let Some(whole) = read.as_object_mut() {
                whole.insert("Statement".to_owned(), Value::Array(all));
            }
            Ok(Back::Put { policy: read.to_string(), changed: true })
        }
    }
}

/// A policy's statements: it may have one without a list.
fn statements(policy: &Value) -> Vec<Value> {
    match policy.get("Statement") {
        Some(Value::Array(all)) => all.clone(),
        Some(one @ Value::Object(_)) => vec![one.clone()],
        _ => Vec::new(),
    }
}

#[cfg(test)]
#[path = "bucket_deny_tests.rs"]
mod tests;
