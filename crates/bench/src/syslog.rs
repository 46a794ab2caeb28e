//! A syslog daemon of a few lines for the demo: datagrams of a Unix socket become lines of a file, with the
//! host's name where a local message leaves it out.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// Where from and where to.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Socket to make.
    #[arg(long)]
    socket: PathBuf,
    /// File to append to.
    #[arg(long)]
    file: PathBuf,
    /// Host name to write.
    #[arg(long)]
    host: String,
}

/// Longest message that is taken.
const MAX: usize = 64 * 1024;

/// Runs until it is killed.
///
/// # Errors
/// Socket or file that cannot be used.
pub fn run(options: &Options) -> Result<()> {
    let _ = std::fs::remove_file(&options.socket);
    let socket = UnixDatagram::bind(&options.socket).with_context(|| format!("bind {}", options.socket.display()))?;
    std::fs::set_permissions(&options.socket, std::fs::Permissions::from_mode(0o666))?;
    let mut file = OpenOptions::new().create(true).append(true).open(&options.file)?;
    let mut buffer = vec![0; MAX];
    loop {
        let length = socket.recv(&mut buffer)?;
        let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
        file.write_all(line(&text, &options.host).as_bytes())?;
    }
}

/// `<38>Nov 25 18:00:00 sshd[7]: text` as a line of a log: `Nov 25 18:00:00 host sshd[7]: text`.
fn line(datagram: &str, host: &str) -> String {
    let text = datagram.trim_end_matches(['\0', '\n']);
    let text = text.strip_prefix('<').and_then(|rest| rest.split_once('>')).map_or(text, |(_, rest)| rest);
    match text.split_at_checked(15) {
        Some((time, rest)) if rest.starts_with(' ') => format!("{time} {host}{rest}\n"),
        _ => format!("{text}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_message_gets_the_hosts_name() {
        assert_eq!(line("<38>Nov 25 18:00:00 sshd[7]: hello\n", "web1"), "Nov 25 18:00:00 web1 sshd[7]: hello\n");
        assert_eq!(line("odd", "web1"), "odd\n");
    }
}
