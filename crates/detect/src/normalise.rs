//! A line becomes an event: frame, program, conversion, and what the engine alone may say.
//!
//! 1. The line as text: what is no UTF-8 is replaced, what is too long is cut for parsing; `event.original` keeps
//!    the line. Each such change is a tag (`_lossy`, `_line_cut`, `_original_cut`).
//! 2. The frame ([`crate::syslog`], JSON) sets time, host, program, pid and `message`.
//! 3. A line without any literal of `worth` stays a plain event (D10).
//! 4. The source's VRL program runs on `.`: it finds `.message`, with the frame `syslog` also `."@timestamp"`,
//!    `.host.hostname`, `.process.name`, `.process.pid`, with `json` also `.record`; `%received_at` and `%zone`
//!    tell when the line was read and which zone holds. What it leaves on `.` is the event. An error or `abort`
//!    makes a plain event with `error.message` and the tag `_parse_failure`: a line is never lost, and half an
//!    event is never kept.
//! 5. `X-Forwarded-For`: from the field that the source names, or `.sakimori.forwarded_for`, which is consumed.
//! 6. Dataset, module, original, host, agent, file, source and probe are set by the engine, whatever came before.
//!
//! Nothing is read but the arguments, so a line read again becomes the same event.

use std::borrow::Cow;

use aho_corasick::AhoCorasick;
use chrono_tz::Tz;
use sakimori_model::{Event, Network, Timestamp, field};
use vrl::compiler::runtime::Runtime;
use vrl::compiler::{CompileConfig, Program, TimeZone, compile_with_external};
use vrl::path::{OwnedTargetPath, OwnedValuePath, PathPrefix, parse_value_path};
use vrl::value::{ObjectMap, Value as Vrl};

use crate::document::{Document, Plan, is_text};
use crate::error::{ContentError, line_of};
use crate::forwarded::{apply_forwarded, name_network};
use crate::source::{EventTime, Framing, LogSource, ORIGINAL_BYTES};
use crate::syslog::{self, Head, Zone};
use crate::{functions, record};

/// Longest `error.message`.
const MAX_ERROR: usize = 512;

/// What is known of a line besides its bytes.
#[derive(Clone, Copy, Debug)]
pub struct LineContext<'a> {
    /// When it was read: `event.created`, and the time of an event that has none.
    pub received_at: Timestamp,
    /// Zone of times without one, unless the source names its own.
    pub zone: Tz,
    /// `host.name`; empty: what the line says.
    pub host_name: &'a str,
    /// `host.id`; empty: none.
    pub host_id: &'a str,
    /// `agent.id`; empty: none.
    pub agent_id: &'a str,
    /// `log.file.path`.
    pub file: Option<&'a str>,
    /// `log.offset`.
    pub offset: Option<u64>,
    /// `sakimori.probe`.
    pub probe: bool,
    /// Bytes of the line that its reader had to leave out.
    pub dropped: u64,
    /// Proxies whose X-Forwarded-For is believed.
    pub trusted_proxies: &'a [Network],
}

impl LineContext<'_> {
    /// A line of nobody in particular, read at this moment; times are UTC.
    pub fn at(received_at: Timestamp) -> Self {
        Self {
            received_at,
            zone: Tz::UTC,
            host_name: "",
            host_id: "",
            agent_id: "",
            file: None,
            offset: None,
            probe: false,
            dropped: 0,
            trusted_proxies: &[],
        }
    }
}

/// Turns lines of one source into events. Keeps its buffers from line to line, but no state that shows.
pub struct Normaliser {
    source: LogSource,
    program: Program,
    runtime: Runtime,
    worth: Option<AhoCorasick>,
    zone: Zone,
    reads: Reads,
    forwarded: Option<OwnedValuePath>,
    paths: Paths,
    document: Document,
    writes_own_forwarded: bool,
}

/// Paths of what is offered and taken back.
struct Paths {
    message: OwnedValuePath,
    time: OwnedValuePath,
    host: OwnedValuePath,
    name: OwnedValuePath,
    pid: OwnedValuePath,
    record: OwnedValuePath,
    forwarded: OwnedValuePath,
}

impl Paths {
    fn new() -> Self {
        let path = |text| parse_value_path(text).expect("a path of ours");
        Self {
            message: path("message"),
            time: path("\"@timestamp\""),
            host: path("host.hostname"),
            name: path("process.name"),
            pid: path("process.pid"),
            record: path("record"),
            forwarded: path("sakimori.forwarded_for"),
        }
    }
}

