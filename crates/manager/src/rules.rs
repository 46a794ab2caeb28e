//! All rules of a bundle in one list, whatever their language: who they are, where they are written, what they are about.
//!
//! Sigma is loaded by its engine. Of network rules, YARA rules and hash lists only what stands about them is read here, by a
//! few lines each: the engines that understand them run in workers on the hosts, and the manager links none of them. What is
//! read is the bundle's, which is signed; still nothing of it can make this fail, it is only not listed then.

use std::collections::BTreeMap;

use sakimori_content::files::Files;
use sakimori_detect::{Detector, LogSource, Options, Place};
use sakimori_model::rule::{RuleInfo, Scope, Severity, Text};

/// Most rules that are listed of one bundle.
const MOST: usize = 200_000;

/// A language of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Language {
    /// Sigma.
    Sigma,
    /// Sigma that counts what others found.
    Correlation,
    /// Network rules.
    Suricata,
    /// Malware rules.
    Yara,
    /// Sums of malicious files.
    Hash,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Sigma, Self::Correlation, Self::Suricata, Self::Yara, Self::Hash];

    /// As JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sigma => "sigma",
            Self::Correlation => "correlation",
            Self::Suricata => "suricata",
            Self::Yara => "yara",
            Self::Hash => "hash",
        }
    }

    /// `rule.ruleset` of its alerts.
    pub fn ruleset(self) -> &'static str {
        match self {
            Self::Sigma | Self::Correlation => "sigma",
            other => other.name(),
        }
    }
}

/// A rule in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its envelope; the id is `rule.id` of its alerts.
    pub info: RuleInfo,
    /// Its language.
    pub language: Language,
    /// Its file in the bundle.
    pub file: String,
    /// The line where it begins, from 1.
    pub line: usize,
    /// CVE numbers that it names.
    pub cves: Vec<String>,
    /// Of a network rule, what policy calls its group.
    pub group: String,
    /// Of a network rule, what it does as it is written: `alert`, `drop`, `reject` or `pass`.
    pub action: String,
    /// Sums of a hash list.
    pub sums: usize,
}

/// All rules of a bundle, by language and id.
pub fn list(files: &Files) -> Vec<Listed> {
    let mut out = sigma(files);
    for (path, bytes) in files {
        let Ok(text) = std::str::from_utf8(bytes) else { continue };
        if path.starts_with("network/") && path.ends_with(".rules") {
            suricata(path, text, &mut out);
        } else if path.starts_with("malware/") && (path.ends_with(".yar") || path.ends_with(".yara")) {
            yara(path, text, &mut out);
        } else if path.starts_with("malware/") && path.ends_with(".hashes") {
            out.push(hashes(path, text));
        }
        if out.len() > MOST {
            out.truncate(MOST);
            break;
        }
    }
    out.sort_by(|a, b| (a.language, &a.info.id, &a.file).cmp(&(b.language, &b.info.id, &b.file)));
    out
}

fn sigma(files: &Files) -> Vec<Listed> {
    let (sources, _) = LogSource::load_all(files);
    let options = Options { place: Place::Manager, ..Options::default() }.with_sources(&sources);
    let (detector, _) = Detector::from_files(files, options);
    let listed = detector.places().map(|placed| {
        let text = part(text_of(files, placed.file), placed.line);
        Listed {
            info: placed.info.clone(),
            language: if placed.correlation { Language::Correlation } else { Language::Sigma },
            file: placed.file.to_owned(),
            line: placed.line,
            cves: cves(&text),
            group: String::new(),
            action: String::new(),
            sums: 0,
        }
    });
    listed.collect()
}

fn text_of<'a>(files: &'a Files, path: &str) -> &'a str {
    files.get(path).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
}

/// The document of a YAML file that begins at or before this line.
fn part(text: &str, line: usize) -> String {
    let from: Vec<&str> = text.lines().skip(line.saturating_sub(1)).collect();
    let end = from.iter().skip(1).position(|line| line.trim_end() == "---").map_or(from.len(), |at| at + 1);
    from.get(..end).unwrap_or_default().join("\n")
}

