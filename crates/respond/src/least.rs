//! The least rights of a set of actions in an AWS account: one policy document, made of what the actions' descriptors say that
//! they call. A test of `cloud` holds the descriptors against the calls that the code really makes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::actions::Descriptor;
use crate::reach::{self, Only, Site};

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

/// A policy that allows these rights and no other, on all resources of the kinds that each is about and on no other, under
/// conditions where [`crate::reach`] has one: a statement for each service, set of kinds and condition.
pub fn policy(rights: &BTreeSet<&str>, site: &Site) -> Value {
    // The part before the colon, the resources, and under which condition: what is allowed there.
    let mut statements: BTreeMap<(&str, Vec<String>, Only), Vec<&str>> = BTreeMap::new();
    for right in rights {
        let service = right.split(':').next().unwrap_or_default();
        let Some(kinds) = reach::kinds(right) else {
            statements.entry((service, vec!["*".to_owned()], Only::All)).or_default().push(right);
            continue;
        };
        for only in [Only::All, Only::Unprotected, Only::OurTags] {
            let arns: Vec<String> = kinds.iter().filter(|kind| kind.only == only).map(|kind| site.arn(kind)).collect();
            if !arns.is_empty() {
                statements.entry((service, arns, only)).or_default().push(right);
            }
        }
    }
    let mut numbers: BTreeMap<&str, u32> = BTreeMap::new();
    let statements = statements.into_iter().map(|((service, arns, only), actions)| {
        let number = numbers.entry(service).or_default();
        *number += 1;
        let sid: String = service.chars().filter(char::is_ascii_alphanumeric).collect();
        let resource = match arns.as_slice() {
            [one] => json!(one),
            several => json!(several),
        };
        let sid = format!("Sakimori{sid}{number}");
        let mut statement = json!({ "Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resource });
        if let (Some(condition), Some(object)) = (only.condition(), statement.as_object_mut()) {
            object.insert("Condition".to_owned(), condition);
        }
        statement
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
    use crate::actions::{
        CATALOG, Runs, access_key_deactivate, block_address, bucket_close, instance_isolate, instance_stop,
    };

    #[test]
    fn a_policy_allows_what_its_actions_need_and_nothing_else() {
        let rights =
            rights([&access_key_deactivate::DESCRIPTOR, &bucket_close::DESCRIPTOR, &block_address::DESCRIPTOR]);
        let policy = policy(&rights, &Site::default());
        assert_eq!(
            policy,
            json!({ "Version": "2012-10-17", "Statement": [
                { "Sid": "Sakimoriiam1", "Effect": "Allow", "Resource": "arn:aws:iam::*:user/*",
                  "Action": ["iam:GetAccessKeyLastUsed", "iam:ListAccessKeys", "iam:UpdateAccessKey"] },
                { "Sid": "Sakimoris31", "Effect": "Allow", "Resource": "arn:aws:s3:::*",
                  "Action": ["s3:GetBucketPublicAccessBlock", "s3:PutBucketPublicAccessBlock"] },
            ] })
        );
    }

    #[test]
    fn a_protected_instance_is_out_of_reach_and_only_our_tags_are_put_on_others() {
        let of = |actions: &[&Descriptor]| policy(&rights(actions.iter().copied()), &Site::default());
        let stop = of(&[&instance_stop::DESCRIPTOR]);
        let found = |policy: &Value, right: &str| -> Vec<Value> {
            let all = policy["Statement"].as_array().unwrap().clone();
            all.into_iter().filter(|one| one["Action"].as_array().unwrap().contains(&json!(right))).collect()
        };
        let statement = &found(&stop, "ec2:StopInstances")[0];
        assert_eq!(statement["Condition"], json!({ "Null": { "aws:ResourceTag/sakimori:protected": "true" } }));
        assert!(found(&stop, "ec2:StartInstances")[0].get("Condition").is_none(), "taking back is not in the way");
        let isolate = of(&[&instance_isolate::DESCRIPTOR]);
        let tags: Vec<Value> = found(&isolate, "ec2:CreateTags");
        let bound = |one: &Value| one["Condition"]["ForAllValues:StringLike"]["aws:TagKeys"] == json!(["sakimori:*"]);
        assert_eq!(tags.iter().filter(|one| bound(one)).count(), 1);
        assert!(tags.iter().all(|one| bound(one) || one["Resource"] == "arn:aws:ec2:*:*:security-group-rule/*"));
    }

    #[test]
    fn nothing_that_changes_something_is_allowed_on_everything() {
        let all = rights(CATALOG.iter().copied());
        let policy =
            policy(&all, &Site { account: "123456789012".into(), region: "eu-west-1".into(), ..Site::default() });
        let (mut allowed, mut sids) = (BTreeSet::new(), BTreeSet::new());
        for statement in policy["Statement"].as_array().unwrap() {
            assert!(sids.insert(statement["Sid"].as_str().unwrap().to_owned()));
            for action in statement["Action"].as_array().unwrap() {
                let action = action.as_str().unwrap();
                allowed.insert(action.to_owned());
                assert!(!action.contains('*'), "no right is a pattern");
                assert_eq!(statement["Resource"] == "*", reach::ANY.contains(&action), "{action}");
            }
        }
        assert_eq!(allowed, all.iter().map(|right| (*right).to_owned()).collect());
        // AWS's limit of a managed policy, without white space.
        assert!(policy.to_string().len() <= 6_144 * 2, "{} bytes: two policies at the most", policy.to_string().len());
    }

    #[test]
    fn every_action_of_an_account_says_its_rights() {
        for action in CATALOG.iter().filter(|action| action.runs == Runs::Account) {
            assert!(rights_of(action).count() > 0, "{}", action.id);
            assert_eq!(rights_of(action).count(), action.permissions.len(), "{}: rights of AWS only", action.id);
        }
    }
}
