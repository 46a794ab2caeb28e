//! Messages to people: what happened, what was done, how to undo it.

use serde::{Deserialize, Serialize};

/// One message, as it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The same for every repeat of this message, so that a receiver can drop repeats.
    pub id: String,
    /// Name of the channel it goes to.
    pub channel: String,
    /// JSON text that is sent and signed, byte for byte.
    pub body: String,
}
