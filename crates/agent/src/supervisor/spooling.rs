//! What comes to the spool from a worker, and what is said of a disk that has no room for it.

use anyhow::{Result, bail};
use sakimori_model::Order;

use super::{MAX_ORDERS, Supervisor};

impl Supervisor {
    /// A spool whose disk is full takes nothing new; it is tried again, and both changes are told.
    pub(super) fn look_at_disk(&mut self) -> Result<()> {
        self.spool.look_for_room()?;
        let full = self.spool.is_disk_full();
        if full != self.told_full {
            self.told_full = full;
            let text = if full {
                "the disk of the spool is full: logs are not read until there is room; free some below the state folder"
            } else {
                "the disk of the spool has room again"
            };
            self.say(if full { "disk-full" } else { "disk-has-room" }, text.to_owned(), |_| {});
        }
        Ok(())
    }

    /// Spools a batch of a worker, if it is what it says; what it asks for is cut to what a worker may ask.
    pub(super) fn spool_of_worker(
        &mut self,
        stream: &str,
        sequence: u64,
        bytes: &[u8],
        orders: &mut Vec<Order>,
    ) -> Result<()> {
        // Only a person's order has no alert, and no person speaks through a worker.
        orders.retain(|order| !order.cause.alert.is_empty());
        orders.truncate(MAX_ORDERS);
        let header = sakimori_wire::batch::peek(bytes);
        let is_its_own = header
            .is_ok_and(|header| header.stream == stream && header.sequence == sequence && header.origin == self.agent);
        if !is_its_own {
            bail!("a batch is not what it says");
        }
        self.spool.append(bytes, orders, self.now()).map(|_| ())
    }
}
