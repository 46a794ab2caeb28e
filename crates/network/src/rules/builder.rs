//! A rule while its options are read, one after the other, and what is settled once all are known.

use std::sync::Arc;

use super::app_tests::AppTest;
use super::buffers::Buffer;
use super::content::Content;
use super::load::Shared;
use super::model::{Action, BufferTest, Effect, FlowWanted, NO_PLACE, ProtoMatch, Rule, Step, Target};
use super::packet_tests::PacketTest;
use super::ranges::Ranges;
use super::threshold::Threshold;
use super::transform::Transform;
use crate::app::AppProto;
use crate::decode::TCP;

/// Most steps of one list, and most buffers of one rule.
const MOST_STEPS: usize = 256;
const MOST_BUFFERS: usize = 60;

/// Which list the next content goes to.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Payload,
    Sticky {
        buffer: Buffer,
        transforms: Vec<Transform>,
        opened: bool,
    },
    /// Behind `base64_data`.
    Base64,
}

/// Where the last content went, for the modifiers that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    None,
    Payload,
    Buffer(usize),
    Base64,
}

pub(crate) struct Builder<'s, 'v> {
    pub shared: &'s mut Shared<'v>,
    pub action: Action,
    pub proto: ProtoMatch,
    pub gid: u32,
    pub sid: u32,
    pub rev: u32,
    pub msg: String,
    pub class: Option<String>,
    pub priority: Option<u8>,
    pub references: Vec<(String, String)>,
    pub metadata: Vec<(String, String)>,
    pub flow: Option<FlowWanted>,
    pub packet: Vec<PacketTest>,
    pub payload: Vec<Step>,
    pub buffers: Vec<BufferTest>,
    pub app_tests: Vec<AppTest>,
    pub effects: Vec<Effect>,
    pub threshold: Option<Threshold>,
    pub detection_filter: Option<Threshold>,
    pub no_alert: bool,
    pub alert_too: bool,
    pub needs_packet: bool,
    pub needs_stream: bool,
    pub place: Place,
    pub last: Last,
    pub variables: Vec<String>,
    pub target: Option<Target>,
}

impl<'s, 'v> Builder<'s, 'v> {
    pub(crate) fn new(shared: &'s mut Shared<'v>, action: Action, proto: ProtoMatch) -> Self {
        Self {
            shared,
            action,
            needs_packet: proto.tcp_packet,
            needs_stream: proto.tcp_stream,
            proto,
            gid: 1,
            sid: 0,
            rev: 0,
            msg: String::new(),
            class: None,
            priority: None,
            references: Vec::new(),
            metadata: Vec::new(),
            flow: None,
            packet: Vec::new(),
            payload: Vec::new(),
            buffers: Vec::new(),
            app_tests: Vec::new(),
            effects: Vec::new(),
            threshold: None,
            detection_filter: None,
            no_alert: false,
            alert_too: false,
            place: Place::Payload,
            last: Last::None,
            variables: Vec::new(),
            target: None,
        }
    }

    /// Adds a step to the list that is open.
    pub(crate) fn step(&mut self, step: Step) -> Result<(), String> {
        let at = match self.place.clone() {
            Place::Payload => None,
            Place::Base64 => {
                self.last = Last::Base64;
                return self.base64_steps()?.try_push(step);
            }
            Place::Sticky { buffer, transforms, opened } => {
                // Naming a buffer again opens a new list: each of a list of values may be another one.
                let known = self.buffers.iter().rposition(|test| test.same_place(&buffer, &transforms));
                let at = match known.filter(|_| opened || !separate(buffer)) {
                    Some(at) => at,
                    None => self.open(buffer, transforms.clone())?,
                };
                self.place = Place::Sticky { buffer, transforms, opened: true };
                Some(at)
            }
        };
        self.last = at.map_or(Last::Payload, Last::Buffer);
        self.list(self.last)?.try_push(step)
    }

    /// Opens a list for a buffer.
    pub(crate) fn open(&mut self, buffer: Buffer, transforms: Vec<Transform>) -> Result<usize, String> {
        if self.buffers.len() >= MOST_BUFFERS {
            return Err("the rule looks at too many buffers".into());
        }
        self.buffers.push(BufferTest { buffer, place: NO_PLACE, transforms, steps: Vec::new() });
        Ok(self.buffers.len() - 1)
    }

