//! The world of the demo: an attacker, a proxy, a protected host with a real sshd and nginx, and the manager's
//! side with an AWS simulator and a webhook, each in a network namespace of its own.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sakimori_sys::lab::{End, Lab};
use serde_json::{Value, json};

use crate::api::wait;
use crate::platform::{PATIENCE, Process, tail};

/// The attacker's addresses: guessing passwords by IPv4, by IPv6, during the outage, and one on the allow-list.
pub const ATTACKER: &str = "198.51.100.66";
/// By IPv6.
pub const ATTACKER6: &str = "2001:db8::66";
/// A second attacker, while the manager is dead.
pub const SECOND: &str = "198.51.100.99";
/// On the allow-list.
pub const PARTNER: &str = "198.51.100.10";
/// A trusted proxy, and the client that attacks through it.
pub const PROXY: &str = "192.0.2.80";
/// The client behind it.
pub const CLIENT: &str = "203.0.113.50";
/// Another client behind it, who uploads.
pub const UPLOADER: &str = "203.0.113.51";
/// Who sends exploits, directly.
pub const EXPLOITER: &str = "198.51.100.67";
/// By IPv6.
pub const EXPLOITER6: &str = "2001:db8::67";
/// Who sends them through the proxy.
pub const BEHIND: &str = "203.0.113.52";
/// An honest client behind the proxy.
pub const SHOPPER: &str = "203.0.113.53";
/// The protected host.
pub const HOST: &str = "198.51.100.1";
/// The protected host by IPv6.
pub const HOST6: &str = "2001:db8::1";
const HOST_FOR_PROXY: &str = "192.0.2.1";
/// The manager's side.
pub const MANAGER: &str = "10.99.0.1";
/// The AWS simulator, there.
pub const SIMULATOR: &str = "127.0.0.1:5000";
/// What plays what it does not answer.
pub const FAKE: &str = "127.0.0.1:5001";
/// The program of the latter.
const PLAYS: &str = include_str!("../../../tools/aws-fake.py");

