//! Numbers in rules: comparisons, and the keywords that read numbers out of a buffer.

use std::str::FromStr;

/// `5`, `<5`, `>5`, `<=5`, `>=5`, `!5`, `5-9` and `5<>9`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare<N> {
    Equal(N),
    Not(N),
    Less(N),
    Greater(N),
    AtMost(N),
    AtLeast(N),
    /// Neither end counts.
    Between(N, N),
    Outside(N, N),
}

impl<N: FromStr + PartialOrd + Copy> Compare<N> {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let number = |part: &str| -> Result<N, String> {
            parse_number(part.trim()).ok_or_else(|| format!("'{part}' is no number that fits"))
        };
        let split = text.find("<>").map(|at| (at, 2)).or_else(|| text.find('-').filter(|at| *at > 0).map(|at| (at, 1)));
        if let Some((at, width)) = split {
            let (low, high) = (text.get(..at).unwrap_or_default(), text.get(at + width..).unwrap_or_default());
            let (negated, low) = low.strip_prefix('!').map_or((false, low), |low| (true, low));
            let (low, high) = (number(low)?, number(high)?);
            if low >= high {
                return Err(format!("'{text}' is an empty range"));
            }
            return Ok(if negated { Self::Outside(low, high) } else { Self::Between(low, high) });
        }
        type Make<N> = fn(N) -> Compare<N>;
        let forms: [(&str, Make<N>); 6] = [
            ("<=", Self::AtMost),
            (">=", Self::AtLeast),
            ("<", Self::Less),
            (">", Self::Greater),
            ("!", Self::Not),
            ("=", Self::Equal),
        ];
        for (sign, make) in forms {
            if let Some(rest) = text.strip_prefix(sign) {
                return number(rest).map(make);
            }
        }
        number(text).map(Self::Equal)
    }

    pub(crate) fn holds(&self, value: N) -> bool {
        match self {
            Self::Equal(other) => value == *other,
            Self::Not(other) => value != *other,
            Self::Less(other) => value < *other,
            Self::Greater(other) => value > *other,
            Self::AtMost(other) => value <= *other,
            Self::AtLeast(other) => value >= *other,
            Self::Between(low, high) => value > *low && value < *high,
            Self::Outside(low, high) => !(value > *low && value < *high),
        }
    }
}

/// Decimal, or hexadecimal behind `0x`.
fn parse_number<N: FromStr>(text: &str) -> Option<N> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?.to_string().parse().ok(),
        None => text.parse().ok(),
    }
}

/// A number written in the rule, or a variable that an earlier keyword of it read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Fixed(i64),
    Variable(usize),
}

/// How a number is read out of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub bytes: Value,
    pub offset: Value,
    pub relative: bool,
    pub little: bool,
    /// Base of a number that is written as text.
    pub text_base: Option<u32>,
    pub mask: Option<u64>,
    pub multiplier: u64,
    /// Round up to a multiple.
    pub align: u64,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            bytes: Value::Fixed(0),
            offset: Value::Fixed(0),
            relative: false,
            little: false,
            text_base: None,
            mask: None,
            multiplier: 1,
            align: 1,
        }
    }
}

impl Reading {
    /// The number, and the place behind its bytes. `place` is where the step before ended.
    pub(crate) fn read(&self, data: &[u8], place: usize, variables: &[u64]) -> Option<(u64, usize)> {
        let start = if self.relative { place as i64 } else { 0 };
        let at = usize::try_from(start.checked_add(resolve(self.offset, variables)?)?).ok()?;
        let count = usize::try_from(resolve(self.bytes, variables)?).ok()?;
        if count == 0 {
            return (at <= data.len()).then_some((0, at));
        }
        let bytes = data.get(at..at.checked_add(count)?)?;
        let (mut value, used) = match self.text_base {
            Some(base) => text_number(bytes, base)?,
            None if count > 8 => return None,
            None if self.little => (bytes.iter().rev().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)), count),
            None => (crate::reader::number(bytes), count),
        };
        if let Some(mask) = self.mask {
            value &= mask;
            value >>= mask.trailing_zeros().min(63);
        }
        value = value.wrapping_mul(self.multiplier);
        if self.align > 1 {
            value = value.div_ceil(self.align).wrapping_mul(self.align);
        }
        Some((value, at + used))
    }
}

fn resolve(value: Value, variables: &[u64]) -> Option<i64> {
    match value {
        Value::Fixed(number) => Some(number),
        Value::Variable(index) => variables.get(index).map(|number| *number as i64),
    }
}

/// Reads digits as C does: white space, a sign, a prefix; what follows them is left.
fn text_number(bytes: &[u8], base: u32) -> Option<(u64, usize)> {
    let blank = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let mut rest = bytes.get(blank..)?;
    let negative = rest.first() == Some(&b'-');
    if matches!(rest.first(), Some(b'-' | b'+')) {
        rest = rest.get(1..)?;
    }
    let mut base = base;
    let prefixed = rest.len() > 2 && rest.first() == Some(&b'0') && matches!(rest.get(1), Some(b'x' | b'X'));
    if prefixed && matches!(base, 0 | 16) {
        rest = rest.get(2..)?;
        base = 16;
    } else if base == 0 {
        base = if rest.first() == Some(&b'0') { 8 } else { 10 };
    }
    let mut value = None::<u64>;
    let mut used = bytes.len() - rest.len();
    for byte in rest {
        let Some(digit) = char::from(*byte).to_digit(base) else { break };
        value = Some(value.unwrap_or(0).saturating_mul(base.into()).saturating_add(digit.into()));
        used += 1;
    }
    let value = value?;
    Some((if negative { value.wrapping_neg() } else { value }, used))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TestSign {
    Less,
    Greater,
    Equal,
    AtMost,
    AtLeast,
    And,
    Or,
    Xor,
}

/// `byte_test`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ByteTest {
    pub reading: Reading,
    pub sign: TestSign,
    pub negated: bool,
    pub value: Value,
}

