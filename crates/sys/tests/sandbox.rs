//! A worker that is made to run attacker code can open no file, no socket, no process. The attacker here is this
//! program started again as a worker, under the very filters that the `logs`, `scan` and `uplink` workers have: it
//! tries, by system calls, and tells what the kernel answered.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]
#![allow(unsafe_code)] // the attacker makes system calls of its own

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use sakimori_sys::channel::Channel;
use sakimori_sys::harness;
use sakimori_sys::sandbox::{Landlock, Outside, Sandbox, enter, enter_networked};
use sakimori_sys::worker::{Worker, WorkerSpec, connect, spawn, spawn_tool};

const UID: u32 = 64_109;
const SANDBOX: Sandbox = Sandbox { executable_memory: false, memory: 256 << 20, descriptors: 64 };

fn main() {
    let role = std::env::args().nth(1).unwrap_or_default();
    match role.as_str() {
        "role-logs" => attacker(&connect().unwrap(), Sandbox::LOGS),
        "role-scan" => attacker(&connect().unwrap(), Sandbox::SCAN),
        "role-uplink" => networked(&connect().unwrap()),
        "role-compat" => compat(&connect().unwrap()),
        "role-landlock" => landlock_alone(&connect().unwrap()),
        "role-worker" => worker(&connect().unwrap()),
        _ => tests(&role),
    }
}

fn tests(filter: &str) {
    let all: &[(&str, fn())] = &[
        ("an_attacker_in_the_logs_worker_can_do_none_of_it", none_of_it),
        ("an_attacker_in_a_scanning_worker_can_make_code_and_nothing_else", code_alone),
        ("an_attacker_in_the_uplink_has_its_folder_and_its_port", folder_and_port),
        ("calls_of_another_machine_end_the_worker", no_compat),
        ("a_tool_reads_and_does_nothing_else", tool),
        ("what_a_worker_needs_still_works", still_works),
        ("a_worker_without_network_sees_none", no_network),
        ("a_sandbox_is_not_entered_with_threads", not_with_threads),
    ];
    harness::run(filter, all, || Ok(()));
}

fn start(role: &str) -> Worker {
    let spec = WorkerSpec { network: role == "role-uplink", ..WorkerSpec::own("sandbox", &[role], UID, UID) };
    spawn(&spec).unwrap()
}

fn text(worker: &Worker) -> String {
    String::from_utf8(worker.channel.recv().unwrap().unwrap_or_else(|| panic!("the worker died")).0).unwrap()
}

/// What was tried and what the kernel answered: the error's number, or "done".
#[derive(Default)]
struct Report(String);

impl Report {
    fn note(&mut self, what: &str, result: i64) {
        let error = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        self.0 += &if result < 0 { format!("{what} {error}\n") } else { format!("{what} done\n") };
    }
}

/// Tries everything. A descriptor of the parent's folder in `/proc` came along, as if it had been forgotten.
fn attacker(channel: &Channel, sandbox: Sandbox) {
    let (_, inherited) = channel.recv().unwrap().unwrap();
    let confined = enter(&sandbox).unwrap();
    let mut report = Report(format!("landlock {:?}\n", confined.landlock));
    files(&mut report, &inherited[0]);
    sockets(&mut report);
    processes(&mut report);
    kernel(&mut report);
    memory(&mut report, &sandbox);
    // Of numbers that the parent may have left open, the channel and what was sent over it are all.
    // SAFETY: a number that is not open is answered with EBADF.
    let open = (3..2_000).filter(|number| unsafe { libc::fcntl(*number, libc::F_GETFD) } >= 0).count();
    report.0 += &format!("descriptors {open}\n");
    channel.send(report.0.as_bytes(), &[]).unwrap();
}