/// The text of one rule as it is written, of its file's.
pub fn text(listed: &Listed, files: &Files) -> String {
    let text = text_of(files, &listed.file);
    match listed.language {
        Language::Sigma | Language::Correlation | Language::Hash => text.to_owned(),
        Language::Suricata => text.lines().nth(listed.line - 1).unwrap_or_default().to_owned(),
        Language::Yara => {
            let from: Vec<&str> = text.lines().skip(listed.line - 1).collect();
            let end = from.iter().skip(1).position(|line| begins_yara(line).is_some()).map_or(from.len(), |at| at + 1);
            from.get(..end).unwrap_or_default().join("\n")
        }
    }
}

/// Files that hold the tests of a rule's file.
pub fn tests_file(listed: &Listed) -> Option<String> {
    let stem = |endings: &[&str]| endings.iter().find_map(|ending| listed.file.strip_suffix(ending));
    match listed.language {
        Language::Sigma | Language::Correlation => Some(format!("{}.tests.yaml", stem(&[".yml", ".yaml"])?)),
        Language::Suricata => Some(format!("{}.tests", stem(&[".rules"])?)),
        Language::Yara => Some(format!("{}.tests.yaml", stem(&[".yar", ".yara"])?)),
        Language::Hash => None,
    }
}

/// CVE numbers in a text, each once.
pub fn cves(text: &str) -> Vec<String> {
    let upper = text.to_ascii_uppercase();
    let mut out: Vec<String> = Vec::new();
    for (at, _) in upper.match_indices("CVE") {
        let rest = upper.get(at + 3..).unwrap_or_default().trim_start_matches(['-', '.', '_', ',', ' ']);
        let year: String = rest.chars().take_while(char::is_ascii_digit).take(5).collect();
        let rest = rest.get(year.len()..).unwrap_or_default();
        let number: String = rest.get(1..).unwrap_or_default().chars().take_while(char::is_ascii_digit).collect();
        if year.len() == 4 && rest.starts_with(['-', '_', '.']) && (4..=7).contains(&number.len()) {
            let found = format!("CVE-{year}-{number}");
            if !out.contains(&found) && out.len() < 20 {
                out.push(found);
            }
        }
    }
    out
}

fn severity(word: &str) -> Option<Severity> {
    Some(match word.trim().to_ascii_lowercase().as_str() {
        "informational" | "info" => Severity::Informational,
        "low" => Severity::Low,
        "medium" => Severity::Medium,
        "high" => Severity::High,
        "critical" => Severity::Critical,
        _ => return None,
    })
}

