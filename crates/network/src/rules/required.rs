//! What must be in the bytes for a pattern to match: literals of which at least one is there wherever it matches.
//!
//! They are read off the pattern's syntax, from the bottom up. Of each part either all texts that it matches are known
//! (a word, a choice of words, a word with an optional letter), or a list of which one must be in what it matches, or
//! nothing. A sequence multiplies the texts of parts that follow each other as long as there are not too many, and
//! otherwise keeps the rarest list that it met (as RE2's `FilteredRE2` does; Cox, "Regular Expression Matching with a
//! Trigram Index", 2012). Letters count as small ones throughout, as the search for the literals takes them.
//!
//! This is a necessary condition and nothing more: a rule is looked at where it holds, and where it does not the pattern
//! cannot match.

use fancy_regex::Expr;
use memchr::memmem;
use regex_syntax::hir::{Class, Hir, HirKind};

/// Most texts of a part that are multiplied, most of a list, and the longest.
const MOST_TEXTS: usize = 512;
const MOST_LITERALS: usize = 1_024;
const LONGEST: usize = 24;
/// Most different bytes of a class that are told apart.
const MOST_CLASS: usize = 4;
/// A list that is there more often than this is of no use: once in so many bytes.
const COMMON: f64 = 0.2;

/// Literals, one of which is needed, and how often one is to be expected at a place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Required {
    pub literals: Box<[Box<[u8]>]>,
    pub chance: f64,
}

/// What is known of a part.
#[derive(Default)]
struct Part {
    /// All that it matches.
    texts: Option<Vec<Vec<u8>>>,
    /// One of these is in what it matches.
    needed: Option<List>,
}

struct List {
    literals: Vec<Vec<u8>>,
    chance: f64,
}

/// The literals that a pattern on bytes needs. `exact` takes small classes apart, which is right only where the engine
/// that judges reads the pattern as one on bytes, too.
pub(crate) fn of(pattern: &str, exact: bool) -> Option<Required> {
    let hir = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build().parse(pattern).ok()?;
    let part = part(&hir, exact);
    let mut list = part.needed?;
    shorten(&mut list.literals);
    list.chance = list.literals.iter().map(|literal| chance(literal)).sum();
    let literals = list.literals.into_iter().map(Vec::into_boxed_slice).collect();
    (list.chance <= COMMON).then_some(Required { literals, chance: list.chance })
}

fn part(hir: &Hir, exact: bool) -> Part {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => texts(vec![Vec::new()]),
        HirKind::Literal(literal) if exact || literal.0.is_ascii() => texts(vec![literal.0.to_ascii_lowercase()]),
        HirKind::Literal(_) => Part::default(),
        HirKind::Class(class) => bytes(class, exact).map_or_else(Part::default, texts),
        HirKind::Capture(capture) => part(&capture.sub, exact),
        HirKind::Repetition(repeated) => {
            let inner = part(&repeated.sub, exact);
            match (repeated.min, repeated.max, inner.texts) {
                (1, Some(1), found) => Part { texts: found, needed: inner.needed },
                (0, Some(1), Some(mut found)) => {
                    found.push(Vec::new());
                    texts(found)
                }
                (0, ..) => Part::default(),
                _ => Part { texts: None, needed: inner.needed },
            }
        }
        HirKind::Concat(parts) => sequence(parts, exact),
        HirKind::Alternation(parts) => choice(parts, exact),
    }
}

/// Of texts one is needed, if none of them is empty.
fn texts(mut found: Vec<Vec<u8>>) -> Part {
    found.sort_unstable();
    found.dedup();
    let needed = list(&found);
    Part { texts: Some(found), needed }
}

fn list(texts: &[Vec<u8>]) -> Option<List> {
    let fits = !texts.is_empty() && texts.len() <= MOST_LITERALS && texts.iter().all(|text| !text.is_empty());
    fits.then(|| List { literals: texts.to_vec(), chance: texts.iter().map(|text| chance(text)).sum() })
}

fn sequence(parts: &[Hir], exact: bool) -> Part {
    let mut rarest: Option<List> = None;
    let mut consider = |list: Option<List>| {
        if let Some(list) = list.filter(|list| rarest.as_ref().is_none_or(|known| list.chance < known.chance)) {
            rarest = Some(list);
        }
    };
    let mut run = vec![Vec::new()];
    let mut whole = true;
    for one in parts {
        // What is there more than once begins and ends with one.
        let (next, again) = match one.kind() {
            HirKind::Repetition(repeated) if repeated.min >= 1 && repeated.max != Some(1) => {
                (part(&repeated.sub, exact), true)
            }
            _ => (part(one, exact), false),
        };
        let last = next.texts.clone().filter(|_| again);
        let product = next.texts.as_ref().and_then(|next| product(&run, next));
        match product {
            Some(product) => run = product,
            None => {
                whole = false;
                consider(list(&run));
                run = next.texts.filter(|texts| texts.len() <= MOST_TEXTS).unwrap_or_else(|| vec![Vec::new()]);
            }
        }
        consider(next.needed);
        if again {
            whole = false;
            consider(list(&run));
            run = last.filter(|texts| texts.len() <= MOST_TEXTS).unwrap_or_else(|| vec![Vec::new()]);
        }
    }
    consider(list(&run));
    Part { texts: whole.then_some(run), needed: rarest }
}

