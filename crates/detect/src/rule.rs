//! Sigma files to rules: every document is read by itself, so that a broken one keeps no other away and its error
//! names the line at which it stands.
//!
//! What is ours stands in the block `sakimori:` of a rule:
//!
//! ```yaml
//! sakimori:
//!   id: ssh-brute-force     # slug; of `name:` or the file's name, where absent
//!   revision: 1             # grows with every change of meaning
//!   scope: host             # host or wide (default)
//!   title_ja: SSH 総当たり攻撃
//! ```
//!
//! A rule that others count (`correlation.rules`) makes no alert by itself, unless one of them says
//! `generate: true`.

use rsigma_eval::{CompiledRule, compile_rule};
use rsigma_parser::{CorrelationRule, Level, LogSource, SigmaCollection, SigmaRule};
use sakimori_model::rule::{RuleInfo, Scope, Severity, Text};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::aliases;
use crate::error::ContentError;
use crate::plain::Plain;
use crate::source::line_of_key;
use crate::witness::{self, Witnesses};

/// Products whose records come from elsewhere than the host that they speak of.
const REMOTE: [&str; 14] = [
    "aws",
    "azure",
    "gcp",
    "m365",
    "okta",
    "onelogin",
    "github",
    "gitlab",
    "bitbucket",
    "cisco",
    "fortios",
    "paloalto",
    "google_workspace",
    "kubernetes",
];

/// What is known of a rule besides how it matches.
#[derive(Clone, Debug)]
pub(crate) struct Meta {
    pub info: RuleInfo,
    /// Sigma's `id`.
    pub uuid: Option<String>,
    /// Sigma's `name`.
    pub name: Option<String>,
    pub description: Option<String>,
    pub author: Option<String>,
    /// It has a block `sakimori:`.
    pub declared: bool,
    /// ATT&CK tactics by their short names.
    pub tactics: Vec<String>,
    pub file: String,
    /// Line at which the document begins.
    pub line: usize,
    /// Hash of the document.
    pub digest: [u8; 32],
}

/// A rule that looks at one event.
#[derive(Debug)]
pub(crate) struct Rule {
    pub meta: Meta,
    pub logsource: LogSource,
    pub compiled: CompiledRule,
    pub witnesses: Witnesses,
    /// Where it is no more than that.
    pub plain: Option<Plain>,
}

/// A correlation as it was written.
#[derive(Debug)]
pub(crate) struct Written {
    pub meta: Meta,
    pub rule: CorrelationRule,
}

/// All that was found in files.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    pub rules: Vec<Rule>,
    pub correlations: Vec<Written>,
    pub errors: Vec<ContentError>,
    /// Files with a correlation that cannot be used: what it counts must not become alerts for that.
    pub muted: Vec<String>,
}

#[derive(Default, Deserialize)]
struct Outer {
    #[serde(default)]
    sakimori: Ours,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Ours {
    id: Option<String>,
    revision: Option<u32>,
    scope: Scope,
    title_ja: String,
}

impl Documents {
    /// Reads one file.
    pub(crate) fn read(&mut self, file: &str, text: &str) {
        // `action: global` speaks of the documents after it, so such a file is read as one.
        let whole = text.lines().any(|line| line.starts_with("action:"));
        let parts = if whole { vec![(1, text)] } else { documents(text) };
        let several = parts.len() > 1;
        for (line, part) in parts {
            if let Err(error) = self.document(file, line, part, several) {
                if part.lines().any(|line| line.starts_with("correlation:")) {
                    self.muted.push(file.to_owned());
                }
                self.errors.push(error);
            }
        }
    }

