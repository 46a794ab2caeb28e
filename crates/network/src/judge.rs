//! Detection on one packet of a flow, and what follows from it: alerts, verdict, and what need not be kept any more.

use crate::alert::Alert;
use crate::app::Dir;
use crate::decode::Packet;
use crate::detect::{Judgement, Raised, Subject};
use crate::engine::Core;
use crate::flow::{Flow, FlowVerdict};
use crate::rules::Action;
use crate::verdict::{Verdict, refusal};

/// Most bytes of payload that an alert carries.
const ALERT_PAYLOAD: usize = 4096;

impl Core {
    /// Detection on a packet of a flow, and what follows.
    pub(crate) fn judge(
        &mut self,
        packet: &Packet<'_>,
        flow: &mut Flow,
        dir: Dir,
        established: bool,
        in_stream: bool,
        events: &[&'static str],
    ) -> Verdict {
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        // Encrypted bytes, and those for which there is no rule, are passed over as they are.
        let look = self.detector.looks_at_payloads && !flow.no_payload;
        let due = self.due(packet, flow, dir, in_stream, look.then_some(&mut bytes));
        let subject = Subject {
            packet,
            dir,
            established,
            stream: due.filter(|_| look).map(|_| bytes.as_slice()),
            // Inline, the bytes that are due end with the packet's own, as its receiver gets them.
            stream_has_packet: due.is_some() && self.settings.stream.inline && !packet.made_up,
            in_stream,
            events,
            no_payload: flow.no_payload,
        };
        let judgement = self.detector.inspect(&subject, Some(flow));
        if let Some(action) = judgement.blocked.filter(|_| flow.verdict == FlowVerdict::Drop) {
            let (here, there) = (dir as usize, dir.other() as usize);
            for (at, wanted) in [(here, action != Action::RejectDst), (there, action != Action::Reject)] {
                if let Some(refused) = flow.refused.get_mut(at).filter(|_| action != Action::Drop) {
                    *refused = wanted;
                }
            }
        }
        let verdict = self.conclude(&judgement, &subject, Some(flow));
        if let (Some(to), Some(session)) = (due, flow.tcp.as_mut()) {
            let stream = session.stream(dir);
            stream.raw_progress = stream.raw_progress.max(to);
            // Behind a gap there may be more that is due.
            stream.trigger = stream.first_from(stream.raw_progress).is_some_and(|next| next < stream.acked());
        }
        self.scratch = bytes;
        self.pruned(flow);
        verdict
    }

    /// Lets go of what was looked at.
    pub(crate) fn pruned(&mut self, flow: &mut Flow) {
        let inline = self.settings.stream.inline;
        let passed = flow.verdict == FlowVerdict::Pass;
        let done = flow.app.is_some() && flow.no_payload || passed;
        if let Some(session) = flow.tcp.as_mut() {
            for (dir, chunk) in [
                (Dir::ToServer, self.settings.stream.to_server_chunk),
                (Dir::ToClient, self.settings.stream.to_client_chunk),
            ] {
                session.stream(dir).prune(if inline { chunk } else { 0 }, !done);
            }
        }
        let finished = |tx: &crate::app::Tx| tx.state.iter().all(|state| state.finished);
        while flow.txs.list.front().is_some_and(finished) {
            let over = flow.txs.list.pop_front();
            if let (Some(records), Some(tx)) = (&mut self.records, over) {
                records.transaction(flow, &tx);
            }
        }
        if flow.txs.list.is_empty() {
            // Most flows are quiet most of the time.
            flow.txs.list.shrink_to_fit();
        }
        if flow.txs.list.len() > 64 {
            if let Some(records) = &mut self.records {
                flow.txs.list.iter().filter(|tx| finished(tx)).for_each(|tx| records.transaction(flow, tx));
            }
            flow.txs.list.retain(|tx| !finished(tx));
        }
    }

    /// Alerts and verdict of what detection found.
    pub(crate) fn conclude(&mut self, judgement: &Judgement, subject: &Subject<'_>, flow: Option<&Flow>) -> Verdict {
        self.counters.discarded += judgement.discarded as u64;
        for raised in &judgement.alerts {
            if let Some(alert) = self.alert(raised, judgement, subject, flow) {
                self.counters.alerts += 1;
                self.out.push(alert);
            }
        }
        match judgement.blocked {
            Some(action) if self.settings.outcome.prevent => {
                self.counters.dropped += 1;
                match (action, flow) {
                    (_, Some(flow)) if flow.verdict == FlowVerdict::Drop => refusal(flow, subject.dir),
                    (Action::Reject | Action::RejectBoth, _) => Verdict::Reject,
                    _ => Verdict::Drop,
                }
            }
            _ if judgement.passed && flow.is_some_and(|flow| flow.verdict == FlowVerdict::Pass) => Verdict::AcceptFlow,
            _ => Verdict::Accept,
        }
    }

    fn alert(
        &self,
        raised: &Raised,
        judgement: &Judgement,
        subject: &Subject<'_>,
        flow: Option<&Flow>,
    ) -> Option<Alert> {
        let rule = self.detector.rules.rules.get(raised.rule as usize)?.clone();
        let packet = subject.packet;
        let mut kept = Vec::new();
        let payload = match subject.stream.filter(|_| raised.in_stream) {
            Some(stream) => stream,
            // What a parser got with an acknowledgement came in packets before it.
            None if packet.payload.is_empty() => {
                latest(flow, subject.dir, &mut kept);
                &kept
            }
            None => packet.payload,
        };
        let tag = rule.effects.iter().find_map(|effect| match effect {
            crate::rules::model::Effect::Tag(tag) => Some(*tag),
            _ => None,
        });
        Some(Alert {
            tag,
            rule,
            action: raised.action,
            blocked: raised.action.blocks() && judgement.blocked.is_some(),
            stopped: judgement.blocked.is_some(),
            packet: packet.number,
            time: packet.time,
            src: packet.src,
            dst: packet.dst,
            sport: packet.sport,
            dport: packet.dport,
            proto: packet.proto,
            app: flow.and_then(|flow| flow.app),
            to_server: subject.dir == Dir::ToServer,
            flow: flow.map(|flow| flow.id),
            tx: raised.tx,
            vlan: packet.vlan.iter().take(packet.vlans.into()).copied().collect(),
            payload: payload.get(..ALERT_PAYLOAD.min(payload.len())).unwrap_or_default().to_vec(),
            http: flow.and_then(|flow| crate::event::http_summary(flow, raised.tx)),
        })
    }
}

/// The newest bytes of a stream that its parser got and that are still kept.
fn latest(flow: Option<&Flow>, dir: Dir, out: &mut Vec<u8>) {
    let Some(session) = flow.and_then(|flow| flow.tcp.as_ref()) else { return };
    let stream = session.stream_ref(dir);
    let to = stream.app_progress;
    if let Some(from) = stream.first_from(to.saturating_sub(ALERT_PAYLOAD as u64)).filter(|from| *from < to) {
        stream.copy(from, to, out);
    }
}
