//! Address and port groups of a configuration, and the lists of rule headers that use them.

use std::collections::HashMap;
use std::sync::Arc;

use super::ranges::{Network, Ranges};

/// Deepest nesting of lists and variables.
const DEEPEST: usize = 32;

/// Address and port variables by name, without the dollar sign.
#[derive(Clone, Debug)]
pub struct Variables {
    pub addresses: HashMap<String, String>,
    pub ports: HashMap<String, String>,
}

impl Default for Variables {
    /// What a distribution's configuration has: the private networks as home, servers in it, the usual ports.
    fn default() -> Self {
        let mut addresses = HashMap::new();
        let mut address = |name: &str, value: &str| addresses.insert(name.to_owned(), value.to_owned());
        address("HOME_NET", "[192.168.0.0/16,10.0.0.0/8,172.16.0.0/12]");
        address("EXTERNAL_NET", "!$HOME_NET");
        for name in ["HTTP", "SMTP", "SQL", "DNS", "TELNET", "DC", "DNP3", "MODBUS", "ENIP"] {
            address(&format!("{name}_SERVERS"), "$HOME_NET");
            address(&format!("{name}_SERVER"), "$HOME_NET");
            address(&format!("{name}_CLIENT"), "$HOME_NET");
        }
        address("AIM_SERVERS", "$EXTERNAL_NET");
        let ports = [
            ("HTTP_PORTS", "80"),
            ("SHELLCODE_PORTS", "!80"),
            ("ORACLE_PORTS", "1521"),
            ("SSH_PORTS", "22"),
            ("DNP3_PORTS", "20000"),
            ("MODBUS_PORTS", "502"),
            ("FILE_DATA_PORTS", "[$HTTP_PORTS,110,143]"),
            ("FTP_PORTS", "21"),
            ("GENEVE_PORTS", "6081"),
            ("VXLAN_PORTS", "4789"),
            ("TEREDO_PORTS", "3544"),
        ];
        Self { addresses, ports: ports.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect() }
    }
}

/// Resolves lists; equal texts share one set.
#[derive(Debug)]
pub(crate) struct Resolver<'a> {
    variables: &'a Variables,
    addresses: HashMap<String, Arc<Ranges>>,
    ports: HashMap<String, Arc<Ranges>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Addresses,
    Ports,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(variables: &'a Variables) -> Self {
        Self { variables, addresses: HashMap::new(), ports: HashMap::new() }
    }

    pub(crate) fn addresses(&mut self, text: &str) -> Result<Arc<Ranges>, String> {
        if let Some(known) = self.addresses.get(text) {
            return Ok(known.clone());
        }
        let ranges = Arc::new(self.checked(text, Of::Addresses)?);
        self.addresses.insert(text.to_owned(), ranges.clone());
        Ok(ranges)
    }

    pub(crate) fn ports(&mut self, text: &str) -> Result<Arc<Ranges>, String> {
        if let Some(known) = self.ports.get(text) {
            return Ok(known.clone());
        }
        let ranges = Arc::new(self.checked(text, Of::Ports)?);
        self.ports.insert(text.to_owned(), ranges.clone());
        Ok(ranges)
    }

    fn checked(&self, text: &str, of: Of) -> Result<Ranges, String> {
        let ranges = self.item(text, of, 0)?;
        if ranges.is_empty() { Err(format!("'{text}' leaves nothing to match")) } else { Ok(ranges) }
    }

    fn item(&self, text: &str, of: Of, depth: usize) -> Result<Ranges, String> {
        if depth > DEEPEST {
            return Err("lists or variables are nested too deep".into());
        }
        let text = text.trim();
        if let Some(rest) = text.strip_prefix('!') {
            let ranges = self.item(rest, of, depth + 1)?;
            return if ranges.is_all() { Err("'!any' matches nothing".into()) } else { Ok(ranges.complement()) };
        }
        if let Some(inside) = text.strip_prefix('[') {
            let inside = inside.strip_suffix(']').ok_or_else(|| format!("'{text}' has no closing bracket"))?;
            return self.list(inside, of, depth);
        }
        if let Some(name) = text.strip_prefix('$') {
            let table = if of == Of::Addresses { &self.variables.addresses } else { &self.variables.ports };
            let value = table.get(name).ok_or_else(|| format!("variable '{name}' is not defined"))?;
            // A group may be written as a list without brackets.
            return if value.contains(',') && !value.trim_start().starts_with(['[', '!']) {
                self.list(value, of, depth + 1)
            } else {
                self.item(value, of, depth + 1)
            };
        }
        if text == "any" {
            return Ok(Ranges::all());
        }
        match of {
            Of::Addresses => Network::parse(text).map(Network::ranges).ok_or_else(|| format!("'{text}' is no address")),
            Of::Ports => port_range(text).ok_or_else(|| format!("'{text}' is no port")),
        }
    }

    /// What any positive member has (all, if there is none), less what a negated one has.
    fn list(&self, inside: &str, of: Of, depth: usize) -> Result<Ranges, String> {
        let (mut wanted, mut unwanted) = (None::<Ranges>, Ranges::default());
        for part in split_list(inside) {
            let part = part.trim();
            if part.is_empty() {
                return Err("a list has an empty member".into());
            }
            if let Some(negated) = part.strip_prefix('!') {
                unwanted = unwanted.union(self.item(negated, of, depth + 1)?);
            } else {
                let ranges = self.item(part, of, depth + 1)?;
                wanted = Some(wanted.unwrap_or_default().union(ranges));
            }
        }
        Ok(wanted.unwrap_or_else(Ranges::all).without(&unwanted))
    }
}

fn port_range(text: &str) -> Option<Ranges> {
    let port = |text: &str| text.trim().parse::<u16>().ok().map(u128::from);
    let (low, high) = match text.split_once(':') {
        None => (port(text)?, port(text)?),
        Some((low, "")) => (port(low)?, 65535),
        Some(("", high)) => (0, port(high)?),
        Some((low, high)) => (port(low)?, port(high)?),
    };
    (low <= high).then(|| Ranges::one(low, high))
}

/// Splits at commas outside of brackets.
pub(crate) fn split_list(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0usize, 0usize);
    for (at, letter) in text.char_indices() {
        match letter {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(text.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts
}

#[cfg(test)]
mod tests {
    use super::super::ranges::address_number;
    use super::*;

    #[test]
    fn groups_lists_and_negation() {
        let variables = Variables::default();
        let mut resolver = Resolver::new(&variables);
        let set = resolver.addresses("[$EXTERNAL_NET,!8.8.8.0/24]").unwrap();
        let has = |text: &str| set.contains(address_number(text.parse().unwrap()));
        assert!(has("1.1.1.1") && !has("8.8.8.8") && !has("10.0.0.1"));
        let ports = resolver.ports("[80,1024:,!2000:3000]").unwrap();
        assert!(ports.contains(80) && ports.contains(5000) && !ports.contains(2500) && !ports.contains(81));
    }

    #[test]
    fn reasons() {
        let variables = Variables::default();
        let mut resolver = Resolver::new(&variables);
        assert!(resolver.addresses("$NOWHERE").unwrap_err().contains("NOWHERE"));
        assert!(resolver.addresses("!any").is_err());
        assert!(resolver.addresses("[10.0.0.0/8,!10.0.0.0/8]").is_err());
        assert!(resolver.ports("99999").is_err());
        let mut loops = Variables::default();
        loops.addresses.insert("A".into(), "$A".into());
        assert!(Resolver::new(&loops).addresses("$A").is_err());
    }
}
