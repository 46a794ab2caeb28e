//! What the tree checks about itself: `cargo run -p sakimori-xtask -- <task>`. One file a task.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

mod content;
mod costs;
mod golden;
mod mutants;
mod rules;
mod tidy;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", about = "Checks of the source tree")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Runs the tests of the content: log sources, rules and their mutants, playbooks
    Content,
    /// Prints what the heavy crates cost in the newest build with --timings
    Costs,
    /// Writes the golden set of this version: what its agent leaves on a disk, for every later version to read
    Golden,
    /// Checks the shape of the tree: direction of dependencies, unsafe code, length of files, what is left
    Tidy,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Content => content::run(),
        Task::Costs => costs::run(),
        Task::Golden => golden::run(),
        Task::Tidy => tidy::run(),
    }
}
