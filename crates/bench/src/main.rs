//! sakimori-bench: the demo, and measurements beside the programs that we are compared with.
//!
//! Figures are of the build that this program belongs to: it uses the binaries beside it, and says their profile.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

mod api;
mod cost;
mod demo;
mod evasion;
mod exactly_once;
mod floods;
mod inline;
mod log_to_block;
mod many_blocks;
mod network;
mod platform;
mod replacement;
mod requests;
mod resources;
mod search;
mod second_reader;
mod seed;
mod story;
mod syslog;
mod usage;
mod waf_capacity;
mod yara;

use clap::{Parser, Subcommand};

/// Plays the demo and measures.
#[derive(Debug, Parser)]
#[command(name = "sakimori-bench", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play the attack story in network namespaces; exits non-zero where a step did not happen
    Demo(demo::Options),
    /// What malware protection costs: unpack and build a project with and without it; clamonacc beside it
    ProtectionCost(cost::Options),
    /// Attacks in disguise: which are seen here, and which by Suricata
    Evasion(evasion::Options),
    /// A million half-open connections, a million names: packets a second, and the most memory
    Floods(floods::Options),
    /// Send lines through an agent while agent and manager are killed again and again; count what arrives
    ExactlyOnce(exactly_once::Options),
    /// A download and requests through the packet queue against past it; Suricata beside it
    Inline(inline::Options),
    /// From the deciding line to the first refused packet, and lines per CPU second; fail2ban beside it
    LogToBlock(log_to_block::Options),
    /// 150,000 blocks, each with its own record: one more, and all undone
    ManyBlocks(many_blocks::Options),
    /// An infected instance is replaced by its Auto Scaling group; the new one is protected before its health check passes
    Replacement(replacement::Options),
    /// Attacks and harmless requests of a corpus against our own network rules: found and falsely found, by class
    Requests(requests::Options),
    /// What manager and agent take at rest and at work, with every module on: memory, processor time, size on disk
    Resources(resources::Options),
    /// Captures through the network engine, without a queue; Suricata beside it
    Network(network::Options),
    /// Fifty thousand attackers in a simulated hour: who stays in the WAF's sets, from event to entry, calls of the API
    WafCapacity(waf_capacity::Options),
    /// YARA rules over a copy of a folder, beside `yr` and `yara`: bytes per CPU second and memory
    Yara(yara::Options),
    /// Fill an empty state folder of a manager with made-up events
    SeedLake(seed::Options),
    /// Search a seeded lake: first rows, needles, counts over time, values; DuckDB on the same files beside it
    Search(search::Options),
    /// Receive syslog datagrams into a file (the demo's syslog daemon)
    #[command(hide = true)]
    Syslog(syslog::Options),
}

fn main() -> anyhow::Result<()> {
    sakimori_runtime::http::install_crypto();
    match Cli::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::ProtectionCost(options) => cost::run(&options),
        Command::Evasion(options) => evasion::run(&options),
        Command::Floods(options) => floods::run(&options),
        Command::ExactlyOnce(options) => exactly_once::run(&options),
        Command::Inline(options) => inline::run(&options),
        Command::LogToBlock(options) => log_to_block::run(&options),
        Command::ManyBlocks(options) => many_blocks::run(&options),
        Command::Replacement(options) => replacement::run(&options),
        Command::Requests(options) => requests::run(&options),
        Command::Resources(options) => resources::run(&options),
        Command::Network(options) => network::run(&options),
        Command::WafCapacity(options) => waf_capacity::run(&options),
        Command::Yara(options) => yara::run(&options),
        Command::SeedLake(options) => seed::run(&options),
        Command::Search(options) => search::run(&options),
        Command::Syslog(options) => syslog::run(&options),
    }
}
