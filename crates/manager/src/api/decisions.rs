//! Decisions in the form of CrowdSec's local API, so that bouncers that exist block what we decide: `GET /v1/decisions` and
//! `/v1/decisions/stream`, by the header `X-Api-Key`.
//!
//! A decision is an action in effect that blocks an address (`block_address` on a host, `waf_block` in front), of the bouncer's
//! tenant. Several actions on one address are one decision that lasts as long as the longest. The stream tells what changed
//! since it was asked last: what is new or prolonged, and what is over and in effect by no other action.
//!
//! The form is that of the bouncers' client: durations as Go writes them, `null` for an empty list, 403 with a `message`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use sakimori_model::{Action, Network, Timestamp};
use sakimori_respond::actions::{block_address, waf_block};
use sakimori_respond::wide;
use sakimori_store::control::actions as rows;
use sakimori_store::control::bouncers::{self, Bouncer};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::problem::Problem;
use super::{App, secret};

/// Most actions that are looked at.
const MOST: i64 = 100_000;
/// What was written this long before the last answer is told again: a row may be committed after a later one. A bouncer that
/// is told twice only sets a new end.
const OVERLAP_SECONDS: i64 = 30;
/// How long a decision lasts whose action has no end.
const ENDLESS_SECONDS: i64 = 86_400;
/// Longest name that a bouncer may give itself.
const MAX_KIND: usize = 128;

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Decision {
    /// What is left of it, as Go writes durations: `3h59m58s`.
    pub duration: String,
    /// A number that names it while it lasts.
    pub id: i64,
    /// Who decided: `sakimori`.
    pub origin: &'static str,
    /// The rule whose alert caused it.
    pub scenario: String,
    /// `Ip` or `Range`.
    pub scope: &'static str,
    /// `ban`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The address, or the network.
    pub value: String,
}

/// What changed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Stream {
    /// What is over.
    pub deleted: Option<Vec<Decision>>,
    /// What began, or lasts longer.
    pub new: Option<Vec<Decision>>,
}

/// Which decisions are meant; what it does not know it passes over, as the original does.
#[derive(Debug, Default)]
struct Filter {
    startup: bool,
    ip: Option<Network>,
    range: Option<Network>,
    scopes: Vec<String>,
    containing: Vec<String>,
    not_containing: Vec<String>,
    other_kind: bool,
    other_origin: bool,
}

impl Filter {
    fn of(query: &str) -> Result<Self, &'static str> {
        let mut filter = Self::default();
        let list = |text: &str| text.split(',').map(|one| one.trim().to_lowercase()).take(64).collect::<Vec<_>>();
        for pair in query.split('&').take(64) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = unescaped(value);
            match name {
                "startup" => filter.startup = value == "true" || value == "1",
                "ip" => filter.ip = Some(value.parse().map_err(|_| "ip is no address")?),
                "range" => filter.range = Some(value.parse().map_err(|_| "range is no network")?),
                "scopes" | "scope" if !value.is_empty() => filter.scopes = list(&value),
                "scenarios_containing" if !value.is_empty() => filter.containing = list(&value),
                "scenarios_not_containing" if !value.is_empty() => filter.not_containing = list(&value),
                "type" => filter.other_kind = !value.is_empty() && value != "ban",
                "origins" if !value.is_empty() => filter.other_origin = !list(&value).contains(&"sakimori".to_owned()),
                _ => {}
            }
        }
        Ok(filter)
    }

    fn means(&self, network: &Network, decision: &Decision) -> bool {
        let scope = decision.scope.to_lowercase();
        let scenario = decision.scenario.to_lowercase();
        let inside =
            |outer: &Network, inner: &Network| outer.prefix() <= inner.prefix() && outer.contains(inner.address());
        !self.other_kind
            && !self.other_origin
            && self.ip.as_ref().is_none_or(|ip| inside(network, ip))
            && self.range.as_ref().is_none_or(|range| inside(network, range) || inside(range, network))
            && (self.scopes.is_empty() || self.scopes.contains(&scope))
            && (self.containing.is_empty() || self.containing.iter().any(|part| scenario.contains(part)))
            && !self.not_containing.iter().any(|part| scenario.contains(part))
    }
}

