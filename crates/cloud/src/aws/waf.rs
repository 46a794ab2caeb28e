//! AWS WAFv2 IP sets: keeps one IPv4 and one IPv6 set equal to what is to be blocked.
//!
//! How it works: a set is read with its lock token, compared, and replaced as a whole only where it differs,
//! so that all pending changes are one update; a lost race (stale token) reads again. AWS allows about one
//! such call a second, so updates of this account and region are at least a second apart. A set that no
//! blocking rule of a web ACL refers to, or whose web ACL stands in front of nothing, would change nothing: that is said,
//! with the remedy.
//!
//! Where AWS differs from the simulator: an update reaches all edges only after some seconds; a set holds
//! 10,000 addresses; calls are throttled: reads are retried by the SDK, changes
//! here, at their pace, then by the caller.
//! Not seen: rules inside rule groups of others, rules under `not`, and what a web ACL of CloudFront stands in front of.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use aws_sdk_wafv2::Client;
use aws_sdk_wafv2::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_wafv2::types::{IpAddressVersion, IpSet, Scope};
use sakimori_model::Network;
use sakimori_respond::ports::{AddressSet, BoxFuture, PortError, SetOutcome};
use sakimori_runtime::SystemClock;
use sakimori_runtime::clock::SharedClock;
use tokio::sync::Mutex;

use super::web_acls::{self, Fronts, MAX_PAGES, Pace, Stands, blocks, once};
use super::{Account, configuration};

/// AWS's own limit of addresses in one set.
pub const CAPACITY: usize = 10_000;
/// How often a change is tried, after a lost race or a failure that may go away, before the caller hears of it.
const RACES: u32 = 8;

/// Which sets to keep, and which web ACL must refer to them.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WafConfig {
    /// Account and endpoint.
    #[serde(flatten)]
    pub account: Account,
    /// `regional` or `cloudfront`.
    pub scope: String,
    /// Name of the sets; `-v4` and `-v6` are appended. They are made where they are missing.
    pub ip_set: String,
    /// Name of the web ACL that blocks them; where empty any of the scope counts.
    pub web_acl: String,
    /// Most addresses of each set, of which the oldest go; AWS allows [`CAPACITY`].
    pub capacity: usize,
}

impl Default for WafConfig {
    fn default() -> Self {
        Self {
            account: Account::default(),
            scope: "regional".into(),
            ip_set: "sakimori-blocked".into(),
            web_acl: String::new(),
            capacity: CAPACITY,
        }
    }
}

/// The pair of sets.
#[derive(Debug)]
pub struct WafSets {
    client: Client,
    scope: Scope,
    config: WafConfig,
    pace: Pace,
    fronts: Fronts,
    /// Ids of the sets, by their names.
    ids: Mutex<BTreeMap<String, String>>,
    /// What the sets were last made to hold.
    held: Mutex<BTreeSet<Network>>,
}

/// A set as it was read.
struct Current {
    id: String,
    arn: String,
    lock_token: String,
    addresses: BTreeSet<Network>,
}

impl WafSets {
    /// Makes a client; nothing is called yet.
    ///
    /// # Errors
    /// A scope that is neither `regional` nor `cloudfront`, and a capacity that AWS does not have.
    pub async fn open(config: WafConfig) -> Result<Self, PortError> {
        Self::open_by(config, Arc::new(SystemClock)).await
    }

    /// As [`WafSets::open`], by this clock.
    ///
    /// # Errors
    /// As there.
    pub async fn open_by(config: WafConfig, clock: SharedClock) -> Result<Self, PortError> {
        if !(1..=CAPACITY).contains(&config.capacity) {
            let capacity = config.capacity;
            return Err(PortError::permanent(format!("cloud.waf.capacity is {capacity}; it is 1 to {CAPACITY}")));
        }
        let scope = match config.scope.as_str() {
            "regional" => Scope::Regional,
            "cloudfront" => Scope::Cloudfront,
            other => {
                return Err(PortError::permanent(format!(
                    "cloud.waf.scope is {other:?}; it is regional or cloudfront"
                )));
            }
        };
        let client = Client::new(&configuration(&config.account).await);
        Ok(Self {
            client,
            scope,
            config,
            pace: Pace::by(Arc::clone(&clock)),
            fronts: Fronts::by(clock),
            ids: Mutex::default(),
            held: Mutex::default(),
        })
    }

    fn name(&self, version: &IpAddressVersion) -> String {
        let suffix = if *version == IpAddressVersion::Ipv6 { "v6" } else { "v4" };
        format!("{}-{suffix}", self.config.ip_set)
    }

