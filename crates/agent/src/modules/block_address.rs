//! `block_address`: blocks addresses in an nftables table of its own. The supervisor itself carries it out,
//! through the action ledger; a module that is off has no table.

use sakimori_model::policy::{self, Switch};
use sakimori_runtime::doctor::{Finding, Health};
use sakimori_sys::nft::Nft;

use super::Descriptor;
use crate::config::Config;

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: "block_address",
    title: "Block addresses",
    summary: "Blocks attackers in nftables for a time, with an undo for each block, and never what keeps the host reachable.",
    config_schema: policy::SCHEMA_VERSION,
    is_on: |policy| policy.modules.block_address.state == Switch::On,
    check,
};

fn check(config: &Config) -> Vec<Finding> {
    let name = &config.block_address.table;
    let there = Nft::open().and_then(|mut nft| nft.has_table(name));
    vec![match there {
        Ok(false) => Finding::ok("agent/nftables", format!("the kernel answers; there is no table inet {name} yet")),
        Ok(true) => Finding::ok("agent/nftables", format!("the kernel answers; the table inet {name} is there")),
        Err(error) => Finding::problem(
            "agent/nftables",
            Health::Limited,
            error.to_string(),
            "run as root, or with CAP_NET_ADMIN, on a kernel with nf_tables (modprobe nf_tables); detection works without",
        ),
    }]
}