/// Each of these behind each of those, where that does not get out of hand.
fn product(before: &[Vec<u8>], behind: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
    let longest = |texts: &[Vec<u8>]| texts.iter().map(Vec::len).max().unwrap_or(0);
    if before.len().saturating_mul(behind.len()) > MOST_TEXTS || longest(before) + longest(behind) > LONGEST {
        return None;
    }
    let mut all: Vec<Vec<u8>> =
        before.iter().flat_map(|one| behind.iter().map(|other| [one.as_slice(), other].concat())).collect();
    all.sort_unstable();
    all.dedup();
    Some(all)
}

fn choice(parts: &[Hir], exact: bool) -> Part {
    let (mut all, mut needed) = (Some(Vec::new()), Some(Vec::new()));
    for one in parts {
        let next = part(one, exact);
        all = match (all, next.texts) {
            (Some(mut all), Some(mut next)) if all.len() + next.len() <= MOST_LITERALS => {
                all.append(&mut next);
                Some(all)
            }
            _ => None,
        };
        needed = match (needed, next.needed) {
            (Some(mut all), Some(mut next)) if all.len() + next.literals.len() <= MOST_LITERALS => {
                all.append(&mut next.literals);
                Some(all)
            }
            _ => None,
        };
    }
    let needed = needed.and_then(|literals| list(&literals));
    match all {
        Some(all) => Part { needed, ..texts(all) },
        None => Part { texts: None, needed },
    }
}

/// The bytes of a small class.
fn bytes(class: &Class, exact: bool) -> Option<Vec<Vec<u8>>> {
    let Class::Bytes(class) = class else { return None };
    let mut found = Vec::new();
    for range in class.ranges() {
        if found.len() + usize::from(range.end() - range.start()) > 2 * MOST_CLASS {
            return None;
        }
        found.extend((range.start()..=range.end()).map(|byte| byte.to_ascii_lowercase()));
    }
    found.sort_unstable();
    found.dedup();
    let most = if exact { MOST_CLASS } else { 1 };
    let fits = !found.is_empty() && found.len() <= most && (exact || found.is_ascii());
    fits.then(|| found.into_iter().map(|byte| vec![byte]).collect())
}

/// Takes out what has another of the list in it: where it is, that one is as well.
fn shorten(literals: &mut Vec<Vec<u8>>) {
    literals.sort_unstable_by(|one, other| (one.len(), one).cmp(&(other.len(), other)));
    literals.dedup();
    let mut kept: Vec<Vec<u8>> = Vec::with_capacity(literals.len());
    for literal in literals.drain(..) {
        if !kept.iter().any(|short| memmem::find(&literal, short).is_some()) {
            kept.push(literal);
        }
    }
    *literals = kept;
}

/// How often a literal is to be expected at a place of what is sent to and from servers: a rough guess, and only for
/// telling a good list from a poor one.
pub(crate) fn chance(literal: &[u8]) -> f64 {
    let of = |byte: &u8| match byte.to_ascii_lowercase() {
        b'e' | b't' | b'a' | b'o' | b'i' | b'n' | b's' | b'r' => 1.0 / 14.0,
        b'a'..=b'z' => 1.0 / 30.0,
        b'0'..=b'9' | b' ' | b'/' | b'.' | b'=' | b'-' | b'&' | b'+' | b'%' => 1.0 / 25.0,
        b'"' | b',' | b':' | b'_' | b'<' | b'>' | b'\r' | b'\n' | b';' | b'(' | b')' | b'?' => 1.0 / 50.0,
        byte if byte.is_ascii_graphic() => 1.0 / 100.0,
        _ => 1.0 / 200.0,
    };
    literal.iter().map(of).product()
}

/// A pattern that matches wherever the given one does, without what only a backtracking engine can: look-around and
/// assertions are left out, a back-reference is anything. It is for ASCII, on which patterns on bytes and on text agree.
pub(crate) fn relaxed(pattern: &str) -> Option<String> {
    let tree = Expr::parse_tree(pattern).ok()?;
    let mut out = String::new();
    write(&tree.expr, &mut out).then_some(out)
}

/// False where there is something that is not understood.
fn write(expr: &Expr, out: &mut String) -> bool {
    let atom = |inner: &str, casei: bool, out: &mut String| {
        out.push_str(if casei { "(?i:" } else { "(?:" });
        out.push_str(inner);
        out.push(')');
    };
    match expr {
        Expr::Empty | Expr::Assertion(_) | Expr::LookAround(..) => {}
        Expr::Any { .. } => out.push_str("(?s:.)"),
        Expr::Backref { .. } => out.push_str("(?s:.)*"),
        Expr::Literal { val, casei } => atom(&regex_syntax::escape(val), *casei, out),
        Expr::Delegate { inner, casei } => atom(inner, *casei, out),
        Expr::Group(inner) => return enclosed(inner, out),
        Expr::AtomicGroup(inner) => return enclosed(inner, out),
        Expr::Concat(parts) => return parts.iter().all(|part| write(part, out)),
        Expr::Alt(parts) => {
            out.push_str("(?:");
            for (at, part) in parts.iter().enumerate() {
                if at > 0 {
                    out.push('|');
                }
                if !write(part, out) {
                    return false;
                }
            }
            out.push(')');
        }
        Expr::Repeat { child, lo, hi, .. } => {
            if !enclosed(child, out) {
                return false;
            }
            match *hi {
                usize::MAX => out.push_str(&format!("{{{lo},}}")),
                hi => out.push_str(&format!("{{{lo},{hi}}}")),
            }
        }
        _ => return false,
    }
    true
}

