//! AWS WAFv2 as far as blocking addresses needs it, played strictly after the published model of the API: lock tokens, the
//! most addresses of a set, rates of calls, latency. Its latency passes by the simulated clock.
//!
//! Not played: pages of more than one listing, rule groups, the time in which a change reaches all of AWS's edges.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sakimori_model::Network;
use sakimori_runtime::Clock;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::clock::Simulated;

/// AWS's most addresses of one set, and of changes and other calls within a second.
const MOST: usize = 10_000;
const CHANGES_A_SECOND: usize = 1;
const CALLS_A_SECOND: usize = 5;
/// Longest request: ten thousand addresses and room to spare.
const MAX_REQUEST: usize = 4 << 20;

/// How it behaves.
#[derive(Clone, Debug)]
pub struct Manners {
    /// Least and most latency of a call, in milliseconds.
    pub latency: (u64, u64),
    /// Of a hundred changes so many find that somebody else changed the set meanwhile.
    pub races: u32,
    /// Does the web ACL stand in front of anything?
    pub associated: bool,
    /// From which chance follows.
    pub seed: u64,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// When each entry was first there, in microseconds since the epoch.
    pub entered: BTreeMap<Network, i64>,
    /// Entries that went, how often.
    pub left: BTreeMap<Network, u32>,
    /// What is there.
    pub held: BTreeSet<Network>,
    /// Calls, by operation.
    pub calls: BTreeMap<String, usize>,
    /// The most within any second: of changes, and of one other operation.
    pub most: (usize, usize),
    /// Calls that were refused as too many, and changes that lost a race.
    pub refused: (usize, usize),
}

struct State {
    sets: BTreeMap<String, Set>,
    token: u64,
    random: StdRng,
    /// Moments of the calls of the last second, by operation; all changes are one.
    recent: BTreeMap<String, Vec<i64>>,
    seen: Seen,
}

struct Set {
    v6: bool,
    token: String,
    addresses: BTreeSet<Network>,
}

/// The fake.
pub struct Fake {
    clock: Arc<Simulated>,
    manners: Manners,
    state: Mutex<State>,
}