    async fn find(&self, name: &str) -> Result<Option<String>, PortError> {
        let mut marker = None;
        for _ in 0..MAX_PAGES {
            let page = self
                .client
                .list_ip_sets()
                .scope(self.scope.clone())
                .limit(100)
                .set_next_marker(marker)
                .send()
                .await
                .map_err(|error| problem("list IP sets", &error))?;
            if let Some(found) = page.ip_sets().iter().find(|set| set.name() == Some(name)) {
                return Ok(found.id().map(str::to_owned));
            }
            marker = page.next_marker().map(str::to_owned);
            if marker.is_none() || page.ip_sets().is_empty() {
                break;
            }
        }
        Ok(None)
    }

    /// The id of a set, which stays as long as the set: it is asked for once.
    async fn id(&self, name: &str) -> Result<Option<String>, PortError> {
        let mut ids = self.ids.lock().await;
        if !ids.contains_key(name)
            && let Some(id) = self.find(name).await?
        {
            ids.insert(name.to_owned(), id);
        }
        Ok(ids.get(name).cloned())
    }

    async fn current(&self, version: &IpAddressVersion) -> Result<Option<Current>, PortError> {
        let name = self.name(version);
        let Some(id) = self.id(&name).await? else { return Ok(None) };
        let reply = match self.client.get_ip_set().name(&name).id(&id).scope(self.scope.clone()).send().await {
            Ok(reply) => reply,
            // Somebody deleted it, and perhaps made it anew.
            Err(error) if code(&error) == Some("WAFNonexistentItemException") => {
                self.ids.lock().await.remove(&name);
                return Ok(None);
            }
            Err(error) => return Err(problem(&format!("read IP set {name}"), &error)),
        };
        let (Some(set), Some(token)) = (reply.ip_set(), reply.lock_token()) else {
            return Err(PortError::transient(format!("AWS WAF answered for IP set {name} without set or lock token")));
        };
        Ok(Some(Current { id, arn: set.arn().to_owned(), lock_token: token.to_owned(), addresses: addresses(set) }))
    }

    async fn create(&self, version: &IpAddressVersion) -> Result<(), PortError> {
        let name = self.name(version);
        self.pace.wait().await;
        let outcome = self
            .client
            .create_ip_set()
            .name(&name)
            .scope(self.scope.clone())
            .ip_address_version(version.clone())
            .description("Kept by Sakimori: its entries come and go by themselves")
            .set_addresses(Some(Vec::new()))
            .customize()
            .config_override(once())
            .send()
            .await;
        match outcome {
            Ok(_) => Ok(()),
            // Another manager made it first.
            Err(error) if code(&error) == Some("WAFDuplicateItemException") => Ok(()),
            Err(error) => Err(problem(&format!("create IP set {name}"), &error)),
        }
    }

    /// Makes one set hold exactly these and adds what changed to the outcome. Returns the set's ARN.
    async fn converge(
        &self,
        version: IpAddressVersion,
        desired: &BTreeSet<Network>,
        outcome: &mut SetOutcome,
    ) -> Result<Option<String>, PortError> {
        let (name, mut last) = (self.name(&version), None);
        for _ in 0..RACES {
            let Some(current) = self.current(&version).await? else {
                if desired.is_empty() {
                    return Ok(None);
                }
                self.create(&version).await?;
                continue;
            };
            if current.addresses == *desired {
                return Ok(Some(current.arn));
            }
            self.pace.wait().await;
            let sent = self
                .client
                .update_ip_set()
                .name(&name)
                .id(&current.id)
                .scope(self.scope.clone())
                .lock_token(&current.lock_token)
                .set_addresses(Some(desired.iter().map(Network::to_cidr).collect()))
                .customize()
                .config_override(once())
                .send()
                .await;
            match sent {
                Ok(_) => {
                    outcome.added.extend(desired.difference(&current.addresses));
                    outcome.removed.extend(current.addresses.difference(desired));
                    return Ok(Some(current.arn));
                }
                // A lost race, or no answer, in which case it may have been carried out: read again.
                Err(error) => match problem(&format!("update IP set {name}"), &error) {
                    again if again.is_transient() => last = Some(again),
                    problem => return Err(problem),
                },
            }
        }
        let last = last.map(|last| last.to_string()).unwrap_or_default();
        Err(PortError::transient(format!("IP set {name} could not be changed in {RACES} attempts: {last}")))
    }

