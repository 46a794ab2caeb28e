//! What the actions on the rules of a web ACL share: which web ACLs are meant, count or block, and what a rule costs of a web
//! ACL's capacity. Not an action: [`super::waf_rate_rule`] and [`super::waf_shape_rule`] use it.

use sakimori_model::Order;
use serde::{Deserialize, Serialize};

use super::{Input, short};
use crate::former::input;

/// Kind of the target: a web ACL by its name, or [`ALL`].
pub const KIND: &str = "web_acl";
/// As the name of the target: every web ACL of the scope that refers to our IP set.
pub const ALL: &str = "all";
/// Input: regional or cloudfront.
pub const SCOPE: &str = "scope";
/// Input: name of our IP set.
pub const IP_SET: &str = "ip_set";
/// Input: count or block.
pub const MODE: &str = "mode";
/// Capacity units that a web ACL may use for its basic price, and at all (AWS WAF's quotas).
pub const CAPACITY: (i64, i64) = (1_500, 5_000);

/// Inputs of both.
pub const SCOPE_INPUT: Input = Input { name: SCOPE, about: "regional (the default) or cloudfront", most: 16 };
/// Input of both.
pub const IP_SET_INPUT: Input = Input {
    name: IP_SET,
    about: "for the target all: name of the IP set to which the web ACLs refer, without -v4 and -v6; sakimori-blocked where \
            absent",
    most: 128,
};
/// Input of both.
pub const MODE_INPUT: Input =
    Input { name: MODE, about: "count (the default: only counted, to be looked at first) or block", most: 8 };

/// What the rule does with a request that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It is counted and goes on.
    Count,
    /// It is blocked.
    Block,
}

impl Mode {
    /// `counts` or `blocks`.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Count => "counts",
            Self::Block => "blocks",
        }
    }
}

/// Which web ACLs are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aim {
    /// In front of CloudFront?
    pub cloudfront: bool,
    /// The one of this name; where absent all that refer to the IP set.
    pub name: Option<String>,
    /// Name of the IP set, without `-v4` and `-v6`.
    pub ip_set: String,
}

/// What was there before: none of our rules in these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// Name of our rule.
    pub rule: String,
    /// Name and id of each web ACL that gets it.
    pub web_acls: Vec<(String, String)>,
}

/// Which web ACLs an order means.
///
/// # Errors
/// Another target, or an input that is not as it should be.
pub fn aim(order: &Order) -> Result<Aim, String> {
    let name = order.target.name_of(KIND);
    let name = name.ok_or_else(|| format!("{} acts on a web ACL, not on {}", order.action, order.target))?;
    let cloudfront = match input(order, SCOPE) {
        None | Some("regional") => false,
        Some("cloudfront") => true,
        Some(other) => return Err(format!("{SCOPE} is regional or cloudfront, not {:?}", short(other))),
    };
    Ok(Aim {
        cloudfront,
        name: (name != ALL).then(|| name.to_owned()),
        ip_set: input(order, IP_SET).unwrap_or("sakimori-blocked").to_owned(),
    })
}

/// Count or block?
///
/// # Errors
/// The input is neither.
pub fn mode(order: &Order) -> Result<Mode, String> {
    match input(order, MODE) {
        None | Some("count") => Ok(Mode::Count),
        Some("block") => Ok(Mode::Block),
        Some(other) => Err(format!("{MODE} is count or block, not {:?}", short(other))),
    }
}

/// Is there room for a rule of this cost in a web ACL that uses so much already? What is at its basic price stays there: a
/// program does not make the bill larger.
pub fn fits(used: i64, cost: i64) -> Result<(), String> {
    let (basic, most) = CAPACITY;
    let limit = if used <= basic { basic } else { most };
    match used.saturating_add(cost) <= limit {
        true => Ok(()),
        false => {
            Err(format!("it uses {used} of {limit} capacity units, and the rule needs {cost}: take a rule out first"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::order;
    use sakimori_model::action::Target;

    #[test]
    fn one_web_acl_is_meant_or_all_of_a_scope() {
        let mut one = order("a", "192.0.2.1");
        assert!(aim(&one).unwrap_err().contains("web ACL"));
        one.target = Target::resource(KIND, "shop");
        assert_eq!(aim(&one).unwrap().name.as_deref(), Some("shop"));
        one.target = Target::resource(KIND, ALL);
        one.inputs.insert(SCOPE.into(), "cloudfront".into());
        let all = aim(&one).unwrap();
        assert_eq!((all.cloudfront, all.name, all.ip_set.as_str()), (true, None, "sakimori-blocked"));
        one.inputs.insert(SCOPE.into(), "global".into());
        assert!(aim(&one).unwrap_err().contains("regional or cloudfront"));
        assert_eq!(mode(&one), Ok(Mode::Count), "looked at first");
        one.inputs.insert(MODE.into(), "challenge".into());
        assert!(mode(&one).is_err());
    }

    #[test]
    fn a_rule_never_raises_the_price_of_a_web_acl() {
        assert_eq!(fits(1_480, 20), Ok(()));
        assert!(fits(1_490, 20).unwrap_err().contains("1490 of 1500"));
        assert_eq!(fits(1_600, 20), Ok(()), "it is above the basic price already");
        assert!(fits(4_990, 20).is_err());
    }
}
