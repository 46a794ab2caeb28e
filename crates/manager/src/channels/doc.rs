//! The words of a message as lines, each with what it is, and how each form of text lays them out and escapes them.
//!
//! A template gives lines, a mark in front of each (`content/notify`). So what an attacker chose is always within a line,
//! never a line or a mark of its own, and each form escapes whole lines: there is no way for a template to forget it.

use serde_json::{Value, json};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// `# `: what the lines after it are about.
    Heading(String),
    /// `- label: value`.
    Fact(String, String),
    /// `$ `: a command to type.
    Command(String),
    /// `@ label: url`: a page to open.
    Link(String, String),
    /// `| `, or no mark: a sentence.
    Text(String),
}

impl Line {
    /// The line of a text with its mark; `None` of an empty one.
    pub fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        let of = |mark: &str| text.strip_prefix(mark).map(|rest| rest.trim().to_owned());
        let pair = |rest: String| {
            let (label, value) = rest.split_once(": ")?;
            let (label, value) = (label.trim(), value.trim());
            (!label.is_empty() && !value.is_empty()).then(|| (label.to_owned(), value.to_owned()))
        };
        if let Some(rest) = of("# ") {
            return Some(Self::Heading(rest));
        }
        if let Some(rest) = of("$ ") {
            return Some(Self::Command(rest));
        }
        if let Some(rest) = of("- ") {
            // A fact without a value is none.
            return pair(rest).map(|(label, value)| Self::Fact(label, value));
        }
        if let Some(rest) = of("@ ") {
            let (label, url) = pair(rest)?;
            let right =
                (url.starts_with("https://") || url.starts_with("http://")) && !url.contains(char::is_whitespace);
            return right.then_some(Self::Link(label, url));
        }
        let rest = of("| ").unwrap_or_else(|| text.trim_start_matches('|').trim().to_owned());
        (!rest.is_empty()).then_some(Self::Text(rest))
    }

    /// Lines of a text with their marks.
    pub fn all(text: &str) -> Vec<Self> {
        text.lines().filter_map(Self::read).collect()
    }
}

/// The words of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doc {
    /// One line: a subject.
    pub title: String,
    /// What stands first, the question included: it is never cut.
    pub head: Vec<Line>,
    /// What is told of each alert.
    pub alerts: Vec<Vec<Line>>,
    /// At `n`: what is said where `n` of the alerts are told one by one; empty where those are all.
    pub more: Vec<String>,
}

impl Doc {
    /// The lines with this many alerts, part by part.
    pub fn parts(&self, alerts: usize) -> Vec<Vec<Line>> {
        let told = self.alerts.iter().take(alerts).cloned();
        let more = self.more.get(alerts.min(self.alerts.len())).filter(|more| !more.is_empty());
        let more = more.map(|more| Line::all(more));
        std::iter::once(self.head.clone()).chain(told).chain(more).filter(|part| !part.is_empty()).collect()
    }

    /// As many alerts as fit: the first that `make` takes, from all of them to none.
    pub fn fit<T>(&self, make: impl Fn(&[Vec<Line>]) -> Option<T>) -> Option<T> {
        (0..=self.alerts.len()).rev().find_map(|alerts| make(&self.parts(alerts)))
    }

    /// Plain text of at most so many bytes.
    pub fn plain(&self, most: usize) -> String {
        let fitted = self.fit(|parts| Some(plain(parts)).filter(|text| text.len() <= most));
        fitted.unwrap_or_else(|| prefix(&plain(&self.parts(0)), most))
    }
}

/// At most so many bytes of a text, cut at a character and marked.
pub fn prefix(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let mut end = most.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", text.get(..end).unwrap_or_default())
}

/// At most so many characters of a text, cut and marked.
pub fn chars(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Plain text.
pub fn plain(parts: &[Vec<Line>]) -> String {
    let line = |line: &Line| match line {
        Line::Heading(text) => format!("* {text}"),
        Line::Fact(label, value) => format!("{label}: {value}"),
        Line::Command(text) => format!("  $ {text}"),
        Line::Link(label, url) => format!("{label}: {url}"),
        Line::Text(text) => text.clone(),
    };
    let part = |part: &Vec<Line>| part.iter().map(line).collect::<Vec<_>>().join("\n");
    parts.iter().map(part).collect::<Vec<_>>().join("\n\n") + "\n"
}

/// HTML of a mail: no script, no picture, nothing that is loaded from elsewhere.
pub fn html(language: &str, title: &str, parts: &[Vec<Line>]) -> String {
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"{language}\"><head><meta charset=\"utf-8\"><title>{0}</title></head>\n\
         <body style=\"margin:0;padding:16px;background:#f4f5f7;color:#1d2129;font:15px/1.5 sans-serif\">\n\
         <div style=\"max-width:640px;margin:0 auto\">\n<h1 style=\"font-size:19px;margin:0 0 12px\">{0}</h1>\n",
        escape_html(title)
    );
    for part in parts {
        out.push_str(
            "<div style=\"background:#fff;border:1px solid #d9dce1;border-radius:6px;padding:12px 16px;margin:0 0 12px\">\n",
        );
        for line in part {
            out.push_str(&html_line(line));
        }
        out.push_str("</div>\n");
    }
    out.push_str("</div></body></html>\n");
    out
}

