//! `port_close`: the rules of a security group that open a port to the world, or to one network, are taken out.
//!
//! A rule is taken out as a whole: where it opens other ports, too, these close with it, and the dry run says so.

use std::collections::BTreeMap;

use sakimori_model::{Network, Order};
use serde::{Deserialize, Serialize};

use super::{Descriptor, Input, Runs, Safety, TargetKind, short};

/// Slug.
pub const ID: &str = "port_close";
/// Kind of its target.
pub const KIND: &str = "security_group";
/// Input: the port.
pub const PORT: Input = Input { name: "port", about: "the port, 1 to 65535", most: 5 };
/// Input: the protocol.
pub const PROTOCOL: Input = Input { name: "protocol", about: "tcp (as without it) or udp", most: 3 };
/// Input: from where.
pub const CIDR: Input = Input {
    name: "cidr",
    about: "only rules for exactly this network; without it those for the whole world",
    most: 64,
};

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Close a port of a security group",
    title_ja: "セキュリティグループのポートを閉じる",
    config: &[],
    inputs: &[PROTOCOL, PORT, CIDR],
    target: TargetKind::Resource(KIND),
    permissions: &[
        "ec2:AuthorizeSecurityGroupIngress",
        "ec2:CreateTags",
        "ec2:DescribeSecurityGroupRules",
        "ec2:DescribeSecurityGroups",
        "ec2:RevokeSecurityGroupIngress",
    ],
    safety: Safety::Converge,
    undo: Some("puts the same rules back, with their descriptions and tags; AWS gives them new ids"),
    expires: true,
    blast_radius: "who reaches this port, and other ports of the same rules, on all that uses the group",
    verification: "reads the rules of the group",
    runs: Runs::Account,
};

/// What an order wants closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The port.
    pub port: i32,
    /// Only rules for exactly this network.
    pub cidr: Option<Network>,
}

/// What was there before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// Rules that were taken out, by the ids that they had.
    pub rules: BTreeMap<String, Rule>,
}

/// One rule for traffic that comes in from a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Protocol as AWS writes it: `tcp`, `udp`, a number, or `-1` for all.
    pub protocol: String,
    /// First port; `-1` for all.
    pub from: i32,
    /// Last port.
    pub to: i32,
    /// From where, as AWS writes it.
    pub cidr: String,
    /// Its description.
    pub description: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

impl Rule {
    /// Does it allow the same, whatever its description?
    pub fn allows_the_same(&self, other: &Self) -> bool {
        (&self.protocol, self.from, self.to, &self.cidr) == (&other.protocol, other.from, other.to, &other.cidr)
    }

    /// Does it open what is to be closed?
    pub fn opens(&self, wanted: &Wanted) -> bool {
        let protocol = match self.protocol.as_str() {
            "6" => "tcp",
            "17" => "udp",
            other => other,
        };
        let ports = protocol == "-1" || self.from == -1 || (self.from..=self.to).contains(&wanted.port);
        let source = match (&wanted.cidr, self.cidr.parse::<Network>()) {
            (Some(cidr), Ok(network)) => network == *cidr,
            (None, Ok(network)) => network.prefix() == 0,
            (_, Err(_)) => false,
        };
        (protocol == "-1" || protocol == wanted.protocol) && ports && source
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.protocol.as_str(), self.from, self.to) {
            ("-1", ..) => write!(f, "all traffic from {}", self.cidr),
            (protocol, -1, _) => write!(f, "all ports of {protocol} from {}", self.cidr),
            (protocol, from, to) if from == to => write!(f, "port {from} of {protocol} from {}", self.cidr),
            (protocol, from, to) => write!(f, "ports {from} to {to} of {protocol} from {}", self.cidr),
        }
    }
}

