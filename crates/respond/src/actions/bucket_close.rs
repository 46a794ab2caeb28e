//! `bucket_close`: a bucket is not public any more, whatever its policy and its lists of access say: the four settings of S3's
//! block of public access.

use sakimori_model::Order;
use serde::{Deserialize, Serialize};

use super::{Descriptor, Runs, Safety, TargetKind};

/// Slug.
pub const ID: &str = "bucket_close";
/// Kind of its target.
pub const KIND: &str = "bucket";

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Close a public bucket",
    title_ja: "公開バケットを閉じる",
    config: &[],
    inputs: &[],
    target: TargetKind::Resource(KIND),
    permissions: &["s3:GetBucketPublicAccessBlock", "s3:PutBucketPublicAccessBlock"],
    safety: Safety::Converge,
    undo: Some("puts the four settings back, or removes them where there were none"),
    expires: true,
    blast_radius: "all who read or write this one bucket without a right of their own",
    verification: "reads the four settings back",
    runs: Runs::Account,
};

/// The four settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flags {
    /// New public lists of access are refused.
    pub block_acls: bool,
    /// Public lists of access count for nothing.
    pub ignore_acls: bool,
    /// New public policies are refused.
    pub block_policy: bool,
    /// A public policy counts for the account and for AWS's services only.
    pub restrict: bool,
}

/// Closed.
pub const CLOSED: Flags = Flags { block_acls: true, ignore_acls: true, block_policy: true, restrict: true };

/// What was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// The settings; none were made where absent.
    pub flags: Option<Flags>,
}

/// The bucket that an order names.
///
/// # Errors
/// It names something else.
pub fn bucket(order: &Order) -> Result<&str, String> {
    let name = order.target.name_of(KIND);
    let name = name.ok_or_else(|| format!("{} acts on a bucket, not on {}", order.action, order.target))?;
    // Events name it by its ARN too.
    let name = name.rsplit(":::").next().unwrap_or(name);
    let right = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b) || b.is_ascii_uppercase();
    if (3..=255).contains(&name.len()) && name.bytes().all(right) {
        return Ok(name);
    }
    Err(format!("{:?} does not name a bucket", super::short(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::order;
    use sakimori_model::action::Target;

    #[test]
    fn a_bucket_is_named_by_itself_or_its_arn() {
        let mut one = order("a", "192.0.2.1");
        assert!(bucket(&one).is_err());
        for (name, is) in
            [("photos", Some("photos")), ("arn:aws-cn:s3:::photos", Some("photos")), ("a/b", None), ("x", None)]
        {
            one.target = Target::resource(KIND, name);
            assert_eq!(bucket(&one).ok(), is, "{name}");
        }
    }
}