    fn document(&mut self, file: &str, line: usize, text: &str, several: bool) -> Result<(), ContentError> {
        let at = |key: &str, reason: String| ContentError::new(file, line + line_of_key(text, key) - 1, reason);
        let outer: Outer = match yaml_serde::from_str(text) {
            Ok(outer) => outer,
            Err(error) if text.contains("\naction:") || text.starts_with("action:") => {
                let _ = error;
                Outer::default()
            }
            Err(error) => return Err(ContentError::yaml(file, line, &error)),
        };
        let collection =
            rsigma_parser::parse_sigma_yaml(text).map_err(|error| ContentError::new(file, line, error.to_string()))?;
        let SigmaCollection { rules, correlations, filters, errors } = collection;
        let found = rules.len() + correlations.len();
        for reason in errors {
            let error = at(key_of(&reason), reason);
            if found == 0 {
                return Err(error);
            }
            self.errors.push(error);
        }
        if !filters.is_empty() {
            return Err(at("filter", "sigma filters are not supported: write the exception into the rule".into()));
        }
        let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        for mut rule in rules {
            let meta = Meta::of_rule(&rule, &outer.sakimori, file, line, several, digest);
            let source = &rule.logsource;
            if meta.info.scope == Scope::Host
                && source.product.as_deref().is_some_and(|product| REMOTE.contains(&product))
            {
                return Err(at("sakimori", "scope host needs a log source that is local to a host".into()));
            }
            aliases::rename(&mut rule);
            let compiled = compile_rule(&rule).map_err(|error| at("detection", error.to_string()))?;
            let witnesses = witness::of(&compiled);
            let plain = Plain::of(&compiled);
            self.rules.push(Rule { meta, logsource: rule.logsource, compiled, witnesses, plain });
        }
        for rule in correlations {
            let meta = Meta::of_correlation(&rule, &outer.sakimori, file, line, several, digest);
            self.correlations.push(Written { meta, rule });
        }
        Ok(())
    }
}

/// Which key of a document an error of the parser speaks of.
fn key_of(reason: &str) -> &'static str {
    let reason = reason.to_ascii_lowercase();
    for key in ["correlation", "logsource", "level", "status", "condition", "detection", "modifier", "title"] {
        if reason.contains(key) {
            return match key {
                "condition" | "modifier" => "detection",
                key => key,
            };
        }
    }
    "title"
}

/// The documents of a file, with the line at which each begins. One of comments alone is none.
fn documents(text: &str) -> Vec<(usize, &str)> {
    let mut parts = Vec::new();
    let (mut begin, mut first_line, mut offset) = (0, 1, 0);
    let mut push = |from: usize, to: usize, line: usize| {
        let part = text.get(from..to).unwrap_or_default();
        if part.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
            parts.push((line, part));
        }
    };
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if line.trim_end() == "---" {
            push(begin, offset, first_line);
            begin = offset + line.len();
            first_line = number + 2;
        }
        offset += line.len();
    }
    push(begin, text.len(), first_line);
    parts
}

/// The document of a file that begins on a line.
pub(crate) fn document_at(text: &str, line: usize) -> &str {
    documents(text).into_iter().find(|(first, _)| *first == line).map_or(text, |(_, part)| part)
}

impl Meta {
    fn of_rule(rule: &SigmaRule, ours: &Ours, file: &str, line: usize, several: bool, digest: [u8; 32]) -> Self {
        let mut meta = Self::new(ours, rule.name.as_deref(), file, line, several, digest);
        meta.info.title.en.clone_from(&rule.title);
        meta.info.references.clone_from(&rule.references);
        meta.info.licence = rule.license.clone().unwrap_or_default();
        meta.uuid.clone_from(&rule.id);
        meta.description.clone_from(&rule.description);
        meta.author.clone_from(&rule.author);
        meta.judge(rule.level, &rule.tags);
        meta
    }

    fn of_correlation(
        rule: &CorrelationRule,
        ours: &Ours,
        file: &str,
        line: usize,
        several: bool,
        digest: [u8; 32],
    ) -> Self {
        let mut meta = Self::new(ours, rule.name.as_deref(), file, line, several, digest);
        meta.info.title.en.clone_from(&rule.title);
        meta.info.references.clone_from(&rule.references);
        meta.info.licence = rule.license.clone().unwrap_or_default();
        meta.uuid.clone_from(&rule.id);
        meta.description.clone_from(&rule.description);
        meta.author.clone_from(&rule.author);
        meta.judge(rule.level, &rule.tags);
        meta
    }

    fn new(ours: &Ours, name: Option<&str>, file: &str, line: usize, several: bool, digest: [u8; 32]) -> Self {
        let stem = file.rsplit('/').next().unwrap_or(file);
        let stem = stem.strip_suffix(".yml").or_else(|| stem.strip_suffix(".yaml")).unwrap_or(stem);
        let id = match (&ours.id, name) {
            (Some(id), _) => id.clone(),
            (None, Some(name)) => slug(name),
            (None, None) if several => format!("{}-{line}", slug(stem)),
            (None, None) => slug(stem),
        };
        Self {
            info: RuleInfo {
                id,
                revision: ours.revision.unwrap_or(1),
                title: Text { en: String::new(), ja: ours.title_ja.clone() },
                language: "sigma".into(),
                severity: Severity::default(),
                scope: ours.scope,
                references: Vec::new(),
                techniques: Vec::new(),
                licence: String::new(),
            },
            uuid: None,
            name: name.map(str::to_owned),
            description: None,
            author: None,
            declared: ours.id.is_some() || ours.revision.is_some() || !ours.title_ja.is_empty(),
            tactics: Vec::new(),
            file: file.to_owned(),
            line,
            digest,
        }
    }

