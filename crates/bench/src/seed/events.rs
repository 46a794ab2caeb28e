//! Made-up events that look like those of a small company: web access and ssh logins of some hosts, network alerts,
//! malware, programs that were run, and our own audit log. The same seed gives the same events.
//!
//! Addresses are those for documentation and benchmarks, names are our own. A few events are needles: they are found
//! by [`NEEDLE_USER`] and [`NEEDLE_ADDRESS`], and by nothing else.

use std::net::{IpAddr, Ipv4Addr};

use sakimori_model::{Event, Timestamp, field as f};
use serde_json::json;

/// A user of very few events.
pub const NEEDLE_USER: &str = "quillon-7f3a";
/// An address of very few events.
pub const NEEDLE_ADDRESS: &str = "198.19.255.77";
/// One event in so many has the needles.
const NEEDLES: u64 = 2_000_003;

const HOSTS: [&str; 12] =
    ["web-1", "web-2", "web-3", "web-4", "app-1", "app-2", "db-1", "db-2", "mail-1", "build-1", "bastion-1", "files-1"];
const USERS: [&str; 16] = [
    "root", "deploy", "ann", "ben", "chie", "dai", "eva", "finn", "goro", "hana", "ivo", "jun", "kai", "lena", "mei",
    "www-data",
];
const PATHS: [&str; 14] = [
    "/",
    "/login",
    "/api/orders",
    "/api/items",
    "/search",
    "/static/app.js",
    "/static/app.css",
    "/favicon.ico",
    "/cart",
    "/checkout",
    "/admin/login",
    "/wp-login.php",
    "/.env",
    "/images/tea.jpg",
];
const AGENTS: [&str; 6] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
    "curl/8.14.1",
    "Go-http-client/2.0",
    "python-requests/2.32",
];
const PROGRAMS: [(&str, &str); 6] = [
    ("bash", "bash -c 'systemctl restart app'"),
    ("python3", "python3 /srv/app/worker.py --queue mail"),
    ("cron", "/usr/sbin/cron -f"),
    ("sshd", "sshd: deploy [priv]"),
    ("curl", "curl -fsS http://192.0.2.10/health"),
    ("tar", "tar -czf /backup/db.tar.gz /var/lib/db"),
];
const RULES: [(&str, &str, i64); 5] = [
    ("2000101", "SQL injection in a query", 75),
    ("2000207", "Command injection in a parameter", 99),
    ("2000315", "Scanner by its user agent", 25),
    ("2000420", "Path traversal", 75),
    ("2000533", "Reverse shell", 99),
];

/// The maker.
pub struct Maker {
    state: u64,
    number: u64,
}