fn files(report: &mut Report, inherited: &OwnedFd) {
    let (passwd, own) = (c"/etc/passwd".as_ptr(), c"/tmp/sakimori-sandbox-x".as_ptr());
    let (here, create) = (libc::AT_FDCWD, libc::O_CREAT | libc::O_RDWR);
    let none = std::ptr::null::<libc::c_char>();
    let mut tried = |what: &str, result| report.note(what, result);
    // SAFETY: what an attacker would call; every pointer is to memory that lives on or null.
    unsafe {
        tried("open", libc::syscall(libc::SYS_openat, here, passwd, libc::O_RDONLY));
        tried("openat2", libc::syscall(libc::SYS_openat2, here, passwd, [0_u64; 3].as_ptr(), 24));
        #[cfg(target_arch = "x86_64")]
        {
            tried("old open", libc::syscall(libc::SYS_open, passwd, libc::O_RDONLY));
            tried("creat", libc::syscall(libc::SYS_creat, own, 0o600));
            tried("32-bit calls", libc::syscall(0x4000_0000 + libc::SYS_openat, here, passwd, 0));
        }
        tried("open to write", libc::syscall(libc::SYS_openat, here, own, create, 0o600));
        tried("the parent's memory", libc::syscall(libc::SYS_openat, inherited.as_raw_fd(), c"mem".as_ptr(), 2));
        tried("its own memory", libc::syscall(libc::SYS_openat, here, c"/proc/self/mem".as_ptr(), 2));
        tried("open by handle", libc::syscall(libc::SYS_open_by_handle_at, here, [0_u8; 16].as_ptr(), 0));
        tried("stat", libc::syscall(libc::SYS_newfstatat, here, passwd, [0_u8; 256].as_mut_ptr(), 0));
        tried("unlink", libc::syscall(libc::SYS_unlinkat, here, own, 0));
        tried("rename", libc::syscall(libc::SYS_renameat2, here, own, here, passwd, 0));
        tried("link", libc::syscall(libc::SYS_linkat, here, passwd, here, own, 0));
        tried("change mode", libc::syscall(libc::SYS_fchmodat, here, passwd, 0o777));
        tried("list", libc::syscall(libc::SYS_getdents64, inherited.as_raw_fd(), [0_u8; 512].as_mut_ptr(), 512));
        tried("memory file", libc::syscall(libc::SYS_memfd_create, c"x".as_ptr(), 0));
        tried("pipe", libc::syscall(libc::SYS_pipe2, [0_i32; 2].as_mut_ptr(), 0));
        tried("watch", libc::syscall(libc::SYS_inotify_init1, 0));
        tried("watch all", libc::syscall(libc::SYS_fanotify_init, 0, 0));
        tried("mount", libc::syscall(libc::SYS_mount, none, none, none, 0, none));
        tried("open a tree", libc::syscall(libc::SYS_open_tree, here, c"/".as_ptr(), 1));
        tried("chroot", libc::syscall(libc::SYS_chroot, c"/tmp".as_ptr()));
        tried("change folder", libc::syscall(libc::SYS_chdir, c"/tmp".as_ptr()));
    }
}

fn sockets(report: &mut Report) {
    let families = [
        ("inet", libc::AF_INET),
        ("inet6", libc::AF_INET6),
        ("unix", libc::AF_UNIX),
        ("netlink", libc::AF_NETLINK),
        ("packet", libc::AF_PACKET),
        ("alg", libc::AF_ALG),
        ("vsock", libc::AF_VSOCK),
        ("key", libc::AF_KEY),
    ];
    for (name, family) in families {
        for (kind_name, kind) in
            [("stream", libc::SOCK_STREAM), ("datagram", libc::SOCK_DGRAM), ("raw", libc::SOCK_RAW)]
        {
            // SAFETY: plain numbers.
            report.note(&format!("socket {name} {kind_name}"), unsafe {
                libc::syscall(libc::SYS_socket, family, kind, 0)
            });
        }
    }
    // SAFETY: the pointers are to memory that lives on.
    unsafe {
        report.note("socket pair", libc::syscall(libc::SYS_socketpair, libc::AF_UNIX, 1, 0, [0_i32; 2].as_mut_ptr()));
        report.note("connect", libc::syscall(libc::SYS_connect, 3, [0_u8; 16].as_ptr(), 16));
        report.note("bind", libc::syscall(libc::SYS_bind, 3, [0_u8; 16].as_ptr(), 16));
        report.note("accept", libc::syscall(libc::SYS_accept4, 3, 0, 0, 0));
        report.note("send to", libc::syscall(libc::SYS_sendto, 3, c"x".as_ptr(), 1, 0, [0_u8; 16].as_ptr(), 16));
    }
}