/// A value of a query, with `%` and `+` taken back.
fn unescaped(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                match (digit(bytes.next()), digit(bytes.next())) {
                    (Some(high), Some(low)) => out.push(u8::try_from(high * 16 + low).unwrap_or(b'?')),
                    _ => out.push(b'?'),
                }
            }
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// `GET /v1/decisions`
pub async fn list(State(app): State<App>, headers: HeaderMap, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let Some(bouncer) = known(&app, &headers).await? else { return Ok(forbidden()) };
    let filter = match Filter::of(&query.unwrap_or_default()) {
        Ok(filter) => filter,
        Err(reason) => return Ok(refused(StatusCode::BAD_REQUEST, reason)),
    };
    let now = app.shared.clock.now();
    let live = live(&app, &bouncer, now).await?;
    Ok(Json(some(decisions(&live, now, &filter))).into_response())
}

/// `GET /v1/decisions/stream`
pub async fn stream(
    State(app): State<App>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let Some(bouncer) = known(&app, &headers).await? else { return Ok(forbidden()) };
    let filter = match Filter::of(&query.unwrap_or_default()) {
        Ok(filter) => filter,
        Err(reason) => return Ok(refused(StatusCode::BAD_REQUEST, reason)),
    };
    let now = app.shared.clock.now();
    let since = bouncer.last_pull.filter(|_| !filter.startup).map(|last| last.plus_secs(-OVERLAP_SECONDS));
    let live = live(&app, &bouncer, now).await?;
    let mut answer = Stream { deleted: None, new: None };
    match since {
        None => answer.new = some(decisions(&live, now, &filter)),
        Some(since) => {
            let fresh: Vec<_> = live.iter().filter(|(_, changed)| *changed >= since).cloned().collect();
            // With the end of the longest: another action may last longer than the one that changed.
            let fresh: Vec<Network> = fresh.iter().filter_map(|(action, _)| wide::network(&action.order)).collect();
            let all = decisions(&live, now, &filter);
            let text = |network: &Network| value_of(network).1;
            let fresh: std::collections::BTreeSet<String> = fresh.iter().map(text).collect();
            answer.new = some(all.into_iter().filter(|decision| fresh.contains(&decision.value)).collect());
            let over = rows::blocks_over(app.shared.control.read(), &bouncer.tenant, &KINDS, since, now, MOST).await?;
            let still: std::collections::BTreeSet<String> =
                live.iter().filter_map(|(action, _)| wide::network(&action.order)).map(|one| text(&one)).collect();
            let over: Vec<_> = over.into_iter().filter(|(action, _)| action.done_at.is_some()).collect();
            let ended = decisions(&over, now, &filter).into_iter().filter(|one| !still.contains(&one.value));
            answer.deleted = some(ended.collect());
        }
    }
    let kind = headers.get("user-agent").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind: String = kind.chars().filter(|c| !c.is_control()).take(MAX_KIND).collect();
    let mut change = app.shared.control.begin().await?;
    bouncers::told(change.connection(), &bouncer, now, &kind).await?;
    change.commit().await?;
    Ok(Json(answer).into_response())
}

/// `POST /v1/usage-metrics`: newer bouncers tell how much they blocked. It is taken, and nothing is done with it.
pub async fn usage(State(app): State<App>, headers: HeaderMap) -> Result<Response, Problem> {
    Ok(match known(&app, &headers).await? {
        Some(_) => StatusCode::CREATED.into_response(),
        None => forbidden(),
    })
}

const KINDS: [&str; 2] = [block_address::ID, waf_block::ID];

async fn known(app: &App, headers: &HeaderMap) -> Result<Option<Bouncer>, Problem> {
    let key = headers.get("x-api-key").and_then(|value| value.to_str().ok());
    let Some(hash) = key.and_then(secret::bouncer) else { return Ok(None) };
    Ok(bouncers::by_key(app.shared.control.read(), &hash).await?)
}

fn forbidden() -> Response {
    refused(StatusCode::FORBIDDEN, "access forbidden")
}

fn refused(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "message": message }))).into_response()
}

