//! Values in the body of a batch: a tag and a payload; counts, lengths and numbers as LEB128. What is read is bounded by
//! what is left of the bytes.

use std::net::IpAddr;

use sakimori_model::{Timestamp, Value};

use super::BatchError;

pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number as u8 & 0x7f) | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Str(text) => {
            out.push(1);
            put_bytes(out, text.as_bytes());
        }
        Value::Ip(IpAddr::V4(ip)) => {
            out.push(2);
            out.extend_from_slice(&ip.octets());
        }
        Value::Ip(IpAddr::V6(ip)) => {
            out.push(3);
            out.extend_from_slice(&ip.octets());
        }
        Value::Long(number) => {
            out.push(4);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Value::Double(number) => {
            out.push(5);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Value::Bool(flag) => out.push(if *flag { 6 } else { 7 }),
        Value::Date(time) => {
            out.push(8);
            out.extend_from_slice(&time.micros().to_le_bytes());
        }
        Value::Json(json) => {
            out.push(9);
            put_bytes(out, json.to_string().as_bytes());
        }
        Value::List(list) => {
            out.push(10);
            put_number(out, list.len() as u64);
            for one in list {
                put_value(out, one);
            }
        }
    }
}

pub(super) struct Cursor<'a> {
    pub(super) left: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn number(&mut self) -> Result<u64, BatchError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, left) = self.left.split_first().ok_or(BatchError::Damaged("number"))?;
            self.left = left;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(BatchError::Damaged("number"))
    }

    /// A count of things that take at least a byte each, so never more than what is left.
    pub(super) fn count(&mut self, what: &'static str) -> Result<usize, BatchError> {
        let number = self.number()?;
        usize::try_from(number).ok().filter(|count| *count <= self.left.len()).ok_or(BatchError::Damaged(what))
    }

    pub(super) fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], BatchError> {
        let len = self.count(what)?;
        let (bytes, left) = self.left.split_at_checked(len).ok_or(BatchError::Damaged(what))?;
        self.left = left;
        Ok(bytes)
    }

    pub(super) fn text(&mut self, what: &'static str) -> Result<&'a str, BatchError> {
        std::str::from_utf8(self.bytes(what)?).map_err(|_| BatchError::Damaged(what))
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], BatchError> {
        let (array, left) = self.left.split_first_chunk::<N>().ok_or(BatchError::Damaged("value"))?;
        self.left = left;
        Ok(*array)
    }

    pub(super) fn value(&mut self, depth: u8) -> Result<Value, BatchError> {
        let [tag] = self.array::<1>()?;
        Ok(match tag {
            1 => Value::from(self.text("text")?.to_owned()),
            2 => Value::Ip(IpAddr::from(self.array::<4>()?)),
            3 => Value::Ip(IpAddr::from(self.array::<16>()?)),
            4 => Value::Long(i64::from_le_bytes(self.array()?)),
            5 => Value::Double(f64::from_le_bytes(self.array()?)),
            6 => Value::Bool(true),
            7 => Value::Bool(false),
            8 => Value::Date(Timestamp::from_micros(i64::from_le_bytes(self.array()?))),
            9 => Value::Json(Box::new(
                serde_json::from_str(self.text("json")?).map_err(|_| BatchError::Damaged("json"))?,
            )),
            10 if depth == 0 => {
                let count = self.count("list")?;
                let mut list = Vec::with_capacity(count.min(64));
                for _ in 0..count {
                    list.push(self.value(depth + 1)?);
                }
                Value::List(list)
            }
            _ => return Err(BatchError::Damaged("value")),
        })
    }
}
