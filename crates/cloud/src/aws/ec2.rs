//! What the actions around an instance read of EC2: the instance, network interfaces, security groups, tags.
//!
//! Where AWS differs from the simulator: EC2 is eventually consistent, so that a read may show what was some seconds ago, and
//! a resource that was just made may not be found yet; whoever writes reads again.

use std::collections::BTreeMap;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{
    Filter, InstanceStateName, NetworkInterface, ResourceType, SecurityGroup, Tag, TagSpecification,
};
use sakimori_respond::actions::instance;
use sakimori_respond::ports::PortError;

use super::problem::{code, problem};

/// Most pages that are read of a listing.
pub(super) const MAX_PAGES: usize = 50;
/// Entries of a page.
pub(super) const PAGE: i32 = 500;
/// Most network interfaces that one action looks after. (An instance has at most some dozens.)
pub(super) const MAX_INTERFACES: usize = 128;

/// Says that a listing is longer than what is read of it.
pub(super) fn too_long(call: &str) -> PortError {
    PortError::permanent(format!("{call}: the answer has more than {MAX_PAGES} pages, which is more than is read"))
}

/// A condition of a listing.
pub(super) fn filter(name: &str, values: impl IntoIterator<Item = impl Into<String>>) -> Filter {
    Filter::builder().name(name).set_values(Some(values.into_iter().map(Into::into).collect())).build()
}

/// A tag.
pub(super) fn tag(key: &str, value: &str) -> Tag {
    Tag::builder().key(key).value(value).build()
}

/// Tags of a resource that is being made.
pub(super) fn tagged<'a>(kind: ResourceType, tags: impl IntoIterator<Item = (&'a str, &'a str)>) -> TagSpecification {
    let tags = tags.into_iter().map(|(key, value)| tag(key, value)).collect();
    TagSpecification::builder().resource_type(kind).set_tags(Some(tags)).build()
}

/// Tags as a map.
pub(super) fn tags_of(tags: &[Tag]) -> BTreeMap<String, String> {
    let pair = |tag: &Tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned()));
    tags.iter().filter_map(pair).collect()
}

/// What is read of an instance.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    /// Its state.
    pub(super) state: InstanceStateName,
    /// Its VPC.
    pub(super) vpc: String,
    /// Its public address.
    pub(super) public: Option<String>,
    /// Its addresses in the VPC.
    pub(super) addresses: Vec<String>,
    /// Volumes that are attached, and whether they go with it.
    pub(super) volumes: BTreeMap<String, bool>,
    /// Is its root disk one that does not outlive a stop?
    pub(super) fleeting_root: bool,
    /// Its tags.
    pub(super) tags: BTreeMap<String, String>,
}

impl Instance {
    /// Why no action may interrupt it, where its owner said so.
    pub(super) fn protected(&self) -> Option<String> {
        let tag = instance::PROTECTED;
        self.tags.contains_key(tag).then(|| format!("never interrupted: the instance carries the tag {tag}"))
    }

    /// Is it gone, or going?
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, InstanceStateName::Terminated | InstanceStateName::ShuttingDown)
    }
}

