//! Ports: what the actions need from the outside world, as small traits that adapters implement.
//!
//! `host` implements [`AddressBlocker`] on nftables, `cloud` implements [`AddressSet`] on AWS WAF and
//! [`Effect`] in AWS accounts. Every method is idempotent or says that it is not, since a
//! crash between an effect and its record makes the caller do it again.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;

use sakimori_model::policy::Policy;
use sakimori_model::{Action, Network, Order, Timestamp};

use crate::actions::waf_block;

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One address or network in the kernel's set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockEntry {
    /// What is blocked.
    pub network: Network,
    /// Milliseconds until the kernel takes it out by itself; at least 1.
    pub timeout_ms: u64,
}

/// Blocks addresses on this host, in the kernel.
pub trait AddressBlocker: Send {
    /// Blocks all of these in as few transactions as the kernel allows. Idempotent: one that is there gets
    /// the new timeout. On an error any part may have taken effect; the caller repeats.
    fn block(&mut self, entries: &[BlockEntry]) -> Result<(), PortError>;

    /// Unblocks all of these. Idempotent: one that is not there is no error.
    fn unblock(&mut self, networks: &[Network]) -> Result<(), PortError>;

    /// What is blocked now, read from the kernel and not from memory.
    fn blocked(&mut self) -> Result<Vec<BlockEntry>, PortError>;

    /// Has somebody stopped all answers on this host, and who? Asked right before every effect, so that a stop holds
    /// whatever else goes on. Taking back goes on.
    fn halted(&mut self) -> Option<String> {
        None
    }
}

/// Takes files of this host out of everybody's reach, and gives them back.
pub trait FileVault: Send {
    /// Takes the file that the action names, if it still has the content that was judged. Idempotent: what this action
    /// took already is not taken twice.
    fn take(&mut self, action: &Action, now: Timestamp) -> Result<Taking, PortError>;

    /// Puts back what this action took, as it was. `former` is what [`Taking::Taken`] said. Idempotent.
    fn give_back(&mut self, action: &Action, former: &str) -> Result<(), PortError>;

    /// Is it still there?
    fn held(&mut self, action: &Action, former: &str) -> Held;
}

/// One kind of action on this host that is neither a block nor about files: an isolation, a locked user, processes that are
/// ended or frozen, a package of triage.
///
/// What an undo needs is either what [`HostEffect::look`] found, which the ledger holds ([`Action::former`]) before the effect,
/// or what the implementation keeps itself, durably, before it changes anything. A crash anywhere repeats
/// [`HostEffect::apply`] or [`HostEffect::undo`], and both converge: repeating what took effect is no error.
pub trait HostEffect: Send {
    /// A policy applies from now on.
    fn set_policy(&mut self, _policy: &Policy) {}

    /// One of its own for another thread, where an effect takes longer than the caller's loop may wait. `None` where it is
    /// carried out on the spot.
    fn aside(&self) -> Option<Box<dyn HostEffect>> {
        None
    }

    /// Reads: can it be done, what is there now, and what would change? Changes nothing. Asked for those of
    /// [`crate::actions::LASTING`].
    fn look(&mut self, _action: &Action) -> Result<Look, PortError> {
        Ok(Look::Ready { former: String::new(), would: Vec::new() })
    }

    /// Makes it so, for so many milliseconds from now where it ends by itself, and reads back that it is; asked again it has
    /// that time anew. The last look at its target is its own: what must not be hit is refused here.
    fn apply(&mut self, action: &Action, left_ms: Option<u64>) -> Result<Applied, PortError>;

    /// Puts back what was there before, whatever part of the effect there is, and reads back that it is gone. Gives what a
    /// person should know. Only for actions that can be undone.
    fn undo(&mut self, action: &Action) -> Result<Option<String>, PortError>;

    /// What is in effect by the ledger, with the time that it has left: makes it so again where a restart of the host or
    /// somebody's hand took it away, and takes away what no action of these is. For what lasts by itself, nothing.
    fn keep(&mut self, _live: &[(&Action, Option<u64>)]) -> Result<(), PortError> {
        Ok(())
    }
}

/// What came of [`HostEffect::apply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It took effect, and that was verified.
    Done {
        /// What was there before, as JSON of at most [`MAX_FORMER`] bytes; `None` where the ledger has it.
        former: Option<String>,
        /// What a person should know.
        remark: Option<String>,
    },
    /// It would change nothing here: why.
    NoEffect(String),
    /// It must not be done: why.
    Refused(String),
}

/// Scans paths of this host for malware, one scan at a time.
pub trait PathScanner: Send {
    /// Lets the scan of this action wait for its turn; its report comes later. Idempotent: one that waits, is under way
    /// or is over is not begun again.
    fn begin(&mut self, action: &Action) -> Result<(), PortError>;

