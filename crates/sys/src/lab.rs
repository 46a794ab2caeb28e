//! The lab: network namespaces for tests and the demo, joined by pairs of virtual Ethernet devices.
//!
//! Names lie under `/run/netns`, so that `ip netns exec` works on them. They carry the maker's process id: what a lab
//! that was killed left behind is removed by the next lab of the same prefix. Dropping a lab, also in a panic, removes
//! its namespaces, and the kernel their devices, addresses, routes and nftables. Needs root and iproute2's `ip`.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Most namespaces of one lab.
pub const MAX_NAMESPACES: usize = 64;

/// A set of namespaces.
#[derive(Debug)]
pub struct Lab {
    stem: String,
    names: Vec<String>,
    devices: u32,
}

/// One end of a pair of devices.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Namespace, as named to [`Lab::add`].
    pub namespace: &'a str,
    /// Name of the device in it, at most 15 bytes.
    pub device: &'a str,
    /// Addresses with their prefix length, IPv4 or IPv6.
    pub addresses: &'a [&'a str],
}

impl Lab {
    /// An empty lab; removes what dead labs of this prefix left.
    ///
    /// # Errors
    /// This process is not root, or there is no `ip`.
    pub fn new(prefix: &str) -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "a lab of namespaces needs root"));
        }
        if prefix.is_empty() || prefix.len() > 16 || !prefix.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a lab's prefix is 1 to 16 lowercase letters"));
        }
        sweep(prefix);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let lab = Self { stem: format!("{prefix}-{}-{number}", std::process::id()), names: Vec::new(), devices: 0 };
        ip(&["-V"])?;
        Ok(lab)
    }

    /// Adds a namespace with its loopback device up and no duplicate address detection.
    pub fn add(&mut self, name: &str) -> io::Result<()> {
        if self.names.len() >= MAX_NAMESPACES {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a lab holds at most 64 namespaces"));
        }
        let full = self.full_name(name);
        ip(&["netns", "add", &full])?;
        self.names.push(name.to_owned());
        ip(&["-n", &full, "link", "set", "lo", "up"])?;
        // A kernel without IPv6 has no such switch.
        self.inside(name, || {
            let _ = std::fs::write("/proc/sys/net/ipv6/conf/all/accept_dad", "0");
            let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0");
        })
    }

    /// Joins two namespaces by a pair of devices with addresses, up.
    pub fn join(&mut self, one: End<'_>, other: End<'_>) -> io::Result<()> {
        self.devices += 1;
        let (a, b) = (self.full_name(one.namespace), self.full_name(other.namespace));
        ip(&["-n", &a, "link", "add", one.device, "type", "veth", "peer", "name", other.device, "netns", &b])?;
        for (namespace, end) in [(&a, one), (&b, other)] {
            for address in end.addresses {
                let mut arguments = vec!["-n", namespace, "address", "add", address, "dev", end.device];
                if address.contains(':') {
                    arguments.push("nodad");
                }
                ip(&arguments)?;
            }
            ip(&["-n", namespace, "link", "set", end.device, "up"])?;
        }
        Ok(())
    }

    /// Adds a route, for example to `default`.
    pub fn route(&self, namespace: &str, to: &str, via: &str) -> io::Result<()> {
        let family = if via.contains(':') { "-6" } else { "-4" };
        ip(&["-n", &self.full_name(namespace), family, "route", "add", to, "via", via])
    }

    /// Lets a namespace pass packets on.
    pub fn forward(&self, namespace: &str) -> io::Result<()> {
        self.inside(namespace, || {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
            std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")
        })?
    }

    /// The name that `ip netns` knows.
    pub fn full_name(&self, namespace: &str) -> String {
        format!("{}-{namespace}", self.stem)
    }

    /// Its file.
    pub fn path(&self, namespace: &str) -> PathBuf {
        Path::new("/run/netns").join(self.full_name(namespace))
    }

    /// A command that will run inside a namespace, with this process's file system.
    pub fn command(&self, namespace: &str, program: impl AsRef<OsStr>) -> io::Result<Command> {
        let file = File::open(self.path(namespace))?;
        let mut command = Command::new(program);
        // SAFETY: between fork and exec one system call on an open descriptor, which the closure owns.
        unsafe {
            command.pre_exec(move || Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?));
        }
        Ok(command)
    }

    /// Runs a closure on a thread of its own inside a namespace. Sockets that it opens stay there.
    pub fn inside<T: Send>(&self, namespace: &str, run: impl FnOnce() -> T + Send) -> io::Result<T> {
        let file = File::open(self.path(namespace))?;
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().spawn_scoped(scope, move || -> io::Result<T> {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(run())
            })?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in &self.names {
            if let Err(error) = ip(&["netns", "delete", &self.full_name(name)]) {
                tracing::warn!(%error, name, "cannot remove a namespace of the lab");
            }
        }
    }
}

/// Removes namespaces of labs whose process is dead.
fn sweep(prefix: &str) {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-')).and_then(|rest| {
            let (pid, rest) = rest.split_once('-')?;
            let (number, _) = rest.split_once('-')?;
            number.parse::<u32>().ok()?;
            pid.parse::<u32>().ok()
        });
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Another lab may be sweeping too.
            let _ = ip(&["netns", "delete", &name]);
        }
    }
}

fn ip(arguments: &[&str]) -> io::Result<()> {
    let output = Command::new("ip").args(arguments).output().map_err(|error| {
        io::Error::new(error.kind(), format!("cannot run ip (install the package iproute2): {error}"))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("ip {}: {}", arguments.join(" "), words.trim())))
}