/// An error of the API: its code and message.
struct Refusal(&'static str, String);

type Answer = Result<Value, Refusal>;

impl Fake {
    /// Listens; returns it and where.
    ///
    /// # Errors
    /// No port.
    pub async fn start(clock: &Arc<Simulated>, manners: Manners) -> anyhow::Result<(Arc<Self>, String)> {
        let state = State {
            sets: BTreeMap::new(),
            token: 0,
            random: StdRng::seed_from_u64(manners.seed),
            recent: BTreeMap::new(),
            seen: Seen::default(),
        };
        let fake = Arc::new(Self { clock: Arc::clone(clock), manners, state: Mutex::new(state) });
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen on loopback")?;
        let url = format!("http://{}", listener.local_addr()?);
        let serving = Arc::clone(&fake);
        #[expect(clippy::disallowed_methods, reason = "it ends with the runtime of the measurement")]
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = Arc::clone(&serving);
                tokio::spawn(async move { serving.serve(stream).await });
            }
        });
        Ok((fake, url))
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        self.state().seen.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            let head = loop {
                if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                    break at + 4;
                }
                let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
                bytes.extend_from_slice(buffer.get(..count)?);
            };
            let text = String::from_utf8_lossy(bytes.get(..head)?).into_owned();
            let header = |name: &str| {
                let of =
                    |line: &str| Some((line.split_once(':')?.0.to_owned(), line.split_once(':')?.1.trim().to_owned()));
                text.lines().filter_map(of).find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
            };
            let length: usize = header("content-length")?.parse().ok().filter(|length| *length <= MAX_REQUEST)?;
            while bytes.len() < head + length {
                let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
                bytes.extend_from_slice(buffer.get(..count)?);
            }
            let body: Value = serde_json::from_slice(bytes.get(head..head + length)?).unwrap_or(Value::Null);
            bytes.drain(..head + length);
            let operation = header("x-amz-target")?.strip_prefix("AWSWAF_20190729.")?.to_owned();
            // Rates are counted when a call comes.
            let refused = self.counted(&operation).err();
            let (least, most) = self.manners.latency;
            let latency = self.state().random.random_range(least..=most.max(least));
            self.clock.pass(Duration::from_millis(latency)).await;
            let answer = refused.map_or_else(|| self.answer(&operation, &body), Err);
            let (status, answer) = match answer {
                Ok(answer) => ("200 OK", answer),
                Err(Refusal(code, message)) => ("400 Bad Request", json!({ "__type": code, "message": message })),
            };
            let answer = answer.to_string();
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {}\r\n\r\n",
                answer.len()
            );
            stream.write_all(&[head.as_bytes(), answer.as_bytes()].concat()).await.ok()?;
        }
    }

    fn counted(&self, operation: &str) -> Result<(), Refusal> {
        let now = self.clock.now().micros();
        let mut state = self.state();
        *state.seen.calls.entry(operation.to_owned()).or_default() += 1;
        state.rate(operation, now)
    }

    fn answer(&self, operation: &str, body: &Value) -> Answer {
        let now = self.clock.now().micros();
        let mut state = self.state();
        match operation {
            "ListIPSets" => {
                let sets: Vec<Value> = state.sets.iter().map(|(name, set)| summary(name, &set.token)).collect();
                Ok(json!({ "IPSets": sets }))
            }
            "CreateIPSet" => state.create(body),
            "GetIPSet" => state.get(body),
            "UpdateIPSet" => state.update(body, now, self.manners.races),
            "ListWebACLs" => Ok(json!({ "WebACLs": [acl_summary()] })),
            "GetWebACL" => Ok(json!({ "WebACL": acl(), "LockToken": "acl-1" })),
            "ListResourcesForWebACL" => {
                let front = "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/app/shop/1";
                let resources: Vec<&str> = if self.manners.associated { vec![front] } else { Vec::new() };
                Ok(json!({ "ResourceArns": resources }))
            }
            other => Err(Refusal("UnknownOperationException", format!("no operation {other}"))),
        }
    }
}

fn arn(kind: &str, name: &str) -> String {
    format!("arn:aws:wafv2:us-east-1:123456789012:regional/{kind}/{name}/id-{name}")
}

fn summary(name: &str, token: &str) -> Value {
    json!({ "Name": name, "Id": format!("id-{name}"), "ARN": arn("ipset", name), "LockToken": token })
}

fn acl_summary() -> Value {
    json!({ "Name": "shop", "Id": "id-shop", "ARN": arn("webacl", "shop"), "LockToken": "acl-1" })
}

/// A web ACL that blocks what is in both sets.
fn acl() -> Value {
    let seen = json!({ "SampledRequestsEnabled": true, "CloudWatchMetricsEnabled": true, "MetricName": "m" });
    let of = |name: &str| json!({ "IPSetReferenceStatement": { "ARN": arn("ipset", name) } });
    let both = [of("sakimori-blocked-v4"), of("sakimori-blocked-v6")];
    json!({
        "Name": "shop", "Id": "id-shop", "ARN": arn("webacl", "shop"), "DefaultAction": { "Allow": {} },
        "VisibilityConfig": seen,
        "Rules": [{
            "Name": "blocked", "Priority": 0, "Statement": { "OrStatement": { "Statements": both } },
            "Action": { "Block": {} }, "VisibilityConfig": seen,
        }],
    })
}

