//! A worker that is made to run attacker code can open no file, no socket, no process. The attacker here is this
//! program started again as a worker: it tries, by system calls, and tells what the kernel answered.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]
#![allow(unsafe_code)] // the attacker makes system calls of its own

use std::io::{Read, Write};
use std::os::fd::AsFd;

use sakimori_sys::channel::Channel;
use sakimori_sys::harness;
use sakimori_sys::sandbox::{Sandbox, enter};
use sakimori_sys::worker::{Worker, WorkerSpec, connect, spawn};

const UID: u32 = 64_109;
const SANDBOX: Sandbox = Sandbox { executable_memory: false, memory: 256 << 20, descriptors: 64 };

fn main() {
    let role = std::env::args().nth(1).unwrap_or_default();
    match role.as_str() {
        "role-attacker" => attacker(&connect().unwrap(), SANDBOX),
        "role-compiler" => attacker(&connect().unwrap(), Sandbox { executable_memory: true, ..SANDBOX }),
        "role-landlock" => landlock_alone(&connect().unwrap()),
        "role-worker" => worker(&connect().unwrap()),
        _ => tests(&role),
    }
}

fn tests(filter: &str) {
    let all: &[(&str, fn())] = &[
        ("an_attacker_in_a_worker_can_do_none_of_it", none_of_it),
        ("executable_memory_only_where_it_is_asked_for", executable),
        ("what_a_worker_needs_still_works", still_works),
        ("a_worker_without_network_sees_none", no_network),
        ("a_sandbox_is_not_entered_with_threads", not_with_threads),
    ];
    harness::run(filter, all, || Ok(()));
}

fn start(role: &str) -> Worker {
    let spec = WorkerSpec { network: false, ..WorkerSpec::own("sandbox", &[role], UID, UID) };
    spawn(&spec).unwrap()
}

fn text(worker: &Worker) -> String {
    String::from_utf8(worker.channel.recv().unwrap().unwrap_or_else(|| panic!("the worker died")).0).unwrap()
}

/// Tries everything and sends one line each: what, and the error's number or "done".
fn attacker(channel: &Channel, sandbox: Sandbox) {
    let confined = enter(&sandbox).unwrap();
    let mut report = format!("landlock {:?}\n", confined.landlock);
    let mut tried = |what: &str, result: i64| {
        let error = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        report += &if result < 0 { format!("{what} {error}\n") } else { format!("{what} done\n") };
    };
    let passwd = c"/etc/passwd".as_ptr();
    let shell = c"/bin/sh".as_ptr();
    // SAFETY: what an attacker would call; every pointer is to memory of this function or null.
    unsafe {
        let none = std::ptr::null::<libc::c_char>();
        tried("open", libc::syscall(libc::SYS_openat, libc::AT_FDCWD, passwd, libc::O_RDONLY));
        let how = [0_u64; 3];
        tried("openat2", libc::syscall(libc::SYS_openat2, libc::AT_FDCWD, passwd, how.as_ptr(), 24));
        tried(
            "open to write",
            libc::syscall(libc::SYS_openat, libc::AT_FDCWD, c"/tmp/x".as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o600),
        );
        tried("stat", libc::syscall(libc::SYS_newfstatat, libc::AT_FDCWD, passwd, [0_u8; 256].as_mut_ptr(), 0));
        tried("unlink", libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, c"/tmp/x".as_ptr(), 0));
        tried("socket", libc::syscall(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0));
        tried("unix socket", libc::syscall(libc::SYS_socket, libc::AF_UNIX, libc::SOCK_STREAM, 0));
        tried("netlink", libc::syscall(libc::SYS_socket, libc::AF_NETLINK, libc::SOCK_RAW, 0));
        tried("fork", libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0));
        tried("clone3", libc::syscall(libc::SYS_clone3, [0_u64; 11].as_ptr(), 88));
        tried("exec", libc::syscall(libc::SYS_execve, shell, [none].as_ptr(), [none].as_ptr()));
        tried(
            "execveat",
            libc::syscall(libc::SYS_execveat, libc::AT_FDCWD, shell, [none].as_ptr(), [none].as_ptr(), 0),
        );
        tried("memfd", libc::syscall(libc::SYS_memfd_create, c"x".as_ptr(), 0));
        tried("ptrace", libc::syscall(libc::SYS_ptrace, libc::PTRACE_ATTACH, libc::getppid(), 0, 0));
        tried("kill", libc::syscall(libc::SYS_kill, libc::getppid(), 0));
        tried("process memory", libc::syscall(libc::SYS_process_vm_readv, 1, 0, 0, 0, 0, 0));
        tried("mount", libc::syscall(libc::SYS_mount, none, none, none, 0, none));
        tried("unshare", libc::syscall(libc::SYS_unshare, libc::CLONE_NEWUSER));
        tried("setns", libc::syscall(libc::SYS_setns, 0, 0));
        tried("io_uring", libc::syscall(libc::SYS_io_uring_setup, 8, [0_u8; 256].as_mut_ptr()));
        tried("bpf", libc::syscall(libc::SYS_bpf, 0, none, 0));
        tried("perf", libc::syscall(libc::SYS_perf_event_open, none, 0, -1, -1, 0));
        tried("userfaultfd", libc::syscall(libc::SYS_userfaultfd, 0));
        tried("keys", libc::syscall(libc::SYS_keyctl, 0, 0, 0, 0, 0));
        tried("terminal input", libc::syscall(libc::SYS_ioctl, 0, libc::TIOCSTI, c"x".as_ptr()));
        tried("owner of signals", i64::from(libc::fcntl(0, libc::F_SETOWN, 1)));
        #[cfg(target_arch = "x86_64")]
        tried("32-bit calls", libc::syscall(0x4000_0000 + libc::SYS_openat, libc::AT_FDCWD, passwd, 0));
        let (data, code) = (libc::PROT_READ | libc::PROT_WRITE, libc::PROT_READ | libc::PROT_EXEC);
        let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let page = libc::mmap(std::ptr::null_mut(), 4096, data, anonymous, -1, 0);
        tried("code", i64::from(libc::mprotect(page, 4096, code)));
        let large = libc::mmap(std::ptr::null_mut(), 512 << 20, data, anonymous, -1, 0);
        tried("much memory", if large == libc::MAP_FAILED { -1 } else { 0 });
    }
    channel.send(report.as_bytes(), &[]).unwrap();
}

