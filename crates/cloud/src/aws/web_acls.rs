//! AWS WAFv2 web ACLs: which there are, what is in one, and whether one stands in front of anything.
//!
//! What cannot be seen from here: the distributions of CloudFront in front of which a web ACL stands (another service's call
//! lists them), and kinds of resources whose listing needs a right that the role lacks. What is not seen is said and not
//! taken for an absence.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_sdk_wafv2::types::{ResourceType, Rule, Scope, Statement, WebAcl, WebAclSummary};
use aws_sdk_wafv2::{Client, Config};
use sakimori_respond::ports::PortError;
use sakimori_runtime::SystemClock;
use sakimori_runtime::clock::SharedClock;
use tokio::sync::Mutex;

use super::problem::{code, problem};

/// Pages of 100 that are read of a listing.
pub(super) const MAX_PAGES: usize = 50;
/// Shortest time between two changes of AWS WAF in one account, and between two questions what stands behind a web ACL: its
/// published quota of either is one call a second (of other reads five).
const SPACING: Duration = Duration::from_millis(1_000);
/// How long it is believed that a web ACL stands in front of something.
const BELIEVED: Duration = Duration::from_secs(600);
/// What a regional web ACL may stand in front of. The first three can be listed with the WAF's own right alone.
const KINDS: [ResourceType; 7] = [
    ResourceType::ApplicationLoadBalancer,
    ResourceType::ApiGateway,
    ResourceType::Appsync,
    ResourceType::CognitioUserPool,
    ResourceType::AppRunnerService,
    ResourceType::VerifiedAccessInstance,
    ResourceType::Amplify,
];

/// Lets one change a second through. Its clones share the second.
#[derive(Clone)]
pub(super) struct Pace {
    clock: SharedClock,
    /// When the last one was sent, by [`sakimori_runtime::Clock::passed`].
    last: Arc<Mutex<Option<Duration>>>,
}

impl std::fmt::Debug for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pace").field("last", &self.last).finish_non_exhaustive()
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::by(Arc::new(SystemClock))
    }
}

impl Pace {
    /// By this clock.
    pub(super) fn by(clock: SharedClock) -> Self {
        Self { clock, last: Arc::default() }
    }

    /// Waits until a change may be sent and claims the moment.
    pub(super) async fn wait(&self) {
        let mut last = self.last.lock().await;
        if let Some(last) = *last {
            let left = (last + SPACING).saturating_sub(self.clock.passed());
            if !left.is_zero() {
                self.clock.sleep(left).await;
            }
        }
        *last = Some(self.clock.passed());
    }
}

/// How a change is sent: once. The SDK would send it again after a fraction of a second; the caller does so at its pace, after
/// reading whether it was carried out.
pub(super) fn once() -> aws_sdk_wafv2::config::Builder {
    Config::builder().retry_config(RetryConfig::disabled())
}

/// A web ACL as it was read.
pub(super) struct Current {
    /// All of it.
    pub(super) acl: WebAcl,
    /// By which a change says what it changes.
    pub(super) lock_token: String,
}

/// The web ACLs of a scope.
///
/// # Errors
/// A call that failed.
pub(super) async fn list(client: &Client, scope: &Scope) -> Result<Vec<WebAclSummary>, PortError> {
    let mut found = Vec::new();
    let mut marker = None;
    for _ in 0..MAX_PAGES {
        let sent = client.list_web_acls().scope(scope.clone()).limit(100).set_next_marker(marker).send().await;
        let page = sent.map_err(|error| problem("wafv2:ListWebACLs", &error))?;
        found.extend(page.web_acls().iter().cloned());
        marker = page.next_marker().map(str::to_owned);
        if marker.is_none() || page.web_acls().is_empty() {
            break;
        }
    }
    Ok(found)
}

