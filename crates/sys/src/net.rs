//! What surrounds this host: its own addresses, gateways, name servers, and the peers of its ssh sessions.
//!
//! Addresses and routes come from rtnetlink (rtnetlink(7)), name servers from resolv.conf(5), sessions from the
//! kernel's table of TCP connections (`/proc/thread-self/net/tcp`, proc(5)) and the processes that hold them.
//!
//! A session counts only when its owner has logged in: somebody who guesses passwords has an established connection
//! to sshd too, and must not be safe from a block by that. OpenSSH tells it apart by the process that holds the
//! connection: before the login that is root's `sshd: NAME [priv]` and an unprivileged `[net]` process of the user
//! `sshd`; after it, a process of the user who logged in, or root's, titled `sshd: NAME@TERMINAL`.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::netlink::{Message, NetlinkError, Received, Socket, attribute, attributes};

/// Most addresses or gateways that are looked at; a host with more has something else wrong.
pub const MAX_ADDRESSES: usize = 65_536;
/// Most lines of the table of connections that are read.
const MAX_CONNECTIONS: usize = 1_000_000;
const GET_ADDRESS: u16 = 22;
const GET_ROUTE: u16 = 26;
/// States of a TCP connection as `/proc` writes them.
const ESTABLISHED: &str = "01";
const LISTEN: &str = "0A";

/// The addresses of this network namespace's devices, loopback included.
pub fn own_addresses() -> Result<BTreeSet<IpAddr>, NetlinkError> {
    // struct ifaddrmsg, all families.
    let request = Message::new("list this host's addresses", GET_ADDRESS, 0, &[0; 8]);
    let all = Socket::route()?.dump(&request, |message, all| {
        let Some(body) = message.body.get(8..) else { return };
        // The local address; on a point-to-point device the other one is the peer's.
        all.extend(attribute(body, 2).or_else(|| attribute(body, 1)).and_then(address));
    })?;
    Ok(all.into_iter().take(MAX_ADDRESSES).collect())
}

/// The gateways of all routes of this network namespace.
pub fn gateways() -> Result<BTreeSet<IpAddr>, NetlinkError> {
    // struct rtmsg, all families.
    let request = Message::new("list this host's routes", GET_ROUTE, 0, &[0; 12]);
    let mut gateways = BTreeSet::new();
    Socket::route()?.dump(&request, |message: Received<'_>, _: &mut Vec<()>| {
        let Some(body) = message.body.get(12..) else { return };
        if gateways.len() < MAX_ADDRESSES {
            route_gateways(body, &mut gateways);
        }
    })?;
    Ok(gateways)
}

fn route_gateways(body: &[u8], gateways: &mut BTreeSet<IpAddr>) {
    for (kind, value) in attributes(body) {
        match kind {
            // RTA_GATEWAY
            5 => gateways.extend(address(value)),
            // RTA_VIA: a family in two bytes, then an address of it.
            18 => gateways.extend(value.get(2..).and_then(address)),
            // RTA_MULTIPATH: struct rtnexthop of eight bytes, its length first, attributes behind.
            9 => {
                let mut rest = value;
                while let Some((low, high)) = rest.first().zip(rest.get(1)) {
                    let length = usize::from(u16::from_ne_bytes([*low, *high]));
                    let Some(inner) = rest.get(8..length) else { break };
                    // One level: a hop holds no further hops.
                    for (kind, value) in attributes(inner) {
                        match kind {
                            5 => gateways.extend(address(value)),
                            18 => gateways.extend(value.get(2..).and_then(address)),
                            _ => {}
                        }
                    }
                    rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
                }
            }
            _ => {}
        }
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|bytes| Ipv4Addr::from(bytes).into()),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|bytes| Ipv6Addr::from(bytes).into()),
        _ => None,
    }
}

/// The name servers that this host asks, also those behind systemd-resolved's stub.
pub fn resolvers() -> BTreeSet<IpAddr> {
    let files = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
    files.iter().filter_map(|path| std::fs::read(path).ok()).flat_map(|text| parse_resolvers(&text)).collect()
}

fn parse_resolvers(text: &[u8]) -> Vec<IpAddr> {
    let lines = String::from_utf8_lossy(text.get(..65_536).unwrap_or(text)).into_owned();
    lines
        .lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            if words.next() != Some("nameserver") {
                return None;
            }
            // A link-local server carries its device: fe80::1%eth0.
            words.next()?.split('%').next()?.parse().ok()
        })
        .collect()
}

