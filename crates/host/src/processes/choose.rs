//! Who is meant by an order about processes: those that it names, what descends from them, and what was given to another
//! parent on the way. Pure; what the kernel says of a process comes in as [`Facts`].
//!
//! A child whose parent ended is given to another parent, and nothing in the kernel says whose it was. So it is found by what
//! it kept, from the surest to the least sure:
//! 1. its process group or session is that of one that was taken (only who descends from that one is in it);
//! 2. it was adopted, began after the root did, and is in the root's session, or in the root's control group where that is a
//!    group of its own: not the agent's, not the one of process 1. One that runs the program of who adopted it is not meant:
//!    that is a service which started another worker. Adopted is who has a parent in another session or control group, or one
//!    that takes orphans: process 1, the first of a container, a user's own systemd.
//!
//! False positives: a job of the same login, or a helper of the same service or container (`docker exec`), that was left behind
//! by or given in by somebody else after the root began. False negatives: who left session and control group both, before anybody looked (as root can, and as anybody can
//! where everything runs in one group).
//!
//! Spared are process 1, threads of the kernel, the agent's own, the listener of sshd (root's, by the path of the system's
//! package, and not the child of one), and the programs that the policy names; and what descends from them. A path is one of
//! the host's where the process sees the host's files; in a container the same path is another program. What is ours is known
//! by the file that it runs, and not by its name.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::table::Row;

/// Where a system has its sshd.
const SSHD: &[&str] = &["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/sbin/dropbear", "/usr/bin/dropbear"];

/// What is asked of single processes. Each may have ended.
pub trait Facts {
    /// Path of the program that it runs, also where that was deleted.
    fn program(&self, pid: u32) -> Option<String>;
    /// Number of its user.
    fn user(&self, pid: u32) -> Option<u32>;
    /// Its control groups, as the kernel lists them.
    fn group(&self, pid: u32) -> Option<String>;
    /// Is it one that is given orphans: process 1, the first of a container, a user's own systemd?
    fn adopts(&self, pid: u32) -> bool;
    /// Device and inode of the program that it runs.
    fn file(&self, pid: u32) -> Option<(u64, u64)>;
    /// Does it see the host's files, and not those of a container? Only then its paths are the host's.
    fn at_home(&self, pid: u32) -> bool;

    /// Path of the program that it runs, as the host names it.
    fn program_here(&self, pid: u32) -> Option<String> {
        self.program(pid).filter(|_| self.at_home(pid))
    }
}

/// Who is spared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spare {
    /// The agent's supervisor.
    pub own: u32,
    /// Device and inode of the agent's program, which processes of ours run that outlive a supervisor.
    pub file: Option<(u64, u64)>,
    /// Programs that the policy names, by their paths.
    pub never: Vec<String>,
}

impl Spare {
    /// Of this program.
    pub fn own() -> Self {
        let own = std::process::id();
        Self { own, file: super::table::Proc.file(own), never: Vec::new() }
    }
}

/// What was chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Those that are meant, parents before their children.
    pub taken: Vec<Row>,
    /// Those that would be and are spared, and why.
    pub spared: BTreeMap<u32, String>,
}

/// Chooses. `roots` are those that the order names, `known` those that were taken before in the same act; some may have ended.
pub fn choose(rows: &[Row], facts: &impl Facts, roots: &[(u32, u64)], known: &[(u32, u64)], spare: &Spare) -> Choice {
    let table: BTreeMap<u32, &Row> = rows.iter().map(|row| (row.pid, row)).collect();
    let mut choosing = Choosing {
        facts,
        spare,
        family: super::table::family(rows, spare.own),
        // Those that ended count too: who is in their session or group is theirs. Who is spared does not.
        theirs: known.iter().copied().collect(),
        children: BTreeMap::new(),
        table: &table,
        seen: BTreeSet::new(),
        choice: Choice::default(),
    };
    for row in rows {
        choosing.children.entry(row.parent).or_default().push(row);
    }
    let named: Vec<&Row> = roots
        .iter()
        .chain(known)
        .filter_map(|(pid, start)| table.get(pid).copied().filter(|row| row.start == *start))
        .collect();
    choosing.descend(named);
    let roots: Vec<(u32, u64)> =
        roots.iter().filter(|(pid, _)| !choosing.choice.spared.contains_key(pid)).copied().collect();
    if roots.is_empty() {
        return choosing.choice;
    }
    let left = Left::of(&table, &roots, facts, spare);
    loop {
        let more: Vec<&Row> = rows.iter().filter(|row| choosing.is_kin(row, &left)).collect();
        if more.is_empty() {
            return choosing.choice;
        }
        choosing.descend(more);
    }
}