impl State {
    /// Refuses what is beyond AWS's published rates.
    fn rate(&mut self, operation: &str, now: i64) -> Result<(), Refusal> {
        let changes = ["Create", "Update", "Delete", "Put"].iter().any(|verb| operation.starts_with(verb));
        // What a web ACL stands in front of has the rate of a change, and is counted by itself.
        let (key, most) = match (changes, operation) {
            (true, _) => ("changes", CHANGES_A_SECOND),
            (false, "ListResourcesForWebACL") => (operation, CHANGES_A_SECOND),
            (false, _) => (operation, CALLS_A_SECOND),
        };
        let recent = self.recent.entry(key.to_owned()).or_default();
        recent.retain(|at| now - at < 1_000_000);
        recent.push(now);
        let seen = if changes { &mut self.seen.most.0 } else { &mut self.seen.most.1 };
        *seen = recent.len().max(*seen);
        if recent.len() > most {
            recent.pop();
            self.seen.refused.0 += 1;
            return Err(Refusal("ThrottlingException", "Rate exceeded".to_owned()));
        }
        Ok(())
    }

    fn create(&mut self, body: &Value) -> Answer {
        let name = text(body, "Name")?;
        if self.sets.contains_key(&name) {
            return Err(Refusal("WAFDuplicateItemException", format!("{name} is there")));
        }
        let token = self.next_token();
        let v6 = match text(body, "IPAddressVersion")?.as_str() {
            "IPV4" => false,
            "IPV6" => true,
            other => return Err(Refusal("WAFInvalidParameterException", format!("no version {other}"))),
        };
        let summary = summary(&name, &token);
        self.sets.insert(name, Set { v6, token, addresses: BTreeSet::new() });
        Ok(json!({ "Summary": summary }))
    }

    fn get(&mut self, body: &Value) -> Answer {
        let name = text(body, "Name")?;
        let set = self.sets.get(&name).ok_or_else(|| missing(&name))?;
        let addresses: Vec<String> = set.addresses.iter().map(Network::to_cidr).collect();
        Ok(json!({
            "IPSet": {
                "Name": name, "Id": format!("id-{name}"), "ARN": arn("ipset", &name), "Addresses": addresses,
                "IPAddressVersion": if set.v6 { "IPV6" } else { "IPV4" },
            },
            "LockToken": set.token,
        }))
    }

    fn update(&mut self, body: &Value, now: i64, races: u32) -> Answer {
        let (name, given) = (text(body, "Name")?, text(body, "LockToken")?);
        let race = self.random.random_range(0..100) < races;
        let token = self.next_token();
        let set = self.sets.get_mut(&name).ok_or_else(|| missing(&name))?;
        if race || set.token != given {
            // Somebody else wrote the same again: what is there is as before, its token is not.
            set.token = token;
            self.seen.refused.1 += 1;
            return Err(Refusal("WAFOptimisticLockException", "the lock token is not the newest".to_owned()));
        }
        let list = body["Addresses"].as_array().ok_or_else(|| invalid("Addresses"))?;
        if list.len() > MOST {
            return Err(Refusal("WAFLimitsExceededException", format!("{} addresses", list.len())));
        }
        let mut addresses = BTreeSet::new();
        for one in list {
            let cidr = one.as_str().filter(|text| text.contains('/')).ok_or_else(|| invalid("Addresses"))?;
            let network: Network = cidr.parse().map_err(|_| invalid(cidr))?;
            if network.address().is_ipv6() != set.v6 || network.prefix() == 0 {
                return Err(invalid(cidr));
            }
            addresses.insert(network);
        }
        for network in addresses.difference(&set.addresses) {
            self.seen.entered.entry(*network).or_insert(now);
            self.seen.held.insert(*network);
        }
        for network in set.addresses.difference(&addresses) {
            *self.seen.left.entry(*network).or_default() += 1;
            self.seen.held.remove(network);
        }
        (set.addresses, set.token) = (addresses, token.clone());
        Ok(json!({ "NextLockToken": token }))
    }

    fn next_token(&mut self) -> String {
        self.token += 1;
        format!("token-{}", self.token)
    }
}

fn text(body: &Value, name: &str) -> Result<String, Refusal> {
    body[name].as_str().map(str::to_owned).ok_or_else(|| invalid(name))
}

fn invalid(what: &str) -> Refusal {
    Refusal("WAFInvalidParameterException", format!("{what} is not what it should be"))
}

fn missing(name: &str) -> Refusal {
    Refusal("WAFNonexistentItemException", format!("there is no {name}"))
}