/// Which of what is offered the program looks at; the rest is not put before it.
#[derive(Clone, Copy, Debug)]
struct Reads {
    metadata: bool,
    time: bool,
    host: bool,
    name: bool,
    pid: bool,
}

impl Normaliser {
    /// Compiles the program of a source.
    ///
    /// # Errors
    /// The first thing that is wrong with the program, with file and line; a function that is not on the list
    /// ([`functions::ALLOWED`]) is one.
    pub fn new(source: &LogSource) -> Result<Self, ContentError> {
        let external = vrl::compiler::state::ExternalEnv::default();
        let compiled =
            compile_with_external(&source.program, &functions::allowed(), &external, CompileConfig::default())
                .map_err(|list| wrong(source, &list))?;
        let program = compiled.program;
        let info = program.info();
        let touches = |path: &[&str]| {
            info.target_queries.iter().any(|query| query.prefix == PathPrefix::Event && overlaps(query, path))
        };
        let reads = Reads {
            metadata: info.target_queries.iter().any(|query| query.prefix == PathPrefix::Metadata),
            time: touches(&["@timestamp"]),
            host: touches(&["host", "hostname"]),
            name: touches(&["process", "name"]),
            pid: touches(&["process", "pid"]),
        };
        let mut offered = vec!["message"];
        offered.extend((source.framing == Framing::Json).then_some("record"));
        for (is, path) in [
            (reads.time, "\"@timestamp\""),
            (reads.host, "host.hostname"),
            (reads.name, "process.name"),
            (reads.pid, "process.pid"),
        ] {
            offered.extend(is.then_some(path));
        }
        let document = Document::new(Plan::new(info, &offered));
        let own = ["sakimori", "forwarded_for"];
        let writes_own_forwarded =
            info.target_assignments.iter().any(|path| path.prefix == PathPrefix::Event && overlaps(path, &own));
        let file = source.program_file.replace(".vrl", ".yaml");
        let worth = if source.worth.is_empty() {
            None
        } else {
            let automaton = AhoCorasick::new(&source.worth)
                .map_err(|error| ContentError::new(&file, 1, format!("worth: {error}")))?;
            Some(automaton)
        };
        let forwarded = match source.forwarded.as_deref().map(parse_value_path) {
            None => None,
            Some(Ok(path)) => Some(path),
            Some(Err(error)) => return Err(ContentError::new(&file, 1, format!("forwarded: {error}"))),
        };
        Ok(Self {
            zone: Zone::new(source.zone.unwrap_or(Tz::UTC)),
            source: source.clone(),
            program,
            runtime: Runtime::default(),
            worth,
            reads,
            forwarded,
            paths: Paths::new(),
            document,
            writes_own_forwarded,
        })
    }

    /// Its source.
    pub fn source(&self) -> &LogSource {
        &self.source
    }

    /// Makes the event of a line, which comes without its line break. Never fails and never panics.
    pub fn parse(&mut self, line: &[u8], context: &LineContext<'_>) -> Event {
        let zone = self.source.zone.unwrap_or(context.zone);
        if zone != self.zone.tz() {
            self.zone = Zone::new(zone);
        }
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let (original, cut) = head_of(line, ORIGINAL_BYTES);
        let lossy = matches!(original, Cow::Owned(_));
        let (text, line_cut) = prefix(&original, self.source.bounds.line_bytes);
        let text = text.strip_suffix('\r').unwrap_or(text);

        let head = match self.source.framing {
            Framing::Syslog => syslog::parse(text, context.received_at, &mut self.zone),
            Framing::Line | Framing::Json => Head { message: text, ..Head::default() },
        };
        let mut event = if self.worth.as_ref().is_some_and(|worth| !worth.is_match(text)) {
            let mut event = self.plain(&head);
            event.set(field::EVENT_KIND, "event");
            event
        } else {
            match self.run(&head, context) {
                Ok(event) => event,
                Err(reason) => {
                    let mut event = self.plain(&head);
                    event.set(field::EVENT_KIND, "event");
                    event.set(field::ERROR_MESSAGE, prefix(&reason, MAX_ERROR).0.to_owned());
                    event.push(field::TAGS, "_parse_failure");
                    event
                }
            }
        };
        for (is, tag) in [(lossy, "_lossy"), (line_cut, "_line_cut"), (cut || context.dropped > 0, "_original_cut")] {
            if is {
                event.push(field::TAGS, tag);
            }
        }
        if cut || context.dropped > 0 {
            let size = (line.len() as u64).saturating_add(context.dropped);
            event.set_path("sakimori.original_bytes", size.into());
        }
        if self.source.time == EventTime::Received || event.timestamp().is_none() {
            let time = head.time.filter(|_| self.source.time == EventTime::Line).unwrap_or(context.received_at);
            event.set(field::TIMESTAMP, time);
        }
        self.stamp(&mut event, &head, &original, context);
        event
    }

