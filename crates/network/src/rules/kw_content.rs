//! Keywords of content and patterns.

use super::buffers::Buffer;
use super::builder::{Builder, Last, Place};
use super::content::Content;
use super::model::Step;
use super::number::{Compare, Value};
use super::pcre::Pcre;
use super::syntax;

type Done = Result<(), String>;

pub(crate) fn content(builder: &mut Builder<'_, '_>, value: &str) -> Done {
    let (negated, text) = syntax::quoted(value)?;
    let bytes = syntax::content_bytes(text)?;
    builder.step(Step::Content(Box::new(Content::new(bytes, negated))))
}

pub(crate) fn uricontent(builder: &mut Builder<'_, '_>, value: &str) -> Done {
    let (negated, text) = syntax::quoted(value)?;
    let bytes = syntax::content_bytes(text)?;
    let list = builder.list_for(Buffer::HttpUri)?;
    builder.last = Last::Buffer(list);
    builder.list(Last::Buffer(list))?.push(Step::Content(Box::new(Content::new(bytes, negated))));
    Ok(())
}

pub(crate) fn nocase(builder: &mut Builder<'_, '_>, _: &str) -> Done {
    builder.last_content()?.nocase = true;
    Ok(())
}

/// A number, or the name of a variable.
fn value(builder: &mut Builder<'_, '_>, text: &str) -> Result<Value, String> {
    let text = text.trim();
    match text.parse::<i64>() {
        Ok(number) if number.unsigned_abs() <= 65535 * 16 => Ok(Value::Fixed(number)),
        Ok(_) => Err(format!("'{text}' is out of bounds")),
        Err(_) => builder.variable(text, false).map(Value::Variable),
    }
}

pub(crate) fn depth(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let depth = value(builder, text)?;
    let content = builder.last_content()?;
    if let Value::Fixed(depth) = depth
        && depth < content.bytes.len() as i64
    {
        return Err(format!("depth {depth} is less than the {} bytes of the content", content.bytes.len()));
    }
    if content.is_relative() || content.starts {
        return Err("depth does not go with distance, within or startswith".into());
    }
    content.depth = Some(depth);
    Ok(())
}

pub(crate) fn offset(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let offset = value(builder, text)?;
    let content = builder.last_content()?;
    if content.is_relative() || content.starts {
        return Err("offset does not go with distance, within or startswith".into());
    }
    content.offset = Some(offset);
    Ok(())
}

pub(crate) fn distance(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let distance = value(builder, text)?;
    let content = builder.last_content()?;
    if content.depth.is_some() || content.offset.is_some() {
        return Err("distance does not go with depth or offset".into());
    }
    content.distance = Some(distance);
    Ok(())
}

pub(crate) fn within(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let within = value(builder, text)?;
    let content = builder.last_content()?;
    if let Value::Fixed(within) = within
        && within < content.bytes.len() as i64
    {
        return Err(format!("within {within} is less than the {} bytes of the content", content.bytes.len()));
    }
    if content.depth.is_some() || content.offset.is_some() {
        return Err("within does not go with depth or offset".into());
    }
    content.within = Some(within);
    Ok(())
}

pub(crate) fn startswith(builder: &mut Builder<'_, '_>, _: &str) -> Done {
    let content = builder.last_content()?;
    if content.depth.is_some() || content.offset.is_some() || content.is_relative() {
        return Err("startswith does not go with depth, offset, distance or within".into());
    }
    content.starts = true;
    Ok(())
}

pub(crate) fn endswith(builder: &mut Builder<'_, '_>, _: &str) -> Done {
    let content = builder.last_content()?;
    if content.depth.is_some() {
        return Err("endswith does not go with depth".into());
    }
    content.ends = true;
    Ok(())
}

pub(crate) fn fast_pattern(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let content = builder.last_content()?;
    if content.negated && (content.is_relative() || content.depth.is_some() || content.offset.is_some()) {
        return Err("a negated content with a place is no fast pattern".into());
    }
    content.fast = true;
    content.fast_only = text.trim() == "only";
    Ok(())
}

pub(crate) fn pcre(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let parsed = Pcre::parse(text)?;
    match parsed.buffer {
        // Flags that name a buffer count outside of sticky ones.
        Some(buffer) if matches!(builder.place, Place::Payload) => {
            let list = builder.list_for(buffer)?;
            builder.last = Last::Buffer(list);
            builder.list(Last::Buffer(list))?.push(Step::Pcre(parsed.pcre));
            Ok(())
        }
        Some(flag) if matches!(&builder.place, Place::Sticky { buffer, .. } if *buffer == flag) => {
            builder.step(Step::Pcre(parsed.pcre))
        }
        Some(_) => Err("a flag names a buffer inside of a sticky one".into()),
        None => builder.step(Step::Pcre(parsed.pcre)),
    }
}

pub(crate) fn pkt_data(builder: &mut Builder<'_, '_>, _: &str) -> Done {
    builder.place = Place::Payload;
    Ok(())
}

pub(crate) fn bsize(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    if matches!(builder.place, Place::Payload) {
        return Err("bsize stands behind the name of a buffer".into());
    }
    let wanted = Compare::parse(text)?;
    builder.step(Step::Size(wanted))
}

pub(crate) fn absent(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let or_else = match text.trim() {
        "" => false,
        "or_else" => true,
        other => return Err(format!("'{other}' does not go with absent")),
    };
    if matches!(builder.place, Place::Payload) {
        return Err("absent stands behind the name of a buffer".into());
    }
    builder.step(Step::Absent { or_else })
}

pub(crate) fn urilen(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let (text, raw) = text.split_once(',').map_or((text, false), |(text, which)| (text, which.trim() == "raw"));
    let wanted = Compare::parse(text)?;
    let list = builder.list_for(if raw { Buffer::HttpUriRaw } else { Buffer::HttpUri })?;
    builder.list(Last::Buffer(list))?.insert(0, Step::Size(wanted));
    Ok(())
}
