//! Isolation by security groups, the part that speaks to EC2: the two groups, and the interfaces that go into them and back.
//!
//! How it works: EC2 lets a connection that it tracks go on when the groups of its interface change. So an interface first
//! goes into a group that allows everything in both directions, with which nothing is tracked, and from there into one that
//! allows nothing: what was open ends with it. The first group is made for this one action and deleted at its end, since
//! it allows everything. The isolation group stays in the VPC and is used again.
//!
//! Where AWS differs from the simulator: some connections are tracked whatever the rules (through NAT gateways, network and
//! gateway load balancers, transit gateways, Network Firewall and VPC endpoints, Lambda; ICMP): those that are open go on
//! until they are idle for the interface's timeout, and only a stop or a network ACL ends them at once. An interface has at
//! most 16 groups, 5 by default.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{SecurityGroup, Tag};
use sakimori_respond::actions::groups::{self, Back, Former, Held, Step, Wanted};
use sakimori_respond::ports::{Look, PortError, Progress};

use super::ec2::{self, Interface, filter, security_groups};
use super::isolation_groups::{is_empty, name};
use super::problem::{code, problem};

/// One action that isolates.
pub(super) struct Isolation<'a> {
    /// EC2 in the right region.
    pub(super) client: Client,
    /// Id of the action.
    pub(super) action: &'a str,
    /// What its order wants.
    pub(super) wanted: Wanted<'a>,
    /// What is isolated, for people: `i-0a1b`.
    pub(super) what: &'a str,
}

/// What is in the way of isolating.
pub(super) enum Obstacle {
    /// It changes nothing.
    Nothing(String),
    /// It must not be done.
    Refused(String),
}

impl From<Obstacle> for Look {
    fn from(obstacle: Obstacle) -> Self {
        match obstacle {
            Obstacle::Nothing(reason) => Self::NoEffect(reason),
            Obstacle::Refused(reason) => Self::Refused(reason),
        }
    }
}