    /// Ends the scan of this action, which waits or is under way. Idempotent: one that is not there is no error.
    fn end(&mut self, action: &str);
}

/// Where a file is that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// In quarantine.
    Here,
    /// A person gave it back by other means.
    GivenBack,
    /// A person deleted it by other means.
    Deleted,
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taking {
    /// It is taken.
    Taken {
        /// What the undo needs: the item's id.
        former: String,
        /// What a person should know: other names of the file.
        remark: Option<String>,
    },
    /// There is nothing to take any more: why.
    Gone(String),
}

/// One action at a provider, in one account: an instance isolated, a key deactivated, a bucket closed.
///
/// The driver looks first and writes down what was there, before the effect (D18); a crash anywhere then repeats
/// [`Effect::apply`] or [`Effect::undo`] with the same `former`. So both converge: they read the state and change the
/// difference, and repeating one that took effect is no error (D19).
pub trait Effect: Send + Sync {
    /// Reads the target: can it be done, what is there now, and what would change? Changes nothing.
    fn look<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Look, PortError>>;

    /// Makes it so, from what [`Look::Ready`] said. A permanent error makes the driver take back what was done so far.
    fn apply<'a>(&'a self, order: &'a Order, former: &'a str) -> BoxFuture<'a, Result<Progress, PortError>>;

    /// Reads whether it took effect: `None` where it did, else what is not so. Asked after [`Effect::apply`] is done; a
    /// provider that is eventually consistent is asked again.
    fn verify<'a>(&'a self, order: &'a Order, former: &'a str) -> BoxFuture<'a, Result<Option<String>, PortError>>;

    /// Puts back what was there before, whatever part of the effect there is. Only for actions that can be undone.
    fn undo<'a>(&'a self, order: &'a Order, former: &'a str) -> BoxFuture<'a, Result<Progress, PortError>>;
}

/// What an [`Effect`] found before it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// It can be done.
    Ready {
        /// What is there now and the undo needs, as JSON of at most [`MAX_FORMER`] bytes. It goes into the ledger.
        former: String,
        /// What would be done, a sentence for each change, in English: the dry run.
        would: Vec<String>,
    },
    /// It would change nothing here: why, and the remedy where there is one.
    NoEffect(String),
    /// It must not be done: why.
    Refused(String),
}

/// Longest record of a former state, in bytes.
pub const MAX_FORMER: usize = 64 << 10;

/// How far an [`Effect`] has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is done; the remark is what a person should know beside it.
    Done {
        /// For the ledger and the message.
        remark: Option<String>,
    },
    /// The provider is still at it (a snapshot). Ask again by calling the same.
    Pending {
        /// What is waited for.
        what: String,
        /// Seconds after which asking again is worth it.
        again: u64,
    },
}

/// A set of addresses that is replaced as a whole: an AWS WAF IP set pair (IPv4 and IPv6).
pub trait AddressSet: Send + Sync {
    /// Makes the set hold exactly `desired`. Converges: reads, changes the difference, repeats on a lost race.
    fn replace<'a>(&'a self, desired: &'a BTreeSet<Network>) -> BoxFuture<'a, Result<SetOutcome, PortError>>;

    /// Most networks of each family that it can hold.
    fn capacity(&self) -> usize {
        waf_block::SET_CAPACITY
    }

    /// What the set holds now, read from the provider.
    fn read<'a>(&'a self) -> BoxFuture<'a, Result<BTreeSet<Network>, PortError>>;
}

/// What replacing a set did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetOutcome {
    /// Networks that were not there before.
    pub added: BTreeSet<Network>,
    /// Networks that are there no more.
    pub removed: BTreeSet<Network>,
    /// Set, but without effect: what is missing and the remedy (no web ACL rule refers to the set).
    pub no_effect: Option<String>,
}

/// What went wrong at a port, and whether trying again can help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// May go away by itself: a timeout, a lost race, a throttled call. Try again after a while.
    #[error("{reason}")]
    Transient {
        /// What was attempted and what came back.
        reason: String,
        /// The other side's wish for the wait, in seconds, where it said one.
        retry_after: Option<u64>,
    },
    /// Will not go away without a person: a missing permission, a wrong name, a feature the kernel lacks.
    #[error("{reason}")]
    Permanent {
        /// What was attempted, what came back, and the remedy.
        reason: String,
    },
}

impl PortError {
    /// A failure that may go away by itself.
    pub fn transient(reason: impl Into<String>) -> Self {
        Self::Transient { reason: reason.into(), retry_after: None }
    }

    /// A failure that needs a person.
    pub fn permanent(reason: impl Into<String>) -> Self {
        Self::Permanent { reason: reason.into() }
    }

    /// Can trying again help?
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Transient { .. })
    }
}
