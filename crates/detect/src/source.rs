//! A log source: one folder of the content that says how lines of one kind become events.
//!
//! ```text
//! logs/<vendor>/<name>/source.yaml      what it is (below)
//! logs/<vendor>/<name>/source.vrl       the program that makes the event
//! logs/<vendor>/<name>/cases/<n>.{log,expected.json}
//! ```
//!
//! ```yaml
//! id: linux/auth                 # slug, its folder
//! title: { en: Linux authentication log, ja: … }
//! dataset: linux.auth            # event.dataset
//! module: linux                  # event.module; what stands before the dot, where absent
//! framing: syslog                # line (default), syslog, json
//! recognise:                     # how a stranger's file is told to be this
//!   programs: [sshd, sudo]       #   syslog: the tag is one of these
//!   prefixes: ["{\"kind\":"]     #   the line begins with one of these
//!   literals: [" sshd["]         #   the line holds one of these
//!   fields:                      #   json: it has all fields of one of these, with this value ("*": any)
//!     - { source: aws.guardduty }
//! zone: Asia/Tokyo               # of times without one; that of the input or host, where absent
//! time: line                     # line (default): what the line says; received: when it was read
//! worth: [Failed, Accepted]      # a line without any of these is not worth the program (D10): a plain event
//! bounds: { line_bytes: 65536 }  # what is longer is cut for parsing; event.original keeps up to 1 MiB
//! forwarded: nginx.access.x_forwarded_for   # field that holds X-Forwarded-For, if any
//! pass_through: [trace.id]       # json: fields of the record that are taken over as they are
//! records: [detail.findings]     # json: lists of which each element is a record of its own, in the place of the list
//! occurrence: [detail.id]        # json: fields that name the occurrence; the same again is not taken a second time
//! says: [detail.id, detail.type] # json: fields that are all that it says; the same again is taken and not judged again
//! sigma:                         # log sources of Sigma that these events are
//!   - { product: linux, service: auth }
//! ```

use std::collections::BTreeMap;

use chrono_tz::Tz;
use sakimori_model::rule::Text;
use serde::Deserialize;

use crate::error::ContentError;
use crate::{arrival, syslog};

/// Longest line that a program sees, unless the source says otherwise.
pub const LINE_BYTES: usize = 64 * 1024;
/// Most that `event.original` keeps of a line.
pub const ORIGINAL_BYTES: usize = 1024 * 1024;

/// How a line is taken apart before the program sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// As it is.
    #[default]
    Line,
    /// Head of syslog: time, host, program, pid.
    Syslog,
    /// A JSON object a line, which the program finds under `.record`.
    Json,
}

/// Where the time of an event comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventTime {
    /// The line (its head or the program); when it was read, where it says nothing.
    #[default]
    Line,
    /// When it was read, whatever the line says.
    Received,
}

/// How lines of a source are told from others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recognise {
    /// Syslog tags.
    pub programs: Vec<String>,
    /// Beginnings.
    pub prefixes: Vec<String>,
    /// Texts anywhere in it.
    pub literals: Vec<String>,
    /// Of JSON: it has all fields of one of these, by path, with this value; `*` is any value.
    pub fields: Vec<BTreeMap<String, String>>,
}

/// Bounds of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Longest line that the program sees, in bytes.
    pub line_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { line_bytes: LINE_BYTES }
    }
}

/// A log source in Sigma's words; what is absent says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SigmaSource {
    /// `linux`.
    pub product: Option<String>,
    /// `auth`.
    pub service: Option<String>,
    /// `webserver`.
    pub category: Option<String>,
}

/// A log source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSource {
    /// Slug, `linux/auth`.
    pub id: String,
    /// Title in both languages.
    pub title: Text,
    /// `event.dataset`.
    pub dataset: String,
    /// `event.module`.
    pub module: String,
    /// How a line is taken apart.
    pub framing: Framing,
    /// How its lines are recognised.
    pub recognise: Recognise,
    /// Zone of times without one.
    pub zone: Option<Tz>,
    /// Where the event's time comes from.
    pub time: EventTime,
    /// Texts of which a line must hold one to be worth the program; empty: every line is.
    pub worth: Vec<String>,
    /// Bounds.
    pub bounds: Bounds,
    /// Path of the field that holds X-Forwarded-For.
    pub forwarded: Option<String>,
    /// JSON fields that are taken over.
    pub pass_through: Vec<String>,
    /// JSON lists of which each element is a record.
    pub records: Vec<String>,
    /// JSON fields that name the occurrence.
    pub occurrence: Vec<String>,
    /// JSON fields that are all that it says.
    pub says: Vec<String>,
    /// What it is in Sigma.
    pub sigma: Vec<SigmaSource>,
    /// The program, in VRL.
    pub program: String,
    /// Where the program is, for errors.
    pub program_file: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    id: String,
    title: Text,
    dataset: String,
    module: Option<String>,
    #[serde(default)]
    framing: Framing,
    #[serde(default)]
    recognise: Recognise,
    zone: Option<String>,
    #[serde(default)]
    time: EventTime,
    #[serde(default)]
    worth: Vec<String>,
    #[serde(default)]
    bounds: Bounds,
    forwarded: Option<String>,
    #[serde(default)]
    pass_through: Vec<String>,
    #[serde(default)]
    records: Vec<String>,
    #[serde(default)]
    occurrence: Vec<String>,
    #[serde(default)]
    says: Vec<String>,
    #[serde(default)]
    sigma: Vec<SigmaSource>,
}

