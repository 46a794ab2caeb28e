//! Keywords that say what a rule is and look at nothing.

use super::builder::Builder;
use super::model::Target;

type Done = Result<(), String>;

fn number(text: &str) -> Result<u32, String> {
    text.trim().parse().map_err(|_| format!("'{text}' is no number"))
}

/// What changes no verdict: hints on how to search, and on what Suricata writes besides alerts.
pub(crate) fn nothing(_: &mut Builder<'_, '_>, _: &str) -> Done {
    Ok(())
}

/// A rule that rewrites packets would be loaded as one that only looks.
pub(crate) fn replace(_: &mut Builder<'_, '_>, _: &str) -> Done {
    Err("packets are not rewritten here; use drop".into())
}

pub(crate) fn msg(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let text = text.trim();
    let text = text.strip_prefix('"').unwrap_or(text);
    let text = text.strip_suffix('"').unwrap_or(text);
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == '\\' && matches!(letters.peek(), Some('"' | ';' | '\\' | ':')) {
            continue;
        }
        out.push(letter);
    }
    builder.msg = out;
    Ok(())
}

pub(crate) fn sid(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    builder.sid = number(text)?;
    Ok(())
}

pub(crate) fn gid(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    builder.gid = number(text)?;
    Ok(())
}

pub(crate) fn rev(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    builder.rev = number(text)?;
    Ok(())
}

pub(crate) fn classtype(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    builder.class = Some(text.trim().to_owned());
    Ok(())
}

pub(crate) fn priority(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let priority = number(text)?;
    builder.priority = Some(u8::try_from(priority).map_err(|_| format!("priority {priority} is above 255"))?);
    Ok(())
}

pub(crate) fn reference(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let (kind, value) = text.split_once(',').ok_or("a reference has a kind and a value")?;
    builder.references.push((kind.trim().to_owned(), value.trim().to_owned()));
    Ok(())
}

pub(crate) fn metadata(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    for part in text.split(',').map(str::trim) {
        let (name, value) = part.split_once(char::is_whitespace).unwrap_or((part, ""));
        builder.metadata.push((name.to_owned(), value.trim().to_owned()));
    }
    Ok(())
}

pub(crate) fn target(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    builder.target = Some(match text.trim() {
        "src_ip" => Target::Src,
        "dest_ip" => Target::Dst,
        other => return Err(format!("'{other}' is no target")),
    });
    Ok(())
}

/// `requires: feature x, version >= 7`: the rule is for engines that have it.
pub(crate) fn requires(_: &mut Builder<'_, '_>, text: &str) -> Done {
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (what, rest) = part.split_once(char::is_whitespace).unwrap_or((part, ""));
        match what {
            "feature" if matches!(rest.trim(), "ja4" | "output::file-store" | "true_ip") => {}
            "feature" => return Err(format!("feature '{}' is not here", rest.trim())),
            "keyword" => {}
            "version" => {
                if !rest.split('|').any(versions) {
                    return Err(format!("it is for version {}", rest.trim()));
                }
            }
            other => return Err(format!("'{other}' is nothing that can be required")),
        }
    }
    Ok(())
}

/// `>= 7.0.3 < 8`.
fn versions(text: &str) -> bool {
    let mut words = text.split_whitespace();
    let mut any = false;
    while let Some(word) = words.next() {
        let whole = if word.ends_with(['<', '>', '=']) {
            format!("{word}{}", words.next().unwrap_or_default())
        } else {
            word.to_owned()
        };
        any = true;
        if !version(&whole) {
            return false;
        }
    }
    any
}

/// One comparison with the version of the language that is spoken here.
fn version(text: &str) -> bool {
    const HERE: [u32; 3] = [7, 0, 10];
    let signs = ["<=", ">=", "<", ">"];
    let Some(sign) = signs.iter().find(|sign| text.starts_with(**sign)) else { return false };
    let wanted: Vec<u32> =
        text.trim_start_matches(*sign).trim().split('.').map(|part| part.parse().unwrap_or(0)).collect();
    let wanted: [u32; 3] = std::array::from_fn(|at| wanted.get(at).copied().unwrap_or(0));
    match *sign {
        "<=" => HERE <= wanted,
        ">=" => HERE >= wanted,
        "<" => HERE < wanted,
        _ => HERE > wanted,
    }
}

pub(crate) fn noalert(builder: &mut Builder<'_, '_>, _: &str) -> Done {
    builder.no_alert = true;
    Ok(())
}

pub(crate) fn alert(builder: &mut Builder<'_, '_>, _: &str) -> Done {
    builder.alert_too = true;
    Ok(())
}
