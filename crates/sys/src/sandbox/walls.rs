//! Landlock's part: which paths and ports stay open. Best effort: an older kernel closes what it knows.

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use super::{Landlock, Outside};

const NEWEST: ABI = ABI::V6;
/// Where names are resolved with: the configuration, and what the C library loads for it.
const NAMES: &[&str] = &["/etc", "/lib", "/lib64", "/usr/lib", "/usr/lib64"];
/// Port of name servers, which are asked by TCP where an answer is long.
const NAME_SERVERS: u16 = 53;
/// What a tool may run.
const PROGRAMS: &[&str] = &["/usr", "/bin", "/sbin", "/lib", "/lib64"];
/// What a tool may read besides.
const READ_BY_TOOLS: &[&str] = &["/etc", "/proc", "/run", "/var/log"];

/// Everything handled and nothing allowed.
pub fn closed() -> Result<Landlock, RulesetError> {
    handled()?.restrict_self().map(status)
}

/// One folder, names, and ports.
pub fn networked(outside: Outside<'_>) -> Result<Landlock, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let own = read | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg | AccessFs::RemoveFile;
    let mut rules = handled()?.add_rule(PathBeneath::new(outside.folder, own))?;
    // The list of name servers is often a link to where another program keeps it.
    let real = std::fs::canonicalize("/etc/resolv.conf").ok();
    let beside = real.as_deref().and_then(std::path::Path::parent).and_then(std::path::Path::to_str);
    for path in NAMES.iter().copied().chain(beside) {
        rules = allow(rules, path, read)?;
    }
    for port in outside.ports.iter().copied().chain([NAME_SERVERS]) {
        rules = rules.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    rules.restrict_self().map(status)
}

/// What is installed may be run and read, logs read, nothing written.
pub fn tools() -> Result<Landlock, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    // A tool is ended by a signal of its parent's, which is outside; it sends none itself.
    let mut rules = handled()?;
    for path in PROGRAMS {
        rules = allow(rules, path, read | AccessFs::Execute)?;
    }
    for path in READ_BY_TOOLS {
        rules = allow(rules, path, read)?;
    }
    rules = allow(rules, "/dev/null", AccessFs::ReadFile | AccessFs::WriteFile)?;
    rules.restrict_self().map(status)
}

fn handled() -> Result<RulesetCreated, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()
}

/// A path that is not there needs no rule.
fn allow(rules: RulesetCreated, path: &str, access: BitFlags<AccessFs>) -> Result<RulesetCreated, RulesetError> {
    match PathFd::new(path) {
        Ok(open) => rules.add_rule(PathBeneath::new(open, access)),
        Err(_) => Ok(rules),
    }
}

fn status(status: RestrictionStatus) -> Landlock {
    match (status.landlock, status.ruleset) {
        (LandlockStatus::Available { .. }, RulesetStatus::FullyEnforced) => Landlock::Full,
        (LandlockStatus::Available { .. }, RulesetStatus::PartiallyEnforced) => Landlock::Partly,
        _ => Landlock::None,
    }
}