/// One web ACL; none where there is none of this name and id.
///
/// # Errors
/// A call that failed.
pub(super) async fn read(client: &Client, scope: &Scope, name: &str, id: &str) -> Result<Option<Current>, PortError> {
    let reply = match client.get_web_acl().name(name).id(id).scope(scope.clone()).send().await {
        Ok(reply) => reply,
        Err(error) if code(&error) == Some("WAFNonexistentItemException") => return Ok(None),
        Err(error) => return Err(problem("wafv2:GetWebACL", &error)),
    };
    match (reply.web_acl, reply.lock_token) {
        (Some(acl), Some(lock_token)) => Ok(Some(Current { acl, lock_token })),
        _ => Err(PortError::transient(format!("wafv2:GetWebACL: an answer for {name} without web ACL or lock token"))),
    }
}

/// Does this rule block what is in a set whose ARN is right?
pub(super) fn blocks(rule: &Rule, right: &dyn Fn(&str) -> bool) -> bool {
    rule.action().is_some_and(|action| action.block().is_some())
        && rule.statement().is_some_and(|statement| refers(statement, right))
}

/// Refers to the set alone or as one of several alternatives. Under `and` it would block only some requests.
fn refers(statement: &Statement, right: &dyn Fn(&str) -> bool) -> bool {
    statement.ip_set_reference_statement().is_some_and(|reference| right(reference.arn()))
        || statement.or_statement().is_some_and(|any| any.statements().iter().any(|statement| refers(statement, right)))
}

/// Whether a web ACL stands in front of anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stands {
    /// In front of this.
    Before(String),
    /// In front of nothing.
    Nowhere,
    /// Not seen: why.
    Unseen(String),
}

/// Looks it up, and remembers the answer for some minutes, also that there is none: asking takes seconds at the pace that AWS
/// allows, in which the next address would wait for its block. That it stands nowhere is asked again each time: it may have
/// been mended, and blocks have no effect meanwhile.
#[derive(Debug, Default)]
pub(super) struct Fronts {
    known: Mutex<BTreeMap<String, (Duration, Stands)>>,
    pace: Pace,
}

impl Fronts {
    /// By this clock.
    pub(super) fn by(clock: SharedClock) -> Self {
        Self { known: Mutex::default(), pace: Pace::by(clock) }
    }

    /// Asks for one web ACL.
    pub(super) async fn of(&self, client: &Client, scope: &Scope, arn: &str) -> Stands {
        if *scope == Scope::Cloudfront {
            return Stands::Unseen(
                "which distributions of CloudFront a web ACL stands in front of is not seen from here".into(),
            );
        }
        let mut known = self.known.lock().await;
        let now = self.pace.clock.passed();
        known.retain(|_, (at, _)| now.saturating_sub(*at) < BELIEVED);
        if let Some((_, answer)) = known.get(arn) {
            return answer.clone();
        }
        let answer = self.ask(client, arn).await;
        if answer != Stands::Nowhere {
            known.insert(arn.to_owned(), (self.pace.clock.passed(), answer.clone()));
        }
        answer
    }

    async fn ask(&self, client: &Client, arn: &str) -> Stands {
        let mut unseen = Vec::new();
        for kind in KINDS {
            self.pace.wait().await;
            let ask = client.list_resources_for_web_acl().web_acl_arn(arn).resource_type(kind.clone());
            let sent = ask.customize().config_override(once()).send().await;
            match sent.map_err(|error| problem("wafv2:ListResourcesForWebACL", &error)) {
                Ok(reply) => {
                    if let Some(resource) = reply.resource_arns().first() {
                        return Stands::Before(resource.clone());
                    }
                }
                Err(problem) if problem.is_transient() => {
                    return Stands::Unseen(format!("what it stands in front of was not answered: {problem}"));
                }
                // The role lacks a right for this kind, or the region does not know it: that says nothing of the others.
                Err(problem) => {
                    tracing::debug!(kind = kind.as_str(), %problem, "resources behind a web ACL could not be listed");
                    unseen.push(kind.as_str().to_owned());
                }
            }
        }
        match unseen.is_empty() {
            true => Stands::Nowhere,
            false => Stands::Unseen(format!(
                "whether it stands in front of {} could not be listed (wafv2:ListResourcesForWebACL and the right of the service)",
                unseen.join(", ")
            )),
        }
    }
}
