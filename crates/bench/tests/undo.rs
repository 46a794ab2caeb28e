//! Promise 1 over the whole catalog: do, undo = before, read by a second reader that shares no code with the action:
//! `nft -j` for the kernel, AWS's own SDK in Python for the WAF. An action without such a test fails this one.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sakimori_cloud::aws::Account;
use sakimori_cloud::aws::waf::{WafConfig, WafSets};
use sakimori_host::block_address::Blocker;
use sakimori_host::isolate_host::{Isolation, Known};
use sakimori_host::lock_user::Locker;
use sakimori_host::processes::choose::Spare;
use sakimori_host::processes::freeze::Freezing;
use sakimori_host::processes::table;
use sakimori_host::quarantine::{Bounds, Cause as FileCause, Quarantine};
use sakimori_model::action::{Cause, Target};
use sakimori_model::policy::{Mode, Policy, Switch, default_layer, merge};
use sakimori_model::{ActionState, Network, Order, Timestamp};
use sakimori_respond::actions::{
    CATALOG, Runs, block_address, collect_triage, freeze_processes, isolate_host, kill_tree, lock_user, notify,
    prevent_mode, process, quarantine_file, scan_paths, waf_block,
};
use sakimori_respond::guard::Surroundings;
use sakimori_respond::host::{HostActions, Which};
use sakimori_respond::mandate::Authority;
use sakimori_respond::ports::{AddressBlocker, AddressSet, Applied, BlockEntry, HostEffect, PortError};
use sakimori_respond::wide::{self, Limits, Undo};
use sakimori_runtime::{Clock, SystemClock};
use sakimori_sys::harness;
use sakimori_sys::lab::Lab;

/// Marks this test's own child, which has credentials for the simulator in its environment.
const CHILD: &str = "SAKIMORI_UNDO_CHILD";

#[test]
fn every_action_of_the_catalog_is_taken_back_to_what_was_before() {
    for descriptor in CATALOG {
        match descriptor.id {
            block_address::ID if std::env::var_os(CHILD).is_none() => blocks(),
            block_address::ID => {}
            quarantine_file::ID if std::env::var_os(CHILD).is_none() => files(),
            quarantine_file::ID => {}
            waf_block::ID => waf(),
            prevent_mode::ID => settings(),
            isolate_host::ID if std::env::var_os(CHILD).is_none() => isolation(),
            isolate_host::ID => {}
            lock_user::ID => locks(),
            // A message that was sent stays sent, and says so.
            notify::ID => assert_eq!(descriptor.undo, None),
            // A scan only reads, and says so: what it finds is taken by actions of their own.
            scan_paths::ID => {
                assert_eq!(descriptor.undo, None);
                reads_only();
            }
            // Nobody gives a process back, and the order says so before.
            kill_tree::ID => {
                assert!(descriptor.undo.is_none() && descriptor.blast_radius.contains("cannot be taken back"))
            }
            freeze_processes::ID if std::env::var_os(CHILD).is_none() => processes(),
            freeze_processes::ID => {}
            // A package only reads; that it leaves what it reads as it was is shown by the agent's tests.
            collect_triage::ID => assert_eq!(descriptor.undo, None),
            // Of what is done in accounts, the tests of `cloud` play the whole life, against the simulator and a second reader.
            other if descriptor.runs == Runs::Account => {
                assert!(descriptor.undo.is_none() || played(other), "no test of cloud undoes {other}: write one");
            }
            other => panic!("the action {other} has no test that undoing it restores what was before: write one"),
        }
    }
}

/// Do the tests of `cloud` name this action?
fn played(action: &str) -> bool {
    let mut folders = vec![PathBuf::from("../cloud/tests")];
    let name = format!("{action}::ID");
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs")
                && std::fs::read_to_string(&path).unwrap().contains(&name)
            {
                return true;
            }
        }
    }
    false
}

fn policy() -> Policy {
    let mut policy = merge(&[default_layer()]).unwrap().policy;
    policy.modules.block_address.most_per_minute = 1_000_000;
    policy
}

fn order(id: usize, network: Network) -> Order {
    Order {
        id: format!("o{id}"),
        action: block_address::ID.into(),
        target: Target::Network(network),
        expiry: None,
        cause: Cause { by: "test".into(), ..Cause::default() },
        via: None,
        probe: false,
        inputs: Default::default(),
        signatures: Vec::new(),
    }
}

