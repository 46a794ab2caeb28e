//! `block_address`: drops packets from an address or network on the host, in nftables.
//!
//! The pure part is the guard ([`crate::guard`]); the effect is [`crate::ports::AddressBlocker`]; its life is
//! [`crate::host`]. Each block is an element of its own with a timeout, so the kernel ends it even where the
//! agent is gone.

use super::{Descriptor, Runs, Safety, TargetKind};

/// Slug.
pub const ID: &str = "block_address";

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Block an address on the host",
    title_ja: "ホストでアドレスを遮断",
    config: &[
        ("modules.block_address.state", "on or off; off takes every block back"),
        ("modules.block_address.mode", "prevent acts, detect says what it would do"),
        ("modules.block_address.expiry_seconds", "how long a block lasts"),
        ("modules.block_address.expiry_most_seconds", "how far fresh evidence may prolong it"),
        ("modules.block_address.grace_seconds", "how long a target that a person unblocked is left alone"),
        ("modules.block_address.most_per_minute", "most new blocks in a minute"),
        ("modules.block_address.most", "most blocks at a time"),
        ("response.allow", "networks that are never blocked"),
        ("response.trusted_proxies", "proxies and load balancers, which are never blocked"),
    ],
    inputs: &[],
    target: TargetKind::Network,
    permissions: &["CAP_NET_ADMIN on the host"],
    safety: Safety::Converge,
    undo: Some("takes the address out of the kernel's set"),
    expires: true,
    blast_radius: "one address or network, on one host, until its end",
    verification: "reads the sets back from the kernel",
    runs: Runs::Host,
};
