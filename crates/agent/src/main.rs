//! sakimori-agent: all that a protected host needs.

fn main() {}