/// Options of a network rule: what stands between its parentheses, apart at `;` that no quote or backslash holds.
fn options(line: &str) -> Vec<(String, String)> {
    let inner = line.split_once('(').map(|(_, rest)| rest).unwrap_or_default();
    let inner = inner.trim_end().strip_suffix(')').unwrap_or(inner);
    let (mut out, mut one, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for letter in inner.chars() {
        match letter {
            ';' if !quoted && !escaped => {
                let (name, value) = one.split_once(':').unwrap_or((one.as_str(), ""));
                out.push((name.trim().to_owned(), value.trim().trim_matches('"').to_owned()));
                one.clear();
                continue;
            }
            '"' if !escaped => quoted = !quoted,
            _ => {}
        }
        escaped = letter == '\\' && !escaped;
        one.push(letter);
    }
    out
}

fn suricata(path: &str, text: &str, out: &mut Vec<Listed>) {
    let file = path.rsplit('/').next().unwrap_or(path);
    let group = file.strip_suffix(".rules").unwrap_or(file);
    for (at, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        let action = trimmed.split_whitespace().next().unwrap_or_default();
        if trimmed.starts_with('#') || !["alert", "drop", "reject", "pass"].contains(&action) {
            continue;
        }
        let options = options(trimmed);
        let value = |name: &str| options.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let Some(sid) = value("sid").filter(|sid| sid.parse::<u32>().is_ok()) else { continue };
        let metadata: Vec<(&str, &str)> = options
            .iter()
            .filter(|(name, _)| name == "metadata")
            .flat_map(|(_, value)| value.split(','))
            .filter_map(|pair| pair.trim().split_once(' '))
            .collect();
        let meta = |name: &str| metadata.iter().find(|(known, _)| *known == name).map(|(_, value)| value.trim());
        let techniques =
            metadata.iter().filter(|(name, _)| *name == "technique").map(|(_, value)| value.trim().to_owned());
        let references = options.iter().filter(|(name, _)| name == "reference").filter_map(|(_, value)| {
            let (kind, rest) = value.split_once(',')?;
            Some(match kind.trim() {
                "url" => {
                    format!("https://{}", rest.trim().trim_start_matches("https://").trim_start_matches("http://"))
                }
                "cve" => format!("CVE-{}", rest.trim().trim_start_matches("CVE-")),
                other => format!("{other}:{}", rest.trim()),
            })
        });
        let priority = value("priority").and_then(|priority| priority.parse::<u8>().ok());
        let by_priority = match priority {
            Some(0..=1) => Severity::High,
            Some(3..) => Severity::Low,
            _ => Severity::Medium,
        };
        out.push(Listed {
            info: RuleInfo {
                id: sid.to_owned(),
                revision: value("rev").and_then(|rev| rev.parse().ok()).unwrap_or(1),
                title: Text {
                    en: value("msg").unwrap_or_default().to_owned(),
                    ja: meta("title_ja").unwrap_or_default().into(),
                },
                language: Language::Suricata.name().into(),
                severity: meta("severity").and_then(severity).unwrap_or(by_priority),
                scope: Scope::Host,
                techniques: techniques.collect(),
                references: references.collect(),
                licence: String::new(),
            },
            language: Language::Suricata,
            file: path.to_owned(),
            line: at + 1,
            cves: cves(trimmed),
            group: group.to_owned(),
            action: action.to_owned(),
            sums: 0,
        });
    }
}

/// The name of the YARA rule that begins on this line, and whether it is private: those help others and report nothing.
fn begins_yara(line: &str) -> Option<(&str, bool)> {
    let mut words = line.split_whitespace();
    let mut word = words.next()?;
    let mut private = false;
    while word == "private" || word == "global" {
        private |= word == "private";
        word = words.next()?;
    }
    let name = (word == "rule").then(|| words.next())??;
    let name = name.split([':', '{']).next()?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (!name.is_empty() && name.bytes().all(fits)).then_some((name, private))
}

fn yara(path: &str, text: &str, out: &mut Vec<Listed>) {
    let lines: Vec<&str> = text.lines().collect();
    let begins: Vec<(usize, (&str, bool))> =
        lines.iter().enumerate().filter_map(|(at, line)| Some((at, begins_yara(line)?))).collect();
    for (nth, (at, (name, private))) in begins.iter().enumerate() {
        if *private {
            continue;
        }
        let end = begins.get(nth + 1).map_or(lines.len(), |(next, _)| *next);
        let body = lines.get(*at..end).unwrap_or_default();
        let meta: BTreeMap<&str, &str> = body
            .iter()
            .skip_while(|line| line.trim() != "meta:")
            .skip(1)
            .take_while(|line| !line.trim_end().ends_with(':'))
            .filter_map(|line| {
                let (name, value) = line.split_once('=')?;
                Some((name.trim(), value.trim().strip_prefix('"')?.strip_suffix('"')?))
            })
            .collect();
        let value = |name: &str| meta.get(name).map(|value| (*value).to_owned());
        let references: Vec<String> = value("reference").into_iter().collect();
        let technique = |text: &String| {
            let at = text.split_once("/techniques/")?.1.trim_end_matches('/');
            Some(at.replace('/', "."))
        };
        out.push(Listed {
            info: RuleInfo {
                id: value("id").unwrap_or_else(|| (*name).to_owned()),
                revision: value("revision").and_then(|revision| revision.parse().ok()).unwrap_or(1),
                title: Text {
                    en: value("title").or_else(|| value("description")).unwrap_or_else(|| (*name).to_owned()),
                    ja: value("title_ja").unwrap_or_default(),
                },
                language: Language::Yara.name().into(),
                severity: value("severity").as_deref().and_then(severity).unwrap_or(Severity::High),
                scope: Scope::Host,
                techniques: references.iter().filter_map(technique).collect(),
                references,
                licence: value("licence").unwrap_or_default(),
            },
            language: Language::Yara,
            file: path.to_owned(),
            line: at + 1,
            cves: cves(&body.join("\n")),
            group: String::new(),
            action: String::new(),
            sums: 0,
        });
    }
}

fn hashes(path: &str, text: &str) -> Listed {
    let stem = path.rsplit('/').next().and_then(|file| file.strip_suffix(".hashes")).unwrap_or(path);
    let sums = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).count();
    Listed {
        info: RuleInfo {
            id: stem.to_owned(),
            revision: 1,
            title: Text { en: format!("Hash list {stem}"), ja: format!("ハッシュリスト {stem}") },
            language: Language::Hash.name().into(),
            severity: Severity::High,
            scope: Scope::Host,
            techniques: Vec::new(),
            references: Vec::new(),
            licence: String::new(),
        },
        language: Language::Hash,
        file: path.to_owned(),
        line: 1,
        cves: Vec::new(),
        group: String::new(),
        action: String::new(),
        sums,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn files(all: &[(&str, &str)]) -> Files {
        all.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect()
    }

    #[test]
    fn the_built_in_content_is_one_list_over_all_languages() {
        let builtin = sakimori_content::files::builtin();
        let all = list(&builtin);
        let count = |language| all.iter().filter(|rule| rule.language == language).count();
        for language in [Language::Sigma, Language::Correlation, Language::Suricata, Language::Yara] {
            assert!(count(language) > 3, "{}: {}", language.name(), count(language));
        }
        for rule in &all {
            assert!(!rule.info.id.is_empty() && !rule.info.title.en.is_empty(), "{rule:?}");
            assert!(!text(rule, &builtin).is_empty(), "{}", rule.info.id);
            let tests = tests_file(rule).unwrap();
            assert!(builtin.contains_key(&tests), "{} has no tests at {tests}", rule.info.id);
        }
        // Every rule line and every YARA rule is there.
        let lines = builtin.iter().filter(|(path, _)| path.starts_with("network/") && path.ends_with(".rules"));
        let lines = lines.flat_map(|(_, bytes)| std::str::from_utf8(bytes).unwrap().lines());
        assert_eq!(
            count(Language::Suricata),
            lines.filter(|line| line.contains("sid:") && !line.starts_with('#')).count()
        );
        let miner = all.iter().find(|rule| rule.info.id == "miner-program").unwrap();
        assert_eq!(
            (miner.info.title.en.as_str(), miner.info.techniques.as_slice()),
            ("Mining program", ["T1496".to_owned()].as_slice())
        );
        assert!(
            text(miner, &builtin).contains("stratum+tcp") && !text(miner, &builtin).contains("miner_configuration")
        );
    }

    #[test]
    fn a_network_rule_is_read_as_it_is_written() {
        let rules = "# alert (msg:\"old\"; sid:7;)\ndrop tcp any any -> any any (msg:\"Seven; \\\"x\\\"\"; content:\"a|3b|;\"; \
                     reference:cve,2021-44228; reference:url,example.org/x; metadata:severity critical, technique T1190, \
                     title_ja 七; sid:7; rev:3;)\nalert tcp any any -> any any (msg:\"none\";)\n";
        let all = list(&files(&[("network/a.rules", rules)]));
        let [one] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((one.info.id.as_str(), one.info.revision, one.line), ("7", 3, 2));
        assert_eq!((one.group.as_str(), one.action.as_str(), one.info.severity), ("a", "drop", Severity::Critical));
        assert_eq!(one.info.references, ["CVE-2021-44228", "https://example.org/x"]);
        assert_eq!((one.info.techniques[0].as_str(), one.info.title.ja.as_str()), ("T1190", "七"));
    }

    #[test]
    fn cves_are_found_however_they_are_written() {
        assert_eq!(
            cves("cve-2021-44228, CVE_2014_6271 cve,2017-5638 CVE-20-1 CVE-2021-44228"),
            ["CVE-2021-44228", "CVE-2014-6271", "CVE-2017-5638",]
        );
        assert_eq!(cves("no cve here, CVE"), Vec::<String>::new());
    }

    #[test]
    fn a_hash_list_is_one_entry_with_its_sums() {
        let all = list(&files(&[("malware/bad.hashes", "# x\n\naa  one\nbb\n")]));
        assert_eq!((all[0].info.id.as_str(), all[0].sums, tests_file(&all[0])), ("bad", 2, None));
    }

    proptest! {
        #[test]
        fn nothing_written_makes_it_fail(text in ".{0,400}", lines in proptest::collection::vec("(alert|drop|rule|private rule|meta:|  id = \"|---|cve-)[ -~ｦ-ﾝ]{0,60}", 0..12)) {
            for body in [text, lines.join("\n")] {
                for path in ["network/a.rules", "malware/a.yar", "malware/a.hashes", "sigma/a.yml"] {
                    let files = files(&[(path, body.as_str())]);
                    for rule in list(&files) {
                        let _ = super::text(&rule, &files);
                    }
                }
                let _ = cves(&body);
            }
        }
    }
}
