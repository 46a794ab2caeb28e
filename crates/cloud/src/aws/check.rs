//! What an account's role may do of what actions need, and what it lacks: asked of IAM, which plays the calls through
//! without making them (`iam:SimulatePrincipalPolicy`). Each is asked about on a made-up resource of every kind that it needs, as
//! a policy names them: asked about `*`, what is allowed on all buckets would look as if it were not.
//!
//! What this does not see: policies of the resources themselves (a bucket's), and an organisation's policies where the caller
//! may not read them. A call that is allowed here may still be refused there; one that is lacking here is.

use std::collections::{BTreeMap, BTreeSet};

use aws_config::SdkConfig;
use aws_sdk_iam::Client;
use aws_sdk_iam::types::PolicyEvaluationDecisionType;
use sakimori_respond::actions::Descriptor;
use sakimori_respond::actions::bucket_deny::Caller;
use sakimori_respond::actions::identity::Identity;
use sakimori_respond::least::{TO_CHECK, rights_of};
use sakimori_respond::ports::PortError;
use sakimori_respond::reach::{self, Site};

use super::problem::{code, problem};
use super::{Account, caller, configuration, partition};

/// Rights that are asked about in one call.
const AT_ONCE: usize = 50;
/// Pages of one answer.
const MAX_PAGES: usize = 20;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Checked {
    /// As whom the manager acts, an ARN.
    pub caller: String,
    /// AWS's number of the account.
    pub account: String,
    /// For each action what it may do and lacks; empty where nothing could be asked.
    pub actions: Vec<Rights>,
    /// What is not as it should be, with the remedy: the account is another one, the role may not be asked about.
    pub remarks: Vec<String>,
}

/// The rights of one action.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Rights {
    /// Slug of the action, or what else needs them.
    pub action: String,
    /// Those that the role has.
    pub has: Vec<String>,
    /// Those that it lacks.
    pub lacks: Vec<String>,
}

/// Asks as whom this account acts, and what it may do of what these actions need.
///
/// # Errors
/// As [`check_for`].
pub async fn check(account: &Account, actions: &[&Descriptor]) -> Result<Checked, PortError> {
    let all: Vec<(&str, Vec<&str>)> = actions.iter().map(|action| (action.id, rights_of(action).collect())).collect();
    check_for(account, &all).await
}

/// Asks as whom this account acts, and what it may do of what each of these needs: a name, and its rights.
///
/// # Errors
/// No credentials, or nobody answers.
pub async fn check_for(account: &Account, all: &[(&str, Vec<&str>)]) -> Result<Checked, PortError> {
    account.check()?;
    let config = configuration(account).await;
    let arn = caller::arn(&config).await?;
    let who = Caller::parse(&arn).map_err(PortError::permanent)?;
    let mut checked = Checked { caller: arn, account: who.account.clone(), actions: Vec::new(), remarks: Vec::new() };
    if account.account_id.as_ref().is_some_and(|expected| *expected != who.account) {
        checked.remarks.push(format!(
            "these are credentials of the account {}, and account_id says {}",
            who.account,
            account.account_id.as_deref().unwrap_or_default()
        ));
    }
    let source = match (&account.role_arn, &who.identity) {
        (Some(role), _) => role.clone(),
        (None, Some(Identity::User(_))) => checked.caller.clone(),
        (None, Some(Identity::Role(name))) => format!("arn:{}:iam::{}:role/{name}", who.partition, who.account),
        (None, None) => {
            checked
                .remarks
                .push("it acts as the account's root, which may do everything: make a role for it".to_owned());
            return Ok(checked);
        }
    };
    let site = Site {
        partition: partition(&account.region).to_owned(),
        region: account.region.clone(),
        account: who.account.clone(),
        ..Site::default()
    };
    let rights = all.iter().flat_map(|(_, rights)| rights.iter().copied()).collect();
    match allowed(&config, &source, &rights, &site).await {
        Ok(allowed) => checked.actions = all.iter().filter_map(|(name, one)| compared(name, one, &allowed)).collect(),
        Err(remark) => checked.remarks.push(remark),
    }
    Ok(checked)
}

fn compared(name: &str, rights: &[&str], allowed: &BTreeMap<String, bool>) -> Option<Rights> {
    let (has, lacks): (Vec<&str>, Vec<&str>) =
        rights.iter().copied().partition(|right| allowed.get(*right).copied().unwrap_or(false));
    let owned = |all: Vec<&str>| all.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let asked = !has.is_empty() || !lacks.is_empty();
    asked.then(|| Rights { action: name.to_owned(), has: owned(has), lacks: owned(lacks) })
}

/// Which of these a user or role may do; else why that cannot be said, with the remedy.
async fn allowed(
    config: &SdkConfig,
    source: &str,
    rights: &BTreeSet<&str>,
    site: &Site,
) -> Result<BTreeMap<String, bool>, String> {
    let client = Client::new(config);
    let mut groups: BTreeMap<Option<Vec<String>>, Vec<String>> = BTreeMap::new();
    for right in rights {
        let of = |kinds: &[reach::Kind]| kinds.iter().map(|kind| site.example(kind)).collect();
        groups.entry(reach::kinds(right).map(of)).or_default().push((*right).to_owned());
    }
    let mut found = BTreeMap::new();
    let mut parts: Vec<(Option<Vec<String>>, Vec<String>)> = Vec::new();
    for (arns, rights) in groups {
        for some in rights.chunks(AT_ONCE) {
            parts.push((arns.clone(), some.to_vec()));
        }
    }
    for (arns, some) in parts {
        let mut marker = None;
        for _ in 0..MAX_PAGES {
            let ask = client.simulate_principal_policy().policy_source_arn(source);
            let sent = ask
                .set_action_names(Some(some.clone()))
                .set_resource_arns(arns.clone())
                .set_marker(marker)
                .send()
                .await;
            let answer = match sent {
                Ok(answer) => answer,
                Err(error) if code(&error) == Some("NoSuchEntity") => {
                    return Err(format!(
                        "IAM does not know {source}: where the role has a path, write its whole ARN as role_arn"
                    ));
                }
                Err(error) => {
                    return Err(format!(
                        "what {source} may do could not be asked: {}; allow it {TO_CHECK} on itself (sakimori cloud policy \
                         --with-check), or hold its policies against that of sakimori cloud policy",
                        problem(TO_CHECK, &error)
                    ));
                }
            };
            for one in answer.evaluation_results() {
                let allowed = *one.eval_decision() == PolicyEvaluationDecisionType::Allowed;
                // On every resource that it needs.
                *found.entry(one.eval_action_name().to_owned()).or_insert(true) &= allowed;
            }
            marker = answer.marker().map(str::to_owned);
            if !answer.is_truncated() || marker.is_none() {
                break;
            }
        }
    }
    Ok(found)
}