/// An instance; `None` where this account and region has none of this id.
///
/// # Errors
/// The call failed.
pub(super) async fn instance(client: &Client, id: &str) -> Result<Option<Instance>, PortError> {
    let answer = match client.describe_instances().instance_ids(id).send().await {
        Err(error) if code(&error) == Some("InvalidInstanceID.NotFound") => return Ok(None),
        answer => answer.map_err(|error| problem("ec2:DescribeInstances", &error))?,
    };
    let found = answer.reservations().iter().flat_map(|one| one.instances()).find(|one| one.instance_id() == Some(id));
    let Some(found) = found else { return Ok(None) };
    let addresses = found.network_interfaces().iter().flat_map(|one| {
        let four = one.private_ip_addresses().iter().filter_map(|address| address.private_ip_address());
        four.chain(one.ipv6_addresses().iter().filter_map(|address| address.ipv6_address())).map(str::to_owned)
    });
    let mut addresses: Vec<String> = addresses.collect();
    addresses.extend(found.private_ip_address().map(str::to_owned));
    addresses.sort();
    addresses.dedup();
    let volume = |one: &aws_sdk_ec2::types::InstanceBlockDeviceMapping| {
        let disk = one.ebs()?;
        Some((disk.volume_id()?.to_owned(), disk.delete_on_termination().unwrap_or_default()))
    };
    let state = found.state().and_then(|state| state.name()).cloned();
    Ok(Some(Instance {
        state: state.unwrap_or(InstanceStateName::Pending),
        vpc: found.vpc_id().unwrap_or_default().to_owned(),
        public: found.public_ip_address().map(str::to_owned),
        addresses,
        volumes: found.block_device_mappings().iter().filter_map(volume).collect(),
        fleeting_root: found.root_device_type() == Some(&aws_sdk_ec2::types::DeviceType::InstanceStore),
        tags: tags_of(found.tags()),
    }))
}

/// What is said of an instance that is not there.
pub(super) fn no_instance(id: &str) -> String {
    format!("there is no instance {id} in this account and region; the inputs account and region say where it is")
}

/// What is read of a network interface.
#[derive(Clone, Debug)]
pub(super) struct Interface {
    /// Its id.
    pub(super) id: String,
    /// Its VPC.
    pub(super) vpc: String,
    /// Ids of its security groups.
    pub(super) groups: Vec<String>,
    /// Names of its security groups.
    pub(super) names: Vec<String>,
    /// Its tags.
    pub(super) tags: BTreeMap<String, String>,
}

impl Interface {
    fn of(one: &NetworkInterface) -> Option<Self> {
        Some(Self {
            id: one.network_interface_id()?.to_owned(),
            vpc: one.vpc_id().unwrap_or_default().to_owned(),
            groups: one.groups().iter().filter_map(|group| group.group_id()).map(str::to_owned).collect(),
            names: one.groups().iter().filter_map(|group| group.group_name()).map(str::to_owned).collect(),
            tags: tags_of(one.tag_set()),
        })
    }
}

/// Network interfaces that these conditions fit, by id.
///
/// # Errors
/// The call failed; there are more than are looked after.
pub(super) async fn interfaces(client: &Client, filters: Vec<Filter>) -> Result<Vec<Interface>, PortError> {
    let call = "ec2:DescribeNetworkInterfaces";
    let mut found = Vec::new();
    let mut next = None;
    for _ in 0..MAX_PAGES {
        let sent = client.describe_network_interfaces().set_filters(Some(filters.clone()));
        let page = sent.max_results(PAGE).set_next_token(next).send().await.map_err(|error| problem(call, &error))?;
        found.extend(page.network_interfaces().iter().filter_map(Interface::of));
        if found.len() > MAX_INTERFACES {
            return Err(PortError::permanent(format!("{call}: more than {MAX_INTERFACES} network interfaces")));
        }
        next = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
        if next.is_none() {
            found.sort_by(|a, b| a.id.cmp(&b.id));
            return Ok(found);
        }
    }
    Err(too_long(call))
}

/// Security groups that these conditions fit.
///
/// # Errors
/// The call failed.
pub(super) async fn security_groups(client: &Client, filters: Vec<Filter>) -> Result<Vec<SecurityGroup>, PortError> {
    let call = "ec2:DescribeSecurityGroups";
    let mut found = Vec::new();
    let mut next = None;
    for _ in 0..MAX_PAGES {
        let sent = client.describe_security_groups().set_filters(Some(filters.clone()));
        let page = sent.max_results(PAGE).set_next_token(next).send().await.map_err(|error| problem(call, &error))?;
        found.extend(page.security_groups().iter().cloned());
        next = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
        if next.is_none() {
            return Ok(found);
        }
    }
    Err(too_long(call))
}
