//! `waf_rate_rule`: a rule in a web ACL that counts or blocks clients who send more requests in a time than a limit.

use sakimori_model::address::is_private;
use sakimori_model::{Network, Order};

use super::waf_block::WafContext;
use super::web_acl::{IP_SET_INPUT, KIND, MODE_INPUT, Mode, SCOPE_INPUT, mode};
use super::{Descriptor, Input, Runs, Safety, TargetKind, short};
use crate::former::input;
use crate::guard::Verdict;

/// Slug.
pub const ID: &str = "waf_rate_rule";
/// Input: requests.
pub const LIMIT: &str = "limit";
/// Input: seconds.
pub const WINDOW: &str = "window";
/// Input: which requests count.
pub const PATH: &str = "path";
/// Input: what a client is.
pub const CLIENT: &str = "client";
/// Input: the rule of the web ACL that lets the allow-list pass.
pub const ALLOWED_BY: &str = "allowed_by";
/// Limits that AWS WAF takes, in requests.
const LIMITS: std::ops::RangeInclusive<i64> = 10..=2_000_000_000;
/// Windows that AWS WAF takes, in seconds.
const WINDOWS: [i64; 4] = [60, 120, 300, 600];
/// Longest text that AWS WAF searches for, in bytes.
pub const MAX_TEXT: usize = 200;

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Limit the rate of requests in AWS WAF",
    title_ja: "AWS WAF でリクエスト数を制限",
    config: &[],
    inputs: &[
        Input { name: LIMIT, about: "requests of one client within the window, 10 to 2,000,000,000", most: 12 },
        Input { name: WINDOW, about: "seconds: 60, 120, 300 (the default) or 600", most: 4 },
        Input { name: PATH, about: "only requests whose path begins so count; all where absent", most: MAX_TEXT },
        Input {
            name: CLIENT,
            about: "address (the default) or forwarded: the first address of X-Forwarded-For, where a proxy is in front",
            most: 16,
        },
        Input {
            name: ALLOWED_BY,
            about: "to block where there is an allow-list: a rule of yours in the web ACL that allows what is on it, before ours",
            most: 128,
        },
        MODE_INPUT,
        SCOPE_INPUT,
        IP_SET_INPUT,
    ],
    target: TargetKind::Resource(KIND),
    permissions: &["wafv2:GetWebACL", "wafv2:ListResourcesForWebACL", "wafv2:ListWebACLs", "wafv2:UpdateWebACL"],
    safety: Safety::Converge,
    undo: Some("takes exactly this rule out of each web ACL"),
    expires: true,
    blast_radius: "clients above the limit, for everything behind the web ACL",
    verification: "reads each web ACL back and looks for the rule",
    runs: Runs::Account,
};

/// The rule that an order asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateRule {
    /// Requests within the window.
    pub limit: i64,
    /// In seconds.
    pub window: i64,
    /// Only requests whose path begins so.
    pub path: Option<String>,
    /// Is the client named by X-Forwarded-For?
    pub forwarded: bool,
    /// Count or block.
    pub mode: Mode,
}

/// May such a rule be put in? One that blocks hits whoever is above the limit: a proxy through which all come, where the WAF
/// takes it for the client, and who is on the allow-list.
pub fn judge(order: &Order, context: &WafContext) -> Verdict {
    let rule = match RateRule::of(order) {
        Ok(rule) if rule.mode == Mode::Block => rule,
        Ok(_) => return Verdict::Allowed,
        Err(reason) => return Verdict::Refused(reason),
    };
    let public = |list: &[Network]| list.iter().find(|network| !is_private(network)).copied();
    if let Some(proxy) = public(&context.trusted_proxies).filter(|_| !rule.forwarded) {
        return Verdict::Refused(format!(
            "never blocked: {proxy} is a trusted proxy or load balancer, which the WAF would take for one client; write \
             {CLIENT}: forwarded"
        ));
    }
    if let Some(entry) = public(&context.allow).filter(|_| input(order, ALLOWED_BY).is_none()) {
        return Verdict::Refused(format!(
            "never blocked: {entry} is on the allow-list, and would be above the limit; let a rule of yours in the web ACL \
             allow it and write {ALLOWED_BY}: its name"
        ));
    }
    Verdict::Allowed
}

