//! sakimori: the command line. `args` is the tree of commands, `api` the client of a manager, `output` what is
//! printed and how, `commands` one file a group, `platform` the whole platform on this machine (`up`, `down`).
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

mod api;
mod args;
mod commands;
mod output;
mod platform;

use std::process::ExitCode;

use clap::Parser;

/// Packets and events are many small allocations that live and die together: `net replay` takes a fifth less of the
/// processor than with the C library's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    match commands::run(cli) {
        Ok(code) => code,
        Err(error) => {
            // A reader that has seen enough, `head` say, is no failure.
            if error.chain().any(|cause| {
                cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
            }) {
                return ExitCode::SUCCESS;
            }
            anstream::eprintln!("{}error:{} {error:#}", output::BAD, output::PLAIN);
            ExitCode::FAILURE
        }
    }
}