fn processes(report: &mut Report) {
    let shell = c"/bin/sh".as_ptr();
    let none = std::ptr::null::<libc::c_char>();
    let mut tried = |what: &str, result| report.note(what, result);
    // SAFETY: as above.
    unsafe {
        let parent = libc::getpid(); // its parent's number is not among what it may ask for; any will do
        tried("clone a process", libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0));
        tried("clone3", libc::syscall(libc::SYS_clone3, [0_u64; 11].as_ptr(), 88));
        #[cfg(target_arch = "x86_64")]
        {
            tried("fork", libc::syscall(libc::SYS_fork));
            tried("vfork", libc::syscall(libc::SYS_vfork));
        }
        tried("exec", libc::syscall(libc::SYS_execve, shell, [none].as_ptr(), [none].as_ptr()));
        tried(
            "execveat",
            libc::syscall(libc::SYS_execveat, libc::AT_FDCWD, shell, [none].as_ptr(), [none].as_ptr(), 0),
        );
        tried("exec a descriptor", libc::syscall(libc::SYS_execveat, 0, c"".as_ptr(), [none].as_ptr(), none, 0x1000));
        tried("trace", libc::syscall(libc::SYS_ptrace, libc::PTRACE_ATTACH, 1, 0, 0));
        tried("read memory", libc::syscall(libc::SYS_process_vm_readv, 1, 0, 0, 0, 0, 0));
        tried("write memory", libc::syscall(libc::SYS_process_vm_writev, parent, 0, 0, 0, 0, 0));
        tried("kill", libc::syscall(libc::SYS_kill, 1, libc::SIGKILL));
        tried("kill all", libc::syscall(libc::SYS_kill, -1, libc::SIGKILL));
        tried("signal a thread", libc::syscall(libc::SYS_tgkill, 1, 1, libc::SIGKILL));
        tried("handle of a process", libc::syscall(libc::SYS_pidfd_open, 1, 0));
        tried("take a descriptor", libc::syscall(libc::SYS_pidfd_getfd, 0, 0, 0));
        tried("become root", libc::syscall(libc::SYS_setuid, 0));
        tried("take capabilities", libc::syscall(libc::SYS_capset, [0_u64; 2].as_ptr(), [0_u64; 3].as_ptr()));
        tried("may be looked into", libc::syscall(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0));
        tried("outlive the parent", libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, 0, 0, 0, 0));
        tried("a filter by prctl", libc::syscall(libc::SYS_prctl, libc::PR_SET_SECCOMP, 0, 0, 0, 0));
        tried("a filter of its own", libc::syscall(libc::SYS_seccomp, 1, 0, none));
        tried("more memory", libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_DATA, [u64::MAX; 2].as_ptr(), 0));
        tried("owner of signals", i64::from(libc::fcntl(0, libc::F_SETOWN, 1)));
        tried("a lease", i64::from(libc::fcntl(0, libc::F_SETLEASE, libc::F_RDLCK)));
    }
}

fn kernel(report: &mut Report) {
    let none = std::ptr::null::<libc::c_char>();
    let mut tried = |what: &str, result| report.note(what, result);
    // SAFETY: as above.
    unsafe {
        tried("leave the namespace", libc::syscall(libc::SYS_unshare, libc::CLONE_NEWUSER));
        tried("enter another", libc::syscall(libc::SYS_setns, 0, 0));
        tried("io_uring", libc::syscall(libc::SYS_io_uring_setup, 8, [0_u8; 256].as_mut_ptr()));
        tried("bpf", libc::syscall(libc::SYS_bpf, 0, none, 0));
        tried("perf", libc::syscall(libc::SYS_perf_event_open, none, 0, -1, -1, 0));
        tried("userfaultfd", libc::syscall(libc::SYS_userfaultfd, 0));
        tried("keys", libc::syscall(libc::SYS_keyctl, 0, 0, 0, 0, 0));
        tried("add a key", libc::syscall(libc::SYS_add_key, c"user".as_ptr(), c"a".as_ptr(), c"b".as_ptr(), 1, -3));
        tried("terminal input", libc::syscall(libc::SYS_ioctl, 0, libc::TIOCSTI, c"x".as_ptr()));
        tried("module", libc::syscall(libc::SYS_init_module, none, 0, none));
        tried("clock", libc::syscall(libc::SYS_clock_settime, 0, [0_i64; 2].as_ptr()));
        tried("shared memory", libc::syscall(libc::SYS_shmget, 1, 4_096, 0o1600));
        tried("message queue", libc::syscall(libc::SYS_mq_open, c"x".as_ptr(), libc::O_CREAT, 0o600, none));
        tried("system log", libc::syscall(libc::SYS_syslog, 3, [0_u8; 64].as_mut_ptr(), 64));
        tried("host name", libc::syscall(libc::SYS_sethostname, c"x".as_ptr(), 1));
    }
}

