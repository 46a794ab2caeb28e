//! Where this process stands in the hierarchies of control groups: `/proc/self/cgroup` (cgroups(7)) against
//! `/proc/self/mountinfo` (proc(5)). Pure; texts come in as arguments.

use std::path::{Path, PathBuf};

/// Most hierarchies that are looked at; a kernel has a dozen controllers.
const MAX_HIERARCHIES: usize = 64;

/// One hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Controllers of version 1; empty for version 2, which says itself what it has.
    pub controllers: Vec<String>,
    /// Where its root is mounted.
    pub root: PathBuf,
    /// Our own group in it.
    pub own: PathBuf,
}

/// Hierarchies that are mounted, with our own place in each.
pub fn hierarchies(cgroup: &str, mountinfo: &str) -> Vec<Hierarchy> {
    let mounts: Vec<Mounted<'_>> = mountinfo.lines().filter_map(mounted).collect();
    let mut found = Vec::new();
    for line in cgroup.lines().take(MAX_HIERARCHIES) {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(names), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        if !path.starts_with('/') {
            continue;
        }
        let names: Vec<&str> = names.split(',').filter(|name| !name.is_empty()).collect();
        let is_this = |mount: &&Mounted<'_>| match names.first() {
            None => mount.kind == "cgroup2",
            Some(first) => mount.kind == "cgroup" && mount.options.split(',').any(|option| option == *first),
        };
        let Some(mount) = mounts.iter().find(is_this) else { continue };
        // In a container the mount may show a part of the hierarchy only, while the path is of the whole.
        let below = Path::new(path).strip_prefix(mount.root).unwrap_or(Path::new(""));
        found.push(Hierarchy {
            controllers: names.iter().map(|name| (*name).to_owned()).collect(),
            root: mount.point.clone(),
            own: mount.point.join(below),
        });
    }
    found
}

struct Mounted<'a> {
    root: &'a str,
    point: PathBuf,
    kind: &'a str,
    options: &'a str,
}

/// `32 31 0:29 /root /point options … - kind source options`; names with spaces do not occur for these.
fn mounted(line: &str) -> Option<Mounted<'_>> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let (root, point) = (before.next()?, PathBuf::from(before.next()?));
    let mut after = after.split(' ');
    let (kind, options) = (after.next()?, after.nth(1)?);
    Some(Mounted { root, point, kind, options })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /pod/7 /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";

    #[test]
    fn each_hierarchy_is_found_where_it_is_mounted() {
        let own = "4:memory:/pod/7/a\n1:cpu,cpuacct:/b\n9:name=systemd:/x\n0::/user.slice\n";
        let found = hierarchies(own, MOUNTS);
        let shown: Vec<_> =
            found.iter().map(|one| (one.controllers.join("+"), one.own.display().to_string())).collect();
        assert_eq!(
            shown,
            [
                ("memory".to_owned(), "/sys/fs/cgroup/memory/a".to_owned()),
                ("cpu+cpuacct".to_owned(), "/sys/fs/cgroup/cpu,cpuacct/b".to_owned()),
                (String::new(), "/sys/fs/cgroup/unified/user.slice".to_owned()),
            ]
        );
        assert_eq!(found[0].root, Path::new("/sys/fs/cgroup/memory"));
    }

    #[test]
    fn what_is_not_understood_is_passed_over() {
        assert_eq!(hierarchies("x\n\n0:\n:::\n4:memory", MOUNTS), Vec::new());
        assert_eq!(hierarchies("0::/\n", "x - \n- - -"), Vec::new());
        assert!(hierarchies(&"1:cpu:/b\n".repeat(1_000), MOUNTS).len() <= MAX_HIERARCHIES);
    }
}
