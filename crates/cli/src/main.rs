//! sakimori: the command line.

fn main() {}