/// A line of the table of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Connection {
    local_port: u16,
    peer: IpAddr,
    established: bool,
    inode: u64,
}

/// Peers of ssh sessions that are established and logged in. `ports` are looked at beside 22 and the ports on which
/// a process named sshd listens.
///
/// # Errors
/// `/proc` cannot be read.
pub fn ssh_peers(ports: &[u16]) -> io::Result<BTreeSet<IpAddr>> {
    let processes = ssh_processes();
    // To list connections the kernel walks through a table that is large where memory is: not while nobody is logged in.
    if !processes.iter().any(|process| process.logged_in) {
        return Ok(BTreeSet::new());
    }
    let connections = connections()?;
    let mut holders: HashMap<u64, bool> = HashMap::new();
    let mut servers = HashSet::new();
    for process in processes {
        for inode in process.sockets {
            servers.insert(inode);
            *holders.entry(inode).or_default() |= process.logged_in;
        }
    }
    let listening = connections.iter().filter(|one| !one.established && servers.contains(&one.inode));
    let ports: HashSet<u16> = ports.iter().copied().chain([22]).chain(listening.map(|one| one.local_port)).collect();
    Ok(connections
        .iter()
        .filter(|one| one.established && ports.contains(&one.local_port))
        .filter(|one| holders.get(&one.inode).copied().unwrap_or(false))
        .map(|one| one.peer)
        .collect())
}

/// Most sockets that are listed as accepting.
const MAX_LISTENERS: usize = 256;

/// Where TCP connections are accepted in this network namespace.
///
/// # Errors
/// `/proc` cannot be read.
pub fn listeners() -> io::Result<BTreeSet<SocketAddr>> {
    let mut all = BTreeSet::new();
    each_socket(|line| {
        if all.len() < MAX_LISTENERS {
            all.extend(parse_listener(line));
        }
    })?;
    Ok(all)
}

/// The lines of this thread's network namespace about TCP sockets, of both families, so many of each at the most.
fn each_socket(mut take: impl FnMut(&str)) -> io::Result<()> {
    for name in ["tcp", "tcp6"] {
        let file = match std::fs::File::open(format!("/proc/thread-self/net/{name}")) {
            Ok(file) => file,
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && name == "tcp6" => continue,
            Err(error) => return Err(error),
        };
        for line in BufReader::new(file).lines().skip(1).take(MAX_CONNECTIONS) {
            take(&line?);
        }
    }
    Ok(())
}

fn parse_listener(line: &str) -> Option<SocketAddr> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (local, _, state) = (words.next()?, words.next()?, words.next()?);
    let (address, port) = local.split_once(':')?;
    if state != LISTEN {
        return None;
    }
    Some(SocketAddr::new(parse_hex_address(address)?, u16::from_str_radix(port, 16).ok()?))
}

/// Connections of the network namespace of this thread.
fn connections() -> io::Result<Vec<Connection>> {
    let mut all = Vec::new();
    each_socket(|line| all.extend(parse_connection(line)))?;
    Ok(all)
}

fn parse_connection(line: &str) -> Option<Connection> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (local, remote, state) = (words.next()?, words.next()?, words.next()?);
    let inode = words.nth(5)?.parse().ok()?;
    if state != ESTABLISHED && state != LISTEN {
        return None;
    }
    let local_port = u16::from_str_radix(local.split_once(':')?.1, 16).ok()?;
    let peer = parse_hex_address(remote.split_once(':')?.0)?;
    Some(Connection { local_port, peer, established: state == ESTABLISHED, inode })
}

/// The kernel prints an address as 32-bit words in its own byte order.
fn parse_hex_address(text: &str) -> Option<IpAddr> {
    let mut bytes = Vec::with_capacity(16);
    for at in (0..text.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    address(&bytes).map(|address| address.to_canonical())
}

/// A process of an ssh server.
struct SshProcess {
    sockets: Vec<u64>,
    logged_in: bool,
}

fn ssh_processes() -> Vec<SshProcess> {
    let unprivileged = user_id("sshd");
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit))
        .filter_map(|entry| ssh_process(&entry.path(), unprivileged))
        .collect()
}