    /// What the head says, and nothing else.
    fn plain(&self, head: &Head<'_>) -> Event {
        let mut event = Event::new();
        if let Some(time) = head.time {
            event.set(field::TIMESTAMP, time);
        }
        if let Some(host) = head.host {
            event.set(field::HOST_HOSTNAME, host.to_owned());
        }
        if let Some(program) = head.program {
            event.set(field::PROCESS_NAME, program.to_owned());
        }
        if let Some(pid) = head.pid {
            event.set(field::PROCESS_PID, pid);
        }
        if self.source.framing == Framing::Syslog {
            event.set(field::MESSAGE, head.message.to_owned());
        }
        event
    }

    /// Runs the program.
    fn run(&mut self, head: &Head<'_>, context: &LineContext<'_>) -> Result<Event, String> {
        let mut metadata = ObjectMap::new();
        if self.reads.metadata {
            metadata.insert("received_at".into(), Vrl::Timestamp(context.received_at.to_chrono()));
            metadata.insert("zone".into(), Vrl::from(self.zone.tz().name()));
        }
        self.document.begin(metadata);
        if self.source.framing == Framing::Json {
            let record = serde_json::from_str(head.message).map_err(|error| format!("the line is no JSON: {error}"))?;
            self.document.put(&self.paths.record, record::vrl(record));
        }
        self.offer(head);
        let zone = TimeZone::Named(self.zone.tz());
        self.runtime.clear();
        self.runtime.resolve(&mut self.document, &self.program, &zone).map_err(|error| why(&error.to_string()))?;

        let forwarded = self.forwarded_for();
        let is_record = self.source.framing == Framing::Json;
        let record = if is_record { self.document.take(&self.paths.record) } else { None };
        let unchanged = |message: &Vrl| is_text(message, head.message);
        if self.source.framing != Framing::Syslog && self.document.get(&self.paths.message).is_some_and(unchanged) {
            self.document.take(&self.paths.message);
        }
        let mut event = self.left_out(head);
        self.document.finish(&mut event)?;
        if let Some(record) = record {
            for path in &self.source.pass_through {
                if let Some(value) = parse_value_path(path).ok().and_then(|path| record.get(&path).cloned()) {
                    event.set_path(path, record::json(value, 0));
                }
            }
        }
        if let Some(header) = forwarded {
            apply_forwarded(&mut event, &header, context.trusted_proxies);
        }
        name_network(&mut event);
        Ok(event)
    }

    /// What the program finds on `.`.
    fn offer(&mut self, head: &Head<'_>) {
        let (document, paths) = (&mut self.document, &self.paths);
        document.put(&paths.message, Vrl::from(head.message));
        if let Some(name) = head.program.filter(|_| self.reads.name) {
            document.put(&paths.name, Vrl::from(name));
        }
        if let Some(pid) = head.pid.filter(|_| self.reads.pid) {
            document.put(&paths.pid, Vrl::Integer(pid));
        }
        if let Some(host) = head.host.filter(|_| self.reads.host) {
            document.put(&paths.host, Vrl::from(host));
        }
        if let Some(time) = head.time.filter(|_| self.reads.time) {
            document.put(&paths.time, Vrl::Timestamp(time.to_chrono()));
        }
    }

    /// What the head says and the program does not look at: it goes round the program.
    fn left_out(&self, head: &Head<'_>) -> Event {
        let mut event = Event::new();
        if let Some(time) = head.time.filter(|_| !self.reads.time) {
            event.set(field::TIMESTAMP, time);
        }
        if let Some(host) = head.host.filter(|_| !self.reads.host) {
            event.set(field::HOST_HOSTNAME, host.to_owned());
        }
        if let Some(program) = head.program.filter(|_| !self.reads.name) {
            event.set(field::PROCESS_NAME, program.to_owned());
        }
        if let Some(pid) = head.pid.filter(|_| !self.reads.pid) {
            event.set(field::PROCESS_PID, pid);
        }
        event
    }

    /// The header, where there is one.
    fn forwarded_for(&mut self) -> Option<String> {
        let own = if self.writes_own_forwarded { self.document.take(&self.paths.forwarded) } else { None };
        let value = match (&own, &self.forwarded) {
            (Some(value), _) => value,
            (None, Some(path)) => self.document.get(path)?,
            (None, None) => return None,
        };
        value.to_str_lossy().map(Cow::into_owned)
    }

