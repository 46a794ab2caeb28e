//! The effects around identities, buckets, functions, pipelines and web ACLs against the AWS simulator: what is there before,
//! after, and after the undo is read by AWS's SDK in Python. What the simulator does not answer is played by `tools/aws-fake.py`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

mod buckets;
mod check;
mod faults;
mod functions;
mod identities;
mod pipelines;
mod rights;
mod stage;
mod web_acls;
mod wire;