fn memory(report: &mut Report, sandbox: &Sandbox) {
    let (data, code) = (libc::PROT_READ | libc::PROT_WRITE, libc::PROT_READ | libc::PROT_EXEC);
    let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let much = usize::try_from(sandbox.memory).unwrap() + (1 << 30);
    let result = |page: *mut libc::c_void| if page == libc::MAP_FAILED { -1 } else { 0 };
    // SAFETY: new mappings at addresses of the kernel's choice, and a page of ours.
    unsafe {
        let page = libc::mmap(std::ptr::null_mut(), 4_096, data, anonymous, -1, 0);
        report.note("code", i64::from(libc::mprotect(page, 4_096, code)));
        report.note("new code", result(libc::mmap(std::ptr::null_mut(), 4_096, code, anonymous, -1, 0)));
        report.note("much memory", result(libc::mmap(std::ptr::null_mut(), much, data, anonymous, -1, 0)));
    }
}

/// The report of a worker of this role, after it got the parent's folder in `/proc`.
fn attack(role: &str) -> Vec<(String, String)> {
    let worker = start(role);
    let own = std::fs::File::open("/proc/self").unwrap();
    worker.channel.send(b"go", &[own.as_fd()]).unwrap();
    let report = text(&worker);
    report
        .lines()
        .map(|line| line.rsplit_once(' ').map(|(what, answer)| (what.into(), answer.into())).unwrap())
        .collect()
}

fn refused(report: &[(String, String)], but: &[(&str, &str)]) {
    let mut tried = 0;
    for (what, answer) in report {
        let usual = match what.as_str() {
            "landlock" => continue,
            "descriptors" => "2".to_owned(),
            "clone3" => libc::ENOSYS.to_string(),
            "much memory" => libc::ENOMEM.to_string(),
            _ => libc::EPERM.to_string(),
        };
        let expected = but.iter().find(|(name, _)| name == what).map_or(usual.as_str(), |(_, answer)| answer);
        assert_eq!(answer, expected, "{what}\n{report:?}");
        tried += 1;
    }
    assert!(tried >= 90, "{tried} of them\n{report:?}");
}

fn none_of_it() {
    let report = attack("role-logs");
    refused(&report, &[]);
    // The second wall, where the kernel has it: paths stay closed if the filter were gone.
    if report.contains(&("landlock".to_owned(), "None".to_owned())) {
        println!("the kernel has no Landlock: that wall was not tested");
        return;
    }
    let report = text(&start("role-landlock"));
    assert_eq!(report, "open 13\nexec 13\nwrite 13\nlist 13\n");
}

fn code_alone() {
    refused(&attack("role-scan"), &[("code", "done"), ("new code", "done")]);
}

/// The uplink: a folder and two ports come along.
fn networked(channel: &Channel) {
    let (ports, folder) = channel.recv().unwrap().unwrap();
    let ports: Vec<u16> = ports.as_chunks::<2>().0.iter().map(|port| u16::from_le_bytes(*port)).collect();
    let outside = Outside { folder: folder[0].as_fd(), ports: &ports[..1] };
    let confined = enter_networked(&Sandbox::UPLINK, outside).unwrap();
    let mut report = Report(format!("landlock {:?}\n", confined.landlock));
    let number = |error: Option<std::io::Error>| error.map_or(0, |error| error.raw_os_error().unwrap_or(-1));
    let mut told = |what: &str, error: Option<std::io::Error>| {
        report.0 += &format!("{what} {}\n", number(error));
    };
    told("the manager's port", std::net::TcpStream::connect(("127.0.0.1", ports[0])).err());
    told("another port", std::net::TcpStream::connect(("127.0.0.1", ports[1])).err());
    told("listen", TcpListener::bind("127.0.0.1:0").err());
    told("local socket", std::os::unix::net::UnixStream::connect("/run/x").err());
    told("names", std::net::ToSocketAddrs::to_socket_addrs("localhost:1").err());
    told("hosts", std::fs::File::open("/etc/hosts").err());
    told("users", std::fs::File::open("/etc/shadow").err());
    told("another process", std::fs::File::open("/proc/1/status").err());
    told("write outside", std::fs::write("/tmp/sakimori-sandbox-x", "x").err());
    told("list", std::fs::read_dir("/var").err());
    // SAFETY: names of this program in a folder that is open.
    unsafe {
        let (folder, flags) = (folder[0].as_raw_fd(), libc::O_CREAT | libc::O_WRONLY);
        report.note("write", libc::syscall(libc::SYS_openat, folder, c".new".as_ptr(), flags, 0o600));
        report.note("rename", i64::from(libc::renameat(folder, c".new".as_ptr(), folder, c"cert.pem".as_ptr())));
        report.note("up", libc::syscall(libc::SYS_openat, folder, c"../x".as_ptr(), flags, 0o600));
    }
    processes(&mut report);
    kernel(&mut report);
    memory(&mut report, &Sandbox::UPLINK);
    channel.send(report.0.as_bytes(), &[]).unwrap();
}