fn enclosed(inner: &Expr, out: &mut String) -> bool {
    out.push_str("(?:");
    let done = write(inner, out);
    out.push(')');
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn literals(pattern: &str) -> Vec<String> {
        let found = of(pattern, true).map(|found| found.literals.into_vec()).unwrap_or_default();
        found.iter().map(|literal| String::from_utf8_lossy(literal).into_owned()).collect()
    }

    #[test]
    fn the_rarest_list_that_must_be_there() {
        assert_eq!(literals(r"(?i)\bunion\s+select\b"), ["select"]);
        assert_eq!(literals(r"(?i)(?:sleep|benchmark)\s+\("), ["sleep", "benchmark"]);
        assert_eq!(literals(r"colou?r="), ["color=", "colour="]);
        assert_eq!(literals(r"\.(?:php|php5|jsp)\?cmd="), [".jsp?cmd=", ".php?cmd=", ".php5?cmd="]);
        assert_eq!(literals(r"a[bc]d+e"), ["abd", "acd"]);
        assert_eq!(literals(r"(?:abc){2,3}"), ["abc"]);
        assert_eq!(literals(r"x*y?"), Vec::<String>::new(), "it also matches nothing");
        assert_eq!(literals(r"(?:foo|\d+)"), Vec::<String>::new(), "digits alone would do");
        assert_eq!(literals(r"[a-z]+"), Vec::<String>::new());
    }

    #[test]
    fn what_only_backtracking_can_is_left_out() {
        let relaxed = relaxed(r"(?i)(?<!\w)(['\x22])abc\1(?!def)g").unwrap();
        let regex = regex::bytes::RegexBuilder::new(&relaxed).unicode(false).build().unwrap();
        assert!(regex.is_match(b"x'ABC\"g") && !regex.is_match(b"'abd'g"), "{relaxed}");
        let found = of(&relaxed, false).unwrap();
        assert_eq!(found.literals.len(), 1);
        assert_eq!(&*found.literals[0], b"abc");
    }

    #[test]
    fn letters_that_a_text_reads_otherwise_are_not_relied_on() {
        // On text, which the backtracking engine sees, the case of é counts as well, and a blank may be U+00A0.
        assert_eq!(of(r"(?i)\xe9\xe8", false), None);
        assert_eq!(of(r"[\s\x1f]", false), None);
        assert!(of(r"\xe9\xe8", true).is_some());
    }

    fn pattern() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            "[abAB]{1,3}",
            Just("[ab]".to_owned()),
            Just("[^a]".to_owned()),
            Just(r"\b".to_owned()),
            Just(".".to_owned()),
            Just("(?i:aB)".to_owned()),
            Just("^".to_owned()),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
                prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| format!("(?:{})", parts.join("|"))),
                (inner.clone(), prop::sample::select(vec!["?", "*", "+", "{2}", "{0,2}", "{1}"]))
                    .prop_map(|(part, times)| format!("(?:{part}){times}")),
                (inner.clone(), prop::sample::select(vec!["(?=", "(?!", "(?<=a", "("])).prop_map(|(part, open)| {
                    if open == "(?<=a" { format!("(?<=a){part}") } else { format!("{open}{part})") }
                }),
                inner.prop_map(|part| format!("({part})\\1")),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Where a pattern matches one of its literals is there, and the relaxed pattern matches as well.
        #[test]
        fn needed_indeed(pattern in pattern(), data in "[aAbBx ]{0,20}") {
            let small = data.to_ascii_lowercase();
            let there = |found: Option<Required>| found.is_none_or(|found| {
                found.literals.iter().any(|literal| memmem::find(small.as_bytes(), literal).is_some())
            });
            if let Ok(regex) = regex::bytes::RegexBuilder::new(&pattern).unicode(false).build() {
                if regex.is_match(data.as_bytes()) {
                    prop_assert!(there(of(&pattern, true)), "{:?}", of(&pattern, true));
                }
            } else if let Ok(regex) = fancy_regex::Regex::new(&pattern)
                && regex.is_match(&data).unwrap_or(false)
                && let Some(relaxed) = relaxed(&pattern)
            {
                let plain = regex::bytes::RegexBuilder::new(&relaxed).unicode(false).build();
                prop_assert!(plain.is_ok_and(|plain| plain.is_match(data.as_bytes())), "{relaxed}");
                prop_assert!(there(of(&relaxed, false)), "{relaxed}");
            }
        }
    }
}