    /// A list without transforms for a buffer, for the older modifiers.
    pub(crate) fn list_for(&mut self, buffer: Buffer) -> Result<usize, String> {
        match self.buffers.iter().position(|test| test.same_place(&buffer, &[])) {
            Some(at) => Ok(at),
            None => self.open(buffer, Vec::new()),
        }
    }

    pub(crate) fn list(&mut self, last: Last) -> Result<&mut Vec<Step>, String> {
        match last {
            Last::None => Err("there is no content before it".into()),
            Last::Payload => Ok(&mut self.payload),
            Last::Base64 => self.base64_steps(),
            Last::Buffer(at) => {
                self.buffers.get_mut(at).map(|test| &mut test.steps).ok_or_else(|| "no such buffer".into())
            }
        }
    }

    fn base64_steps(&mut self) -> Result<&mut Vec<Step>, String> {
        let lists = self.buffers.iter_mut().map(|test| &mut test.steps).chain([&mut self.payload]);
        lists
            .flatten()
            .find_map(|step| match step {
                Step::Base64 { steps, .. } => Some(steps),
                _ => None,
            })
            .ok_or_else(|| "base64_data without base64_decode".into())
    }

    /// The content that modifiers act on.
    pub(crate) fn last_content(&mut self) -> Result<&mut Content, String> {
        let last = self.last;
        let found = self.list(last)?.iter_mut().rev().find_map(|step| match step {
            Step::Content(content) => Some(content.as_mut()),
            _ => None,
        });
        found.ok_or_else(|| "there is no content before it".into())
    }

    /// The number of a byte variable; made if it may be.
    pub(crate) fn variable(&mut self, name: &str, make: bool) -> Result<usize, String> {
        if let Some(at) = self.variables.iter().position(|known| known == name) {
            return Ok(at);
        }
        if !make {
            return Err(format!("variable '{name}' was not read before"));
        }
        self.variables.push(name.to_owned());
        Ok(self.variables.len() - 1)
    }

    /// Settles what depends on all options.
    pub(crate) fn finish(mut self, header: Header) -> Result<Rule, String> {
        if self.sid == 0 {
            return Err("the rule has no sid".into());
        }
        self.buffers.retain(|test| !test.steps.is_empty());
        for list in self.buffers.iter_mut().map(|test| &mut test.steps).chain([&mut self.payload]) {
            settle(list);
        }
        for test in &mut self.buffers {
            test.place = self.shared.place(test.buffer, &test.transforms);
        }
        let (to_server, to_client) = self.directions()?;
        self.check_protocol()?;
        if !self.payload.is_empty() && self.takes_tcp() && !self.needs_packet && !self.needs_stream {
            self.needs_stream = true;
            let placed = self.payload.iter().any(|step| {
                matches!(step, Step::Content(content) if content.depth.is_some() || content.offset.is_some() || content.starts)
            });
            let sized = self.packet.iter().any(|test| matches!(test, PacketTest::StreamSize { .. }));
            self.needs_packet = placed || sized;
        }
        let class_priority = self.class.as_ref().and_then(|class| self.shared.class_priority(class));
        let fast = self.fast();
        let real_packet = self.packet.iter().any(PacketTest::needs_real_packet)
            || self.buffers.iter().any(|test| !test.buffer.is_app());
        Ok(Rule {
            action: self.action,
            written: self.action,
            group: Arc::from(""),
            gid: self.gid,
            sid: self.sid,
            rev: self.rev,
            msg: self.msg,
            class: self.class,
            priority: self.priority.or(class_priority).unwrap_or(3),
            references: self.references,
            metadata: self.metadata,
            text: header.text,
            proto: self.proto,
            src: header.src,
            sport: header.sport,
            dst: header.dst,
            dport: header.dport,
            both_ways: header.both_ways,
            flow: self.flow,
            to_server,
            to_client,
            packet: self.packet,
            payload: self.payload,
            buffers: self.buffers,
            app_tests: self.app_tests,
            effects: self.effects,
            threshold: self.threshold,
            detection_filter: self.detection_filter,
            no_alert: self.no_alert || self.action == Action::Config,
            alert_too: self.alert_too,
            fast,
            needs_packet: self.needs_packet,
            needs_stream: self.needs_stream,
            real_packet,
            target: self.target,
            order: 0,
        })
    }