    /// What the engine alone says.
    fn stamp(&self, event: &mut Event, head: &Head<'_>, original: &str, context: &LineContext<'_>) {
        for own in [field::ORGANIZATION_ID, field::SAKIMORI_ALERT_ID, field::SAKIMORI_DETECT_BUNDLE] {
            event.remove(own);
        }
        event.set(field::EVENT_ORIGINAL, original.to_owned());
        event.set(field::EVENT_DATASET, self.source.dataset.clone());
        event.set(field::EVENT_MODULE, self.source.module.clone());
        event.set(field::EVENT_CREATED, context.received_at);
        event.set(field::SAKIMORI_SOURCE, self.source.id.clone());
        // Who reads a log knows its host. Of what is sent from elsewhere the program may know better than the head, which
        // names who passed it on.
        if !context.host_name.is_empty() {
            event.set(field::HOST_NAME, context.host_name.to_owned());
        } else if let Some(host) = head.host.filter(|_| event.get(field::HOST_NAME).is_none()) {
            event.set(field::HOST_NAME, host.to_owned());
        }
        for (name, value) in [(field::HOST_ID, context.host_id), (field::AGENT_ID, context.agent_id)] {
            if !value.is_empty() {
                event.set(name, value.to_owned());
            }
        }
        if let Some(file) = context.file {
            event.set(field::LOG_FILE_PATH, file.to_owned());
        }
        if let Some(offset) = context.offset {
            event.set(field::LOG_OFFSET, i64::try_from(offset).unwrap_or(i64::MAX));
        }
        if context.probe {
            event.set(field::SAKIMORI_PROBE, true);
        } else {
            event.remove(field::SAKIMORI_PROBE);
        }
    }
}

/// The beginning of a line as text.
fn head_of(line: &[u8], most: usize) -> (Cow<'_, str>, bool) {
    let cut = line.len() > most;
    let mut taken = line.get(..most).unwrap_or(line);
    if cut
        && let Err(error) = std::str::from_utf8(taken)
        && error.error_len().is_none()
    {
        // A character that the cut would split is left out whole.
        taken = taken.get(..error.valid_up_to()).unwrap_or(taken);
    }
    (String::from_utf8_lossy(taken), cut)
}

/// The longest beginning of at most so many bytes, and whether something is missing.
fn prefix(text: &str, most: usize) -> (&str, bool) {
    if text.len() <= most {
        return (text, false);
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    (text.get(..end).unwrap_or_default(), true)
}

/// Does one of the paths lie on the other?
fn overlaps(path: &OwnedTargetPath, fields: &[&str]) -> bool {
    path.path.segments.iter().zip(fields).all(|(segment, field)| match segment {
        vrl::path::OwnedSegment::Field(name) => name.as_str() == *field,
        vrl::path::OwnedSegment::Index(_) => false,
    })
}

/// The first error of the compiler.
fn wrong(source: &LogSource, list: &vrl::diagnostic::DiagnosticList) -> ContentError {
    let Some(error) = list.errors().into_iter().next() else {
        return ContentError::new(&source.program_file, 1, "the program does not compile");
    };
    let at = error.labels().first().map_or(0, |label| label.span.start());
    let name: String = source
        .program
        .get(at..)
        .unwrap_or_default()
        .chars()
        .take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_')
        .collect();
    let reason = if functions::is_forbidden(&name) {
        format!("{name} may not be called: a line must become the same event whenever and wherever it is read")
    } else {
        let details: Vec<_> = error.labels().iter().map(|label| label.message.as_str()).collect();
        format!("{}: {}", error.message(), details.join(", "))
    };
    ContentError::new(&source.program_file, line_of(&source.program, at), reason)
}

/// A program's own words for why it refuses a line. VRL puts before them which function failed and at which bytes of
/// the program: nothing to whoever reads the event, and different with every edit of the program.
fn why(error: &str) -> String {
    let is_span = |span: &str| span.split_once(':').is_some_and(|(from, to)| is_number(from) && is_number(to));
    let told = error.strip_prefix("function call error for \"").and_then(|rest| {
        let (function, rest) = rest.split_once("\" at (")?;
        let (span, words) = rest.split_once("): ")?;
        is_span(span).then_some((function, words))
    });
    match told {
        Some(("assert", words)) => words.to_owned(),
        Some((function, words)) => format!("{function}: {words}"),
        None => error.to_owned(),
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
#[path = "normalise_tests.rs"]
mod tests;
