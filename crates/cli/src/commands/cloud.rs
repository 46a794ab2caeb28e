//! `cloud`: accounts that the manager acts in, what its role there may do, the least policy that playbooks need, and a new
//! account's configuration.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use reqwest::Method;
use sakimori_cloud::aws::check::{Checked, check};
use sakimori_cloud::aws::{Account, partition};
use sakimori_manager::channels;
use sakimori_manager::config::Config;
use sakimori_respond::actions::{self, CATALOG, Descriptor, Runs};
use sakimori_respond::least::{self, TO_CHECK};
use sakimori_respond::playbook::Playbook;
use sakimori_respond::reach::Site;
use serde_json::{Value, json};

use super::block_on;
use crate::api::Api;
use crate::args::Shared;
use crate::output::{self, text};

#[derive(Debug, Subcommand)]
pub enum CloudCommand {
    /// List the accounts that the manager acts in
    List,
    /// Ask as whom the manager acts in each account, what it may do of what playbooks need, and what it lacks
    #[command(after_help = "Examples:\n  sakimori cloud check\n  \
        sakimori cloud check --account shop --playbook content/playbooks/block-in-waf.yml\n\n\
        The manager asks, with its own credentials. Where its role may not be asked about, this says what to allow it.")]
    Check {
        /// This account only
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        #[command(flatten)]
        wanted: Wanted,
    },
    /// Print the least IAM policy that playbooks or actions need
    #[command(after_help = "Examples:\n  sakimori cloud policy --playbook block-in-waf > policy.json\n  \
        sakimori cloud policy --action bucket_close --action function_stop --with-check\n  \
        sakimori cloud policy --channel security_hub\n\n\
        It is made of what the actions say that they call, which a test holds against what they really call. The resources \
        are all of the kinds that each call is about: write your own there where only some can be meant. * stays where AWS \
        knows no resource, which is so for calls that list and describe. Rights on identities (iam:PutRolePolicy) let whoever \
        holds them give themselves any right: put a boundary on such a role.")]
    Policy {
        #[command(flatten)]
        wanted: Wanted,
        /// A kind of channel that takes findings: security_hub or event_bridge
        #[arg(long = "channel", value_name = "KIND")]
        channels: Vec<String>,
        /// Allow what `sakimori cloud check` needs, too
        #[arg(long)]
        with_check: bool,
        /// Only in this region; us-east-1 for a web ACL of CloudFront
        #[arg(long, default_value = "*", hide_default_value = true)]
        region: String,
        /// Only in this account, by AWS's number
        #[arg(long, value_name = "NUMBER", default_value = "*", hide_default_value = true)]
        account_id: String,
        /// Name of the WAF's sets, as in cloud.waf.ip_set
        #[arg(long, default_value = "sakimori-blocked")]
        ip_set: String,
    },
    /// Check a new account from here, and print its configuration or add it to the manager's
    #[command(after_help = "Examples:\n  sakimori cloud add shop --region ap-northeast-1 \
        --role-arn arn:aws:iam::123456789012:role/sakimori --external-id 7f3a\n  \
        sudo sakimori cloud add shop --region ap-northeast-1 --config /etc/sakimori/manager.toml\n\n\
        It is asked with the credentials of whoever runs this; the manager uses its own. The manager reads its \
        configuration when it starts.")]
    Add(AddArgs),
}

#[derive(Debug, Args)]
pub struct Wanted {
    /// A playbook: its file, or the id of a shipped one
    #[arg(long = "playbook", value_name = "FILE")]
    playbooks: Vec<String>,
    /// An action by its slug
    #[arg(long = "action", value_name = "ACTION")]
    actions: Vec<String>,
}

