//! How packets are sent to a queue, by which of the expressions that a kernel may have: tried, in a table that never comes
//! to be.

use super::Nft;
use super::encode::{CREATE, expression, kind, message_in};
use super::queue::{FAMILIES, remove};
use super::rule::{beyond, rule};
use crate::netlink::{Message, NetlinkError};

/// How packets reach the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// By the `queue` expression of nf_tables; else by the xtables target `NFQUEUE`.
    pub native: bool,
    /// Of the acknowledgements of replies that are far from their end only some, by `limit`.
    pub some: bool,
}

/// From the best to the least.
const FORMS: [Form; 4] = [
    Form { native: true, some: true },
    Form { native: true, some: false },
    Form { native: false, some: true },
    Form { native: false, some: false },
];

/// Sends a packet to one of so many queues from `first` on; where nobody reads it, `open` says whether it goes on.
pub(super) fn to_queue(list: &mut Message, form: Form, first: u16, queues: u16, open: bool) {
    let bypass = u16::from(open);
    if form.native {
        expression(list, "queue", |data| {
            data.attribute(1, &first.to_be_bytes());
            data.attribute(2, &queues.to_be_bytes());
            data.attribute(3, &bypass.to_be_bytes());
        });
    } else {
        expression(list, "target", |data| {
            // struct xt_NFQ_info_v3: queue, number of queues, flags; padded to eight bytes.
            let info = [first, queues, bypass, 0].map(u16::to_ne_bytes).concat();
            data.text(1, "NFQUEUE").number(2, 3).attribute(3, &info);
        });
    }
}

impl Nft {
    /// The best form that this kernel takes.
    ///
    /// # Errors
    /// It takes none, or this process may not ask.
    pub fn queue_form(&mut self) -> Result<Form, NetlinkError> {
        let [best, others @ ..] = FORMS;
        let (mut form, mut taken) = (best, self.takes_form(best));
        for other in others {
            // Only an expression or target that it does not know is a reason to try another.
            if !matches!(&taken, Err(error) if error.errno() == Some(libc::ENOENT)) {
                break;
            }
            (form, taken) = (other, self.takes_form(other));
        }
        taken.map(|()| form)
    }

    fn takes_form(&mut self, form: Form) -> Result<(), NetlinkError> {
        let table = format!("skm_probe_{}", std::process::id());
        let mut batch = Vec::new();
        for family in FAMILIES {
            let mut made = message_in(family, "try the queue", kind::NEW_TABLE, CREATE);
            made.text(1, &table).number(2, 0);
            let mut chain = message_in(family, "try the queue", kind::NEW_CHAIN, CREATE);
            chain.text(1, &table).text(3, "probe");
            batch.extend([made, chain]);
            batch.push(rule(family, &table, "probe", |list| {
                if form.some {
                    beyond(list, 1);
                }
                to_queue(list, form, 0, 1, true);
            }));
        }
        batch.extend(FAMILIES.map(|family| remove(&table, family)));
        self.apply(&batch)
    }
}
