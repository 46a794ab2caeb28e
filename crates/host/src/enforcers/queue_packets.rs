//! Sends packets to the queues where they are inspected: two nftables tables of our own, families `ip` and `ip6` (D12).
//!
//! What is in them is made by [`sakimori_sys::nft::queue`]. A change of the plan replaces the rules in one transaction,
//! in which no packet goes by or is lost; taking the tables away drops the packets that wait in the queue at that
//! moment, which TCP sends again. Other tables are never touched; one of our name with chains of somebody else is
//! refused.

use sakimori_respond::ports::PortError;
use sakimori_sys::nft::Nft;
use sakimori_sys::nft::queue::{self, Bypassed, FAMILIES, Plan};
use sakimori_sys::nft::queue_form::Form;

use super::block_address::port_error;

/// Name of the agent's tables.
pub const TABLE: &str = "sakimori_ips";
/// Chains that are ours.
const CHAINS: [&str; 6] = ["input", "input-marks", "forward", "forward-marks", "output", "output-marks"];

/// How this kernel takes queue rules.
///
/// # Errors
/// It takes none, or this process may not ask.
pub fn form() -> Result<Form, PortError> {
    let mut nft = Nft::open().map_err(port_error)?;
    nft.queue_form().map_err(|error| match error.errno() {
        Some(libc::ENOENT) => PortError::permanent(format!(
            "{error}; this kernel has neither nft_queue nor xt_NFQUEUE (CONFIG_NFT_QUEUE, \
             CONFIG_NETFILTER_XT_TARGET_NFQUEUE with CONFIG_NFT_COMPAT)"
        )),
        _ => port_error(error),
    })
}

/// Puts the plan into effect, whatever was in effect before. Packets of a queue that nobody reads go as the plan says:
/// have its reader there first.
///
/// # Errors
/// The kernel refused, or the table is not ours; nothing has changed then.
pub fn install(table: &str, plan: &Plan) -> Result<Form, PortError> {
    let form = form()?;
    let mut nft = Nft::open().map_err(port_error)?;
    own(&mut nft, table)?;
    nft.apply(&queue::install(table, plan, form)).map_err(port_error)?;
    Ok(form)
}

/// Takes the tables away; ones that are not there are no error.
///
/// # Errors
/// No right, or a table is not ours.
pub fn remove(table: &str) -> Result<(), PortError> {
    let mut nft = Nft::open().map_err(port_error)?;
    own(&mut nft, table)?;
    for family in FAMILIES {
        match nft.apply(&[queue::remove(table, family)]) {
            Err(error) if error.errno() != Some(libc::ENOENT) => return Err(port_error(error)),
            _ => {}
        }
    }
    Ok(())
}

/// What the kernel decided by itself, by the marks of connections.
///
/// # Errors
/// The kernel does not answer.
pub fn bypassed(table: &str) -> Result<Bypassed, PortError> {
    Nft::open().and_then(|mut nft| nft.bypassed(table)).map_err(port_error)
}

fn own(nft: &mut Nft, table: &str) -> Result<(), PortError> {
    for family in FAMILIES {
        let chains = nft.chains_in(family, table).map_err(port_error)?;
        if let Some(chain) = chains.iter().find(|chain| !CHAINS.contains(&chain.as_str())) {
            return Err(PortError::permanent(format!(
                "table {table} holds the chain {chain}, which is not of Sakimori: name another table for Sakimori"
            )));
        }
    }
    Ok(())
}
