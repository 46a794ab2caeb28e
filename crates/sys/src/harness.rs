//! The `main` of a test file whose program is started again as a worker, for tests of this and other crates: cargo's
//! own harness has threads and takes the arguments.

/// Runs the tests whose name contains the filter, one after the other, as `cargo test` asks and reads it. `ready` says
/// why none can be run here. A test fails by a panic, which ends the process.
pub fn run(filter: &str, tests: &[(&str, fn())], ready: impl FnOnce() -> Result<(), String>) {
    if filter == "--list" {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    if let Err(reason) = ready() {
        println!("not tested: {reason}");
        return;
    }
    let filter = if filter.starts_with('-') { "" } else { filter };
    for (name, test) in tests.iter().filter(|(name, _)| name.contains(filter)) {
        test();
        println!("test {name} ... ok");
    }
}