impl LogSource {
    /// Reads the source in a folder (`logs/linux/auth`) of the content's files. The program is compiled by
    /// [`crate::Normaliser::new`].
    ///
    /// # Errors
    /// The first thing that is wrong, with file and line.
    pub fn load(folder: &str, files: &BTreeMap<String, Vec<u8>>) -> Result<Self, ContentError> {
        let folder = folder.trim_end_matches('/');
        let file = format!("{folder}/source.yaml");
        let program_file = format!("{folder}/source.vrl");
        let text = text(&file, files)?;
        let described: Described = yaml_serde::from_str(text).map_err(|error| ContentError::yaml(&file, 1, &error))?;
        let wrong = |key: &str, reason: String| Err(ContentError::new(&file, line_of_key(text, key), reason));
        if !(folder == described.id || folder.ends_with(&format!("/{}", described.id))) {
            return wrong("id", format!("id {:?} is not the folder's name {folder:?}", described.id));
        }
        if described.dataset.is_empty() || described.dataset.len() > 128 {
            return wrong("dataset", "the dataset needs 1 to 128 characters".into());
        }
        if !(256..=ORIGINAL_BYTES).contains(&described.bounds.line_bytes) {
            return wrong("bounds", format!("line_bytes must be from 256 to {ORIGINAL_BYTES}"));
        }
        if described.worth.iter().any(String::is_empty) {
            return wrong("worth", "an empty text is in every line; leave `worth` out instead".into());
        }
        let of_json = [
            ("records", !described.records.is_empty()),
            ("occurrence", !described.occurrence.is_empty()),
            ("says", !described.says.is_empty()),
            ("recognise", !described.recognise.fields.is_empty()),
        ];
        if let Some((key, _)) = of_json.into_iter().find(|(_, is)| *is && described.framing != Framing::Json) {
            return wrong(key, "paths lead into records of `framing: json` only".into());
        }
        let zone = match described.zone.as_deref().map(str::parse::<Tz>) {
            None => None,
            Some(Ok(zone)) => Some(zone),
            Some(Err(_)) => return wrong("zone", "the zone is no name of the IANA data base, as Asia/Tokyo is".into()),
        };
        let module =
            described.module.unwrap_or_else(|| described.dataset.split('.').next().unwrap_or_default().to_owned());
        Ok(Self {
            id: described.id,
            title: described.title,
            dataset: described.dataset,
            module,
            framing: described.framing,
            recognise: described.recognise,
            zone,
            time: described.time,
            worth: described.worth,
            bounds: described.bounds,
            forwarded: described.forwarded,
            pass_through: described.pass_through,
            records: described.records,
            occurrence: described.occurrence,
            says: described.says,
            sigma: described.sigma,
            program: self::text(&program_file, files)?.to_owned(),
            program_file,
        })
    }

    /// Reads every source of the content; what is wrong with one does not keep the others away.
    pub fn load_all(files: &BTreeMap<String, Vec<u8>>) -> (Vec<Self>, Vec<ContentError>) {
        let mut sources: Vec<Self> = Vec::new();
        let mut errors = Vec::new();
        for path in files.keys().filter(|path| path.starts_with("logs/")) {
            let Some(folder) = path.strip_suffix("/source.yaml") else { continue };
            match Self::load(folder, files) {
                Ok(source) => match sources.iter().find(|other| other.dataset == source.dataset) {
                    Some(other) => errors.push(ContentError::new(
                        path,
                        1,
                        format!("dataset {:?} is that of {} too", source.dataset, other.id),
                    )),
                    None => sources.push(source),
                },
                Err(error) => errors.push(error),
            }
        }
        (sources, errors)
    }

