//! What was there before an action, as the JSON that the ledger keeps for the undo.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Writes it down.
///
/// # Errors
/// It has no form in JSON, which no former state of ours is without.
pub fn write<T: Serialize>(former: &T) -> Result<String, String> {
    serde_json::to_string(former).map_err(|error| format!("what is there now cannot be written down: {error}"))
}

/// Reads what [`write`] wrote.
///
/// # Errors
/// It is not what this action wrote.
pub fn read<T: DeserializeOwned>(action: &str, former: &str) -> Result<T, String> {
    serde_json::from_str(former).map_err(|error| format!("the former state of {action} cannot be read: {error}"))
}
