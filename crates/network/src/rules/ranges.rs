//! Sets of addresses and ports as sorted ranges, so that lists, groups and negations cost nothing at match time.
//!
//! IPv4 addresses lie at `::ffff:0:0/96`, so one set holds both families.

use std::net::IpAddr;

/// A network in CIDR form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    low: u128,
    high: u128,
}

impl Network {
    /// Reads `10.0.0.0/8`, `10.1.2.3`, `10.0.0.1-10.0.0.9` or the same of IPv6.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some((low, high)) = text.split_once('-') {
            let (low, high) = (address_number(low.trim().parse().ok()?), address_number(high.trim().parse().ok()?));
            return (low <= high).then_some(Self { low, high });
        }
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.trim().parse().ok()?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let length: u32 = match length.map(str::trim) {
            None => whole,
            Some(mask) if mask.contains('.') => {
                let mask = u32::from(mask.parse::<std::net::Ipv4Addr>().ok()?);
                (mask.leading_ones() + mask.trailing_zeros() == 32 || mask == 0).then(|| mask.leading_ones())?
            }
            Some(length) => length.parse().ok().filter(|length| *length <= whole)?,
        };
        let host = whole - length;
        let span = if host == 128 { u128::MAX } else { (1u128 << host) - 1 };
        let number = address_number(address);
        Some(Self { low: number & !span, high: number | span })
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        (self.low..=self.high).contains(&address_number(address))
    }

    /// How wide it is, for finding the one that fits best.
    pub(crate) fn span(&self) -> u128 {
        self.high - self.low
    }

    pub(crate) fn ranges(self) -> Ranges {
        Ranges(vec![(self.low, self.high)])
    }
}

/// An address as a number, IPv4 mapped into IPv6.
pub(crate) fn address_number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(four) => u128::from(four.to_ipv6_mapped()),
        IpAddr::V6(six) => u128::from(six),
    }
}

/// Sorted ranges that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Ranges(Vec<(u128, u128)>);

impl Ranges {
    pub(crate) fn all() -> Self {
        Self(vec![(0, u128::MAX)])
    }

    pub(crate) fn one(low: u128, high: u128) -> Self {
        Self(vec![(low, high)])
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn is_all(&self) -> bool {
        matches!(self.0.as_slice(), [(0, u128::MAX)])
    }

    pub(crate) fn contains(&self, number: u128) -> bool {
        match self.0.as_slice() {
            [(0, u128::MAX)] => true,
            [(low, high)] => (*low..=*high).contains(&number),
            many => {
                let at = many.partition_point(|range| range.0 <= number);
                at.checked_sub(1).and_then(|at| many.get(at)).is_some_and(|range| number <= range.1)
            }
        }
    }

    pub(crate) fn union(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self.0.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(self.0.len());
        for (low, high) in self.0 {
            match merged.last_mut() {
                Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
                _ => merged.push((low, high)),
            }
        }
        Self(merged)
    }

    pub(crate) fn complement(&self) -> Self {
        let mut free = Vec::new();
        let mut next = Some(0u128);
        for (low, high) in &self.0 {
            if let Some(start) = next
                && start < *low
            {
                free.push((start, low - 1));
            }
            next = high.checked_add(1);
        }
        if let Some(start) = next {
            free.push((start, u128::MAX));
        }
        Self(free)
    }

    /// What is in this set and not in the other.
    pub(crate) fn without(self, other: &Self) -> Self {
        // a \ b is the complement of (complement of a, or b).
        self.complement().union(other.clone()).complement()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Ranges {
        Network::parse(text).unwrap().ranges()
    }

    #[test]
    fn set_arithmetic() {
        let set = network("10.0.0.0/8").union(network("::1")).without(&network("10.1.0.0/16"));
        let has = |text: &str| set.contains(address_number(text.parse().unwrap()));
        assert!(has("10.0.0.1") && has("10.2.0.0") && has("::1"));
        assert!(!has("10.1.2.3") && !has("11.0.0.0") && !has("::2"));
        assert!(Ranges::all().complement().is_empty());
        assert!(Ranges::default().complement().is_all());
    }

    #[test]
    fn masks_and_spans() {
        assert_eq!(Network::parse("10.1.2.3/255.255.0.0"), Network::parse("10.1.0.0/16"));
        assert!(Network::parse("10.0.0.1-10.0.0.3").unwrap().contains("10.0.0.2".parse().unwrap()));
        assert_eq!((Network::parse("10.0.0.0/33"), Network::parse("nonsense")), (None, None));
    }
}