fn none_of_it() {
    let report = text(&start("role-attacker"));
    let mut tried = 0;
    for line in report.lines().filter(|line| !line.starts_with("landlock ")) {
        let (what, answer) = line.rsplit_once(' ').unwrap();
        let expected = match what {
            "clone3" => libc::ENOSYS,
            "much memory" => libc::ENOMEM,
            _ => libc::EPERM,
        };
        assert_eq!(answer, expected.to_string(), "{what}\n{report}");
        tried += 1;
    }
    assert!(tried >= 28, "{report}");
    // The second wall, where the kernel has it: paths stay closed if the filter were gone.
    if report.contains("landlock None") {
        println!("the kernel has no Landlock: that wall was not tested");
        return;
    }
    let report = text(&start("role-landlock"));
    assert_eq!(report, "open 13\nexec 13\nwrite 13\nlist 13\n");
}

/// Landlock without the filter: what it refuses by itself.
fn landlock_alone(channel: &Channel) {
    use landlock::{ABI, Access, AccessFs, Ruleset, RulesetAttr};
    let all = AccessFs::from_all(ABI::V6);
    Ruleset::default().handle_access(all).unwrap().create().unwrap().restrict_self().unwrap();
    let number = |error: Option<std::io::Error>| error.map_or(0, |error| error.raw_os_error().unwrap_or(-1));
    let report = format!(
        "open {}\nexec {}\nwrite {}\nlist {}\n",
        number(std::fs::File::open("/etc/passwd").err()),
        number(std::process::Command::new("/bin/true").status().err()),
        number(std::fs::write("/tmp/sakimori-sandbox-test", "x").err()),
        number(std::fs::read_dir("/etc").err()),
    );
    channel.send(report.as_bytes(), &[]).unwrap();
}

fn executable() {
    let report = text(&start("role-compiler"));
    assert!(report.contains("code done\n"), "{report}");
    assert!(report.contains("open 1\n") && report.contains("socket 1\n") && report.contains("exec 1\n"), "{report}");
}

/// Reads what it is handed, on a thread of its own, and answers; allocates, sleeps, and panics without harm.
fn worker(channel: &Channel) {
    let confined = enter(&SANDBOX).unwrap();
    channel.send(format!("{:?}", confined.landlock).as_bytes(), &[]).unwrap();
    let (_, files) = channel.recv().unwrap().unwrap();
    let file = std::fs::File::from(files.into_iter().next().unwrap());
    let answer = std::thread::spawn(move || {
        let mut content = vec![0_u8; 32 << 20];
        let size = (&file).read(&mut content).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1));
        content.truncate(size);
        content
    });
    let content = answer.join().unwrap();
    std::panic::set_hook(Box::new(|_| {}));
    assert!(std::thread::spawn(|| panic!("caught")).join().is_err());
    channel.send(&content, &[]).unwrap();
}

fn still_works() {
    let mut worker = start("role-worker");
    assert_ne!(text(&worker), "");
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"handed over").unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    worker.channel.send(b"file", &[file.as_fd()]).unwrap();
    assert_eq!(text(&worker), "handed over");
    assert!(worker.wait().unwrap().success());
}

fn no_network() {
    let worker = start("role-worker");
    assert_ne!(text(&worker), "");
    if !harness::root() {
        return;
    }
    assert!(worker.without_network);
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let theirs = std::fs::read_link(format!("/proc/{}/ns/net", worker.pid)).unwrap();
    assert_ne!(own, theirs);
    let devices = std::fs::read_to_string(format!("/proc/{}/net/dev", worker.pid)).unwrap();
    assert_eq!(devices.lines().skip(2).filter(|line| !line.trim_start().starts_with("lo:")).count(), 0, "{devices}");
    // The parent, and workers that need it, keep theirs.
    assert_eq!(std::fs::read_link("/proc/self/ns/net").unwrap(), own);
}

fn not_with_threads() {
    let (stop, wait) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || wait.recv());
    assert!(enter(&SANDBOX).unwrap_err().to_string().contains("before the first thread"));
    drop(stop);
    assert!(other.join().unwrap().is_err());
}