fn ssh_process(folder: &Path, unprivileged: Option<u32>) -> Option<SshProcess> {
    // A process may end at any moment: what cannot be read is not there.
    let name = std::fs::read_to_string(folder.join("comm")).ok()?;
    if !matches!(name.trim_end(), "sshd" | "sshd-session" | "sshd-auth") {
        return None;
    }
    let uid = std::fs::metadata(folder).ok()?.uid();
    let title = std::fs::read(folder.join("cmdline")).ok()?;
    let sockets = std::fs::read_dir(folder.join("fd"))
        .ok()?
        .flatten()
        .take(65_536)
        .filter_map(|entry| {
            let target = std::fs::read_link(entry.path()).ok()?;
            target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
        })
        .collect();
    Some(SshProcess { sockets, logged_in: logged_in(name.trim_end(), uid, unprivileged, &title) })
}

/// Does a process of this name, user and title serve somebody who has logged in?
fn logged_in(name: &str, uid: u32, unprivileged: Option<u32>, title: &[u8]) -> bool {
    let title = String::from_utf8_lossy(title);
    let title = title.trim_end_matches(['\0', ' ']);
    if name == "sshd-auth" || title.ends_with(']') {
        return false;
    }
    if uid != 0 {
        return Some(uid) != unprivileged;
    }
    title.rsplit_once('@').is_some_and(|(start, _)| start.starts_with("sshd"))
}

/// Id of a local user.
fn user_id(name: &str) -> Option<u32> {
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        fields.nth(1)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn name_servers() {
        let text = b"# nameserver 192.0.2.9\nnameserver 192.0.2.1\n nameserver\tfe80::1%eth0\nsearch a\nnameserver x\n";
        let expected: Vec<IpAddr> = vec!["192.0.2.1".parse().unwrap(), "fe80::1".parse().unwrap()];
        assert_eq!(parse_resolvers(text), expected);
    }

    #[test]
    fn connections_as_the_kernel_prints_them() {
        let line = "   1: 0A00020F:0016 0202000A:E1B4 01 00000000:00000000 02:000A7D 00000000     0        0 21234 4 0";
        if cfg!(target_endian = "little") {
            let one = parse_connection(line).unwrap();
            assert_eq!(one.peer, "10.0.2.2".parse::<IpAddr>().unwrap());
            assert_eq!((one.local_port, one.established, one.inode), (22, true, 21_234));
            let mapped = parse_hex_address("0000000000000000FFFF00000100007F").unwrap();
            assert_eq!(mapped, "127.0.0.1".parse::<IpAddr>().unwrap());
        }
        assert!(parse_connection(&line.replace(" 01 ", " 06 ")).is_none());
    }

    #[test]
    fn what_accepts_is_listed() {
        let one = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(listeners().unwrap().contains(&one.local_addr().unwrap()));
        let line = "   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0";
        assert_eq!(parse_listener(line), Some("0.0.0.0:22".parse().unwrap()));
        assert_eq!(parse_listener(&line.replace(" 0A ", " 01 ")), None);
    }

    #[test]
    fn who_guesses_passwords_is_not_logged_in() {
        let sshd = Some(105);
        for (name, uid, title, expected) in [
            ("sshd", 0, "sshd: /usr/sbin/sshd -D [listener] 1 of 10-100 startups", false),
            ("sshd", 0, "sshd: [accepted]\0", false),
            ("sshd", 0, "sshd: root [priv]\0\0", false),
            ("sshd", 0, "sshd: ann@example.com [priv]", false),
            ("sshd", 105, "sshd: root [net]", false),
            ("sshd", 105, "sshd: root", false),
            ("sshd-auth", 105, "sshd-auth: root", false),
            ("sshd", 0, "sshd: root@pts/0\0\0", true),
            ("sshd-session", 0, "sshd-session: root@notty", true),
            ("sshd", 1000, "sshd: ann@pts/1", true),
            ("sshd", 1000, "sshd: ann", true),
        ] {
            assert_eq!(logged_in(name, uid, sshd, title.as_bytes()), expected, "{name} {uid} {title}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_readers_panic(
            line in "\\PC{0,200}",
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let _ = parse_connection(&line);
            let _ = parse_listener(&line);
            let _ = parse_hex_address(&line);
            let _ = parse_resolvers(&bytes);
            route_gateways(&bytes, &mut BTreeSet::new());
        }
    }
}