fn folder_and_port() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("identity");
    std::fs::create_dir(&own).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&own, Some(UID), Some(UID)).unwrap();
    }
    let (manager, other) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let ports: Vec<u8> =
        [&manager, &other].iter().flat_map(|one| one.local_addr().unwrap().port().to_le_bytes()).collect();
    let worker = start("role-uplink");
    worker.channel.send(&ports, &[std::fs::File::open(&own).unwrap().as_fd()]).unwrap();
    let report = text(&worker);
    let mut lines = report.lines();
    let landlock = lines.next().unwrap();
    // What Landlock holds differs between kernels; what the filter holds does not.
    let wall = if landlock == format!("landlock {:?}", Landlock::Full) { "13" } else { "" };
    for line in lines {
        let (what, answer) = line.rsplit_once(' ').unwrap();
        let expected = match what {
            "the manager's port" | "names" | "hosts" => "0",
            "write" | "rename" => "done",
            "another port" | "users" | "another process" | "write outside" | "list" | "up" => wall,
            "clone3" => "38",
            "much memory" => "12",
            _ => "1",
        };
        assert!(expected.is_empty() || answer == expected, "{what}: {answer}\n{report}");
    }
    assert!(report.contains("exec 1\n") && report.contains("names 0\n"), "{report}");
    if wall.is_empty() {
        println!("{landlock}: ports and paths of the uplink were not tested");
    }
    assert!(own.join("cert.pem").exists());
}

/// A call by the door of 32-bit programs, whose numbers are others.
fn compat(channel: &Channel) {
    enter(&Sandbox::LOGS).unwrap();
    #[cfg(target_arch = "x86_64")]
    // SAFETY: getpid by its 32-bit number; it changes nothing but the register of the answer.
    unsafe {
        std::arch::asm!("int 0x80", inout("eax") 20 => _, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    channel.send(b"it went through", &[]).unwrap();
}

fn no_compat() {
    if cfg!(target_arch = "x86_64") {
        let mut worker = start("role-compat");
        assert!(worker.channel.recv().unwrap().is_none(), "a call that no list knows went through");
        assert!(!worker.wait().unwrap().success());
    }
}

/// A shell stands for the tool: it can be asked to try things.
fn tool() {
    let script = "cat /etc/hostname >/dev/null && echo read; (echo x > /tmp/sakimori-tool-x) 2>/dev/null || echo no-write; \
        mount -t tmpfs none /mnt 2>/dev/null || echo no-mount; cat /root/.profile 2>/dev/null || echo no-root; \
        ls /sys/class/net 2>/dev/null || echo no-sys; (exec 3<>/dev/tcp/127.0.0.1/1) 2>&1 | grep -q 'not permitted' && echo no-socket";
    let spec = WorkerSpec { program: Some("/bin/bash".into()), ..WorkerSpec::own("tool", &["-c", script], UID, UID) };
    let (mut tool, output) = spawn_tool(&spec).unwrap();
    let mut said = String::new();
    std::fs::File::from(output).read_to_string(&mut said).unwrap();
    tool.wait().unwrap();
    assert_eq!(said, "read\nno-write\nno-mount\nno-root\nno-sys\nno-socket\n");
    // The thread that forked it is confined, and no other one.
    std::fs::write("/tmp/sakimori-tool-y", "x").unwrap();
    std::fs::remove_file("/tmp/sakimori-tool-y").unwrap();
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
