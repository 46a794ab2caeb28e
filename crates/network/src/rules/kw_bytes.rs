//! Keywords that read numbers out of a buffer, and Base64.

use super::builder::{Builder, Last, Place};
use super::model::Step;
use super::number::{
    ByteExtract, ByteJump, ByteMath, ByteTest, IsDataAt, JumpFrom, MathSign, Reading, TestSign, Value,
};

type Done = Result<(), String>;

/// A number, or a variable that was read before.
fn value(builder: &mut Builder<'_, '_>, text: &str) -> Result<Value, String> {
    let text = text.trim();
    match number(text) {
        Some(number) => Ok(Value::Fixed(number)),
        None if text.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_') => {
            builder.variable(text, false).map(Value::Variable)
        }
        None => Err(format!("'{text}' is no number")),
    }
}

fn number(text: &str) -> Option<i64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let value = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => {
            i64::from_str_radix(hex, 16).ok().or_else(|| u64::from_str_radix(hex, 16).ok().map(|v| v as i64))?
        }
        None => digits.parse::<i64>().ok().or_else(|| digits.parse::<u64>().ok().map(|v| v as i64))?,
    };
    Some(if negative { value.wrapping_neg() } else { value })
}

/// Words that all readings share; `false` if the word is none of them.
fn shared(builder: &mut Builder<'_, '_>, reading: &mut Reading, word: &str) -> Result<bool, String> {
    let (name, value) = word.split_once(char::is_whitespace).unwrap_or((word, ""));
    match name {
        "relative" => reading.relative = true,
        "little" => reading.little = true,
        "big" => reading.little = false,
        "endian" => reading.little = value.trim() == "little",
        "string" => {
            let base = reading.text_base.unwrap_or(0);
            reading.text_base = Some(match value.trim() {
                "hex" => 16,
                "dec" => 10,
                "oct" => 8,
                _ => base,
            });
        }
        "hex" => reading.text_base = Some(16),
        "dec" => reading.text_base = Some(10),
        "oct" => reading.text_base = Some(8),
        "dce" => return Err("byte order by DCE/RPC needs its parser".into()),
        "bitmask" => {
            let text = value.trim();
            let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
            reading.mask = Some(u64::from_str_radix(digits, 16).map_err(|_| format!("'{text}' is no bit mask"))?);
        }
        "multiplier" => {
            reading.multiplier = value.trim().parse().map_err(|_| "the multiplier is no number".to_owned())?;
        }
        "align" => reading.align = value.trim().parse().unwrap_or(4),
        _ => {
            let _ = builder;
            return Ok(false);
        }
    }
    Ok(true)
}

fn checked(reading: &Reading) -> Done {
    let most = if reading.text_base.is_some() { 23 } else { 8 };
    match reading.bytes {
        Value::Fixed(bytes) if !(0..=most).contains(&bytes) => Err(format!("{bytes} bytes are too many")),
        _ => Ok(()),
    }
}

pub(crate) fn byte_test(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let mut words = text.split(',').map(str::trim);
    let mut next = || words.next().filter(|word| !word.is_empty()).ok_or("byte_test takes four values".to_owned());
    let (bytes, sign, wanted, offset) = (next()?, next()?, next()?, next()?);
    let mut reading = Reading { bytes: value(builder, bytes)?, offset: value(builder, offset)?, ..Reading::default() };
    let (negated, sign) = sign.strip_prefix('!').map_or((false, sign), |rest| (true, rest.trim()));
    let sign = match sign {
        "<" => TestSign::Less,
        ">" => TestSign::Greater,
        "=" | "" => TestSign::Equal,
        "<=" => TestSign::AtMost,
        ">=" => TestSign::AtLeast,
        "&" => TestSign::And,
        "|" => TestSign::Or,
        "^" => TestSign::Xor,
        other => return Err(format!("'{other}' is no comparison")),
    };
    let wanted = value(builder, wanted)?;
    for word in words {
        if !shared(builder, &mut reading, word)? {
            return Err(format!("'{word}' does not go with byte_test"));
        }
    }
    checked(&reading)?;
    builder.step(Step::ByteTest(ByteTest { reading, sign, negated, value: wanted }))
}