async fn live(app: &App, bouncer: &Bouncer, now: Timestamp) -> Result<Vec<(Action, Timestamp)>, Problem> {
    let all = rows::blocks(app.shared.control.read(), &bouncer.tenant, &KINDS, MOST).await?;
    Ok(all.into_iter().filter(|(action, _)| !wide::is_over(action, now)).collect())
}

fn some(all: Vec<Decision>) -> Option<Vec<Decision>> {
    Some(all).filter(|all| !all.is_empty())
}

/// One decision an address: the longest.
fn decisions(actions: &[(Action, Timestamp)], now: Timestamp, filter: &Filter) -> Vec<Decision> {
    let mut longest: BTreeMap<String, (i64, Network, &Action)> = BTreeMap::new();
    for (action, _) in actions {
        let Some(network) = wide::network(&action.order) else { continue };
        let left = action.end().map_or(ENDLESS_SECONDS, |end| end.since(now).div_euclid(1_000_000));
        let value = value_of(&network).1;
        match longest.get(&value) {
            Some((other, ..)) if *other >= left => {}
            _ => {
                longest.insert(value, (left, network, action));
            }
        }
    }
    let made = longest.into_iter().map(|(value, (left, network, action))| {
        let decision = Decision {
            duration: duration(left),
            id: number(&value),
            origin: "sakimori",
            scenario: format!("sakimori/{}", scenario(action)),
            scope: value_of(&network).0,
            kind: "ban",
            value,
        };
        (network, decision)
    });
    made.filter(|(network, decision)| filter.means(network, decision)).map(|(_, decision)| decision).collect()
}

fn scenario(action: &Action) -> &str {
    let rule = action.order.cause.rule.as_str();
    if rule.is_empty() { "manual" } else { rule }
}

fn value_of(network: &Network) -> (&'static str, String) {
    let whole = if network.address().is_ipv4() { 32 } else { 128 };
    match network.prefix() == whole {
        true => ("Ip", network.address().to_string()),
        false => ("Range", network.to_cidr()),
    }
}

/// As Go writes it, and reads it.
fn duration(seconds: i64) -> String {
    let sign = if seconds < 0 { "-" } else { "" };
    let seconds = seconds.unsigned_abs();
    format!("{sign}{}h{}m{}s", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// 48 bits of a hash: JSON's numbers hold them exactly.
fn number(value: &str) -> i64 {
    let hash = Sha256::digest(value.as_bytes());
    hash.iter().take(6).fold(0, |number, byte| (number << 8) | i64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_takes_what_bouncers_send_and_passes_over_the_rest() {
        let decision = Decision {
            duration: duration(7_384),
            id: number("x"),
            origin: "sakimori",
            scenario: "sakimori/ssh-brute-force".into(),
            scope: "Ip",
            kind: "ban",
            value: "203.0.113.7".into(),
        };
        assert_eq!(decision.duration, "2h3m4s");
        assert_eq!(duration(-61), "-0h1m1s");
        let network: Network = "203.0.113.7".parse().unwrap();
        for (query, means) in [
            ("", true),
            ("startup=true&scopes=ip%2Crange&unknown=1", true),
            ("ip=203.0.113.7", true),
            ("ip=203.0.113.8", false),
            ("range=203.0.113.0%2F24", true),
            ("range=198.51.100.0/24", false),
            ("scopes=country", false),
            ("scenarios_containing=ssh,web", true),
            ("scenarios_containing=web", false),
            ("scenarios_not_containing=ssh", false),
            ("type=captcha", false),
            ("type=ban&origins=cscli", false),
            ("origins=sakimori", true),
        ] {
            assert_eq!(Filter::of(query).unwrap().means(&network, &decision), means, "{query}");
        }
        assert!(Filter::of("startup=true").unwrap().startup);
        assert!(Filter::of("ip=x").is_err() && Filter::of("range=%zz").is_err());
        assert_eq!(value_of(&"203.0.113.0/24".parse().unwrap()), ("Range", "203.0.113.0/24".into()));
        assert_eq!(value_of(&"2001:db8::1".parse().unwrap()), ("Ip", "2001:db8::1".into()));
    }
}
