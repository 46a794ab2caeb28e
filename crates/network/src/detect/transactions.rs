//! Rules on transactions: looked at when their transaction changes, until they match or cannot.

use super::steps::Walk;
use super::views::Wanted;
use super::{Detector, Subject};
use crate::app::{Dir, File, Kind, Seen, Tx, TxState};
use crate::flow::Flow;
use crate::rules::app_tests::AppTest;
use crate::rules::buffers::Buffer;
use crate::rules::model::{BufferTest, Rule, Step};
use crate::rules::transform;

/// Bits of the mask of what has matched: buffers from 0, tests from 48, the payload last.
const TESTS_FROM: u32 = 48;
const PAYLOAD_BIT: u32 = 63;

impl Detector {
    pub(super) fn transactions(&mut self, subject: &Subject<'_>, flow: &mut Flow) {
        let dir = subject.dir;
        for at in 0..flow.txs.list.len() {
            let Some(tx) = flow.txs.list.get_mut(at) else { break };
            let Some(slot) = tx.state.get_mut(dir as usize) else { break };
            if slot.finished {
                continue;
            }
            let mut state = std::mem::take(slot);
            let version = tx.version.get(dir as usize).copied().unwrap_or(0);
            self.views.begin();
            if version != state.version || !state.begun {
                state.version = version;
                self.candidates(flow, at, dir, &mut state);
            }
            let id = flow.txs.list.get(at).map_or(0, |tx| tx.id);
            self.open_rules(subject, flow, at, id, &mut state);
            let Some(tx) = flow.txs.list.get_mut(at) else { break };
            state.finished = tx.is_complete(dir);
            if state.finished {
                self.spare.take_back(&mut state);
            }
            if let Some(slot) = tx.state.get_mut(dir as usize) {
                *slot = state;
            }
        }
    }

    /// Adds the rules that the transaction's new bytes make worth a look.
    fn candidates(&mut self, flow: &Flow, at: usize, dir: Dir, state: &mut TxState) {
        let Some(tx) = flow.txs.list.get(at) else { return };
        let mut found = std::mem::take(&mut self.candidates);
        found.clear();
        if !state.begun {
            state.begun = true;
            self.spare.lend(state);
            found.extend_from_slice(&self.prefilter.tx_rules);
            state.seen.resize(self.prefilter.buffers.len(), Seen::Part(0));
        }
        for (matcher, seen) in self.prefilter.buffers.iter().zip(state.seen.iter_mut()) {
            let (Some(buffer), Seen::Part(before)) = (matcher.buffer, *seen) else { continue };
            let def = buffer.def();
            let stage = if dir == Dir::ToServer { def.to_server } else { def.to_client };
            let Some(stage) = stage else {
                *seen = Seen::All;
                continue;
            };
            if tx.stage(dir) < stage || !def.app.contains(&tx.proto()) {
                continue;
            }
            let wanted = Wanted { place: matcher.place, buffer, transforms: &matcher.transforms };
            let mut now = 0;
            let there = self.views.values(wanted, tx, dir, &mut |value| {
                if matcher.transforms.is_empty() && grows_at_its_end(buffer, value.file, tx, dir) {
                    matcher.search_behind(before as usize, &value.data, &mut found);
                    now = u32::try_from(value.data.len()).unwrap_or(0);
                } else {
                    matcher.search(&value.data, &mut found);
                }
                false
            });
            // As long as a rule on it may still match, since more values may come (recipients, replies), it is searched again.
            let last = there && !def.grows && tx.stage(dir) > stage || tx.is_complete(dir);
            *seen = if last { Seen::All } else { Seen::Part(before.max(now)) };
        }
        found.sort_unstable();
        found.dedup();
        // Those that are open lie in order before those that are added.
        let before = state.open.len();
        for rule in &found {
            let open = state.open.get(..before).unwrap_or_default();
            let known =
                open.binary_search_by_key(rule, |open| open.0).is_ok() || state.done.binary_search(rule).is_ok();
            if !known {
                state.open.push((*rule, 0));
            }
        }
        state.open.sort_unstable();
        self.candidates = found;
    }

    fn open_rules(&mut self, subject: &Subject<'_>, flow: &mut Flow, at: usize, id: u64, state: &mut TxState) {
        if state.open.is_empty() {
            return;
        }
        let rules = self.rules.clone();
        let mut open = std::mem::take(&mut state.open);
        let before = state.done.len();
        open.retain_mut(|(number, mask)| {
            let Some(rule) = rules.rules.get(*number as usize) else { return false };
            match self.app_rule(rule, mask, subject, flow, at) {
                Progress::Matched => {
                    state.done.push(*number);
                    self.matched(*number, rule, Some(id), false, subject, &mut Some(flow));
                    false
                }
                Progress::Open => true,
                Progress::Over => {
                    state.done.push(*number);
                    false
                }
            }
        });
        state.open = open;
        if state.done.len() > before {
            state.done.sort_unstable();
        }
    }