fn targets(most: usize) -> impl Strategy<Value = Vec<Network>> {
    let one = (any::<u16>(), any::<bool>(), 0_u8..3).prop_map(|(bits, v4, wide)| {
        let text = match (v4, wide) {
            (true, 0) => format!("198.51.100.0/{}", 24 + bits % 8),
            (true, _) => format!("203.0.113.{}", bits % 250),
            (false, 0) => format!("2001:db8:{bits:x}::/64"),
            (false, _) => format!("2001:db8::{bits:x}"),
        };
        text.parse().unwrap()
    });
    prop::collection::vec(one, 1..most)
}

/// Elements of all sets of a table, as the kernel tells `nft`.
fn kernel(table: &str) -> BTreeSet<String> {
    let out = Command::new("nft").args(["-j", "list", "table", "inet", table]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let dump: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let sets = dump["nftables"].as_array().unwrap().iter().filter_map(|one| one.get("set"));
    sets.filter(|set| set["name"].as_str().is_some_and(|name| !name.contains("allow")))
        .flat_map(|set| set["elem"].as_array().cloned().unwrap_or_default())
        .map(|element| element.pointer("/elem/val").unwrap_or(&element).to_string())
        .collect()
}

fn blocks() {
    let has_nft = Command::new("nft").arg("--version").output().is_ok();
    if !harness::root() || !harness::needs(has_nft, "the program nft") {
        return;
    }
    let table = format!("skm_undo{}", std::process::id());
    let outcome = TestRunner::new(Config { cases: 12, ..Config::default() }).run(&targets(24), |networks| {
        let dir = tempfile::tempdir().unwrap();
        let (blocker, now) = (Blocker::open(&table).unwrap(), SystemClock.now());
        let opened = HostActions::open(dir.path(), "host", &policy(), Surroundings::default(), blocker, now);
        let mut host = opened.unwrap().0;
        let before = kernel(&table);
        // Something that is there already, and must be there afterwards.
        host.submit(vec![order(usize::MAX, "192.0.2.99".parse().unwrap())], now).unwrap();
        let standing = kernel(&table);
        prop_assert_ne!(&standing, &before);
        let orders: Vec<Order> = networks.iter().enumerate().map(|(id, network)| order(id, *network)).collect();
        let ids: Vec<String> = orders.iter().map(|order| order.id.clone()).collect();
        let done = host.submit(orders, now).unwrap();
        prop_assert!(done.actions().iter().all(|action| action.state.name() == "done"), "{:?}", done);
        prop_assert!(kernel(&table).len() > standing.len(), "something is blocked meanwhile");
        host.undo(&Which::Ids(ids), Undo::Person("test"), now).unwrap();
        prop_assert_eq!(&kernel(&table), &standing);
        host.undo(&Which::All, Undo::Person("test"), now).unwrap();
        prop_assert_eq!(&kernel(&table), &before);
        Ok(())
    });
    Blocker::remove(&table).unwrap();
    outcome.unwrap();
}

/// Everything about a file that `stat` and `sha256sum` tell, but the times that no call can set.
fn seen(path: &Path) -> String {
    let stat = Command::new("stat").args(["-c", "%a %u %g %s %h %F %Y %n"]).arg(path).output().unwrap();
    let sum = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8_lossy(&[stat.stdout, sum.stdout].concat()).into_owned()
}

fn files() {
    if !harness::root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Quarantine::open(&dir.path().join("store"), Bounds::default()).unwrap();
    let one = (prop::collection::vec(any::<u8>(), 0..5_000), 0_u32..0o777, 0_u32..70_000, 0_i64..2_000_000_000);
    let outcome =
        TestRunner::new(Config { cases: 12, ..Config::default() }).run(&one, |(content, mode, owner, time)| {
            let path = dir.path().join("file");
            std::fs::write(&path, content).unwrap();
            chown(&path, Some(owner), Some(owner / 2)).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let file = File::open(&path).unwrap();
            let moment = std::time::UNIX_EPOCH + Duration::from_secs(time.unsigned_abs());
            file.set_modified(moment).unwrap();
            let before = seen(&path);
            let cause = FileCause { rule: "test".into(), title: "test".into(), action: "o1".into() };
            let taken = store.take(&file, &cause, SystemClock.now()).unwrap();
            prop_assert!(!path.exists(), "it is out of reach meanwhile");
            store.restore(&taken.item.id, None).unwrap();
            prop_assert_eq!(seen(&path), before);
            std::fs::remove_file(&path).unwrap();
            Ok(())
        });
    outcome.unwrap();
}

/// Where processes are and what they do, as `ps` tells; a sleeper does the same before and after.
fn shown(pids: &[u32]) -> Vec<String> {
    let line = |pid: &u32| {
        let out = Command::new("ps").args(["-o", "pid=,stat=,cgroup=", "-p", &pid.to_string()]).output().unwrap();
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    };
    pids.iter().map(line).collect()
}

/// A process and its children, some of which somebody had stopped before, stand still and are then as they were.
fn processes() {
    let has_ps = Command::new("ps").arg("--version").output().is_ok();
    if !harness::root() || !harness::needs(has_ps, "the program ps") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let one = (any::<bool>(), prop::collection::vec(any::<bool>(), 1..4));
    let outcome = TestRunner::new(Config { cases: 6, ..Config::default() }).run(&one, |(by_signals, stopped)| {
        let script = "sleep 600 & ".repeat(stopped.len()) + "wait";
        let mut root = Command::new("sh").args(["-c", &script]).process_group(0).stdin(Stdio::null()).spawn().unwrap();
        let children = || {
            let rows = table::read();
            rows.iter()
                .filter(|row| row.parent == root.id() && row.name == "sleep")
                .map(|row| row.pid)
                .collect::<Vec<_>>()
        };
        let until = Instant::now() + Duration::from_secs(60);
        while children().len() < stopped.len() || !shown(&[root.id()])[0].contains(" S") {
            assert!(Instant::now() < until, "they do not sleep");
            std::thread::sleep(Duration::from_millis(5));
        }
        let signal = |pid: u32, name: &str| {
            assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
        };
        for (pid, _) in children().into_iter().zip(&stopped).filter(|(_, stopped)| **stopped) {
            signal(pid, "-STOP");
        }
        let all: Vec<u32> = [root.id()].into_iter().chain(children()).collect();
        let is = |pid: u32, stopped: bool| {
            table::one(pid).is_some_and(|row| row.is_stopped() == stopped && row.state != b'R')
        };
        let settled =
            || children().into_iter().zip(&stopped).all(|(pid, stopped)| is(pid, *stopped)) && is(root.id(), false);
        while !settled() {
            assert!(Instant::now() < until, "they do not settle");
            std::thread::sleep(Duration::from_millis(5));
        }
        let before = shown(&all);
        let row = table::one(root.id()).unwrap();
        let mut order = order(0, "192.0.2.1".parse().unwrap());
        (order.action, order.target) =
            (freeze_processes::ID.into(), process::target(&process::name(row.pid, row.start)));
        let action = wide::plan(order, "host", SystemClock.now(), &freeze_processes::LIMITS);
        let notes = dir.path().join("notes");
        let freezing = if by_signals { Freezing::by_signals(&notes) } else { Freezing::new(&notes) };
        // They are this test's own children.
        let mut freezing = freezing.sparing(Spare { own: u32::MAX, ..Spare::default() });
        let applied = freezing.apply(&action, None).unwrap();
        prop_assert!(matches!(applied, Applied::Done { .. }), "{:?}", applied);
        prop_assert_ne!(shown(&all), before.clone(), "something is otherwise meanwhile");
        freezing.undo(&action).unwrap();
        while !settled() {
            assert!(Instant::now() < until, "they do not settle");
            std::thread::sleep(Duration::from_millis(5));
        }
        let after = shown(&all);
        all.iter().for_each(|pid| signal(*pid, "-KILL"));
        root.wait().unwrap();
        prop_assert_eq!(after, before);
        Ok(())
    });
    outcome.unwrap();
}

struct Simulator {
    child: Child,
    python: PathBuf,
    url: String,
}

impl Simulator {
    fn start() -> Option<Self> {
        let program = PathBuf::from(std::env::var_os("SAKIMORI_MOTO")?);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(&program);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let one = Self { child, python: program.with_file_name("python3"), url: format!("http://127.0.0.1:{port}") };
        let until = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "the simulator does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(one)
    }

    /// What both sets hold, by AWS's own SDK.
    fn holds(&self) -> BTreeSet<String> {
        let script = format!(
            "import boto3\n\
             waf = boto3.client('wafv2', region_name='us-east-1', endpoint_url='{}',\n\
             \x20   aws_access_key_id='test', aws_secret_access_key='test')\n\
             for one in waf.list_ip_sets(Scope='REGIONAL')['IPSets']:\n\
             \x20   found = waf.get_ip_set(Name=one['Name'], Scope='REGIONAL', Id=one['Id'])\n\
             \x20   print('\\n'.join(found['IPSet']['Addresses']))\n",
            self.url
        );
        let out = Command::new(&self.python).arg("-c").arg(script).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8(out.stdout).unwrap();
        // The same address has several spellings in IPv6.
        text.split_whitespace().map(|text| text.parse::<Network>().unwrap().to_cidr()).collect()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn waf() {
    if std::env::var_os(CHILD).is_none() {
        // Credentials come from the environment, which a process cannot change safely for itself.
        let own = std::env::current_exe().unwrap();
        let out = Command::new(own)
            .args(["--exact", "every_action_of_the_catalog_is_taken_back_to_what_was_before", "--nocapture"])
            .env(CHILD, "1")
            .envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{text}");
        eprint!("{text}");
        return;
    }
    let simulator = Simulator::start();
    harness::needs(simulator.is_some(), "the AWS simulator in SAKIMORI_MOTO (make test sets it)");
    let Some(simulator) = simulator else { return };
    sakimori_runtime::http::install_crypto();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let account =
        Account { region: "us-east-1".into(), endpoint_url: Some(simulator.url.clone()), ..Account::default() };
    let config = WafConfig { account, ip_set: "undo".into(), ..WafConfig::default() };
    let sets = runtime.block_on(WafSets::open(config)).unwrap();
    let now = Timestamp::from_secs(1_800_000_000);
    let put = |live: &[Network]| {
        let wanted = waf_block::desired(live.iter().map(|network| (*network, now)), waf_block::SET_CAPACITY);
        runtime.block_on(sets.replace(&wanted.networks)).unwrap();
    };
    let outcome = TestRunner::new(Config { cases: 3, ..Config::default() }).run(&targets(12), |networks| {
        let standing: Network = "192.0.2.99".parse().unwrap();
        put(&[standing]);
        let before = simulator.holds();
        let all: Vec<Network> = networks.iter().copied().chain([standing]).collect();
        put(&all);
        prop_assert_eq!(simulator.holds(), all.iter().map(Network::to_cidr).collect::<BTreeSet<_>>());
        put(&[standing]);
        prop_assert_eq!(simulator.holds(), before);
        Ok(())
    });
    outcome.unwrap();
}

/// A scan that is over has nothing to take back, and who asks is told so. (That it leaves what it reads as it was is
/// shown by the agent's tests, which scan for real.)
fn reads_only() {
    let mut order = order(0, "192.0.2.1".parse().unwrap());
    (order.action, order.target) = (scan_paths::ID.into(), Target::File("/srv".into()));
    let (limits, now) = (Limits::from(&policy().modules.block_address), SystemClock.now());
    let mut action = wide::plan(order, "host", now, &limits);
    for (state, undo) in [(ActionState::Running, Some(ActionState::Undoing)), (ActionState::Done, None)] {
        action.state = state;
        let change = wide::undo(&action, Undo::Person("test"), now, &limits);
        assert_eq!(change.map(|change| change.state), undo, "under way it is ended");
    }
}

/// A host whose blocks are none of the test's business.
struct NoBlocks;

impl AddressBlocker for NoBlocks {
    fn block(&mut self, _entries: &[BlockEntry]) -> Result<(), PortError> {
        Ok(())
    }

    fn unblock(&mut self, _networks: &[Network]) -> Result<(), PortError> {
        Ok(())
    }

    fn blocked(&mut self) -> Result<Vec<BlockEntry>, PortError> {
        Ok(Vec::new())
    }
}

/// Does and takes back one order through ledger and effect, and gives what a reader saw before, meanwhile and after.
fn there_and_back(order: Order, effect: Box<dyn HostEffect>, seen: impl Fn() -> String) -> [String; 3] {
    let (dir, now) = (tempfile::tempdir().unwrap(), SystemClock.now());
    let opened = HostActions::open(dir.path(), "host", &policy(), Surroundings::default(), NoBlocks, now).unwrap().0;
    let known = if order.action == lock_user::ID { lock_user::ID } else { isolate_host::ID };
    let (mut host, id) = (opened.with_effect(known, effect), order.id.clone());
    let carry_out = |host: &mut HostActions<NoBlocks>| {
        for job in host.take_jobs() {
            host.reported(job.run(|| None), now).unwrap();
        }
    };
    let before = seen();
    host.submit_as(vec![order], Authority::Root, now).unwrap();
    carry_out(&mut host);
    assert_eq!(host.action(&id).unwrap().state, ActionState::Done, "{:?}", host.action(&id));
    let meanwhile = seen();
    host.undo(&Which::Ids(vec![id.clone()]), Undo::Person("test"), now).unwrap();
    carry_out(&mut host);
    assert_eq!(host.action(&id).unwrap().state, ActionState::Undone);
    [before, meanwhile, seen()]
}

/// The whole ruleset of a network namespace, somebody else's tables in it.
fn isolation() {
    let has_nft = Command::new("nft").arg("--version").output().is_ok();
    if !harness::root() || !harness::needs(has_nft, "the program nft") {
        return;
    }
    let mut lab = Lab::new("skundo").unwrap();
    lab.add("host").unwrap();
    let nft = |arguments: &[&str]| {
        let out = lab.command("host", "nft").unwrap().args(arguments).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    nft(&[
        "table inet theirs { set s { type ipv4_addr; elements = { 192.0.2.1 }; }; chain c { type filter hook input priority 0; ip saddr @s accept; }; }",
    ]);
    let stations =
        (any::<u8>(), any::<u16>()).prop_map(|(v4, v6)| format!("[\"198.51.100.{v4}\",\"2001:db8::{v6:x}\"]"));
    let outcome = TestRunner::new(Config { cases: 8, ..Config::default() }).run(&stations, |allow| {
        let mut order = order(0, "192.0.2.1".parse().unwrap());
        (order.action, order.target) = (isolate_host::ID.into(), Target::resource(isolate_host::KIND, "this"));
        order.inputs.insert(isolate_host::ALLOW.into(), allow);
        let [before, meanwhile, after] = lab
            .inside("host", || {
                let effect = Isolation::new("skm_undo_isolation", Known::default());
                there_and_back(order, Box::new(effect), || nft(&["list", "ruleset"]))
            })
            .unwrap();
        prop_assert!(meanwhile.contains("skm_undo_isolation") && meanwhile.contains(before.trim()));
        prop_assert_eq!(after, before);
        Ok(())
    });
    outcome.unwrap();
}

/// A table of passwords, byte for byte, with what `stat` and `sha256sum` tell of it.
fn locks() {
    let hashes = ("[!*]{0,2}[$a-z0-9]{0,20}", "[0-9]{0,5}", "[a-y#:\n]{0,30}");
    let outcome = TestRunner::new(Config { cases: 12, ..Config::default() }).run(&hashes, |(hash, day, rest)| {
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        std::fs::write(etc.join("passwd"), "zed:x:4242:4242::/:/bin/sh\n").unwrap();
        std::fs::write(etc.join("group"), "zed:x:4242:\n").unwrap();
        let shadow = etc.join("shadow");
        std::fs::write(&shadow, format!("zed:{hash}:1:2:3:4:5:{day}:\n{rest}")).unwrap();
        std::fs::set_permissions(&shadow, std::fs::Permissions::from_mode(0o640)).unwrap();
        if hash.starts_with('!') && day == "1" {
            return Ok(());
        }
        let mut order = order(0, "192.0.2.1".parse().unwrap());
        (order.action, order.target) = (lock_user::ID.into(), Target::resource(lock_user::KIND, "zed"));
        // All but when it was written.
        let seen = || {
            let stat = Command::new("stat").args(["-c", "%a %u %g %s %h %F %n"]).arg(&shadow).output().unwrap();
            let sum = Command::new("sha256sum").arg(&shadow).output().unwrap();
            String::from_utf8_lossy(&[stat.stdout, sum.stdout].concat()).into_owned()
        };
        let [before, meanwhile, after] = there_and_back(order, Box::new(Locker::new(root.path(), &[])), seen);
        prop_assert_ne!(meanwhile, before.clone());
        prop_assert_eq!(after, before);
        Ok(())
    });
    outcome.unwrap();
}

/// A switch to prevent has its effect in what applies; the agent's tests show the host's side of it.
fn settings() {
    let mut looks = policy();
    looks.modules.antimalware.state = Switch::On;
    looks.modules.antimalware.mode = Mode::Detect;
    looks.modules.intrusion_prevention.state = Switch::On;
    let mut acts = looks.clone();
    acts.modules.antimalware.mode = Mode::Prevent;
    acts.modules.intrusion_prevention.mode = Mode::Prevent;
    for module in prevent_mode::switched(&looks, &acts) {
        let mut acts = acts.clone();
        for (other, _) in prevent_mode::MODULES.iter().filter(|(other, _)| *other != module) {
            acts = prevent_mode::only_looking(&acts, other);
        }
        let back = prevent_mode::only_looking(&acts, module);
        assert_eq!(serde_json::to_value(&back).unwrap(), serde_json::to_value(&looks).unwrap(), "{module}");
    }
    assert!(!prevent_mode::switched(&looks, &acts).is_empty());
}
