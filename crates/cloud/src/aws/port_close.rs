//! `port_close`: rules of a security group that open a port to the world are taken out.
//!
//! Where AWS differs from the simulator: connections that are open and tracked go on until they are idle. A rule that is put
//! back has a new id. A group has at most 60 rules by default (1,000 at most).

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{IpPermission, IpRange, Ipv6Range, ResourceType, SecurityGroupRule};
use sakimori_model::Order;
use sakimori_respond::actions::former;
use sakimori_respond::actions::port_close::{self, Former, ID, Rule};
use sakimori_respond::ports::{BoxFuture, Effect, Look, PortError, Progress};

use super::Make;
use super::clients::Clients;
use super::ec2::{self, MAX_PAGES, PAGE, filter, too_long};
use super::problem::{code, problem};

/// `port_close`.
pub(super) const PORT_CLOSE: (&str, Make) = (ID, |clients| Arc::new(Close(Arc::clone(clients))));

struct Close(Arc<Clients>);

/// The rules of a group for what comes in from networks, by their ids.
async fn rules(client: &Client, group: &str) -> Result<BTreeMap<String, Rule>, PortError> {
    let call = "ec2:DescribeSecurityGroupRules";
    let (mut found, mut next) = (BTreeMap::new(), None);
    for _ in 0..MAX_PAGES {
        let sent = client.describe_security_group_rules().filters(filter("group-id", [group]));
        let page = sent.max_results(PAGE).set_next_token(next).send().await.map_err(|error| problem(call, &error))?;
        found.extend(page.security_group_rules().iter().filter(|rule| rule.is_egress() != Some(true)).filter_map(read));
        next = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
        if next.is_none() {
            return Ok(found);
        }
    }
    Err(too_long(call))
}

fn read(one: &SecurityGroupRule) -> Option<(String, Rule)> {
    let rule = Rule {
        protocol: one.ip_protocol()?.to_owned(),
        from: one.from_port().unwrap_or(-1),
        to: one.to_port().unwrap_or(-1),
        cidr: one.cidr_ipv4().or(one.cidr_ipv6())?.to_owned(),
        description: one.description().filter(|text| !text.is_empty()).map(str::to_owned),
        // Tags of AWS's own cannot be given by others.
        tags: ec2::tags_of(one.tags()).into_iter().filter(|(key, _)| !key.starts_with("aws:")).collect(),
    };
    Some((one.security_group_rule_id()?.to_owned(), rule))
}

fn permission(rule: &Rule) -> IpPermission {
    let about = rule.description.clone();
    let permission = IpPermission::builder().ip_protocol(&rule.protocol);
    let permission = match rule.protocol.as_str() {
        "-1" => permission,
        _ => permission.from_port(rule.from).to_port(rule.to),
    };
    match rule.cidr.contains(':') {
        true => permission.ipv6_ranges(Ipv6Range::builder().cidr_ipv6(&rule.cidr).set_description(about).build()),
        false => permission.ip_ranges(IpRange::builder().cidr_ip(&rule.cidr).set_description(about).build()),
    }
    .build()
}

/// Is there such a group?
async fn exists(client: &Client, group: &str) -> Result<bool, PortError> {
    Ok(!ec2::security_groups(client, vec![filter("group-id", [group])]).await?.is_empty())
}

impl Effect for Close {
    fn look<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Look, PortError>> {
        Box::pin(async move {
            let client = Client::new(&self.0.of(order));
            let group = port_close::group(order).map_err(PortError::permanent)?;
            let wanted = port_close::wanted(order).map_err(PortError::permanent)?;
            if !exists(&client, group).await? {
                return Ok(Look::NoEffect(format!("there is no security group {group} in this account and region")));
            }
            let mut found = rules(&client, group).await?;
            found.retain(|_, rule| rule.opens(&wanted));
            if found.is_empty() {
                let from = wanted.cidr.map_or_else(|| "the world".to_owned(), |cidr| cidr.to_cidr());
                let reason = format!("{group} does not open port {} of {} to {from}", wanted.port, wanted.protocol);
                return Ok(Look::NoEffect(reason));
            }
            let would =
                found.iter().map(|(id, rule)| format!("take {id} out of {group}, which opens {rule}")).collect();
            let former = Former { rules: found };
            Ok(Look::Ready { former: former::write(&former).map_err(PortError::permanent)?, would })
        })
    }