pub(crate) fn byte_jump(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let mut words = text.split(',').map(str::trim);
    let bytes = words.next().ok_or("byte_jump takes two values")?;
    let offset = words.next().ok_or("byte_jump takes two values")?;
    let mut reading = Reading { bytes: value(builder, bytes)?, offset: value(builder, offset)?, ..Reading::default() };
    let (mut from, mut post_offset) = (JumpFrom::Here, Value::Fixed(0));
    for word in words {
        match word.split_once(char::is_whitespace).unwrap_or((word, "")) {
            ("from_beginning", _) => from = JumpFrom::Beginning,
            ("from_end", _) => from = JumpFrom::End,
            ("post_offset", by) => post_offset = value(builder, by)?,
            _ => {
                if !shared(builder, &mut reading, word)? {
                    return Err(format!("'{word}' does not go with byte_jump"));
                }
            }
        }
    }
    checked(&reading)?;
    builder.step(Step::ByteJump(ByteJump { reading, from, post_offset }))
}

pub(crate) fn byte_extract(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let mut words = text.split(',').map(str::trim);
    let mut next = || words.next().filter(|word| !word.is_empty()).ok_or("byte_extract takes three values".to_owned());
    let (bytes, offset, name) = (next()?, next()?, next()?);
    let mut reading = Reading { bytes: value(builder, bytes)?, offset: value(builder, offset)?, ..Reading::default() };
    for word in words {
        if !shared(builder, &mut reading, word)? {
            return Err(format!("'{word}' does not go with byte_extract"));
        }
    }
    checked(&reading)?;
    let into = builder.variable(name, true)?;
    builder.step(Step::ByteExtract(ByteExtract { reading, into }))
}

pub(crate) fn byte_math(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let mut reading = Reading::default();
    let (mut sign, mut operand, mut into) = (None, None, None);
    for word in text.split(',').map(str::trim) {
        let (name, rest) = word.split_once(char::is_whitespace).unwrap_or((word, ""));
        let rest = rest.trim();
        match name {
            "bytes" => reading.bytes = value(builder, rest)?,
            "offset" => reading.offset = value(builder, rest)?,
            "rvalue" => operand = Some(value(builder, rest)?),
            "result" => into = Some(rest.to_owned()),
            "oper" => {
                sign = Some(match rest {
                    "+" => MathSign::Add,
                    "-" => MathSign::Subtract,
                    "*" => MathSign::Multiply,
                    "/" => MathSign::Divide,
                    "<<" => MathSign::Left,
                    ">>" => MathSign::Right,
                    other => return Err(format!("'{other}' is no operation")),
                });
            }
            _ => {
                if !shared(builder, &mut reading, word)? {
                    return Err(format!("'{word}' does not go with byte_math"));
                }
            }
        }
    }
    checked(&reading)?;
    let (Some(sign), Some(operand), Some(into)) = (sign, operand, into) else {
        return Err("byte_math needs oper, rvalue and result".into());
    };
    if sign == MathSign::Divide && operand == Value::Fixed(0) {
        return Err("byte_math divides by zero".into());
    }
    let into = builder.variable(&into, true)?;
    builder.step(Step::ByteMath(ByteMath { reading, sign, value: operand, into }))
}

pub(crate) fn isdataat(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let (negated, text) = text.trim().strip_prefix('!').map_or((false, text), |rest| (true, rest));
    let mut words = text.split(',').map(str::trim);
    let at = value(builder, words.next().unwrap_or_default())?;
    let relative = words.any(|word| word == "relative");
    builder.step(Step::IsDataAt(IsDataAt { at, relative, negated }))
}

pub(crate) fn base64_decode(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let (mut bytes, mut offset, mut relative) = (None, 0, false);
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word.split_once(char::is_whitespace).unwrap_or((word, "")) {
            ("bytes", count) => bytes = Some(count.trim().parse().map_err(|_| "'bytes' takes a number".to_owned())?),
            ("offset", at) => offset = at.trim().parse().map_err(|_| "'offset' takes a number".to_owned())?,
            ("relative", _) => relative = true,
            _ => return Err(format!("'{word}' does not go with base64_decode")),
        }
    }
    // Behind an older modifier it acts on that modifier's buffer.
    let step = Step::Base64 { bytes, offset, relative, steps: Vec::new() };
    match builder.last {
        Last::Buffer(_) if matches!(builder.place, Place::Payload) && !relative => builder.step(step),
        Last::Buffer(at) if matches!(builder.place, Place::Payload) => {
            builder.list(Last::Buffer(at))?.push(step);
            Ok(())
        }
        _ => builder.step(step),
    }
}

pub(crate) fn base64_data(builder: &mut Builder<'_, '_>, _: &str) -> Done {
    builder.place = Place::Base64;
    builder.list(Last::Base64).map(|_| ())
}