    /// Why what is in these sets changes nothing, with the remedy: no blocking rule of a web ACL refers to one, or those that
    /// do stand in front of nothing.
    async fn without_effect(&self, arns: &[String]) -> Result<Option<String>, PortError> {
        let mut missing: BTreeSet<&String> = arns.iter().collect();
        let mut acls = web_acls::list(&self.client, &self.scope).await?;
        if !self.config.web_acl.is_empty() {
            acls.retain(|acl| acl.name() == Some(self.config.web_acl.as_str()));
        }
        let (mut nowhere, mut stands) = (Vec::new(), false);
        for acl in &acls {
            let (Some(name), Some(id)) = (acl.name(), acl.id()) else { continue };
            let Some(current) = web_acls::read(&self.client, &self.scope, name, id).await? else { continue };
            let rules = current.acl.rules();
            let blocked = |arn: &&String| rules.iter().any(|rule| blocks(rule, &|one| one == *arn));
            if !arns.iter().any(|arn| blocked(&arn)) {
                continue;
            }
            missing.retain(|arn| !blocked(arn));
            match self.fronts.of(&self.client, &self.scope, current.acl.arn()).await {
                Stands::Nowhere => nowhere.push(name.to_owned()),
                // What is not seen is not taken for an absence.
                Stands::Before(_) | Stands::Unseen(_) => stands = true,
            }
        }
        if missing.is_empty() && (stands || nowhere.is_empty()) {
            return Ok(None);
        }
        if missing.is_empty() {
            return Ok(Some(format!(
                "the web ACL {} that blocks them stands in front of nothing; associate it with the load balancer or API in \
                 front of the service",
                nowhere.join(" or ")
            )));
        }
        let sets: Vec<&str> = missing.iter().filter_map(|arn| arn.rsplit('/').nth(1)).collect();
        let acl = if self.config.web_acl.is_empty() { "any web ACL" } else { self.config.web_acl.as_str() };
        Ok(Some(format!(
            "no blocking rule of {acl} refers to IP set {}; add a rule with action Block and this IP set to the web ACL \
             in front of the service",
            sets.join(" and ")
        )))
    }
}

impl AddressSet for WafSets {
    fn capacity(&self) -> usize {
        self.config.capacity
    }

    fn replace<'a>(&'a self, desired: &'a BTreeSet<Network>) -> BoxFuture<'a, Result<SetOutcome, PortError>> {
        Box::pin(async move {
            let (v4, v6): (BTreeSet<Network>, BTreeSet<Network>) =
                desired.iter().copied().partition(|network| network.address().is_ipv4());
            let mut outcome = SetOutcome::default();
            let mut arns = Vec::new();
            let mut families = [(IpAddressVersion::Ipv4, v4), (IpAddressVersion::Ipv6, v6)];
            // The second waits for its turn: what is only taken out can.
            let mut held = self.held.lock().await;
            families.sort_by_key(|(_, family)| family.is_subset(&held));
            for (version, family) in families {
                if let Some(arn) = self.converge(version, &family, &mut outcome).await?
                    && !family.is_empty()
                {
                    arns.push(arn);
                }
            }
            held.clone_from(desired);
            drop(held);
            if !arns.is_empty() {
                outcome.no_effect = self.without_effect(&arns).await?;
            }
            Ok(outcome)
        })
    }

    fn read<'a>(&'a self) -> BoxFuture<'a, Result<BTreeSet<Network>, PortError>> {
        Box::pin(async move {
            let mut all = BTreeSet::new();
            for version in [IpAddressVersion::Ipv4, IpAddressVersion::Ipv6] {
                if let Some(current) = self.current(&version).await? {
                    all.extend(current.addresses);
                }
            }
            Ok(all)
        })
    }
}

fn addresses(set: &IpSet) -> BTreeSet<Network> {
    set.addresses()
        .iter()
        .filter_map(|text| text.parse().ok())
        .filter(|network: &Network| family(network, set))
        .collect()
}

fn family(network: &Network, set: &IpSet) -> bool {
    matches!(
        (network.address(), set.ip_address_version()),
        (IpAddr::V4(_), IpAddressVersion::Ipv4) | (IpAddr::V6(_), IpAddressVersion::Ipv6)
    )
}

fn code<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> Option<&str> {
    error.as_service_error().and_then(ProvideErrorMetadata::code)
}

/// Says what was attempted and what came back, and whether trying again can help.
fn problem<E, R>(attempt: &str, error: &SdkError<E, R>) -> PortError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    let attempt = format!("{attempt} at AWS WAF");
    match code(error) {
        Some(
            "AccessDeniedException"
            | "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "WAFInvalidPermissionPolicyException",
        ) => PortError::permanent(format!(
            "{attempt}: not allowed; the manager's role needs wafv2:GetIPSet, ListIPSets, CreateIPSet, UpdateIPSet, \
                 ListWebACLs and GetWebACL"
        )),
        Some(
            code @ ("WAFInvalidParameterException" | "WAFLimitsExceededException" | "WAFSubscriptionNotFoundException"),
        ) => {
            let message = error.as_service_error().and_then(ProvideErrorMetadata::message).unwrap_or_default();
            PortError::permanent(format!("{attempt}: {code} {message}"))
        }
        _ => PortError::transient(format!("{attempt}: {}", DisplayErrorContext(error))),
    }
}
