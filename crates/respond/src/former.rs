//! What an action in a cloud account finds before it begins, as the JSON of its ledger record; and the name that what it
//! leaves there has, by which it is found again and told from everybody else's.

use sakimori_model::Order;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Most characters of an action's id in a name.
const MAX_ID: usize = 64;

/// For the ledger.
pub fn write(former: &impl Serialize) -> String {
    serde_json::to_string(former).unwrap_or_default()
}

/// What [`write`] wrote.
///
/// # Errors
/// It is not what the action of this slug wrote.
pub fn read<T: DeserializeOwned>(action: &str, former: &str) -> Result<T, String> {
    serde_json::from_str(former).map_err(|error| format!("the former state of {action} cannot be read: {error}"))
}

/// The name of what this order leaves at a provider: letters, digits and hyphens, at most 96 of them. Two orders never have
/// the same.
pub fn own_name(what: &str, order: &Order) -> String {
    let id: String = order.id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(MAX_ID).collect();
    format!("{PREFIX}{what}-{id}")
}

/// How everything that we leave at a provider begins.
pub const PREFIX: &str = "sakimori-";

/// An input of an order; `None` where it is absent or empty.
pub fn input<'a>(order: &'a Order, name: &str) -> Option<&'a str> {
    order.inputs.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::order;

    #[test]
    fn names_hold_what_every_provider_takes_and_stay_short() {
        let mut one = order("a", "192.0.2.1");
        one.id = "0a1b/é c".repeat(40);
        let name = own_name("quarantine", &one);
        assert!(name.starts_with("sakimori-quarantine-0a1bc0a1bc") && name.len() <= 96, "{name}");
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        assert_eq!(read::<Vec<u8>>("x", &write(&vec![1, 2])), Ok(vec![1, 2]));
        assert!(read::<Vec<u8>>("x", "").unwrap_err().contains("former state of x"));
    }
}