    fn takes_tcp(&self) -> bool {
        self.proto.numbers.is_empty() || self.proto.numbers.contains(&TCP)
    }

    /// Directions in which all buffers can be there.
    fn directions(&self) -> Result<(bool, bool), String> {
        let wanted = self.flow.unwrap_or_default();
        let both = wanted.to_server == wanted.to_client;
        let (mut server, mut client) = (both || wanted.to_server, both || wanted.to_client);
        for test in self.buffers.iter().filter(|test| test.buffer.is_app()) {
            let def = test.buffer.def();
            server &= def.to_server.is_some();
            client &= def.to_client.is_some();
        }
        if server || client {
            Ok((server, client))
        } else {
            Err("its buffers and its flow have different directions".into())
        }
    }

    /// The buffers' protocol against the one of the header.
    fn check_protocol(&mut self) -> Result<(), String> {
        let mut apps: Option<Vec<AppProto>> = None;
        let lists = self.buffers.iter().map(|test| test.buffer.def().app);
        for list in lists.chain(self.app_tests.iter().map(AppTest::apps)).filter(|list| !list.is_empty()) {
            apps = Some(match apps {
                None => list.to_vec(),
                Some(known) => known.into_iter().filter(|app| list.contains(app)).collect(),
            });
        }
        let Some(apps) = apps else { return Ok(()) };
        if let Some(header) = self.proto.app {
            let fits = apps.iter().any(|app| header.includes(*app));
            return if fits { Ok(()) } else { Err("a buffer is of another protocol than the rule".into()) };
        }
        match apps.as_slice() {
            [] => Err("its buffers are of different protocols".into()),
            [one] => {
                self.proto.app = Some(*one);
                Ok(())
            }
            [AppProto::Http1, AppProto::Http2] => {
                self.proto.app = Some(AppProto::Http);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Each value of a list may be another one, so naming the buffer again begins anew.
fn separate(buffer: Buffer) -> bool {
    matches!(
        buffer,
        Buffer::FileData
            | Buffer::FileName
            | Buffer::FileMagic
            | Buffer::DnsQuery
            | Buffer::DnsAnswerName
            | Buffer::DnsQueryName
            | Buffer::HttpRequestHeader
            | Buffer::HttpResponseHeader
            | Buffer::Http2HeaderName
            | Buffer::TlsAlpn
            | Buffer::TlsCerts
            | Buffer::TlsSubjectAltName
            | Buffer::SmtpRcptTo
    )
}

/// Header of a rule, resolved.
pub(crate) struct Header {
    pub text: Arc<str>,
    pub src: Arc<Ranges>,
    pub sport: Arc<Ranges>,
    pub dst: Arc<Ranges>,
    pub dport: Arc<Ranges>,
    pub both_ways: bool,
}

/// Marks what the step behind depends on and prepares searches.
fn settle(steps: &mut [Step]) {
    let relative: Vec<bool> = steps.iter().skip(1).map(is_relative).chain([false]).collect();
    let last = relative.iter().rposition(|relative| *relative);
    for (at, (step, next)) in steps.iter_mut().zip(relative).enumerate() {
        match step {
            Step::Content(content) => {
                content.relative_next = next;
                content.finish();
            }
            Step::Pcre(pcre) => {
                pcre.relative_next = next;
                pcre.place_wanted = last.is_some_and(|last| at <= last);
            }
            Step::Base64 { steps, .. } => settle(steps),
            _ => {}
        }
    }
}

fn is_relative(step: &Step) -> bool {
    match step {
        Step::Content(content) => content.is_relative(),
        Step::Pcre(pcre) => pcre.relative,
        Step::ByteTest(test) => test.reading.relative,
        Step::ByteJump(jump) => jump.reading.relative,
        Step::ByteExtract(extract) => extract.reading.relative,
        Step::ByteMath(math) => math.reading.relative,
        Step::IsDataAt(at) => at.relative,
        Step::Base64 { relative, .. } => *relative,
        _ => false,
    }
}

/// A list with a limit.
trait TryPush {
    fn try_push(&mut self, step: Step) -> Result<(), String>;
}

impl TryPush for Vec<Step> {
    fn try_push(&mut self, step: Step) -> Result<(), String> {
        if self.len() >= MOST_STEPS {
            return Err("a list has too many steps".into());
        }
        self.push(step);
        Ok(())
    }
}