    fn judge(&mut self, level: Option<Level>, tags: &[String]) {
        self.info.severity = match level {
            None | Some(Level::Informational) => Severity::Informational,
            Some(Level::Low) => Severity::Low,
            Some(Level::Medium) => Severity::Medium,
            Some(Level::High) => Severity::High,
            Some(Level::Critical) => Severity::Critical,
        };
        for tag in tags.iter().filter_map(|tag| tag.strip_prefix("attack.")) {
            let technique = tag.strip_prefix('t').filter(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
            match technique {
                Some(number) => self.info.techniques.push(format!("T{number}")),
                None => self.tactics.push(tag.replace('_', "-")),
            }
        }
    }
}

/// Lower case, all else than letters and digits a hyphen.
fn slug(text: &str) -> String {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "title: A\nname: some_rule\nlogsource: { product: linux }\ndetection:\n  a: { event.action: x }\n  condition: a\nlevel: high\ntags: [attack.t1110.001, attack.credential-access]\n";

    fn read(text: &str) -> Documents {
        let mut documents = Documents::default();
        documents.read("sigma/linux/a_file.yml", text);
        documents
    }

    #[test]
    fn the_envelope_is_read() {
        let found = read(&format!("{RULE}sakimori: {{ revision: 3, scope: host, title_ja: あ }}\n"));
        assert!(found.errors.is_empty(), "{:?}", found.errors);
        let info = &found.rules[0].meta.info;
        assert_eq!((info.id.as_str(), info.revision, info.scope), ("some-rule", 3, Scope::Host));
        assert_eq!((info.severity, info.techniques.as_slice()), (Severity::High, ["T1110.001".to_owned()].as_slice()));
        assert_eq!((info.title.en.as_str(), info.title.ja.as_str()), ("A", "あ"));
        assert_eq!(found.rules[0].meta.tactics, ["credential-access"]);
        assert_eq!(read(&RULE.replace("name: some_rule\n", "")).rules[0].meta.info.id, "a-file");
    }

    #[test]
    fn an_error_names_its_line_and_the_others_load() {
        for (broken, line, reason) in [
            (
                "title: B\nlogsource: { product: linux }\ndetection:\n  a: { x|nonsense: y }\n  condition: a\n",
                13,
                "nonsense",
            ),
            (
                "title: B\nlogsource: { product: linux }\ndetection:\n  a: { x: y }\n  condition: a and\n",
                13,
                "ondition",
            ),
            ("title: B\nlogsource: { product: linux }\n", 11, "etection"),
            ("title: B\n  x: [\n", 12, ""),
            (
                "title: B\nlogsource: { product: linux }\ndetection:\n  a: { x: y }\n  condition: a\nsakimori: { scope: mars }\n",
                16,
                "mars",
            ),
            (
                "title: B\nlogsource: { product: aws }\ndetection:\n  a: { x: y }\n  condition: a\nsakimori: { scope: host }\n",
                16,
                "local",
            ),
            ("title: B\nlogsource: { product: linux }\ndetection:\n  a: { x|re: '(' }\n  condition: a\n", 13, "regex"),
        ] {
            let found = read(&format!("# one\n{RULE}---\n{broken}---\n{}", RULE.replace("some_rule", "other")));
            assert_eq!(found.rules.len(), 2, "{broken}");
            assert_eq!(found.errors.len(), 1, "{broken}: {:?}", found.errors);
            let error = &found.errors[0];
            assert_eq!((error.file.as_str(), error.line), ("sigma/linux/a_file.yml", line), "{error}");
            assert!(error.reason.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_wrong_level_is_said_though_the_rule_loads() {
        let found = read(&RULE.replace("high", "hgih"));
        assert_eq!((found.rules.len(), found.errors.len()), (1, 1), "{:?}", found.errors);
        assert_eq!(found.errors[0].line, 7, "{}", found.errors[0]);
    }
}