impl ByteTest {
    pub(crate) fn holds(&self, data: &[u8], place: usize, variables: &[u64]) -> bool {
        let Some((number, _)) = self.reading.read(data, place, variables) else { return false };
        let Some(value) = resolve(self.value, variables) else { return false };
        let value = value as u64;
        let holds = match self.sign {
            TestSign::Less => number < value,
            TestSign::Greater => number > value,
            TestSign::Equal => number == value,
            TestSign::AtMost => number <= value,
            TestSign::AtLeast => number >= value,
            TestSign::And => number & value != 0,
            TestSign::Or => number | value != 0,
            TestSign::Xor => number ^ value != 0,
        };
        holds != self.negated
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JumpFrom {
    Here,
    Beginning,
    End,
}

/// `byte_jump`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ByteJump {
    pub reading: Reading,
    pub from: JumpFrom,
    pub post_offset: Value,
}

impl ByteJump {
    /// Where it lands, within the buffer.
    pub(crate) fn land(&self, data: &[u8], place: usize, variables: &[u64]) -> Option<usize> {
        let (number, behind) = self.reading.read(data, place, variables)?;
        let step = (number as i64).checked_add(resolve(self.post_offset, variables)?)?;
        let base = match self.from {
            JumpFrom::Here => behind as i64,
            JumpFrom::Beginning => 0,
            JumpFrom::End => data.len() as i64,
        };
        let target = usize::try_from(base.checked_add(step)?).ok()?;
        (target < data.len()).then_some(target)
    }
}

/// `byte_extract`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ByteExtract {
    pub reading: Reading,
    pub into: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MathSign {
    Add,
    Subtract,
    Multiply,
    Divide,
    Left,
    Right,
}

/// `byte_math`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ByteMath {
    pub reading: Reading,
    pub sign: MathSign,
    pub value: Value,
    pub into: usize,
}

impl ByteMath {
    /// The result, and the place behind the bytes read.
    pub(crate) fn compute(&self, data: &[u8], place: usize, variables: &[u64]) -> Option<(u64, usize)> {
        // The mask counts for the result, not for what was read.
        let reading = Reading { mask: None, ..self.reading.clone() };
        let (number, behind) = reading.read(data, place, variables)?;
        let value = resolve(self.value, variables)? as u64;
        let mut result = match self.sign {
            MathSign::Add => number.wrapping_add(value),
            MathSign::Subtract => number.wrapping_sub(value),
            MathSign::Multiply => number.wrapping_mul(value),
            MathSign::Divide => number.checked_div(value)?,
            MathSign::Left => u32::try_from(value).ok().and_then(|by| number.checked_shl(by)).unwrap_or(0),
            MathSign::Right => u32::try_from(value).ok().and_then(|by| number.checked_shr(by)).unwrap_or(0),
        };
        if let Some(mask) = self.reading.mask {
            result &= mask;
            result >>= mask.trailing_zeros().min(63);
        }
        Some((result, behind))
    }
}

/// `isdataat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IsDataAt {
    pub at: Value,
    pub relative: bool,
    pub negated: bool,
}

impl IsDataAt {
    pub(crate) fn holds(&self, data: &[u8], place: usize, variables: &[u64]) -> bool {
        let Some(at) = resolve(self.at, variables).and_then(|at| usize::try_from(at).ok()) else { return false };
        let there =
            if self.relative { place.checked_add(at).is_some_and(|end| end <= data.len()) } else { at < data.len() };
        there != self.negated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons() {
        let holds = |text: &str, value| Compare::<u16>::parse(text).unwrap().holds(value);
        assert!(holds("5", 5) && holds("<5", 4) && holds(">=5", 5) && holds("10<>20", 11) && holds("!5", 6));
        assert!(!holds("10<>20", 10) && !holds("10-20", 20));
        assert!(Compare::<u8>::parse("256").is_err() && Compare::<u8>::parse("9<>3").is_err());
    }

    #[test]
    fn numbers_in_text_and_bytes() {
        let text = Reading { bytes: Value::Fixed(4), text_base: Some(10), ..Reading::default() };
        assert_eq!(text.read(b"12ab", 0, &[]), Some((12, 2)));
        assert_eq!(text.read(b"abcd", 0, &[]), None);
        let little = Reading { bytes: Value::Fixed(2), little: true, relative: true, ..Reading::default() };
        assert_eq!(little.read(&[0, 1, 2], 1, &[]), Some((0x201, 3)));
        assert_eq!(little.read(&[0, 1, 2], 2, &[]), None);
        let masked = Reading { bytes: Value::Fixed(1), mask: Some(0xf0), ..Reading::default() };
        assert_eq!(masked.read(&[0x5a], 0, &[]), Some((5, 1)));
    }

    #[test]
    fn a_jump_stays_inside() {
        let jump = ByteJump {
            reading: Reading { bytes: Value::Fixed(1), ..Reading::default() },
            from: JumpFrom::Here,
            post_offset: Value::Fixed(0),
        };
        assert_eq!(jump.land(&[1, 9, 9], 0, &[]), Some(2));
        assert_eq!(jump.land(&[2, 9, 9], 0, &[]), None);
    }
}