impl RateRule {
    /// Reads the inputs.
    ///
    /// # Errors
    /// One is missing or not as it should be.
    pub fn of(order: &Order) -> Result<Self, String> {
        let text =
            input(order, LIMIT).ok_or_else(|| format!("{ID} needs the input {LIMIT}, requests within the window"))?;
        let limit = text.parse().ok().filter(|limit| LIMITS.contains(limit));
        let limit = limit.ok_or_else(|| format!("{LIMIT} is a number from 10 to 2000000000, not {:?}", short(text)))?;
        let window = input(order, WINDOW).unwrap_or("300");
        let seconds = window.parse().ok().filter(|seconds| WINDOWS.contains(seconds));
        let window = seconds.ok_or_else(|| format!("{WINDOW} is 60, 120, 300 or 600, not {:?}", short(window)))?;
        let path = input(order, PATH).map(str::to_owned);
        if path.as_ref().is_some_and(|path| !path.starts_with('/') || path.len() > MAX_TEXT) {
            return Err(format!("{PATH} begins with / and has at most {MAX_TEXT} bytes"));
        }
        let forwarded = match input(order, CLIENT) {
            None | Some("address") => false,
            Some("forwarded") => true,
            Some(other) => return Err(format!("{CLIENT} is address or forwarded, not {:?}", short(other))),
        };
        Ok(Self { limit, window, path, forwarded, mode: mode(order)? })
    }

    /// What it costs of a web ACL's capacity, in units: 2, and 2 for the path with 10 for its decoding.
    pub fn cost(&self) -> i64 {
        if self.path.is_some() { 14 } else { 2 }
    }

    /// In words, after `a rule that`.
    pub fn words(&self) -> String {
        let client = if self.forwarded { " (the first address of X-Forwarded-For)" } else { "" };
        let path = self.path.as_ref().map(|path| format!(" below {path}")).unwrap_or_default();
        let Self { limit, window, mode, .. } = self;
        format!("{} a client{client} with more than {limit} requests{path} in {window} s", mode.verb())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::order;

    #[test]
    fn inputs_are_checked_before_anything_is_asked_of_aws() {
        let with = |inputs: &[(&str, &str)]| {
            let mut one = order("a", "192.0.2.1");
            one.inputs = inputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            RateRule::of(&one)
        };
        let rule = with(&[(LIMIT, "500"), (PATH, "/login"), (MODE_INPUT.name, "block")]).unwrap();
        assert_eq!((rule.limit, rule.window, rule.mode, rule.cost()), (500, 300, Mode::Block, 14));
        assert_eq!(rule.words(), "blocks a client with more than 500 requests below /login in 300 s");
        for (inputs, says) in [
            (&[][..], "needs the input limit"),
            (&[(LIMIT, "9")], "from 10"),
            (&[(LIMIT, "9999999999")], "from 10"),
            (&[(LIMIT, "10"), (WINDOW, "61")], "60, 120"),
            (&[(LIMIT, "10"), (PATH, "login")], "begins with /"),
            (&[(LIMIT, "10"), (CLIENT, "cookie")], "forwarded"),
        ] {
            assert!(with(inputs).unwrap_err().contains(says), "{inputs:?}");
        }
    }
    #[test]
    fn a_rule_that_blocks_leaves_proxies_and_the_allow_list_alone() {
        let order = |inputs: &[(&str, &str)]| {
            let mut one = order("a", "192.0.2.1");
            let limit = [(LIMIT, "500")];
            let all = limit.iter().chain(inputs);
            one.inputs = all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            one
        };
        let with = |allow: &[&str], proxies: &[&str]| WafContext {
            allow: allow.iter().map(|text| text.parse().unwrap()).collect(),
            trusted_proxies: proxies.iter().map(|text| text.parse().unwrap()).collect(),
            operators: Vec::new(),
        };
        let (block, forwarded) = ((MODE_INPUT.name, "block"), (CLIENT, "forwarded"));
        let behind = with(&[], &["203.0.114.80"]);
        assert!(matches!(judge(&order(&[block]), &behind), Verdict::Refused(why) if why.contains("203.0.114.80")));
        assert_eq!(judge(&order(&[]), &behind), Verdict::Allowed, "to count hits nobody");
        assert_eq!(judge(&order(&[block, forwarded]), &behind), Verdict::Allowed);
        // A load balancer with a private address is in the same network: the WAF sees the clients themselves.
        assert_eq!(judge(&order(&[block]), &with(&["10.0.0.0/8"], &["10.0.0.0/8"])), Verdict::Allowed);
        let allows = with(&["198.51.101.0/28"], &[]);
        assert!(matches!(judge(&order(&[block]), &allows), Verdict::Refused(why) if why.contains(ALLOWED_BY)));
        assert_eq!(judge(&order(&[block, (ALLOWED_BY, "friends")]), &allows), Verdict::Allowed);
        assert!(matches!(judge(&order(&[(MODE_INPUT.name, "drop")]), &allows), Verdict::Refused(_)));
    }
}
