//! The effects around an instance and a desktop, against the simulator of AWS.
//!
//! What was there before, what is there after and what is there after the undo is read by a second reader (`reader.py`), which
//! shares no code with the effects, and compared field by field. Between the effects and the simulator stands a front
//! ([`front`]) that writes calls down and breaks them, and plays what the simulator does not know ([`fake`]). Each test has a
//! region of its own.
//!
//! The process starts itself again, since the credentials for the simulator come from the environment, and since the
//! simulator has to go whatever becomes of a test.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod balance;
mod collect;
mod desktops;
mod disks;
mod fake;
mod front;
mod isolate;
mod port;
mod power;
mod replace;
mod rights;
mod world;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sakimori_sys::harness;

/// Marks the process that runs the tests; holds the addresses of the simulator and of the fake of desktops.
const SIMULATOR: &str = "SAKIMORI_TEST_SIMULATOR";
/// Longest that the simulator may take to answer.
const PATIENCE: Duration = Duration::from_secs(120);

const TESTS: &[(&str, fn())] = &[
    ("instance_isolated_and_released", isolate::there_and_back),
    ("instance_isolated_from_every_crash", isolate::crashes),
    ("instance_isolation_groups", isolate::groups_that_fit_and_groups_that_do_not),
    ("instance_isolation_among_others", isolate::others_act_meanwhile),
    ("instance_isolation_refused", isolate::what_is_refused),
    ("disks_snapshot_once", disks::once),
    ("disks_snapshot_waits_and_fails", disks::waits_and_fails),
    ("disks_snapshot_of_what_goes", disks::what_goes),
    ("instance_detached_and_registered", balance::there_and_back),
    ("instance_detached_meanwhile", balance::others_act_meanwhile),
    ("instance_replaced_by_detaching", replace::detach),
    ("instance_replaced_on_standby", replace::standby),
    ("instance_replaced_out_of_a_hook", replace::hooked),
    ("instance_replaced_meanwhile", replace::others_act_meanwhile),
    ("instance_stopped_and_started", power::stop),
    ("instance_terminated", power::terminate),
    ("instance_protected", power::protected),
    ("instance_collected_once", collect::once),
    ("instance_collected_badly", collect::badly),
    ("desktop_isolated_and_released", desktops::isolate),
    ("desktop_meant", desktops::meant),
    ("desktop_stopped_and_started", desktops::stop),
    ("port_closed_and_opened", port::there_and_back),
    ("port_closed_meanwhile", port::others_act_meanwhile),
    // The last one: it looks at what all before it called.
    ("rights_are_those_of_the_descriptors", rights::are_what_is_called),
];

fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    if let Some(simulator) = std::env::var_os(SIMULATOR) {
        let (simulator, fake) = simulator.to_str().unwrap().split_once(' ').unwrap();
        world::start(simulator.parse().unwrap(), fake.parse().unwrap(), filter.is_empty());
        return harness::run(&filter, TESTS, || Ok(()));
    }
    let program = std::env::var_os("SAKIMORI_MOTO").map(PathBuf::from);
    let Some(program) = program.filter(|_| filter != "--list") else {
        let needs = "the AWS simulator in SAKIMORI_MOTO (make test sets it)";
        return harness::run(&filter, TESTS, || Err(needs.to_owned()));
    };
    let mut command = Command::new(&program);
    let (mut simulator, address) = started(command.args(["-H", "127.0.0.1", "-p"]));
    let mut command = Command::new(program.with_file_name("python3"));
    let fake = "../../tools/aws-fake.py";
    let (mut fake, desktops) = started(command.arg(fake));
    let outcome = Command::new(std::env::current_exe().unwrap())
        .args(std::env::args_os().skip(1))
        .envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_EC2_METADATA_DISABLED", "true")])
        .env(SIMULATOR, format!("{address} {desktops}"))
        .status();
    for child in [&mut simulator, &mut fake] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    std::process::exit(outcome.unwrap().code().unwrap_or(1));
}

/// Starts a server that takes its port as its last argument, and waits until it answers.
fn started(command: &mut Command) -> (Child, SocketAddr) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let child = command.arg(address.port().to_string()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(began.elapsed() < PATIENCE, "{command:?} does not answer");
        std::thread::sleep(Duration::from_millis(50));
    }
    (child, address)
}
