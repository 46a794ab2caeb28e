//! The catalog of actions. An action is a static descriptor and the pure part of what it does; the effect is
//! behind a port. To add one: a file here and a line in [`CATALOG`].

pub mod access_key_deactivate;
pub mod block_address;
pub mod bucket_close;
pub mod bucket_deny;
pub mod collect_triage;
pub mod desktop;
pub mod desktop_isolate;
pub mod desktop_stop;
pub mod disks_snapshot;
pub mod former;
pub mod freeze_processes;
pub mod function_stop;
pub mod groups;
pub mod identity;
pub mod identity_quarantine;
pub mod instance;
pub mod instance_collect;
pub mod instance_detach;
pub mod instance_isolate;
pub mod instance_replace;
pub mod instance_stop;
pub mod instance_terminate;
pub mod isolate_host;
pub mod kill_tree;
pub mod lock_user;
pub mod notify;
pub mod pipeline_stop;
pub mod pipeline_transition_disable;
pub mod port_close;
pub mod prevent_mode;
pub mod process;
pub mod quarantine_file;
pub mod scan_paths;
pub mod sessions_revoke;
pub mod waf_block;
pub mod waf_rate_rule;
pub mod waf_shape_rule;
pub mod web_acl;

use sakimori_model::action::Target;

/// What an action is, for help, forms, checks and reference pages.
#[derive(Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Slug, as orders and playbooks name it.
    pub id: &'static str,
    /// Title in English.
    pub title_en: &'static str,
    /// Title in Japanese.
    pub title_ja: &'static str,
    /// What configures it: dotted names in policy or configuration, with a sentence each.
    pub config: &'static [(&'static str, &'static str)],
    /// Inputs that a playbook step may give beyond the target.
    pub inputs: &'static [Input],
    /// What it acts on.
    pub target: TargetKind,
    /// Rights that it needs, on the host or with the provider.
    pub permissions: &'static [&'static str],
    /// How repeating it is made safe.
    pub safety: Safety,
    /// How it is taken back; `None` where it cannot be.
    pub undo: Option<&'static str>,
    /// Does it end by itself?
    pub expires: bool,
    /// What it can hit at worst.
    pub blast_radius: &'static str,
    /// How its effect is verified.
    pub verification: &'static str,
    /// Who carries it out.
    pub runs: Runs,
}

/// One input of an action.
#[derive(Debug, PartialEq, Eq)]
pub struct Input {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Longest value, in bytes.
    pub most: usize,
}

/// What an action acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// An address or network.
    Network,
    /// A notification channel.
    Channel,
    /// A file or a folder on the host.
    File,
    /// A setting of the policy.
    Setting,
    /// A resource of this kind ([`sakimori_model::action::Target::Resource`]).
    Resource(&'static str),
}

impl TargetKind {
    /// The target of this kind that a text names.
    ///
    /// # Errors
    /// It names none, or a setting, which is begun by a policy.
    pub fn read(self, text: &str) -> Result<Target, String> {
        match self {
            Self::Network => Ok(Target::Network(text.parse().map_err(|error| format!("{}: {error}", short(text)))?)),
            Self::Channel => Ok(Target::Channel(text.to_owned())),
            Self::File => Ok(Target::File(text.to_owned())),
            Self::Resource(kind) => resource(kind, text),
            Self::Setting => Err("a setting is changed by a policy".to_owned()),
        }
    }
}

/// Longest name of a resource, in bytes.
pub const MAX_NAME: usize = 512;

/// The resource of this kind that a text names.
///
/// # Errors
/// A name that is empty, too long, or has other than letters, digits and `- _ . : / @ + = ,`: names come from events and go
/// to providers. A process is named by the path of its program too, which may have any character, so that nobody escapes
/// by a blank in a name; it goes to no provider.
pub fn resource(kind: &str, name: &str) -> Result<Target, String> {
    let path = kind == process::KIND && name.starts_with('/');
    let right = |c: char| c.is_alphanumeric() || "-_.:/@+=,".contains(c) || (path && !c.is_control());
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(right) {
        return Err(format!("{:?} does not name a {kind}", short(name)));
    }
    Ok(Target::resource(kind, name))
}