/// By what those are known that were adopted.
struct Left {
    /// When the first root began.
    since: u64,
    sessions: BTreeSet<u32>,
    groups: BTreeSet<String>,
}

impl Left {
    fn of(table: &BTreeMap<u32, &Row>, roots: &[(u32, u64)], facts: &impl Facts, spare: &Spare) -> Self {
        let alive = || roots.iter().filter_map(|(pid, start)| table.get(pid).filter(|row| row.start == *start));
        let common: Vec<String> = [1, spare.own].into_iter().filter_map(|pid| facts.group(pid)).collect();
        let own_session = table.get(&spare.own).map_or(0, |row| row.session);
        let sessions = alive().map(|row| row.session).filter(|session| *session != 0 && *session != own_session);
        let groups = alive().filter_map(|row| facts.group(row.pid)).filter(|group| !common.contains(group));
        Self {
            since: roots.iter().map(|(_, start)| *start).min().unwrap_or(u64::MAX),
            sessions: sessions.collect(),
            groups: groups.collect(),
        }
    }
}

struct Choosing<'a, F> {
    facts: &'a F,
    spare: &'a Spare,
    family: BTreeSet<u32>,
    theirs: BTreeMap<u32, u64>,
    children: BTreeMap<u32, Vec<&'a Row>>,
    table: &'a BTreeMap<u32, &'a Row>,
    seen: BTreeSet<u32>,
    choice: Choice,
}

impl<'a, F: Facts> Choosing<'a, F> {
    /// Takes these and what descends from them, as far as it is not spared.
    fn descend(&mut self, from: Vec<&'a Row>) {
        let mut waiting: VecDeque<&Row> = from.into();
        while let Some(row) = waiting.pop_front() {
            if !self.seen.insert(row.pid) {
                continue;
            }
            if let Some(why) = self.spared(row) {
                self.choice.spared.insert(row.pid, why);
                self.spare_below(row.pid);
                continue;
            }
            self.theirs.insert(row.pid, row.start);
            self.choice.taken.push(row.clone());
            waiting.extend(self.children.get(&row.pid).into_iter().flatten());
        }
    }

    /// What descends from one that is spared is not meant either, whatever session it is in.
    fn spare_below(&mut self, pid: u32) {
        let mut waiting = vec![pid];
        while let Some(parent) = waiting.pop() {
            let children = self.children.get(&parent).into_iter().flatten().map(|row| row.pid);
            waiting.extend(children.filter(|child| self.seen.insert(*child)));
        }
    }

    fn spared(&self, row: &Row) -> Option<String> {
        if row.pid == 1 {
            return Some("it is process 1".into());
        }
        if row.kernel {
            return Some("it is a thread of the kernel".into());
        }
        // By the file, since anybody can call a file as ours is called.
        let is_ours = || self.spare.file.is_some() && self.facts.file(row.pid) == self.spare.file;
        if self.family.contains(&row.pid) || is_ours() {
            return Some("it is the agent's own".into());
        }
        let program = self.facts.program_here(row.pid)?;
        if self.spare.never.contains(&program) {
            return Some(format!("{program} is never touched, by policy (response.never_kill)"));
        }
        let listens = SSHD.contains(&program.as_str())
            && self.facts.user(row.pid) == Some(0)
            && self.facts.program(row.parent).as_ref() != Some(&program);
        listens.then(|| "it is the listener of sshd".to_owned())
    }