impl Isolation<'_> {
    /// What isolating these interfaces would do, and what they have now. `holder` is to carry the tags.
    ///
    /// # Errors
    /// A call failed; another action is under way with one of them.
    pub(super) async fn look(
        &self,
        holder: &str,
        interfaces: &[Interface],
    ) -> Result<Result<(Former, Vec<String>), Obstacle>, PortError> {
        let vpcs: BTreeSet<&str> = interfaces.iter().map(|one| one.vpc.as_str()).collect();
        let mut isolation: BTreeMap<&str, Option<SecurityGroup>> = BTreeMap::new();
        let mut would = Vec::new();
        for vpc in vpcs {
            match self.find(vpc).await? {
                Ok(Some(group)) if self.wanted.group.is_some() && !is_empty(&group) => {
                    would
                        .push(format!("use {} to isolate, whose rules stay: what they allow stays open", name(&group)));
                    isolation.insert(vpc, Some(group));
                }
                Ok(group) => {
                    if group.is_none() {
                        would.push(format!("make the security group {} without rules in {vpc}", groups::NAME));
                    }
                    isolation.insert(vpc, group);
                }
                Err(reason) => return Ok(Err(Obstacle::Refused(reason))),
            }
        }
        let mut former = Former { holder: holder.to_owned(), interfaces: BTreeMap::new() };
        for one in interfaces {
            let group = isolation.get(one.vpc.as_str()).and_then(Option::as_ref).and_then(|group| group.group_id());
            if group.is_some_and(|group| groups::next(&one.groups, group, None) == Step::Nothing) {
                continue;
            }
            if one.names.iter().any(|name| name.starts_with(groups::CUT_PREFIX)) {
                return Err(PortError::transient(format!("another action is isolating {} at this moment", one.id)));
            }
            let with = group.unwrap_or(groups::NAME);
            would.push(format!(
                "give {} of {} the group {with} instead of {}",
                one.id,
                self.what,
                one.names.join(", ")
            ));
            former.interfaces.insert(one.id.clone(), Held { vpc: one.vpc.clone(), groups: one.groups.clone() });
        }
        if former.interfaces.is_empty() {
            return Ok(Err(Obstacle::Nothing(format!("{} is isolated already", self.what))));
        }
        if self.wanted.cut {
            would.push(
                "open all its ports for a moment, so that its tracked connections end with the next step".to_owned(),
            );
        }
        would.push(format!("keep the former groups as tags of {holder}"));
        Ok(Ok((former, would)))
    }

    /// Isolates all of these interfaces, from wherever it stopped before.
    ///
    /// # Errors
    /// A call failed; none of the interfaces is there any more.
    pub(super) async fn apply(&self, former: &Former, now: &[Interface]) -> Result<Progress, PortError> {
        if now.is_empty() {
            return Err(PortError::permanent(format!("{} has no network interface any more", self.what)));
        }
        let vpcs: BTreeSet<&str> = now.iter().map(|one| one.vpc.as_str()).collect();
        let mut isolation = BTreeMap::new();
        for vpc in vpcs {
            isolation.insert(vpc, self.ensure(vpc).await?);
        }
        let of = |vpc: &str| isolation.get(vpc).map(String::as_str).unwrap_or_default();
        let left: Vec<&Interface> =
            now.iter().filter(|one| groups::next(&one.groups, of(&one.vpc), None) != Step::Nothing).collect();
        let mut remarks: Vec<String> = Vec::new();
        remarks.extend(self.keep(former, &left).await?);
        let mut cuts = BTreeMap::new();
        if self.wanted.cut {
            for vpc in left.iter().map(|one| one.vpc.as_str()).collect::<BTreeSet<_>>() {
                cuts.insert(vpc, self.cut_group(vpc).await?);
            }
        }
        for one in left {
            let cut = cuts.get(one.vpc.as_str()).map(String::as_str);
            if let (Step::CutFirst, Some(cut)) = (groups::next(&one.groups, of(&one.vpc), cut), cut) {
                self.put(&one.id, &[cut.to_owned()]).await?;
            }
            self.put(&one.id, &[of(&one.vpc).to_owned()]).await?;
        }
        remarks.extend(self.remove_cuts().await?);
        let gone = former.interfaces.keys().filter(|id| !now.iter().any(|one| one.id == **id));
        remarks.extend(gone.map(|id| format!("{id} went meanwhile")));
        Ok(Progress::Done { remark: (!remarks.is_empty()).then(|| remarks.join("; ")) })
    }

    /// What of these interfaces is not isolated.
    ///
    /// # Errors
    /// A call failed.
    pub(super) async fn verify(&self, now: &[Interface]) -> Result<Option<String>, PortError> {
        for one in now {
            let group = match self.find(&one.vpc).await? {
                Ok(Some(group)) => group,
                Ok(None) => return Ok(Some(format!("there is no isolation group in {}", one.vpc))),
                Err(reason) => return Ok(Some(reason)),
            };
            if self.wanted.group.is_none() && !is_empty(&group) {
                return Ok(Some(format!("{} still has rules", name(&group))));
            }
            if groups::next(&one.groups, group.group_id().unwrap_or_default(), None) != Step::Nothing {
                return Ok(Some(format!("{} has the groups {}", one.id, one.names.join(", "))));
            }
        }
        Ok(None)
    }

    /// Gives the interfaces back what they had. `tags` are those of the holder: they know interfaces that came while the
    /// action was carried out.
    ///
    /// # Errors
    /// A call failed; none of an interface's former groups exists any more.
    pub(super) async fn undo(&self, former: &Former, tags: &BTreeMap<String, String>) -> Result<Progress, PortError> {
        let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, value) in tags {
            if let Some(interface) = groups::of_tag(self.action, key) {
                wanted.insert(interface.to_owned(), groups::from_value(value));
            }
        }
        wanted.extend(former.interfaces.iter().map(|(id, held)| (id.clone(), held.groups.clone())));
        let now = match wanted.is_empty() {
            true => Vec::new(),
            false => {
                ec2::interfaces(&self.client, vec![filter("network-interface-id", wanted.keys().cloned())]).await?
            }
        };
        let ours = self.ours(&now).await?;
        let all: BTreeSet<String> = wanted.values().flatten().cloned().collect();
        let existing = self.existing(all).await?;
        let mut remarks = Vec::new();
        for (id, groups) in &wanted {
            let Some(one) = now.iter().find(|one| one.id == *id) else {
                remarks.push(format!("{id} does not exist any more"));
                continue;
            };
            match groups::back(&one.groups, groups, &ours, &existing) {
                Back::Already => {}
                Back::ByOthers => {
                    remarks.push(format!("{id} was given {} meanwhile, which stays", one.names.join(", ")));
                }
                Back::Put(left) => {
                    self.put(id, &left).await?;
                    let gone: Vec<_> =
                        groups.iter().filter(|group| !left.contains(group)).map(String::as_str).collect();
                    if !gone.is_empty() {
                        remarks.push(format!("{id}: {} does not exist any more", gone.join(", ")));
                    }
                }
                Back::Gone => {
                    let reason = format!("none of {} exists any more: give {id} a group by hand", groups.join(", "));
                    return Err(PortError::permanent(reason));
                }
            }
        }
        self.forget(&former.holder, tags, &wanted).await?;
        remarks.extend(self.remove_cuts().await?);
        Ok(Progress::Done { remark: (!remarks.is_empty()).then(|| remarks.join("; ")) })
    }

    async fn put(&self, interface: &str, groups: &[String]) -> Result<(), PortError> {
        let sent = self.client.modify_network_interface_attribute().network_interface_id(interface);
        match sent.set_groups(Some(groups.to_vec())).send().await {
            // What was just made is not seen everywhere yet, and an interface may go at any time: look again.
            Err(error)
                if matches!(code(&error), Some("InvalidGroup.NotFound" | "InvalidNetworkInterfaceID.NotFound")) =>
            {
                Err(PortError::transient(problem("ec2:ModifyNetworkInterfaceAttribute", &error).to_string()))
            }
            sent => sent.map(|_| ()).map_err(|error| problem("ec2:ModifyNetworkInterfaceAttribute", &error)),
        }
    }

    /// Keeps the groups of these interfaces as tags of the holder: what the ledger says they had, else, where they came
    /// meanwhile, what they have. Returns what a person should know.
    async fn keep(&self, former: &Former, left: &[&Interface]) -> Result<Vec<String>, PortError> {
        let (mut tags, mut remarks) = (Vec::new(), Vec::new());
        let mut all: BTreeMap<&str, &[String]> =
            former.interfaces.iter().map(|(id, held)| (id.as_str(), held.groups.as_slice())).collect();
        for one in left.iter().filter(|one| !one.names.iter().any(|name| name.starts_with(groups::CUT_PREFIX))) {
            if all.insert(&one.id, former.interfaces.get(&one.id).map_or(&one.groups, |held| &held.groups)).is_none() {
                remarks.push(format!("{} came meanwhile, with {}", one.id, one.names.join(", ")));
            }
        }
        for (id, groups) in all {
            match groups::to_value(groups) {
                Some(value) => tags.push(ec2::tag(&groups::tag(self.action, id), &value)),
                None => remarks.push(format!("{id} had more groups than a tag holds; the ledger has them")),
            }
        }
        if tags.is_empty() {
            return Ok(remarks);
        }
        match self.client.create_tags().resources(&former.holder).set_tags(Some(tags)).send().await {
            Err(error)
                if code(&error).is_some_and(|code| code.contains("LimitExceeded") && code.starts_with("Tag")) =>
            {
                remarks.push(format!("{} has no room for tags; the ledger has the former groups", former.holder));
            }
            sent => {
                sent.map_err(|error| problem("ec2:CreateTags", &error))?;
            }
        }
        Ok(remarks)
    }

    /// Takes the tags of this action off their holder.
    async fn forget(
        &self,
        holder: &str,
        tags: &BTreeMap<String, String>,
        wanted: &BTreeMap<String, Vec<String>>,
    ) -> Result<(), PortError> {
        let keys = wanted.keys().map(|id| groups::tag(self.action, id)).filter(|key| tags.contains_key(key));
        let keys: Vec<Tag> = keys.map(|key| Tag::builder().key(key).build()).collect();
        if keys.is_empty() {
            return Ok(());
        }
        match self.client.delete_tags().resources(holder).set_tags(Some(keys)).send().await {
            Err(error) if code(&error).is_some_and(|code| code.ends_with(".NotFound")) => Ok(()),
            sent => sent.map(|_| ()).map_err(|error| problem("ec2:DeleteTags", &error)),
        }
    }

    /// Which of these groups there are.
    async fn existing(&self, groups: BTreeSet<String>) -> Result<BTreeSet<String>, PortError> {
        if groups.is_empty() {
            return Ok(groups);
        }
        let found = security_groups(&self.client, vec![filter("group-id", groups)]).await?;
        Ok(found.iter().filter_map(|group| group.group_id()).map(str::to_owned).collect())
    }
}