/// The security group that an order names.
///
/// # Errors
/// It names something else.
pub fn group(order: &Order) -> Result<&str, String> {
    let name =
        order.target.name_of(KIND).ok_or_else(|| format!("{ID} acts on a security group, not on {}", order.target))?;
    match super::instance::is_id("sg-", name) {
        true => Ok(name),
        false => Err(format!("{ID} acts on a security group like sg-0a1b2c3d, not on {}", short(name))),
    }
}

/// What an order wants closed.
///
/// # Errors
/// A value that means nothing; no port.
pub fn wanted(order: &Order) -> Result<Wanted, String> {
    let given = |name: &str| order.inputs.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let protocol = given(PROTOCOL.name).unwrap_or("tcp");
    if !matches!(protocol, "tcp" | "udp") {
        return Err(format!("protocol: {} is neither tcp nor udp", short(protocol)));
    }
    let port = given(PORT.name).ok_or("port is missing: which port is to be closed?")?;
    let port = match port.parse::<u16>() {
        Ok(port) if port > 0 => i32::from(port),
        _ => return Err(format!("port: {} is no port, 1 to 65535", short(port))),
    };
    let cidr = given(CIDR.name).map(|cidr| cidr.parse().map_err(|error| format!("cidr: {error}"))).transpose()?;
    Ok(Wanted { protocol: protocol.to_owned(), port, cidr })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sakimori_model::action::Target;

    fn rule(protocol: &str, from: i32, to: i32, cidr: &str) -> Rule {
        let (protocol, cidr) = (protocol.to_owned(), cidr.to_owned());
        Rule { protocol, from, to, cidr, description: None, tags: BTreeMap::new() }
    }

    fn ssh() -> Wanted {
        Wanted { protocol: "tcp".into(), port: 22, cidr: None }
    }

    #[test]
    fn rules_that_open_the_port_to_the_world() {
        for (open, rule) in [
            (true, rule("tcp", 22, 22, "0.0.0.0/0")),
            (true, rule("6", 20, 30, "::/0")),
            (true, rule("-1", -1, -1, "0.0.0.0/0")),
            (false, rule("udp", 22, 22, "0.0.0.0/0")),
            (false, rule("tcp", 23, 99, "0.0.0.0/0")),
            (false, rule("tcp", 22, 22, "10.0.0.0/8")),
            (false, rule("tcp", 22, 22, "pl-1")),
            (false, rule("icmp", -1, -1, "0.0.0.0/0")),
        ] {
            assert_eq!(rule.opens(&ssh()), open, "{rule}");
        }
        let narrow = Wanted { cidr: Some("203.0.113.0/24".parse().unwrap()), ..ssh() };
        assert!(rule("tcp", 22, 22, "203.0.113.0/24").opens(&narrow));
        assert!(!rule("tcp", 22, 22, "0.0.0.0/0").opens(&narrow), "only what was asked for");
    }

    #[test]
    fn orders_are_read_or_refused() {
        let mut order = crate::testing::order("a", "192.0.2.1");
        assert!(group(&order).is_err());
        order.target = Target::resource(KIND, "sg-0a1b2c3d");
        assert_eq!(group(&order), Ok("sg-0a1b2c3d"));
        assert!(wanted(&order).unwrap_err().contains("port is missing"));
        order.inputs.insert("port".into(), "22".into());
        assert_eq!(wanted(&order), Ok(ssh()));
        for (name, value) in [("port", "0"), ("port", "70000"), ("protocol", "icmp"), ("cidr", "nowhere")] {
            let mut wrong = order.clone();
            wrong.inputs.insert(name.into(), value.into());
            assert!(wanted(&wrong).unwrap_err().contains(name), "{name}={value}");
        }
    }

    proptest! {
        #[test]
        fn a_rule_that_does_not_reach_the_port_is_never_taken(from in 0_i32..65_536, length in 0_i32..2_000, port in 1_i32..65_536) {
            let to = (from + length).min(65_535);
            let wanted = Wanted { port, ..ssh() };
            prop_assert_eq!(rule("tcp", from, to, "0.0.0.0/0").opens(&wanted), from <= port && port <= to);
        }
    }
}