    fn app_rule(&mut self, rule: &Rule, mask: &mut u64, subject: &Subject<'_>, flow: &Flow, at: usize) -> Progress {
        let dir = subject.dir;
        let Some(tx) = flow.txs.list.get(at) else { return Progress::Over };
        let wanted_dir = if dir == Dir::ToServer { rule.to_server } else { rule.to_client };
        if !wanted_dir || rule.proto.app.is_some_and(|app| !app.includes(tx.proto())) {
            return Progress::Over;
        }
        if *mask == 0 {
            let seen = self.seen(subject, Some(flow));
            if (rule.real_packet && subject.packet.made_up)
                || !seen.header_as(rule, Some(tx.proto()))
                || !seen.flow_wanted(rule)
                || !rule.packet.iter().all(|test| seen.holds(test))
            {
                return Progress::Open;
            }
        }
        self.variables.clear();
        let mut all = true;
        for (bit, test) in rule.app_tests.iter().enumerate() {
            let bit = 1u64 << (TESTS_FROM + bit.min(14) as u32);
            if *mask & bit != 0 {
                continue;
            }
            if tx.stage(dir) >= test.stage() && holds(test, tx, dir, subject.packet.time) {
                *mask |= bit;
            } else {
                all = false;
            }
        }
        for (bit, test) in rule.buffers.iter().enumerate() {
            let bit = 1u64 << bit.min(47);
            if *mask & bit != 0 {
                continue;
            }
            if self.buffer(test, tx, dir, subject) {
                *mask |= bit;
            } else {
                all = false;
                // A buffer that is final and does not match never will.
                if final_now(test, tx, dir) {
                    return Progress::Over;
                }
            }
        }
        if !rule.payload.is_empty() && *mask & (1 << PAYLOAD_BIT) == 0 {
            let found = !subject.no_payload && self.app_payload(rule, subject);
            if found {
                *mask |= 1 << PAYLOAD_BIT;
            } else {
                all = false;
            }
        }
        if all { Progress::Matched } else { Progress::Open }
    }

    fn app_payload(&mut self, rule: &Rule, subject: &Subject<'_>) -> bool {
        let tcp = subject.packet.proto == crate::decode::TCP;
        let data = if tcp && !rule.proto.tcp_packet { subject.stream } else { Some(subject.packet.payload) };
        data.filter(|data| !data.is_empty())
            .is_some_and(|data| Walk::new(&mut self.variables, &mut self.sets).holds(&rule.payload, data))
    }

    fn buffer(&mut self, test: &BufferTest, tx: &Tx, dir: Dir, subject: &Subject<'_>) -> bool {
        if !test.buffer.is_app() {
            return super::packet_buffer(subject.packet, test.buffer).is_some_and(|data| {
                let data = transform::apply_all(&test.transforms, data);
                Walk::new(&mut self.variables, &mut self.sets).holds(&test.steps, &data)
            });
        }
        let def = test.buffer.def();
        let stage = if dir == Dir::ToServer { def.to_server } else { def.to_client };
        if stage.is_none_or(|stage| tx.stage(dir) < stage) {
            return false;
        }
        let mut held = false;
        let (variables, sets) = (&mut self.variables, &mut self.sets);
        let wanted = Wanted { place: test.place, buffer: test.buffer, transforms: &test.transforms };
        let there = self.views.values(wanted, tx, dir, &mut |value| {
            let mut walk = Walk::new(variables, sets);
            walk.file = value.file;
            walk.last = value.last;
            held = walk.holds(&test.steps, &value.data);
            held
        });
        held || (!there
            && tx.is_complete(dir) | !def.grows
            && test.steps.iter().any(|step| matches!(step, Step::Absent { .. })))
    }
}

/// Lists of transactions that are over, for the next ones: most need some, and none for long.
#[derive(Default)]
pub(super) struct Spare(Vec<TxState>);

/// Most that are kept, and the largest list that is.
const MOST_SPARE: usize = 16;
const MOST_LISTED: usize = 1 << 10;

impl Spare {
    fn lend(&mut self, state: &mut TxState) {
        if let Some(lists) = self.0.pop() {
            (state.open, state.done, state.seen) = (lists.open, lists.done, lists.seen);
        }
    }

    fn take_back(&mut self, state: &mut TxState) {
        let (mut open, mut done, mut seen) =
            (std::mem::take(&mut state.open), std::mem::take(&mut state.done), std::mem::take(&mut state.seen));
        let large = open.capacity().max(done.capacity()).max(seen.capacity()) > MOST_LISTED;
        if !large && self.0.len() < MOST_SPARE {
            (open.clear(), done.clear(), seen.clear());
            self.0.push(TxState { open, done, seen, ..TxState::default() });
        }
    }
}

/// A body, or the first file: what is added to it comes behind what was there.
fn grows_at_its_end(buffer: Buffer, file: Option<&File>, tx: &Tx, dir: Dir) -> bool {
    match (buffer, file) {
        (Buffer::HttpRequestBody, None) => true,
        (Buffer::FileData | Buffer::HttpResponseBody, Some(file)) => {
            tx.files(dir).first().is_some_and(|first| std::ptr::eq(first, file))
        }
        _ => false,
    }
}

enum Progress {
    Matched,
    Open,
    Over,
}

/// Whether looking again at the buffer is of no use.
fn final_now(test: &BufferTest, tx: &Tx, dir: Dir) -> bool {
    let def = test.buffer.def();
    let stage = if dir == Dir::ToServer { def.to_server } else { def.to_client };
    test.buffer.is_app() && !def.grows && stage.is_some_and(|stage| tx.stage(dir) > stage)
}

/// A test that looks at no bytes.
fn holds(test: &AppTest, tx: &Tx, dir: Dir, now: i64) -> bool {
    if let AppTest::Event { name } = test {
        return tx.events.iter().any(|event| event == name);
    }
    match &tx.kind {
        Kind::Dns(dns) => dns.holds(test),
        Kind::Tls(tls) => tls.holds(test, dir, now),
        Kind::Http2(_, info) => info.holds(test, dir),
        Kind::FtpData(data) => matches!(test, AppTest::FtpDataCommand(command) if command.as_bytes() == data.command),
        Kind::Ftp(_) | Kind::Http(_) | Kind::Smtp(_) | Kind::Ssh(_) => false,
    }
}
