//! Side-by-side measurements against peers.

fn main() {}