    /// Is this line one of its own? Only what `recognise` names is claimed.
    pub fn recognises(&self, line: &[u8]) -> bool {
        let line = line.get(..line.len().min(self.bounds.line_bytes)).unwrap_or_default();
        let text = String::from_utf8_lossy(line);
        let rule = &self.recognise;
        rule.prefixes.iter().any(|prefix| text.starts_with(prefix.as_str()))
            || rule.literals.iter().any(|literal| text.contains(literal.as_str()))
            || (!rule.programs.is_empty()
                && syslog::program(&text)
                    .is_some_and(|tag| rule.programs.iter().any(|known| known == tag.split('(').next().unwrap_or(tag))))
    }
}

impl LogSource {
    /// Is this record of JSON one of its own? Only what `recognise.fields` names is claimed.
    pub fn recognises_record(&self, record: &serde_json::Value) -> bool {
        let has = |path: &str, wanted: &str| {
            arrival::text_at(record, path).is_some_and(|found| wanted == "*" || found == wanted)
        };
        let of = |fields: &BTreeMap<String, String>| {
            !fields.is_empty() && fields.iter().all(|(path, wanted)| has(path, wanted))
        };
        self.framing == Framing::Json && self.recognise.fields.iter().any(of)
    }
}

fn text<'a>(file: &str, files: &'a BTreeMap<String, Vec<u8>>) -> Result<&'a str, ContentError> {
    let bytes = files.get(file).ok_or_else(|| ContentError::new(file, 1, "the file is missing"))?;
    std::str::from_utf8(bytes).map_err(|error| {
        let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
        ContentError::new(file, 1 + good.iter().filter(|byte| **byte == b'\n').count(), "the file is not UTF-8")
    })
}

/// The line on which a key of the top level stands.
pub(crate) fn line_of_key(text: &str, key: &str) -> usize {
    1 + text.lines().position(|line| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':'))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(yaml: &str) -> BTreeMap<String, Vec<u8>> {
        BTreeMap::from([
            ("logs/acme/audit/source.yaml".to_owned(), yaml.as_bytes().to_vec()),
            ("logs/acme/audit/source.vrl".to_owned(), b".event.kind = \"event\"".to_vec()),
        ])
    }

    const GOOD: &str = "id: acme/audit\ntitle: { en: Audit, ja: x }\ndataset: acme.audit\n";

    #[test]
    fn a_source_is_read_with_its_defaults() {
        let source = LogSource::load("logs/acme/audit", &files(GOOD)).unwrap();
        assert_eq!(source.module, "acme");
        assert_eq!(source.framing, Framing::Line);
        assert_eq!(source.bounds.line_bytes, LINE_BYTES);
    }

    #[test]
    fn what_is_wrong_is_named_with_file_and_line() {
        for (added, line, reason) in [
            ("colour: red\n", 4, "colour"),
            ("framing: cloud\n", 4, "cloud"),
            ("zone: Mars/Phobos\n", 4, "IANA"),
            ("forwarded: a.b\nbounds: { line_bytes: 1 }\n", 5, "line_bytes"),
            ("worth: ['']\n", 4, "worth"),
            ("says: [a.b]\n", 4, "json"),
        ] {
            let error = LogSource::load("logs/acme/audit", &files(&format!("{GOOD}{added}"))).unwrap_err();
            assert_eq!((error.file.as_str(), error.line), ("logs/acme/audit/source.yaml", line), "{error}");
            assert!(error.reason.contains(reason), "{error}");
        }
        let error = LogSource::load("logs/acme/other", &files(GOOD)).unwrap_err();
        assert!(error.reason.contains("missing"), "{error}");
    }

    #[test]
    fn one_broken_source_does_not_keep_the_others_away() {
        let mut all = files(GOOD);
        all.insert("logs/acme/broken/source.yaml".into(), b"id: [".to_vec());
        all.insert("logs/acme/twice/source.yaml".into(), GOOD.replace("acme/audit", "acme/twice").into_bytes());
        all.insert("logs/acme/twice/source.vrl".into(), Vec::new());
        let (sources, errors) = LogSource::load_all(&all);
        assert_eq!(sources.len(), 1);
        assert_eq!(errors.len(), 2, "{errors:?}");
    }

    #[test]
    fn lines_are_recognised_by_what_is_named_only() {
        let yaml = format!("{GOOD}framing: syslog\nrecognise: {{ programs: [sshd], prefixes: ['A:'] }}\n");
        let source = LogSource::load("logs/acme/audit", &files(&yaml)).unwrap();
        assert!(source.recognises(b"Nov 24 10:00:00 web-1 sshd[1]: x"));
        assert!(source.recognises(b"Nov 24 10:00:00 web-1 sshd(pam_unix)[1]: x"));
        assert!(!source.recognises(b"Nov 24 10:00:00 web-1 nginx[1]: sshd[1]: x"));
        assert!(source.recognises(b"A: x"));
        assert!(!source.recognises(&[0xff; 100]));
    }
}