    fn apply<'a>(&'a self, order: &'a Order, former: &'a str) -> BoxFuture<'a, Result<Progress, PortError>> {
        Box::pin(async move {
            let client = Client::new(&self.0.of(order));
            let group = port_close::group(order).map_err(PortError::permanent)?;
            let wanted = port_close::wanted(order).map_err(PortError::permanent)?;
            let former: Former = former::read(ID, former).map_err(PortError::permanent)?;
            let found = rules(&client, group).await?;
            let left: Vec<String> = found.keys().filter(|id| former.rules.contains_key(*id)).cloned().collect();
            if !left.is_empty() {
                let sent =
                    client.revoke_security_group_ingress().group_id(group).set_security_group_rule_ids(Some(left));
                match sent.send().await {
                    // Somebody took one out in this moment: read again.
                    Err(error) if code(&error).is_some_and(|code| code.ends_with("NotFound")) => {
                        let reason = problem("ec2:RevokeSecurityGroupIngress", &error).to_string();
                        return Err(PortError::transient(reason));
                    }
                    sent => {
                        sent.map_err(|error| problem("ec2:RevokeSecurityGroupIngress", &error))?;
                    }
                }
            }
            // What came meanwhile was not there to be looked at, so it stays, and is told.
            let others = found.iter().filter(|(id, rule)| rule.opens(&wanted) && !former.rules.contains_key(*id));
            let others: Vec<String> =
                others.map(|(id, rule)| format!("{id} came meanwhile and opens {rule}")).collect();
            Ok(Progress::Done { remark: (!others.is_empty()).then(|| others.join("; ")) })
        })
    }

    fn verify<'a>(&'a self, order: &'a Order, former: &'a str) -> BoxFuture<'a, Result<Option<String>, PortError>> {
        Box::pin(async move {
            let client = Client::new(&self.0.of(order));
            let group = port_close::group(order).map_err(PortError::permanent)?;
            let former: Former = former::read(ID, former).map_err(PortError::permanent)?;
            let found = rules(&client, group).await?;
            let left = found.keys().find(|id| former.rules.contains_key(*id));
            Ok(left.map(|id| format!("{id} is still a rule of {group}")))
        })
    }

    fn undo<'a>(&'a self, order: &'a Order, former: &'a str) -> BoxFuture<'a, Result<Progress, PortError>> {
        Box::pin(async move {
            let client = Client::new(&self.0.of(order));
            let group = port_close::group(order).map_err(PortError::permanent)?;
            let former: Former = former::read(ID, former).map_err(PortError::permanent)?;
            if !exists(&client, group).await? {
                return Ok(Progress::Done { remark: Some(format!("{group} was deleted meanwhile")) });
            }
            let found = rules(&client, group).await?;
            for rule in former.rules.values() {
                if found.values().any(|one| one.allows_the_same(rule)) {
                    continue;
                }
                let mut sent =
                    client.authorize_security_group_ingress().group_id(group).ip_permissions(permission(rule));
                if !rule.tags.is_empty() {
                    let tags = rule.tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
                    sent = sent.tag_specifications(ec2::tagged(ResourceType::SecurityGroupRule, tags));
                }
                match sent.send().await {
                    Err(error) if code(&error) == Some("InvalidPermission.Duplicate") => {}
                    sent => {
                        sent.map_err(|error| problem("ec2:AuthorizeSecurityGroupIngress", &error))?;
                    }
                }
            }
            Ok(Progress::Done { remark: None })
        })
    }
}