    /// Is it one of theirs that was given to another parent?
    fn is_kin(&self, row: &Row, left: &Left) -> bool {
        if self.seen.contains(&row.pid) || row.kernel || row.pid == 1 {
            return false;
        }
        // Not where the number is another process's by now.
        let is_same = |leader: u32, start: u64| self.table.get(&leader).is_none_or(|row| row.start == start);
        let of_theirs =
            |leader: u32| self.theirs.get(&leader).is_some_and(|start| *start <= row.start && is_same(leader, *start));
        if of_theirs(row.session) || of_theirs(row.group) {
            return true;
        }
        if row.start < left.since {
            return false;
        }
        let parent = self.table.get(&row.parent);
        // A session is joined by being born into it: with a parent in another one, it was given to that.
        let in_session = left.sessions.contains(&row.session)
            && row.session != row.pid
            && parent.is_none_or(|parent| parent.session != row.session);
        let in_group = || {
            let group = self.facts.group(row.pid).filter(|group| left.groups.contains(group));
            let adopted = |parent: &&Row| self.facts.adopts(parent.pid) || self.facts.group(parent.pid) != group;
            group.is_some()
                && parent.is_none_or(adopted)
                && self.facts.program(row.pid) != self.facts.program(row.parent)
        };
        in_session || in_group()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Device and inode of the agent's program.
    const OURS: (u64, u64) = (8, 4_711);

    /// A host in a table: what each process runs and where it is.
    #[derive(Default)]
    struct Host {
        rows: Vec<Row>,
        programs: BTreeMap<u32, String>,
        groups: BTreeMap<u32, String>,
        away: BTreeSet<u32>,
    }

    impl Host {
        /// Process 1, the agent (100) with a worker, a thread of the kernel, sshd with a session and a shell in it.
        fn new() -> Self {
            let mut host = Self::default();
            for (pid, parent, session, program, group) in [
                (1, 0, 1, "/usr/lib/systemd/systemd", "/init"),
                (2, 0, 0, "", "/"),
                (100, 1, 100, "/usr/bin/sakimori-agent", "/agent"),
                (101, 100, 100, "/usr/bin/sakimori-agent", "/agent"),
                (200, 1, 200, "/usr/sbin/sshd", "/ssh"),
                (201, 200, 200, "/usr/sbin/sshd", "/ssh"),
                (300, 201, 300, "/bin/bash", "/login"),
            ] {
                host.add(pid, parent, session, program, group);
            }
            host.rows[1].kernel = true;
            host
        }

        fn add(&mut self, pid: u32, parent: u32, session: u32, program: &str, group: &str) {
            let start = u64::from(pid);
            self.rows.push(Row { pid, parent, group: session, session, start, state: b'S', ..Row::default() });
            self.programs.insert(pid, program.to_owned());
            self.groups.insert(pid, group.to_owned());
        }

        fn chosen(&self, root: u32, never: &[&str]) -> (Vec<u32>, Vec<u32>) {
            let spare =
                Spare { own: 100, file: Some(OURS), never: never.iter().map(|path| (*path).to_owned()).collect() };
            let choice = choose(&self.rows, self, &[(root, u64::from(root))], &[], &spare);
            (choice.taken.iter().map(|row| row.pid).collect(), choice.spared.into_keys().collect())
        }
    }

    impl Facts for Host {
        fn program(&self, pid: u32) -> Option<String> {
            self.programs.get(&pid).cloned().filter(|program| !program.is_empty())
        }
        fn user(&self, _: u32) -> Option<u32> {
            Some(0)
        }
        fn group(&self, pid: u32) -> Option<String> {
            self.groups.get(&pid).cloned()
        }
        fn adopts(&self, pid: u32) -> bool {
            pid == 1
        }
        fn file(&self, pid: u32) -> Option<(u64, u64)> {
            let is_ours = self.programs.get(&pid).is_some_and(|program| program == "/usr/bin/sakimori-agent");
            is_ours.then_some(if self.away.contains(&pid) { (8, 1) } else { OURS })
        }
        fn at_home(&self, pid: u32) -> bool {
            !self.away.contains(&pid)
        }
    }

    #[test]
    fn a_tree_is_taken_from_its_root_down_and_nothing_beside_it() {
        let mut host = Host::new();
        host.add(400, 300, 300, "/tmp/miner", "/login");
        host.add(401, 400, 300, "/tmp/miner", "/login");
        host.add(402, 300, 300, "/usr/bin/vim", "/login");
        host.add(403, 401, 300, "/bin/sh", "/login");
        assert_eq!(host.chosen(400, &[]), (vec![400, 401, 403], vec![]));
    }

    #[test]
    fn what_was_adopted_is_found_by_group_session_and_control_group() {
        let mut host = Host::new();
        host.add(400, 300, 400, "/tmp/miner", "/service");
        // The child of one that ended, in a session of its own begun by one that was taken; and one in that session.
        host.add(410, 1, 400, "/tmp/a", "/elsewhere");
        // Left everything but the control group, as a daemon does.
        host.add(420, 1, 419, "/tmp/b", "/service");
        // Beside it: began before; has another parent; a worker that the service itself started.
        host.add(350, 1, 350, "/usr/bin/old", "/service");
        host.add(430, 350, 430, "/usr/bin/other", "/service");
        host.add(440, 1, 440, "/usr/lib/systemd/systemd", "/service");
        // In no group of its own nobody is found by that.
        host.add(450, 1, 450, "/tmp/c", "/init");
        assert_eq!(host.chosen(400, &[]), (vec![400, 410, 420], vec![]));
        let mut shared = Host::new();
        shared.add(400, 300, 400, "/tmp/miner", "/init");
        shared.add(420, 1, 419, "/tmp/b", "/init");
        assert_eq!(shared.chosen(400, &[]).0, [400], "all of the host is in that group");
        let mut login = Host::new();
        login.add(400, 300, 300, "/tmp/miner", "/init");
        login.add(410, 1, 300, "/tmp/left", "/init");
        login.add(411, 300, 300, "/usr/bin/job", "/init");
        assert_eq!(login.chosen(400, &[]).0, [400, 410], "adopted, in the same session");
    }

    #[test]
    fn some_are_spared_whoever_asks() {
        let mut host = Host::new();
        host.add(500, 300, 300, "/usr/bin/postgres", "/login");
        host.add(501, 500, 300, "/usr/bin/psql", "/login");
        for spared in [1, 2, 100, 101, 200] {
            let (taken, left) = host.chosen(spared, &[]);
            assert!(taken.is_empty() && left == [spared], "{spared}: {taken:?}");
        }
        let (taken, left) = host.chosen(300, &["/usr/bin/postgres"]);
        assert_eq!((taken, left), (vec![300], vec![500]), "and what descends from one");
        host.add(510, 1, 300, "/usr/bin/left", "/login");
        let (taken, left) = host.chosen(300, &["/bin/bash"]);
        assert_eq!((taken, left), (vec![], vec![300]), "nor who is in the session of one");
        host.rows.pop();
        assert_eq!(host.chosen(201, &[]).0, [201, 300, 500, 501], "a session of sshd is no listener");
        host.away.insert(200);
        assert!(host.chosen(200, &[]).0.contains(&200), "a program of a container that calls itself so");
        // In a container neither the path of a spared program nor ours says anything.
        for (pid, program) in [(600, "/usr/bin/postgres"), (601, "/usr/bin/sakimori-agent")] {
            host.add(pid, 1, pid, program, "/container");
            host.away.insert(pid);
            assert_eq!(host.chosen(pid, &["/usr/bin/postgres"]), (vec![pid], vec![]), "{program}");
        }
        // The whole host is asked for: what is ours stays.
        let spare = Spare { own: 100, file: Some(OURS), never: Vec::new() };
        let all: Vec<(u32, u64)> = host.rows.iter().map(Row::id).collect();
        let choice = choose(&host.rows, &host, &all, &[], &spare);
        assert!(choice.taken.iter().all(|row| ![1, 2, 100, 101].contains(&row.pid)));
    }

    #[test]
    fn a_number_that_was_used_again_is_not_meant() {
        let mut host = Host::new();
        host.add(400, 1, 400, "/usr/bin/innocent", "/x");
        let choice = choose(&host.rows, &host, &[(400, 7)], &[], &Spare { own: 100, ..Spare::default() });
        assert_eq!(choice, Choice::default());
    }

    proptest! {
        #[test]
        fn whatever_the_tree_parents_come_first_and_nobody_twice(
            parents in proptest::collection::vec((0_u32..60, 0_u32..60, 0_usize..4), 0..60), root in 0_u32..60,
        ) {
            let mut host = Host::new();
            for (number, (parent, session, program)) in parents.iter().enumerate() {
                let pid = 1_000 + u32::try_from(number).unwrap();
                let program = ["/a", "/usr/sbin/sshd", "/usr/bin/sakimori-agent", "/never"][*program];
                host.add(pid, 1_000 + parent, 1_000 + session, program, "/g");
            }
            let (taken, spared) = host.chosen(1_000 + root, &["/never"]);
            let unique: BTreeSet<u32> = taken.iter().chain(&spared).copied().collect();
            prop_assert_eq!(unique.len(), taken.len() + spared.len());
            for pid in &taken {
                let program = host.programs.get(pid).unwrap();
                prop_assert!(program != "/never" && program != "/usr/bin/sakimori-agent" && *pid >= 1_000);
            }
        }
    }
}