impl Maker {
    /// One that makes the events of this seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed ^ 0x9e37_79b9_7f4a_7c15, number: 0 }
    }

    /// The next number (splitmix64).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.next() % most.max(1)
    }

    fn of<T: Copy>(&mut self, all: &[T], otherwise: T) -> T {
        let at = usize::try_from(self.below(all.len() as u64)).unwrap_or(0);
        all.get(at).copied().unwrap_or(otherwise)
    }

    /// Few addresses often, many seldom.
    fn address(&mut self) -> IpAddr {
        let often = self.below(10) < 6;
        let number = if often { self.below(200) } else { self.below(120_000) };
        let number = u32::try_from(number).unwrap_or(0);
        Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + number).into()
    }

    /// The next event of a host.
    pub fn event(&mut self, host: usize, time: Timestamp) -> Event {
        self.number += 1;
        let mut event = Event::new();
        event.set(f::TIMESTAMP, time);
        let name = HOSTS.get(host % HOSTS.len()).copied().unwrap_or("web-1");
        event.set(f::HOST_NAME, name);
        event.set(f::HOST_ID, format!("{:032x}", 0x5a4b_0000_u64 + host as u64));
        event.set(f::AGENT_ID, agent(host));
        event.set(f::AGENT_TYPE, "sakimori");
        event.set(f::AGENT_VERSION, "0.1.0");
        event.set(f::ECS_VERSION, "8.17.0");
        event.set(f::EVENT_CREATED, time.plus_micros(2_000));
        event.set(f::EVENT_KIND, "event");
        match self.below(10_000) {
            0..7_000 => self.web(&mut event),
            7_000..8_600 => self.login(&mut event),
            8_600..9_700 => self.program(&mut event),
            9_700..9_900 => self.network(&mut event),
            9_900..9_905 => self.malware(&mut event),
            _ => self.audit(&mut event),
        }
        if self.number % NEEDLES == NEEDLES / 3 {
            event.set(f::USER_NAME, NEEDLE_USER);
            event.set(f::SOURCE_IP, NEEDLE_ADDRESS.parse::<IpAddr>().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        }
        event
    }

    fn web(&mut self, event: &mut Event) {
        let (source, path) = (self.address(), self.of(&PATHS, "/"));
        let status = self.of(&[200, 200, 200, 200, 200, 200, 304, 301, 404, 404, 403, 500_i64], 200);
        let (method, program) = (self.of(&["GET", "GET", "GET", "POST"], "GET"), self.of(&AGENTS, ""));
        let bytes = i64::try_from(self.below(90_000)).unwrap_or(0);
        event.set(f::EVENT_DATASET, "nginx.access");
        event.push(f::EVENT_CATEGORY, "web");
        event.push(f::EVENT_TYPE, "access");
        event.set(f::EVENT_OUTCOME, if status < 400 { "success" } else { "failure" });
        event.set(f::SOURCE_IP, source);
        event.push(f::RELATED_IP, source);
        event.set(f::HTTP_REQUEST_METHOD, method);
        event.set(f::HTTP_RESPONSE_STATUS_CODE, status);
        event.set(f::HTTP_RESPONSE_BODY_BYTES, bytes);
        event.set(f::HTTP_VERSION, "1.1");
        event.set(f::URL_ORIGINAL, format!("{path}?id={}", self.below(50_000)));
        event.set(f::URL_PATH, path);
        event.set(f::USER_AGENT_ORIGINAL, program);
        event.set_path("nginx.access.upstream_ms", json!(self.below(900)));
        event.set(f::LOG_FILE_PATH, "/var/log/nginx/access.log");
        event.set(
            f::EVENT_ORIGINAL,
            format!("{source} - - \"{method} {path} HTTP/1.1\" {status} {bytes} \"-\" \"{program}\""),
        );
        event.set(f::MESSAGE, format!("{method} {path} {status}"));
    }

    fn login(&mut self, event: &mut Event) {
        let (source, user) = (self.address(), self.of(&USERS, "root"));
        let failed = self.below(100) < 82;
        let (outcome, word) = if failed { ("failure", "Failed") } else { ("success", "Accepted") };
        let port = i64::try_from(1_024 + self.below(60_000)).unwrap_or(22);
        event.set(f::EVENT_DATASET, "linux.auth");
        event.push(f::EVENT_CATEGORY, "authentication");
        event.push(f::EVENT_TYPE, if failed { "denied" } else { "start" });
        event.set(f::EVENT_ACTION, "ssh_login");
        event.set(f::EVENT_OUTCOME, outcome);
        event.set(f::SOURCE_IP, source);
        event.set(f::SOURCE_PORT, port);
        event.set(f::USER_NAME, user);
        event.push(f::RELATED_IP, source);
        event.push(f::RELATED_USER, user);
        event.set(f::PROCESS_NAME, "sshd");
        event.set(f::PROCESS_PID, i64::try_from(self.below(4_000_000)).unwrap_or(1));
        event.set(f::LOG_FILE_PATH, "/var/log/auth.log");
        event
            .set(f::EVENT_ORIGINAL, format!("sshd[{port}]: {word} password for {user} from {source} port {port} ssh2"));
        event.set(f::MESSAGE, format!("{word} password for {user} from {source} port {port} ssh2"));
    }

    fn program(&mut self, event: &mut Event) {
        let ((name, line), user) = (self.of(&PROGRAMS, ("bash", "bash")), self.of(&USERS, "root"));
        event.set(f::EVENT_DATASET, "linux.audit");
        event.push(f::EVENT_CATEGORY, "process");
        event.push(f::EVENT_TYPE, "start");
        event.set(f::EVENT_ACTION, "executed");
        event.set(f::EVENT_OUTCOME, "success");
        event.set(f::USER_NAME, user);
        event.push(f::RELATED_USER, user);
        event.set(f::PROCESS_NAME, name);
        event.set(f::PROCESS_EXECUTABLE, format!("/usr/bin/{name}"));
        event.set(f::PROCESS_COMMAND_LINE, line);
        event.set(f::PROCESS_PID, i64::try_from(self.below(4_000_000)).unwrap_or(1));
        event.set(f::MESSAGE, format!("{user} ran {line}"));
    }

    fn network(&mut self, event: &mut Event) {
        let ((rule, title, severity), source) = (self.of(&RULES, ("1", "", 0)), self.address());
        let stopped = self.below(10) < 7;
        event.set(f::EVENT_KIND, "alert");
        event.set(f::EVENT_DATASET, "sakimori.network");
        event.push(f::EVENT_CATEGORY, "network");
        event.push(f::EVENT_CATEGORY, "intrusion_detection");
        event.push(f::EVENT_TYPE, if stopped { "denied" } else { "allowed" });
        event.set(f::EVENT_OUTCOME, if stopped { "success" } else { "failure" });
        event.set(
            f::EVENT_REASON,
            if stopped { "dropped, with the rest of its flow" } else { "let through, since the rule only alerts" },
        );
        event.set(f::RULE_RULESET, "suricata");
        event.set(f::URL_ORIGINAL, "/search?q=%27%20OR%201%3D1--");
        event.set(f::HTTP_REQUEST_METHOD, "GET");
        event.set(f::DESTINATION_PORT, 443_i64);
        self.alert(event, (rule, title, severity), source);
    }

    fn malware(&mut self, event: &mut Event) {
        let source = self.address();
        event.set(f::EVENT_KIND, "alert");
        event.set(f::EVENT_DATASET, "sakimori.alert");
        event.push(f::EVENT_CATEGORY, "malware");
        event.push(f::EVENT_TYPE, "info");
        event.set(f::EVENT_OUTCOME, "success");
        event.set(f::EVENT_REASON, "refused");
        event.set(f::RULE_RULESET, "yara");
        event.set(f::FILE_PATH, format!("/srv/www/uploads/{:08x}.php", self.below(u64::from(u32::MAX))));
        event.set(f::FILE_HASH_SHA256, format!("{:016x}{:016x}{:032x}", self.next(), self.next(), self.next()));
        self.alert(event, ("webshell_php", "Web shell in PHP", 75), source);
    }

    fn alert(&mut self, event: &mut Event, (rule, title, severity): (&str, &str, i64), source: IpAddr) {
        event.set(f::RULE_ID, rule.to_owned());
        event.set(f::RULE_NAME, title.to_owned());
        event.set(f::EVENT_SEVERITY, severity);
        event.set(f::SOURCE_IP, source);
        event.push(f::RELATED_IP, source);
        event.set(f::SAKIMORI_ALERT_ID, format!("{:016x}{:016x}", self.next(), self.next()));
        event.set(f::SAKIMORI_ALERT_STATUS, "open");
        event.set(f::MESSAGE, title.to_owned());
    }

    fn audit(&mut self, event: &mut Event) {
        let user = self.of(&USERS, "root");
        let action = self.of(&["session:open", "policies:write", "actions:undo", "alerts:change"], "session:open");
        event.set(f::EVENT_DATASET, "sakimori.audit");
        event.set(f::EVENT_MODULE, "sakimori");
        event.push(f::EVENT_CATEGORY, "configuration");
        event.push(f::EVENT_TYPE, "change");
        event.set(f::EVENT_ACTION, action);
        event.set(f::USER_NAME, user);
        event.set_path("sakimori.audit", json!({"actor": format!("user:{user}"), "action": action}));
        event.set(f::MESSAGE, format!("{user}: {action}"));
    }
}

/// The agent of a host.
pub fn agent(host: usize) -> String {
    format!("5a4b0000-0000-7000-8000-{host:012x}")
}

/// How many hosts there are.
pub fn hosts() -> usize {
    HOSTS.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_events_of_every_kind() {
        let at = Timestamp::from_secs(1_800_000_000);
        let make = |seed| {
            let mut maker = Maker::new(seed);
            (0..20_000).map(|number| maker.event(number % 12, at)).collect::<Vec<Event>>()
        };
        let events = make(1);
        assert_eq!(events, make(1));
        assert_ne!(events, make(2));
        for dataset in
            ["nginx.access", "linux.auth", "linux.audit", "sakimori.network", "sakimori.alert", "sakimori.audit"]
        {
            assert!(events.iter().any(|event| event.str(f::EVENT_DATASET) == Some(dataset)), "{dataset}");
        }
        assert!(events.iter().all(|event| event.str(f::USER_NAME) != Some(NEEDLE_USER)), "needles are rare");
    }
}
