//! Where a triage package looks. To add a place: a line in its list.

/// Tables of the kernel's, and lists of root's.
pub const TABLES: &[&str] = &[
    "/proc/version",
    "/proc/cmdline",
    "/proc/uptime",
    "/proc/modules",
    "/proc/sys/kernel/tainted",
    "/proc/1/mountinfo",
    "/proc/net/tcp",
    "/proc/net/tcp6",
    "/proc/net/udp",
    "/proc/net/udp6",
    "/proc/net/raw",
    "/proc/net/raw6",
    "/proc/net/unix",
    "/proc/net/packet",
    "/proc/net/arp",
    "/proc/net/route",
    "/proc/net/ipv6_route",
];
/// Files whose content goes into the package: users, and what is loaded into every program.
pub const WHOLE: &[&str] = &[
    "/etc/passwd",
    "/etc/group",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/sudoers",
    "/etc/ssh/sshd_config",
    "/etc/os-release",
];
/// Files that start something, or lie where something is started from.
pub const AUTORUN_FILES: &[&str] = &[
    "/etc/crontab",
    "/etc/anacrontab",
    "/etc/rc.local",
    "/etc/rc.d/rc.local",
    "/etc/profile",
    "/etc/bash.bashrc",
    "/etc/bashrc",
    "/etc/environment",
    "/etc/ld.so.preload",
    "/etc/ld.so.conf",
    "/etc/inittab",
    "/etc/modules",
];
/// Folders of such files.
pub const AUTORUN_FOLDERS: &[&str] = &[
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/transient",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/etc/systemd/user",
    "/etc/cron.d",
    "/etc/cron.hourly",
    "/etc/cron.daily",
    "/etc/cron.weekly",
    "/etc/cron.monthly",
    "/var/spool/cron",
    "/var/spool/at",
    "/etc/init.d",
    "/etc/profile.d",
    "/etc/ld.so.conf.d",
    "/etc/modules-load.d",
    "/etc/udev/rules.d",
    "/etc/pam.d",
    "/etc/sudoers.d",
    "/etc/update-motd.d",
    "/etc/xdg/autostart",
];
/// The same below each home.
pub const HOME_FILES: &[&str] = &[
    ".bashrc",
    ".bash_profile",
    ".bash_login",
    ".profile",
    ".zshrc",
    ".zprofile",
    ".ssh/authorized_keys",
    ".ssh/authorized_keys2",
    ".ssh/rc",
    ".ssh/config",
    ".pam_environment",
];
pub const HOME_FOLDERS: &[&str] = &[".config/systemd/user", ".config/autostart"];
/// Logs, their ends.
pub const LOGS: &[&str] = &[
    "/var/log/auth.log",
    "/var/log/secure",
    "/var/log/syslog",
    "/var/log/messages",
    "/var/log/kern.log",
    "/var/log/cron",
    "/var/log/cron.log",
    "/var/log/audit/audit.log",
    "/var/log/daemon.log",
    "/var/log/dpkg.log",
    "/var/log/apt/history.log",
    "/var/log/dnf.log",
    "/var/log/yum.log",
];
/// Lists of logins.
pub const LOGINS: &[&str] = &["/run/utmp", "/var/log/wtmp", "/var/log/btmp"];
