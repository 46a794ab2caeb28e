//! Cloud accounts: which are configured, and what the manager's role in each may do of what actions need. Nothing secret is
//! in an account's configuration, and the external id is not shown all the same.

use axum::Json;
use axum::extract::State;
use sakimori_cloud::aws::Account;
use sakimori_cloud::aws::check::check_for;
use sakimori_respond::actions::{self, CATALOG, Descriptor, Runs, waf_block};
use sakimori_respond::least::rights_of;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::App;
use super::extract::Body;
use super::problem::{self, Problem};
use crate::channels;
use crate::config::Channel;
use crate::shared::Shared;

/// What `cloud.waf` is called here.
const WAF: &str = "waf";
/// Most actions of one question.
const MOST: usize = 200;

/// An account.
#[derive(Debug, Serialize, ToSchema)]
pub struct CloudAccount {
    /// As the configuration names it; `waf` is that of `cloud.waf`.
    pub name: String,
    /// Its region.
    pub region: String,
    /// AWS's number, where it is configured.
    pub account_id: Option<String>,
    /// The role as which the manager acts there.
    pub role_arn: Option<String>,
    /// Slugs of the actions that it carries out.
    pub actions: Vec<String>,
}

/// All of them.
#[derive(Debug, Serialize, ToSchema)]
pub struct CloudAccounts {
    /// By their names.
    pub items: Vec<CloudAccount>,
}

/// What is asked.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CloudQuestion {
    /// Of this account only; of all where absent.
    pub account: Option<String>,
    /// For these actions; for all that an account carries out where empty.
    pub actions: Vec<String>,
}

/// What an account's role may do.
#[derive(Debug, Serialize, ToSchema)]
pub struct CloudCheck {
    /// Name of the account.
    pub name: String,
    /// As whom the manager acts there, an ARN; absent where nobody could be asked.
    pub caller: Option<String>,
    /// AWS's number of the account.
    pub account_id: Option<String>,
    /// For each action what the role may do and what it lacks; empty where that could not be asked.
    pub actions: Vec<ActionRights>,
    /// What is not as it should be, with the remedy.
    pub remarks: Vec<String>,
    /// Is everything there that these actions need?
    pub ok: bool,
}

/// The rights of one action.
#[derive(Debug, Serialize, ToSchema)]
pub struct ActionRights {
    /// Slug.
    pub action: String,
    /// Rights that the role has.
    pub has: Vec<String>,
    /// Rights that it lacks.
    pub lacks: Vec<String>,
}

/// Of each account.
#[derive(Debug, Serialize, ToSchema)]
pub struct CloudChecks {
    /// By their names.
    pub items: Vec<CloudCheck>,
}

/// Each account with its name and the actions that it carries out.
fn accounts(shared: &Shared) -> Vec<(&str, &Account, Vec<&'static Descriptor>)> {
    let of_accounts = || CATALOG.iter().copied().filter(|action| action.runs == Runs::Account);
    let named = shared.config.cloud.accounts.iter();
    let mut all: Vec<_> = named.map(|(name, account)| (name.as_str(), account, of_accounts().collect())).collect();
    if let Some(waf) = &shared.config.cloud.waf {
        all.push((WAF, &waf.account, vec![&waf_block::DESCRIPTOR]));
    }
    all
}

/// `GET /cloud/accounts`
pub async fn list(State(app): State<App>) -> Json<CloudAccounts> {
    let items = accounts(&app.shared).into_iter().map(|(name, account, actions)| CloudAccount {
        name: name.to_owned(),
        region: account.region.clone(),
        account_id: account.account_id.clone(),
        role_arn: account.role_arn.clone(),
        actions: actions.iter().map(|action| action.id.to_owned()).collect(),
    });
    Json(CloudAccounts { items: items.collect() })
}

/// `POST /cloud/check`
pub async fn ask(State(app): State<App>, Body(question): Body<CloudQuestion>) -> Result<Json<CloudChecks>, Problem> {
    let mut known = accounts(&app.shared);
    if let Some(name) = &question.account {
        known.retain(|(one, ..)| one == name);
        if known.is_empty() {
            return Err(Problem::new(problem::CLOUD_INVALID)
                .fault("account", format!("no account {name} is configured; sakimori cloud add {name} writes it")));
        }
    }
    if question.actions.len() > MOST {
        return Err(Problem::new(problem::CLOUD_INVALID).fault("actions", format!("at most {MOST}")));
    }
    let mut named = Vec::new();
    for id in &question.actions {
        let found = actions::find(id);
        named.push(
            found.ok_or_else(|| Problem::new(problem::CLOUD_INVALID).fault("actions", format!("no action {id}")))?,
        );
    }
    let mut items = Vec::new();
    for (name, account, mut actions) in known {
        if !named.is_empty() {
            actions.retain(|action| named.iter().any(|one| one.id == action.id));
        }
        let mut needs: Vec<(String, Vec<&str>)> =
            actions.iter().map(|action| (action.id.to_owned(), rights_of(action).collect())).collect();
        if named.is_empty() {
            needs.extend(of_channels(&app.shared, name));
        }
        items.push(one(name, account, &needs).await);
    }
    Ok(Json(CloudChecks { items }))
}

/// What the channels need that take findings in this account; nothing where there are none.
fn of_channels(shared: &Shared, account: &str) -> Vec<(String, Vec<&'static str>)> {
    let only = (shared.config.cloud.accounts.len() == 1).then(|| shared.config.cloud.accounts.keys().next()).flatten();
    let of = |channel: &Channel| {
        let findings = channels::find(&channel.kind)?.findings?;
        let here = channel.setting("account").or(only.map(String::as_str)) == Some(account);
        here.then(|| (format!("notify:{}", channel.name), findings.rights.to_vec()))
    };
    shared.config.notify.iter().filter_map(of).collect()
}

async fn one(name: &str, account: &Account, all: &[(String, Vec<&str>)]) -> CloudCheck {
    let name = name.to_owned();
    let asked: Vec<(&str, Vec<&str>)> = all.iter().map(|(name, rights)| (name.as_str(), rights.clone())).collect();
    let checked = match check_for(account, &asked).await {
        Ok(checked) => checked,
        Err(problem) => {
            let (caller, account_id, remarks) = (None, account.account_id.clone(), vec![problem.to_string()]);
            return CloudCheck { name, caller, account_id, actions: Vec::new(), remarks, ok: false };
        }
    };
    let needs = all.iter().any(|(_, rights)| !rights.is_empty());
    let lacks = checked.actions.iter().any(|action| !action.lacks.is_empty());
    let unasked = needs && checked.actions.is_empty();
    let each =
        checked.actions.into_iter().map(|one| ActionRights { action: one.action, has: one.has, lacks: one.lacks });
    CloudCheck {
        name,
        caller: Some(checked.caller),
        account_id: Some(checked.account),
        actions: each.collect(),
        ok: !lacks && !unasked && checked.remarks.is_empty(),
        remarks: checked.remarks,
    }
}
