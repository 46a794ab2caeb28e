//! Messages to every kind of receiver: strict fakes, made after what the receivers' makers publish, that refuse what those
//! would refuse; and real servers of Debian's for mail and syslog where they are installed. With crashes between the sending
//! and the record of it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod delivery;
mod fake;
mod findings;
mod jira;
mod mail;
mod pagerduty;
mod servicenow;
mod site;
mod slack;
mod syslog;
mod teams;
mod topic;
