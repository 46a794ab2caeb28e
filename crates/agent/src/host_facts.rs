//! Who this host is: name, machine id, operating system, time zone.

use std::path::Path;

use sakimori_model::{Event, field};
use sakimori_wire::agent as proto;

/// Facts about the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// `host.name`.
    pub name: String,
    /// `host.id`: the machine id, or the name where there is none.
    pub id: String,
    /// Name of the operating system.
    pub os_name: String,
    /// Its version.
    pub os_version: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Architecture.
    pub architecture: String,
    /// Time zone, IANA name.
    pub zone: String,
}

impl HostFacts {
    /// Reads them; what cannot be read is empty.
    pub fn read(name: Option<&str>) -> Self {
        let system = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let name = name.map_or_else(|| text(system.nodename()), str::to_owned);
        let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default().trim().to_owned();
        Self {
            id: if id.is_empty() { name.clone() } else { id },
            name,
            os_name: of_release(&release, "NAME"),
            os_version: of_release(&release, "VERSION_ID"),
            kernel: text(system.release()),
            architecture: text(system.machine()),
            zone: zone(Path::new("/etc/timezone"), Path::new("/etc/localtime")),
        }
    }

    /// As the manager gets them.
    pub fn to_proto(&self) -> proto::Host {
        proto::Host {
            name: self.name.clone(),
            id: self.id.clone(),
            addresses: own_addresses(),
            os_name: self.os_name.clone(),
            os_version: self.os_version.clone(),
            kernel: self.kernel.clone(),
            architecture: self.architecture.clone(),
            machine: Some((&crate::machine::read()).into()),
            boot_id: crate::machine::boot_id(),
        }
    }

    /// Puts `agent.*`, `host.*` and `ecs.version` on an event of this host.
    pub fn mark(&self, event: &mut Event, agent: &str) {
        event.set(field::ECS_VERSION, "8.17.0");
        event.set(field::AGENT_ID, agent.to_owned());
        event.set(field::AGENT_TYPE, "sakimori");
        event.set(field::AGENT_VERSION, env!("CARGO_PKG_VERSION"));
        event.set(field::HOST_NAME, self.name.clone());
        event.set(field::HOST_ID, self.id.clone());
    }
}

fn own_addresses() -> Vec<String> {
    let own = sakimori_host::guard_facts(&[]).map(|facts| facts.own).unwrap_or_default();
    own.iter().filter(|address| !address.is_loopback()).map(ToString::to_string).collect()
}

fn of_release(text: &str, key: &str) -> String {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .find(|(name, _)| *name == key)
        .map(|(_, value)| value.trim_matches('"').to_owned())
        .unwrap_or_default()
}

/// The zone's name from `/etc/timezone`, or from where `/etc/localtime` points; UTC where neither says.
fn zone(timezone: &Path, localtime: &Path) -> String {
    let written = std::fs::read_to_string(timezone).unwrap_or_default();
    let linked = std::fs::canonicalize(localtime)
        .ok()
        .and_then(|path| path.to_str().and_then(|path| path.split_once("zoneinfo/")).map(|(_, name)| name.to_owned()));
    let is_name = |name: &str| {
        !name.is_empty()
            && name.len() < 64
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_+-".contains(&byte))
    };
    // The link is what libc follows, so it decides.
    [linked.unwrap_or_default(), written.trim().to_owned()]
        .into_iter()
        .find(|name| is_name(name))
        .unwrap_or_else(|| "UTC".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zone_is_where_localtime_points() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let zoneinfo = folder.path().join("zoneinfo/Asia");
        std::fs::create_dir_all(&zoneinfo).expect("made");
        std::fs::write(zoneinfo.join("Tokyo"), "TZif").expect("written");
        let (timezone, localtime) = (folder.path().join("timezone"), folder.path().join("localtime"));
        assert_eq!(zone(&timezone, &localtime), "UTC");
        std::fs::write(&timezone, "Europe/Berlin\n").expect("written");
        assert_eq!(zone(&timezone, &localtime), "Europe/Berlin");
        std::os::unix::fs::symlink(zoneinfo.join("Tokyo"), &localtime).expect("linked");
        assert_eq!(zone(&timezone, &localtime), "Asia/Tokyo");
    }
}
