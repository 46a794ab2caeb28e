//! Tidy, code generation, content tests.

fn main() {}