fn html_line(line: &Line) -> String {
    let e = escape_html;
    match line {
        Line::Heading(text) => format!("<h2 style=\"font-size:16px;margin:8px 0 4px\">{}</h2>\n", e(text)),
        Line::Fact(label, value) => format!(
            "<div style=\"padding-left:124px;text-indent:-124px\"><span \
             style=\"color:#5a6270;display:inline-block;min-width:120px;text-indent:0\">{}</span> <b>{}</b></div>\n",
            e(label),
            e(value)
        ),
        Line::Command(text) => format!(
            "<pre style=\"background:#f4f5f7;padding:6px 10px;margin:4px 0;white-space:pre-wrap\">{}</pre>\n",
            e(text)
        ),
        Line::Link(label, url) => format!(
            "<p style=\"margin:8px 0\"><a href=\"{}\" style=\"background:#2456a6;color:#fff;padding:6px 14px;\
             border-radius:4px;text-decoration:none\">{}</a></p>\n",
            e(url),
            e(label)
        ),
        Line::Text(text) => format!("<p style=\"margin:6px 0\">{}</p>\n", e(text)),
    }
}

/// For text and attributes of HTML.
pub fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Atlassian's document format: its text nodes are plain, so that nothing in them is more than text.
pub fn adf(parts: &[Vec<Line>]) -> Value {
    let text = |text: &str| json!({ "type": "text", "text": text });
    let strong = |text: &str| json!({ "type": "text", "text": text, "marks": [{ "type": "strong" }] });
    let paragraph = |content: Vec<Value>| json!({ "type": "paragraph", "content": content });
    let mut content = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            content.push(json!({ "type": "rule" }));
        }
        content.extend(part.iter().map(|line| match line {
            Line::Heading(words) => json!({ "type": "heading", "attrs": { "level": 3 }, "content": [text(words)] }),
            Line::Fact(label, value) => paragraph(vec![strong(&format!("{label}: ")), text(value)]),
            Line::Command(words) => json!({ "type": "codeBlock", "content": [text(words)] }),
            Line::Link(label, url) => paragraph(vec![
                json!({ "type": "text", "text": label, "marks": [{ "type": "link", "attrs": { "href": url } }] }),
            ]),
            Line::Text(words) => paragraph(vec![text(words)]),
        }));
    }
    json!({ "version": 1, "type": "doc", "content": content })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doc(alerts: usize) -> Doc {
        Doc {
            title: "T".into(),
            head: Line::all("| head\n"),
            alerts: (0..alerts).map(|n| Line::all(&format!("# a{n}\n- Host: web{n}\n$ undo {n}\n"))).collect(),
            more: (0..=alerts)
                .map(|n| if n == alerts { String::new() } else { format!("| and {} more", alerts - n) })
                .collect(),
        }
    }

    #[test]
    fn a_line_is_what_its_mark_says_and_a_value_makes_no_mark() {
        let lines = Line::all(
            "# H\n\n- Host: a: b\n- Empty: \n$ x\n@ Open: https://e.example/?a=1\n@ Bad: javascript:x\n| # no\n|\nfree",
        );
        assert_eq!(
            lines,
            [
                Line::Heading("H".into()),
                Line::Fact("Host".into(), "a: b".into()),
                Line::Command("x".into()),
                Line::Link("Open".into(), "https://e.example/?a=1".into()),
                Line::Text("# no".into()),
                Line::Text("free".into()),
            ]
        );
    }

    #[test]
    fn what_does_not_fit_is_counted_and_never_cut_through() {
        let doc = doc(20);
        let all = doc.plain(10_000);
        assert!(all.contains("a19") && !all.contains("more"));
        for most in [60, 100, 200, 400] {
            let text = doc.plain(most);
            assert!(text.len() <= most && text.starts_with("head"), "{text}");
            let told = text.matches("undo").count();
            assert!(text.contains(&format!("and {} more", 20 - told)), "{most}: {text}");
        }
        assert_eq!(doc.plain(9), "head\n\n…", "at worst");
        assert_eq!(prefix("ééé", 5), "é…");
        assert_eq!(chars("ééé", 2), "é…");
    }

    #[test]
    fn html_and_the_document_format_hold_hostile_values_as_text() {
        let hostile = "</div><script>alert('1')</script>\"&{{x}} [a](javascript:b)";
        let parts = vec![vec![
            Line::Heading(hostile.into()),
            Line::Fact("User".into(), hostile.into()),
            Line::Command(hostile.into()),
            Line::Text(hostile.into()),
        ]];
        let page = html("en", hostile, &parts);
        assert!(!page.contains("<script") && !page.contains("alert('") && page.matches("&lt;script&gt;").count() == 6);
        assert_eq!(page.matches("<div").count(), page.matches("</div>").count());
        let doc = adf(&parts);
        let texts: Vec<&str> = doc["content"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["content"].as_array().unwrap().last().unwrap()["text"].as_str().unwrap())
            .collect();
        assert_eq!(texts, [hostile; 4], "as it is, in a node that is text");
    }
}