/// How an action is made safe to repeat (D19).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safety {
    /// Reads the state and changes the difference.
    Converge,
    /// The other side de-duplicates by our key.
    Keyed,
    /// At least once, with the same message id.
    Repeatable,
}

/// Who carries an action out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// The host's agent.
    Host,
    /// The manager.
    Manager,
    /// The manager, in a cloud account, through a [`crate::ports::Effect`].
    Account,
}

/// Input of every action in a cloud account: which one, by its name in the configuration or its provider's number.
pub const ACCOUNT: &str = "account";
/// Input of every action in a cloud account: the region of the target, where it is not the account's.
pub const REGION: &str = "region";

/// All actions.
pub const CATALOG: &[&Descriptor] = &[
    &block_address::DESCRIPTOR,
    &quarantine_file::DESCRIPTOR,
    &scan_paths::DESCRIPTOR,
    &isolate_host::DESCRIPTOR,
    &lock_user::DESCRIPTOR,
    &kill_tree::DESCRIPTOR,
    &freeze_processes::DESCRIPTOR,
    &collect_triage::DESCRIPTOR,
    &waf_block::DESCRIPTOR,
    &notify::DESCRIPTOR,
    &prevent_mode::DESCRIPTOR,
    &access_key_deactivate::DESCRIPTOR,
    &bucket_close::DESCRIPTOR,
    &bucket_deny::DESCRIPTOR,
    &desktop_isolate::DESCRIPTOR,
    &desktop_stop::DESCRIPTOR,
    &disks_snapshot::DESCRIPTOR,
    &function_stop::DESCRIPTOR,
    &identity_quarantine::DESCRIPTOR,
    &instance_collect::DESCRIPTOR,
    &instance_detach::DESCRIPTOR,
    &instance_isolate::DESCRIPTOR,
    &instance_replace::DESCRIPTOR,
    &instance_stop::DESCRIPTOR,
    &instance_terminate::DESCRIPTOR,
    &pipeline_stop::DESCRIPTOR,
    &pipeline_transition_disable::DESCRIPTOR,
    &port_close::DESCRIPTOR,
    &sessions_revoke::DESCRIPTOR,
    &waf_rate_rule::DESCRIPTOR,
    &waf_shape_rule::DESCRIPTOR,
];

/// Actions of a host that change something and put it back, each through a [`crate::ports::HostEffect`].
pub const LASTING: &[&str] = &[isolate_host::ID, lock_user::ID];

/// Slugs of before, and what they are called now: rows, playbooks and orders may still have them.
pub const FORMER: &[(&str, &str)] = &[(notify::FORMER_ID, notify::ID)];

/// The action of this slug, or of one that it had before.
pub fn find(id: &str) -> Option<&'static Descriptor> {
    let id = FORMER.iter().find(|(former, _)| *former == id).map_or(id, |(_, now)| now);
    CATALOG.iter().find(|descriptor| descriptor.id == id).copied()
}

/// At most 64 characters of a text that a stranger wrote.
pub(crate) fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_complete_and_slugs_unique() {
        for (at, descriptor) in CATALOG.iter().enumerate() {
            assert_eq!(CATALOG.iter().position(|other| other.id == descriptor.id), Some(at));
            for text in [descriptor.title_en, descriptor.title_ja, descriptor.blast_radius, descriptor.verification] {
                assert!(!text.is_empty(), "{}", descriptor.id);
            }
            assert!(!descriptor.expires || descriptor.undo.is_some(), "{}: what ends can be taken back", descriptor.id);
            assert_eq!(find(descriptor.id), Some(*descriptor));
        }
        assert_eq!(find("rm"), None);
        assert_eq!(find("notify_webhook").map(|known| known.id), Some("notify"), "it was called so");
        assert!(FORMER.iter().all(|(former, now)| find(former) == find(now) && find(now).is_some()));
    }
}
