//! Which machine an identity is bound to. A disk that is copied takes the agent's key along, so a certificate alone does
//! not tell a clone from its original; what differs between the two is compared on both sides: by the agent before it
//! uses its key, by the manager before it takes a stream.

use serde::{Deserialize, Serialize};

use crate::agent;

/// What tells machines apart; a fact that cannot be known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// machine-id(5): made at the first boot of an image that was prepared for copying.
    pub machine_id: String,
    /// UUID of the system by SMBIOS: of a virtual machine, its own in every hypervisor.
    pub product_uuid: String,
    /// The cloud's id of the instance.
    pub instance_id: String,
}

/// Longest fact that is kept: it comes from an agent.
const LONGEST: usize = 128;

impl Machine {
    /// The first fact by which another machine is another one; `None` where nothing says so. A fact that one side does
    /// not know says nothing.
    pub fn differs(&self, other: &Self) -> Option<&'static str> {
        let facts = [
            ("machine-id", &self.machine_id, &other.machine_id),
            ("product uuid", &self.product_uuid, &other.product_uuid),
            ("instance id", &self.instance_id, &other.instance_id),
        ];
        let other = |one: &&(_, &String, &String)| !one.1.is_empty() && !one.2.is_empty() && one.1 != one.2;
        facts.iter().find(other).map(|(name, _, _)| *name)
    }

    /// Is nothing known?
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

impl From<agent::Machine> for Machine {
    fn from(sent: agent::Machine) -> Self {
        let bounded = |text: String| text.chars().take(LONGEST).collect();
        Self {
            machine_id: bounded(sent.machine_id),
            product_uuid: bounded(sent.product_uuid),
            instance_id: bounded(sent.instance_id),
        }
    }
}

impl From<&Machine> for agent::Machine {
    fn from(own: &Machine) -> Self {
        Self {
            machine_id: own.machine_id.clone(),
            product_uuid: own.product_uuid.clone(),
            instance_id: own.instance_id.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_known_fact_that_differs_is_another_machine_and_an_unknown_one_says_nothing() {
        let machine = |id: &str, uuid: &str, instance: &str| Machine {
            machine_id: id.into(),
            product_uuid: uuid.into(),
            instance_id: instance.into(),
        };
        let bound = machine("a", "u", "");
        assert_eq!(bound.differs(&bound), None);
        assert_eq!(bound.differs(&machine("a", "", "i-1")), None, "a fact that only one side knows");
        assert_eq!(bound.differs(&machine("b", "u", "")), Some("machine-id"));
        assert_eq!(bound.differs(&machine("a", "v", "")), Some("product uuid"), "a snapshot keeps its machine-id");
        assert_eq!(machine("a", "", "i-1").differs(&machine("a", "", "i-2")), Some("instance id"));
        assert_eq!(Machine::default().differs(&bound), None);
        assert!(Machine::default().is_unknown() && !bound.is_unknown());
    }

    #[test]
    fn what_an_agent_sends_is_bounded() {
        let sent = agent::Machine { machine_id: "x".repeat(100_000), ..agent::Machine::default() };
        assert_eq!(Machine::from(sent).machine_id.len(), LONGEST);
    }
}