/// Who asks the web server.
#[derive(Clone, Copy)]
pub enum Asker<'a> {
    /// An address of the attacker's.
    Direct(&'a str),
    /// A client, as the trusted proxy names it.
    Behind(&'a str),
}

/// The namespaces and the services in them.
pub struct World {
    /// Namespaces.
    pub lab: Arc<Lab>,
    /// Folder of logs and configuration.
    pub dir: PathBuf,
    /// What the webhook received.
    pub messages: Arc<Mutex<Vec<Value>>>,
    /// The Python that has AWS's own SDK.
    pub python: PathBuf,
    services: Vec<Process>,
}

impl World {
    /// Builds it.
    ///
    /// # Errors
    /// A program that is missing or does not start.
    pub fn build(dir: &Path, moto: &Path) -> Result<Self> {
        let mut lab = Lab::new("skmdemo")?;
        for name in ["attacker", "proxy", "host", "manager"] {
            lab.add(name)?;
        }
        lab.join(
            End {
                namespace: "attacker",
                device: "out",
                addresses: &[
                    "198.51.100.66/24",
                    "198.51.100.67/24",
                    "198.51.100.99/24",
                    "198.51.100.10/24",
                    "2001:db8::66/64",
                    "2001:db8::67/64",
                ],
            },
            End { namespace: "host", device: "public", addresses: &["198.51.100.1/24", "2001:db8::1/64"] },
        )?;
        lab.join(
            End { namespace: "proxy", device: "out", addresses: &["192.0.2.80/24"] },
            End { namespace: "host", device: "web", addresses: &["192.0.2.1/24"] },
        )?;
        lab.join(
            End { namespace: "manager", device: "inside", addresses: &["10.99.0.1/24"] },
            End { namespace: "host", device: "inside", addresses: &["10.99.0.2/24"] },
        )?;
        let python = moto.parent().context("moto_server lies in a folder")?.join("python3");
        let mut world =
            Self { lab: Arc::new(lab), dir: dir.to_owned(), messages: Arc::default(), python, services: Vec::new() };
        fs::create_dir_all(dir)?;
        world.sshd()?;
        world.nginx()?;
        world.simulator(moto)?;
        world.webhook()?;
        Ok(world)
    }

    /// A real sshd that logs by syslog, in a mount namespace with a /dev/log of its own.
    fn sshd(&mut self) -> Result<()> {
        let dir = self.dir.clone();
        let key = dir.join("host_key");
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key))?;
        fs::write(
            dir.join("sshd_config"),
            format!(
                "Port 22\nAddressFamily any\nHostKey {}\nPidFile none\nUsePAM no\nPasswordAuthentication yes\n\
                 KbdInteractiveAuthentication no\nPermitRootLogin yes\nUseDNS no\nMaxStartups 100\nLogLevel INFO\n\
                 SyslogFacility AUTHPRIV\n",
                key.display()
            ),
        )?;
        fs::write(dir.join("auth.log"), "")?;
        let own = std::env::current_exe()?;
        let script = format!(
            "set -e\nT={dir}/dev\nmkdir -p $T\nmount -t tmpfs none $T\n\
             for n in null zero full random urandom tty; do touch $T/$n; mount --bind /dev/$n $T/$n; done\n\
             mkdir $T/pts $T/shm; mount --bind /dev/pts $T/pts; ln -s pts/ptmx $T/ptmx; ln -s /proc/self/fd $T/fd\n\
             mount --rbind $T /dev\nmkdir -p /run/sshd\n\
             {own} syslog --socket /dev/log --file {dir}/auth.log --host web1 &\n\
             until [ -S /dev/log ]; do sleep 0.05; done\n\
             exec /usr/sbin/sshd -D -f {dir}/sshd_config\n",
            dir = dir.display(),
            own = own.display()
        );
        let mut command = self.lab.command("host", "unshare")?;
        command.args(["--mount", "--pid", "--fork", "--kill-child", "bash", "-c", &script]);
        self.services.push(Process::start(command, &dir.join("sshd.log"))?);
        self.listening("host", &format!("{HOST}:22")).with_context(|| tail(&dir.join("sshd.log")))
    }

    fn nginx(&mut self) -> Result<()> {
        let dir = self.dir.join("nginx");
        fs::create_dir_all(dir.join("www"))?;
        // A file system of its own: protection is of whole ones.
        let flags = rustix::mount::MountFlags::NODEV;
        rustix::mount::mount("tmpfs", dir.join("www"), "tmpfs", flags, Some(c"size=16m"))
            .context("mount the web root")?;
        fs::create_dir_all(dir.join("www/upload"))?;
        fs::write(dir.join("www/index.html"), "hello\n")?;
        let base = dir.display();
        fs::write(
            dir.join("nginx.conf"),
            format!(
                "daemon off;\nuser root;\nworker_processes 1;\npid {base}/pid;\nerror_log {base}/error.log;\nevents {{}}\nhttp {{\n\
                 log_format forwarded '$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \
                 \"$http_referer\" \"$http_user_agent\" \"$http_x_forwarded_for\"';\n\
                 access_log {base}/access.log forwarded;\nclient_body_temp_path {base}/body;\nproxy_temp_path {base}/proxy;\n\
                 fastcgi_temp_path {base}/fastcgi;\nuwsgi_temp_path {base}/uwsgi;\nscgi_temp_path {base}/scgi;\n\
                 server {{ listen 80; listen [::]:80; root {base}/www; location /upload/ {{ dav_methods PUT; }} }}\n}}\n"
            ),
        )?;
        fs::write(dir.join("access.log"), "")?;
        // In a process namespace of its own, so that its workers end with it.
        let mut command = self.lab.command("host", "unshare")?;
        command.args(["--pid", "--fork", "--kill-child", "nginx", "-c"]).arg(dir.join("nginx.conf"));
        command.args(["-e", &format!("{base}/start.log")]);
        self.services.push(Process::start(command, &dir.join("out.log"))?);
        self.listening("host", &format!("{HOST_FOR_PROXY}:80")).with_context(|| tail(&dir.join("start.log")))
    }

    /// The AWS simulator, with a web ACL as a user has it: a blocking rule for each of the two sets.
    fn simulator(&mut self, moto: &Path) -> Result<()> {
        let mut command = self.lab.command("manager", moto)?;
        command.args(["-H", "127.0.0.1", "-p", "5000"]);
        self.services.push(Process::start(command, &self.dir.join("moto.log"))?);
        self.listening("manager", SIMULATOR).with_context(|| tail(&self.dir.join("moto.log")))?;
        let mut command = self.lab.command("manager", &self.python)?;
        command.args(["-c", PLAYS, "5001"]);
        self.services.push(Process::start(command, &self.dir.join("fake.log"))?);
        self.listening("manager", FAKE).with_context(|| tail(&self.dir.join("fake.log")))?;
        self.aws(
            "rules = []\n\
             for at, (name, version) in enumerate([('sakimori-blocked-v4', 'IPV4'), ('sakimori-blocked-v6', 'IPV6')]):\n\
             \x20   made = waf.create_ip_set(Name=name, Scope='REGIONAL', IPAddressVersion=version, Addresses=[])\n\
             \x20   rules.append({'Name': name, 'Priority': at, 'Action': {'Block': {}},\n\
             \x20       'Statement': {'IPSetReferenceStatement': {'ARN': made['Summary']['ARN']}}, 'VisibilityConfig': seen})\n\
             waf.create_web_acl(Name='shop', Scope='REGIONAL', DefaultAction={'Allow': {}}, Rules=rules, VisibilityConfig=seen)\n\
             print('[]')\n",
        )?;
        Ok(())
    }

    /// Runs a few lines of Python against the simulator with AWS's own SDK: a reader that shares no code with us.
    fn aws(&self, lines: &str) -> Result<Value> {
        let script = format!(
            "import boto3, json\n\
             waf = boto3.client('wafv2', region_name='ap-northeast-1', endpoint_url='http://127.0.0.1:5000',\n\
             \x20   aws_access_key_id='test', aws_secret_access_key='test')\n\
             seen = {{'SampledRequestsEnabled': False, 'CloudWatchMetricsEnabled': False, 'MetricName': 'm'}}\n{lines}"
        );
        let out = self.lab.command("manager", &self.python)?.arg("-c").arg(script).output()?;
        if !out.status.success() {
            bail!("ask the AWS simulator: {}", String::from_utf8_lossy(&out.stderr));
        }
        Ok(serde_json::from_slice(&out.stdout)?)
    }

    /// What the two WAF sets hold now, asked for without AWS's SDK, whose start alone takes a second.
    ///
    /// # Errors
    /// The simulator did not answer.
    pub fn waf(&self) -> Result<Vec<String>> {
        let ask = |operation: &str, body: &Value| -> Result<Value> {
            let mut command = self.lab.command("manager", "curl")?;
            command.args(["-s", "-f", "--max-time", "10", "-H", "Content-Type: application/x-amz-json-1.1", "-H"]);
            command.arg(format!("X-Amz-Target: AWSWAF_20190729.{operation}"));
            // The simulator reads the service and the region from it, and checks no signature.
            command.args(["-H", "Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/ap-northeast-1/wafv2/aws4_request, SignedHeaders=host, Signature=0"]);
            command.args(["-d", &body.to_string(), "http://127.0.0.1:5000/"]);
            Ok(serde_json::from_slice(&run(&mut command)?)?)
        };
        let mut held = Vec::new();
        let sets = ask("ListIPSets", &json!({"Scope": "REGIONAL"}))?;
        for set in sets.get("IPSets").and_then(Value::as_array).context("no sets in the answer")? {
            let named = json!({"Scope": "REGIONAL", "Name": set.get("Name"), "Id": set.get("Id")});
            let set = ask("GetIPSet", &named)?;
            let addresses = set.pointer("/IPSet/Addresses").and_then(Value::as_array).context("no addresses")?;
            held.extend(addresses.iter().filter_map(Value::as_str).map(str::to_owned));
        }
        Ok(held)
    }

    /// Is the address in one of them?
    pub fn in_waf(&self, address: &str) -> bool {
        self.waf().is_ok_and(|held| held.iter().any(|one| one.split('/').next() == Some(address)))
    }

    /// Receives messages in the manager's namespace; its threads end with the process.
    fn webhook(&mut self) -> Result<()> {
        let listener = self.lab.inside("manager", || TcpListener::bind("127.0.0.1:8099"))??;
        let messages = Arc::clone(&self.messages);
        std::thread::Builder::new().name("webhook".into()).spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream = stream;
                let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
                let mut request = Vec::new();
                let mut buffer = [0_u8; 16 * 1024];
                while request.len() < 1 << 20 {
                    match stream.read(&mut buffer) {
                        Ok(read) if read > 0 => request.extend_from_slice(buffer.get(..read).unwrap_or_default()),
                        _ => break,
                    }
                    if let Some(body) = body(&request) {
                        if let (Ok(message), Ok(mut all)) = (serde_json::from_slice(body), messages.lock()) {
                            all.push(message);
                        }
                        break;
                    }
                }
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
            }
        })?;
        Ok(())
    }

    fn listening(&self, namespace: &str, address: &str) -> Result<()> {
        let address: SocketAddr = address.parse()?;
        wait(&format!("{address} answers"), PATIENCE, || {
            self.lab
                .inside(namespace, || {
                    std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
                })
                .unwrap_or(false)
        })?;
        Ok(())
    }

    /// Guesses a password a connection, from one of the attacker's addresses, for one of these names in turn, until he
    /// is refused.
    ///
    /// # Errors
    /// ssh cannot be started.
    pub fn guess(&self, from: &str, to: &str, connections: usize, names: &[&str]) -> Result<()> {
        for name in names.iter().cycle().take(connections) {
            let out = self
                .lab
                .command("attacker", "timeout")?
                .args(["4", "sshpass", "-p", "wrong", "ssh", "-F", "none", "-o", "StrictHostKeyChecking=no"])
                .args([
                    "-o",
                    "UserKnownHostsFile=/dev/null",
                    "-o",
                    "NumberOfPasswordPrompts=1",
                    "-o",
                    "ConnectTimeout=2",
                ])
                .args(["-o", "PreferredAuthentications=password", "-o", "LogLevel=ERROR", "-b", from])
                .args(["-l", name, to, "true"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .output()?;
            // No connection, or one that died under his hands: he gives up.
            if out.status.code() == Some(124) || String::from_utf8_lossy(&out.stderr).contains("connect to host") {
                break;
            }
        }
        Ok(())
    }

    /// Can the attacker open a connection to the host's ssh port from this address?
    pub fn reaches(&self, from: &str, to: &str) -> bool {
        let (Ok(source), Ok(target)) = (from.parse::<std::net::IpAddr>(), to.parse::<std::net::IpAddr>()) else {
            return false;
        };
        self.lab
            .inside("attacker", || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
                runtime
                    .block_on(async {
                        let socket = if source.is_ipv4() {
                            tokio::net::TcpSocket::new_v4()
                        } else {
                            tokio::net::TcpSocket::new_v6()
                        }
                        .ok()?;
                        socket.bind(SocketAddr::new(source, 0)).ok()?;
                        let connect = socket.connect(SocketAddr::new(target, 22));
                        tokio::time::timeout(Duration::from_millis(700), connect).await.ok()?.ok()
                    })
                    .map(drop)
            })
            .is_ok_and(|reached| reached.is_some())
    }

    /// Asks for pages through the proxy, which names the client.
    ///
    /// # Errors
    /// curl cannot be started.
    pub fn browse(&self, client: &str, paths: &[&str]) -> Result<()> {
        for path in paths {
            self.lab
                .command("proxy", "curl")?
                .args(["-s", "-o", "/dev/null", "--max-time", "5", "--path-as-is", "-H"])
                .arg(format!("X-Forwarded-For: {client}"))
                .arg(format!("http://{HOST_FOR_PROXY}{path}"))
                .status()?;
        }
        Ok(())
    }

    /// Asks the site for a page from an address of the attacker's, or through the proxy for a client: the status, `None`
    /// where no answer came.
    ///
    /// # Errors
    /// curl cannot be started.
    pub fn ask(&self, from: Asker, path: &str, headers: &[&str]) -> Result<Option<u16>> {
        let (namespace, host) = match from {
            Asker::Direct(address) if address.contains(':') => ("attacker", format!("[{HOST6}]")),
            Asker::Direct(_) => ("attacker", HOST.to_owned()),
            Asker::Behind(_) => ("proxy", HOST_FOR_PROXY.to_owned()),
        };
        let mut command = self.lab.command(namespace, "curl")?;
        command.args(["-s", "-g", "-o", "/dev/null", "--max-time", "1", "--path-as-is", "-w", "%{http_code}"]);
        match from {
            Asker::Direct(address) => command.args(["--interface", address]),
            Asker::Behind(client) => command.arg("-H").arg(format!("X-Forwarded-For: {client}")),
        };
        for header in headers {
            command.args(["-H", header]);
        }
        let out = command.arg(format!("http://{host}{path}")).output()?;
        // curl says 000 where nothing came.
        Ok(std::str::from_utf8(&out.stdout)?.parse().ok().filter(|status| *status != 0))
    }

    /// Lines of nginx's access log.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn access_log(&self) -> Result<Vec<String>> {
        Ok(fs::read_to_string(self.dir.join("nginx/access.log"))?.lines().map(str::to_owned).collect())
    }

    /// Folder of the site that the host serves.
    pub fn web_root(&self) -> PathBuf {
        self.dir.join("nginx/www")
    }

    /// Uploads a file through the proxy.
    ///
    /// # Errors
    /// It was not taken.
    pub fn upload(&self, client: &str, name: &str, content: &[u8]) -> Result<()> {
        let from = self.dir.join("upload");
        fs::write(&from, content)?;
        let mut command = self.lab.command("proxy", "curl")?;
        command.args(["-s", "-f", "-o", "/dev/null", "--max-time", "20", "-H"]);
        command.arg(format!("X-Forwarded-For: {client}")).arg("-T").arg(&from);
        run(command.arg(format!("http://{HOST_FOR_PROXY}/upload/{name}")))?;
        Ok(fs::remove_file(from)?)
    }

    /// What the site answers for a path: status and body.
    ///
    /// # Errors
    /// curl cannot be started.
    pub fn get(&self, path: &str) -> Result<(u16, Vec<u8>)> {
        let mut command = self.lab.command("proxy", "curl")?;
        command.args(["-s", "--max-time", "20", "-w", "\n%{http_code}"]);
        let out = command.arg(format!("http://{HOST_FOR_PROXY}{path}")).output()?;
        let at = out.stdout.iter().rposition(|byte| *byte == b'\n').context("curl said nothing")?;
        let (body, status) = out.stdout.split_at(at);
        Ok((std::str::from_utf8(status)?.trim().parse()?, body.to_vec()))
    }

    /// Is the address in the host's nftables, as `nft` sees it?
    pub fn in_kernel(&self, table: &str, address: &str) -> bool {
        let Ok(mut command) = self.lab.command("host", "nft") else { return false };
        command
            .args(["list", "table", "inet", table])
            .output()
            .is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains(&format!("{address} timeout")))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.services.clear();
        let _ = rustix::mount::unmount(self.web_root(), rustix::mount::UnmountFlags::DETACH);
    }
}

fn body(request: &[u8]) -> Option<&[u8]> {
    let text = String::from_utf8_lossy(request);
    let (head, _) = text.split_once("\r\n\r\n")?;
    let length: usize = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length:").map(|value| value.trim().to_owned())
        })?
        .parse()
        .ok()?;
    let body = request.get(head.len() + 4..)?;
    (body.len() >= length).then_some(body)
}

fn run(command: &mut Command) -> Result<Vec<u8>> {
    let out = command.output().with_context(|| format!("start {:?}", command.get_program()))?;
    if !out.status.success() {
        bail!("{:?}: {}", command.get_program(), String::from_utf8_lossy(&out.stderr));
    }
    Ok(out.stdout)
}