#[derive(Debug, Args)]
pub struct AddArgs {
    /// What playbooks and people call it
    name: String,
    /// Its region
    #[arg(long)]
    region: String,
    /// The role in it as which the manager acts
    #[arg(long, value_name = "ARN")]
    role_arn: Option<String>,
    /// What the role's trust policy asks of the manager
    #[arg(long, value_name = "TEXT")]
    external_id: Option<String>,
    /// AWS's number of the account; asked of AWS where absent
    #[arg(long, value_name = "NUMBER")]
    account_id: Option<String>,
    /// A profile of AWS's shared configuration
    #[arg(long)]
    profile: Option<String>,
    /// A shared credentials file of AWS
    #[arg(long, value_name = "FILE")]
    credentials_file: Option<PathBuf>,
    /// Another endpoint than AWS's own
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
    /// Ask nobody
    #[arg(long)]
    no_check: bool,
    /// The manager's configuration, to which it is added
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub fn run(shared: &Shared, command: CloudCommand) -> Result<ExitCode> {
    match command {
        CloudCommand::List => {
            let api = Api::open(shared)?;
            block_on(list(&api, shared.json))?;
            Ok(ExitCode::SUCCESS)
        }
        CloudCommand::Check { account, wanted } => {
            let actions: Vec<&str> = wanted.read()?.iter().map(|action| action.id).collect();
            let api = Api::open(shared)?;
            let question = json!({ "account": account, "actions": actions });
            let answer = block_on(async { api.send(Method::POST, "/api/v1/cloud/check", &question).await })?;
            let ok = show(&answer, shared.json)?;
            Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        CloudCommand::Policy { wanted, channels: kinds, with_check, region, account_id, ip_set } => {
            let actions = wanted.read()?;
            if actions.is_empty() && kinds.is_empty() {
                bail!("say for what: --playbook FILE, --action ACTION or --channel KIND");
            }
            let mut rights = rights(actions, &kinds)?;
            if with_check {
                rights.insert(TO_CHECK);
            }
            // JSON either way: it is what AWS takes.
            let site = Site { partition: partition(&region).to_owned(), region, account: account_id, ip_set };
            output::json(&least::policy(&rights, &site))?;
            Ok(ExitCode::SUCCESS)
        }
        CloudCommand::Add(args) => add(&args, shared.json),
    }
}

/// The rights of these actions and kinds of channels.
fn rights(actions: Vec<&'static Descriptor>, kinds: &[String]) -> Result<BTreeSet<&'static str>> {
    let mut rights = least::rights(actions);
    for kind in kinds {
        let findings = channels::find(kind).and_then(|kind| kind.findings);
        rights.extend(findings.with_context(|| format!("no kind {kind} of channel takes findings"))?.rights);
    }
    Ok(rights)
}

impl Wanted {
    /// The actions that are named, each once, in the order of the catalog.
    fn read(&self) -> Result<Vec<&'static Descriptor>> {
        let mut named: BTreeSet<&str> = BTreeSet::new();
        for id in &self.actions {
            let known: Vec<&str> = CATALOG.iter().map(|action| action.id).collect();
            let found = actions::find(id);
            named.insert(found.with_context(|| format!("no action {id}; known are {}", known.join(", ")))?.id);
        }
        for name in &self.playbooks {
            let (file, text) = playbook(name)?;
            let playbook = Playbook::parse(&file, &text).map_err(anyhow::Error::new)?;
            named.extend(playbook.acts().iter().map(|act| act.action.id));
        }
        Ok(CATALOG.iter().copied().filter(|action| named.contains(action.id)).collect())
    }
}

/// A playbook's file and text: of a file, or a shipped one by its id.
fn playbook(name: &str) -> Result<(String, String)> {
    if Path::new(name).is_file() {
        return Ok((name.to_owned(), std::fs::read_to_string(name).with_context(|| format!("cannot read {name}"))?));
    }
    let file = format!("playbooks/{name}.yml");
    let shipped = sakimori_content::files::builtin().remove(&file);
    let bytes = shipped.with_context(|| format!("{name} is neither a file nor a shipped playbook"))?;
    Ok((file, String::from_utf8(bytes).context("a shipped playbook is not UTF-8")?))
}

async fn list(api: &Api, json: bool) -> Result<()> {
    let answer = api.get("/api/v1/cloud/accounts", &[]).await?;
    if json {
        return output::json(&answer);
    }
    let names = ["name", "region", "account_id", "role_arn"];
    let items = answer.get("items").and_then(Value::as_array).into_iter().flatten();
    let rows: Vec<Vec<String>> = items.map(|one| names.iter().map(|name| text(one, name)).collect()).collect();
    output::table(&names, &rows, "no cloud account is configured; sakimori cloud add checks and adds one")
}

/// Prints what was found. Returns whether every account has what it needs.
fn show(answer: &Value, json: bool) -> Result<bool> {
    let items: Vec<&Value> = answer.get("items").and_then(Value::as_array).into_iter().flatten().collect();
    let ok = items.iter().all(|one| one.get("ok").and_then(Value::as_bool) == Some(true));
    if json {
        output::json(answer)?;
        return Ok(ok);
    }
    if items.is_empty() {
        output::line("no cloud account is configured; sakimori cloud add checks and adds one")?;
    }
    for one in items {
        output::line(format!("{}: acts as {}", text(one, "name"), text(one, "caller")))?;
        let mut rows = Vec::new();
        for action in one.get("actions").and_then(Value::as_array).into_iter().flatten() {
            let lacks = action.get("lacks").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
            let lacks = lacks.collect::<Vec<_>>().join(" ");
            let state = if lacks.is_empty() { "may" } else { "lacks" };
            rows.push(vec![text(action, "action"), state.to_owned(), lacks]);
        }
        output::table(&["action", "state", "rights"], &rows, "what it may do was not asked")?;
        for remark in one.get("remarks").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            output::line(format!("  {remark}"))?;
        }
    }
    Ok(ok)
}

fn add(args: &AddArgs, json: bool) -> Result<ExitCode> {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if args.name.is_empty() || args.name.len() > 64 || !args.name.bytes().all(bare) {
        bail!("a name has letters, digits, - and _, up to 64");
    }
    let mut account = Account {
        region: args.region.clone(),
        endpoint_url: args.endpoint_url.clone(),
        profile: args.profile.clone(),
        credentials_file: args.credentials_file.clone(),
        account_id: args.account_id.clone(),
        role_arn: args.role_arn.clone(),
        external_id: args.external_id.clone(),
        ..Account::default()
    };
    account.check()?;
    let mut checked = None;
    if !args.no_check {
        let actions: Vec<&Descriptor> = CATALOG.iter().copied().filter(|action| action.runs == Runs::Account).collect();
        let found = block_on(async { Ok(check(&account, &actions).await?) })?;
        account.account_id.get_or_insert_with(|| found.account.clone());
        checked = Some(found);
    }
    let block = block(&args.name, &account);
    if let Some(file) = &args.config {
        append(file, &block)?;
    }
    if json {
        output::json(&json!({ "configuration": block, "added_to": args.config, "check": checked }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(checked) = &checked {
        told(checked)?;
    }
    match &args.config {
        Some(file) => output::line(format!("{} is in {}; start the manager again", args.name, file.display()))?,
        None => output::line(format!("\n{block}"))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn told(checked: &Checked) -> Result<()> {
    output::line(format!("acts as {} in the account {}", checked.caller, checked.account))?;
    let able = checked.actions.iter().filter(|action| action.lacks.is_empty()).count();
    if !checked.actions.is_empty() {
        let all = checked.actions.len();
        output::line(format!("has the rights of {able} of {all} actions; sakimori cloud check lists them"))?;
    }
    checked.remarks.iter().try_for_each(output::line)
}

/// The account as a part of the manager's configuration.
fn block(name: &str, account: &Account) -> String {
    let file = account.credentials_file.as_ref().map(|file| file.display().to_string());
    let values = [
        ("region", Some(account.region.clone())),
        ("account_id", account.account_id.clone()),
        ("role_arn", account.role_arn.clone()),
        ("external_id", account.external_id.clone()),
        ("profile", account.profile.clone()),
        ("credentials_file", file),
        ("endpoint_url", account.endpoint_url.clone()),
    ];
    let lines =
        values.into_iter().filter_map(|(key, value)| Some(format!("{key} = {}\n", toml::Value::String(value?))));
    format!("[cloud.accounts.{name}]\n{}", lines.collect::<String>())
}

/// Adds it, unless the whole would not be right then.
fn append(file: &Path, block: &str) -> Result<()> {
    let before = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let gap = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    let added = format!("{gap}\n{block}");
    toml::from_str::<Config>(&format!("{before}{added}"))
        .with_context(|| format!("{} would not be right with it; nothing was changed", file.display()))?;
    let mut open = std::fs::OpenOptions::new().append(true).open(file);
    let opened = open.as_mut().map_err(|error| anyhow::anyhow!("cannot open {}: {error}", file.display()))?;
    opened.write_all(added.as_bytes()).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_read_again_and_never_added_twice() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("manager.toml");
        std::fs::write(&file, "# mine\n[log]\nlevel = \"debug\"").unwrap();
        let account = Account {
            region: "eu-west-1".into(),
            account_id: Some("123456789012".into()),
            role_arn: Some("arn:aws:iam::123456789012:role/sakimori".into()),
            external_id: Some("with \"quotes\" \\ and\nlines".into()),
            ..Account::default()
        };
        append(&file, &block("shop", &account)).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let config: Config = toml::from_str(&text).unwrap();
        assert_eq!((config.cloud.accounts.get("shop"), config.log.level.as_str()), (Some(&account), "debug"));
        assert!(text.starts_with("# mine\n"));
        let again = append(&file, &block("shop", &account)).unwrap_err();
        assert!(again.to_string().contains("nothing was changed"), "{again}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }

    #[test]
    fn the_rights_of_channels_are_bound_to_what_findings_are_about() {
        let site = Site { region: "eu-west-1".into(), account: "123456789012".into(), ..Site::default() };
        let kinds = ["security_hub".to_owned(), "event_bridge".to_owned()];
        let policy = least::policy(&rights(Vec::new(), &kinds).unwrap(), &site);
        let statements = policy["Statement"].as_array().unwrap();
        let mut named: Vec<&str> = statements
            .iter()
            .flat_map(|one| one["Action"].as_array().unwrap())
            .map(|one| one.as_str().unwrap())
            .collect();
        named.sort_unstable();
        assert_eq!(named, sakimori_respond::reach::FINDINGS);
        let mut on: Vec<&str> = statements.iter().map(|one| one["Resource"].as_str().unwrap()).collect();
        on.sort_unstable();
        assert_eq!(
            on,
            [
                "arn:aws:events:eu-west-1:123456789012:event-bus/*",
                "arn:aws:securityhub:eu-west-1:123456789012:hub/default",
                "arn:aws:securityhub:eu-west-1:123456789012:product/123456789012/default",
            ]
        );
        assert!(rights(Vec::new(), &["slack".to_owned()]).unwrap_err().to_string().contains("takes findings"));
    }

    #[test]
    fn playbooks_and_actions_name_what_a_policy_allows() {
        let wanted = |playbooks: &[&str], actions: &[&str]| Wanted {
            playbooks: playbooks.iter().map(|name| (*name).to_owned()).collect(),
            actions: actions.iter().map(|name| (*name).to_owned()).collect(),
        };
        let read = wanted(&["block-in-waf"], &["bucket_close", "bucket_close"]).read().unwrap();
        let ids: Vec<&str> = read.iter().map(|action| action.id).collect();
        assert!(ids.contains(&"waf_block") && ids.iter().filter(|id| **id == "bucket_close").count() == 1, "{ids:?}");
        assert!(wanted(&["nowhere"], &[]).read().unwrap_err().to_string().contains("neither a file nor a shipped"));
        assert!(wanted(&[], &["rm"]).read().unwrap_err().to_string().contains("known are"));
    }
}
