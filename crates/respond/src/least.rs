//! The least rights of a set of actions in an AWS account: one policy document, made of what the actions' descriptors say that
//! they call. A test of `cloud` holds the descriptors against the calls that the code really makes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::actions::Descriptor;

/// What asking what one's own role may do needs.
pub const TO_CHECK: &str = "iam:SimulatePrincipalPolicy";

/// The rights of AWS among what an action needs, like `iam:GetUser`; others speak of the host.
pub fn rights_of(action: &Descriptor) -> impl Iterator<Item = &'static str> {
    action.permissions.iter().copied().filter(|text| is_right(text))
}

/// The rights of all these actions.
pub fn rights<'a>(actions: impl IntoIterator<Item = &'a Descriptor>) -> BTreeSet<&'static str> {
    actions.into_iter().flat_map(rights_of).collect()
}

/// A policy that allows these rights and no other, a statement for each service. The resource is `*` since an action's target
/// comes from an event; whoever knows that only some can be meant writes them there.
pub fn policy(rights: &BTreeSet<&str>) -> Value {
    let mut services: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for right in rights {
        services.entry(right.split(':').next().unwrap_or_default()).or_default().push(right);
    }
    let statements = services.into_iter().map(|(service, actions)| {
        let sid: String = service.chars().filter(char::is_ascii_alphanumeric).collect();
        json!({ "Sid": format!("Sakimori{sid}"), "Effect": "Allow", "Action": actions, "Resource": "*" })
    });
    json!({ "Version": "2012-10-17", "Statement": statements.collect::<Vec<_>>() })
}

fn is_right(text: &str) -> bool {
    text.split_once(':').is_some_and(|(service, operation)| {
        let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        plain(service) && plain(operation)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::{CATALOG, Runs, access_key_deactivate, block_address, bucket_close};

    #[test]
    fn a_policy_allows_what_its_actions_need_and_nothing_else() {
        let rights =
            rights([&access_key_deactivate::DESCRIPTOR, &bucket_close::DESCRIPTOR, &block_address::DESCRIPTOR]);
        let policy = policy(&rights);
        assert_eq!(
            policy,
            json!({ "Version": "2012-10-17", "Statement": [
                { "Sid": "Sakimoriiam", "Effect": "Allow", "Resource": "*",
                  "Action": ["iam:GetAccessKeyLastUsed", "iam:ListAccessKeys", "iam:UpdateAccessKey"] },
                { "Sid": "Sakimoris3", "Effect": "Allow", "Resource": "*",
                  "Action": ["s3:GetBucketPublicAccessBlock", "s3:PutBucketPublicAccessBlock"] },
            ] })
        );
        assert!(!policy.to_string().contains(":*\""), "no right is a pattern");
    }

    #[test]
    fn every_action_of_an_account_says_its_rights() {
        for action in CATALOG.iter().filter(|action| action.runs == Runs::Account) {
            assert!(rights_of(action).count() > 0, "{}", action.id);
            assert_eq!(rights_of(action).count(), action.permissions.len(), "{}: rights of AWS only", action.id);
        }
    }
}
