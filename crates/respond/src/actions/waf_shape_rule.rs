//! `waf_shape_rule`: a rule in a web ACL made of the shape of an attack: a text in the path, the query, a parameter or a header.
//! It is put in to count at first; once its hits are looked at, the same with `mode: block`.

use sakimori_model::Order;
use serde::{Deserialize, Serialize};

use super::waf_rate_rule::MAX_TEXT;
use super::web_acl::{IP_SET_INPUT, KIND, MODE_INPUT, Mode, SCOPE_INPUT, mode};
use super::{Descriptor, Input, Runs, Safety, TargetKind, short};
use crate::former::input;

/// Slug.
pub const ID: &str = "waf_shape_rule";
/// Input: where the text is looked for.
pub const PART: &str = "part";
/// Input: the text.
pub const TEXT: &str = "text";
/// Input: how it is compared.
pub const MATCH: &str = "match";
/// Shortest text, unless all of a part must be equal: a shorter one would hit everybody.
const LEAST_TEXT: usize = 3;
/// Longest name of a header or parameter (AWS WAF).
const MAX_NAME: usize = 64;

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Put an attack's shape into AWS WAF",
    title_ja: "攻撃パターンを AWS WAF に登録",
    config: &[],
    inputs: &[
        Input { name: PART, about: "path, query, parameter:NAME or header:NAME", most: 80 },
        Input { name: TEXT, about: "what is looked for there; upper and lower case are the same", most: MAX_TEXT },
        Input { name: MATCH, about: "contains (the default), exact, starts or ends", most: 16 },
        MODE_INPUT,
        SCOPE_INPUT,
        IP_SET_INPUT,
    ],
    target: TargetKind::Resource(KIND),
    permissions: &["wafv2:GetWebACL", "wafv2:ListResourcesForWebACL", "wafv2:ListWebACLs", "wafv2:UpdateWebACL"],
    safety: Safety::Converge,
    undo: Some("takes exactly this rule out of each web ACL"),
    expires: true,
    blast_radius: "in mode block every request of this shape, for everything behind the web ACL; in mode count none",
    verification: "reads each web ACL back and looks for the rule",
    runs: Runs::Account,
};

/// Where the text is looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// The path of the URL.
    Path,
    /// All after the question mark.
    Query,
    /// One parameter of the query.
    Parameter(String),
    /// One header.
    Header(String),
}

/// How the text is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Match {
    /// Anywhere in the part.
    Contains,
    /// It is the whole part.
    Exact,
    /// At its beginning.
    Starts,
    /// At its end.
    Ends,
}

/// The rule that an order asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeRule {
    /// Where.
    pub part: Part,
    /// What, in lower case.
    pub text: String,
    /// How.
    pub compare: Match,
    /// Count or block.
    pub mode: Mode,
}

impl ShapeRule {
    /// Reads the inputs.
    ///
    /// # Errors
    /// One is missing or not as it should be.
    pub fn of(order: &Order) -> Result<Self, String> {
        let needs = |name: &str| input(order, name).ok_or_else(|| format!("{ID} needs the input {name}"));
        let part = part(needs(PART)?)?;
        let compare = match input(order, MATCH) {
            None | Some("contains") => Match::Contains,
            Some("exact") => Match::Exact,
            Some("starts") => Match::Starts,
            Some("ends") => Match::Ends,
            Some(other) => {
                return Err(format!("{MATCH} is contains, exact, starts or ends, not {:?}", short(other)));
            }
        };
        let text = needs(TEXT)?.to_lowercase();
        if text.len() > MAX_TEXT {
            return Err(format!("{TEXT} is longer than {MAX_TEXT} bytes, the most that AWS WAF takes"));
        }
        if compare != Match::Exact && text.len() < LEAST_TEXT {
            return Err(format!("{TEXT} {:?} is so short that it would hit everybody", short(&text)));
        }
        Ok(Self { part, text, compare, mode: mode(order)? })
    }

    /// What it costs of a web ACL's capacity, in units: of the comparison, and 10 for each transformation before it.
    pub fn cost(&self) -> i64 {
        let compare = if self.compare == Match::Contains { 10 } else { 2 };
        compare + 10 * i64::from(1 + u8::from(self.decodes()))
    }

    /// Is the part decoded before the comparison? Headers are not encoded.
    pub fn decodes(&self) -> bool {
        !matches!(self.part, Part::Header(_))
    }

    /// In words, after `a rule that`.
    pub fn words(&self) -> String {
        let part = match &self.part {
            Part::Path => "whose path".to_owned(),
            Part::Query => "whose query".to_owned(),
            Part::Parameter(name) => format!("whose parameter {name}"),
            Part::Header(name) => format!("whose header {name}"),
        };
        let compare = match self.compare {
            Match::Contains => "contains",
            Match::Exact => "is",
            Match::Starts => "begins with",
            Match::Ends => "ends with",
        };
        format!("{} requests {part} {compare} {:?}", self.mode.verb(), short(&self.text))
    }
}

fn part(text: &str) -> Result<Part, String> {
    let named = |name: &str| {
        let right =
            !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(|b| b.is_ascii_graphic() && b != b':');
        right.then(|| name.to_lowercase())
    };
    let found = match text.split_once(':') {
        None if text == "path" => Some(Part::Path),
        None if text == "query" => Some(Part::Query),
        Some(("parameter", name)) => named(name).map(Part::Parameter),
        Some(("header", name)) => named(name).map(Part::Header),
        _ => None,
    };
    found.ok_or_else(|| format!("{PART} is path, query, parameter:NAME or header:NAME, not {:?}", short(text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::order;

    fn with(inputs: &[(&str, &str)]) -> Result<ShapeRule, String> {
        let mut one = order("a", "192.0.2.1");
        one.inputs = inputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        ShapeRule::of(&one)
    }

    #[test]
    fn a_shape_counts_first_and_is_compared_in_lower_case() {
        let rule = with(&[(PART, "header:User-Agent"), (TEXT, "${JNDI:")]).unwrap();
        assert_eq!((&rule.part, rule.text.as_str()), (&Part::Header("user-agent".into()), "${jndi:"));
        assert_eq!((rule.mode, rule.compare, rule.cost()), (Mode::Count, Match::Contains, 20));
        assert_eq!(rule.words(), r#"counts requests whose header user-agent contains "${jndi:""#);
        let rule = with(&[(PART, "path"), (TEXT, "/wp-login.php"), (MATCH, "ends")]).unwrap();
        assert_eq!((rule.cost(), rule.decodes()), (22, true));
    }

    #[test]
    fn a_shape_that_would_hit_everybody_or_says_nothing_is_refused() {
        for (inputs, says) in [
            (&[][..], "needs the input part"),
            (&[(PART, "path")], "needs the input text"),
            (&[(PART, "path"), (TEXT, "/")], "hit everybody"),
            (&[(PART, "body"), (TEXT, "select")], "header:NAME"),
            (&[(PART, "header:"), (TEXT, "select")], "header:NAME"),
            (&[(PART, "path"), (TEXT, "/x/y"), (MATCH, "regex")], "contains, exact"),
            (&[(PART, "path"), (TEXT, "/x/y"), ("mode", "drop")], "count or block"),
        ] {
            assert!(with(inputs).unwrap_err().contains(says), "{inputs:?}");
        }
        assert!(with(&[(PART, "path"), (TEXT, "/"), (MATCH, "exact")]).is_ok());
        assert!(with(&[(PART, "path"), (TEXT, &"a".repeat(MAX_TEXT + 1))]).unwrap_err().contains("longer"));
    }
}
