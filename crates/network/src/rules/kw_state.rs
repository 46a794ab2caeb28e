//! Keywords of flows, hosts, sets, and how often a rule alerts.

use super::builder::{Builder, Place};
use super::model::{Effect, Step};
use super::number::Compare;
use super::packet_tests::{FlowCount, PacketTest, StreamSide};
use super::sets::{DataSetTest, ReputationTest, SetCommand, SetType};
use super::state::{BitCommand, Bits, FlowInt, HostBits, IntCommand, IntValue, Tag, TagMetric, TagOf, Track};
use super::threshold::Threshold;

type Done = Result<(), String>;

pub(crate) fn flow(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let mut flow = builder.flow.unwrap_or_default();
    for word in text.split(',').map(str::trim) {
        match word.to_ascii_lowercase().as_str() {
            "to_server" | "toserver" | "from_client" | "fromclient" => flow.to_server = true,
            "to_client" | "toclient" | "from_server" | "fromserver" => flow.to_client = true,
            "established" => flow.established = true,
            "not_established" => flow.not_established = true,
            "stateless" => flow.stateless = true,
            "only_stream" => {
                flow.only_stream = true;
                builder.needs_stream = true;
            }
            "no_stream" => {
                flow.no_stream = true;
                builder.needs_packet = true;
            }
            "only_frag" => flow.only_fragment = true,
            "no_frag" => flow.no_fragment = true,
            other => return Err(format!("'{other}' is nothing that a flow can be")),
        }
    }
    if flow.to_server && flow.to_client {
        return Err("a flow has one direction".into());
    }
    if flow.established && (flow.not_established || flow.stateless) {
        return Err("a flow is established or not".into());
    }
    builder.flow = Some(flow);
    Ok(())
}

pub(crate) fn flowbits(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let (command, names) = text.split_once(',').map_or((text.trim(), ""), |(command, names)| (command.trim(), names));
    if command == "noalert" {
        builder.no_alert = true;
        return Ok(());
    }
    let command = BitCommand::parse(command).ok_or_else(|| format!("'{command}' is no command of flowbits"))?;
    let names: Vec<&str> = names.split('|').map(str::trim).filter(|name| !name.is_empty()).collect();
    if names.is_empty() || (names.len() > 1 && !command.is_test()) {
        return Err("flowbits takes a name, several only for a test".into());
    }
    if names.iter().any(|name| name.contains(char::is_whitespace)) {
        return Err("a name of flowbits has no spaces".into());
    }
    let bits = names.iter().map(|name| builder.shared.bit(name)).collect();
    let bits = Bits { command, bits };
    if command.is_test() {
        builder.packet.push(PacketTest::FlowBits(bits));
    } else {
        builder.effects.push(Effect::FlowBits(bits));
    }
    Ok(())
}

pub(crate) fn flowint(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let mut words = text.split(',').map(str::trim);
    let name = words.next().filter(|name| !name.is_empty()).ok_or("flowint takes a name")?;
    let sign = words.next().ok_or("flowint takes an operation")?;
    let command = match sign {
        "+" => IntCommand::Add,
        "-" => IntCommand::Subtract,
        "=" => IntCommand::Set,
        "==" => IntCommand::Equal,
        "!=" => IntCommand::NotEqual,
        "<" => IntCommand::Less,
        "<=" => IntCommand::AtMost,
        ">" => IntCommand::Greater,
        ">=" => IntCommand::AtLeast,
        "isset" => IntCommand::IsSet,
        "notset" | "isnotset" => IntCommand::IsNotSet,
        other => return Err(format!("'{other}' is no operation of flowint")),
    };
    let value = match words.next() {
        None => IntValue::None,
        Some(text) => match text.parse() {
            Ok(number) => IntValue::Number(number),
            Err(_) => IntValue::Other(builder.shared.bit(&format!("int {text}"))),
        },
    };
    if value == IntValue::None && !matches!(command, IntCommand::IsSet | IntCommand::IsNotSet) {
        return Err("flowint takes a value".into());
    }
    let test = FlowInt { name: builder.shared.bit(&format!("int {name}")), command, value };
    if test.is_test() {
        builder.packet.push(PacketTest::FlowInt(test));
    } else {
        builder.effects.push(Effect::FlowInt(test));
    }
    Ok(())
}

pub(crate) fn xbits(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let mut words = text.split(',').map(str::trim);
    let command = words.next().and_then(BitCommand::parse).ok_or("xbits takes a command")?;
    let name = words.next().filter(|name| !name.is_empty()).ok_or("xbits takes a name")?;
    let (mut track, mut expire) = (None, 30);
    for word in words {
        match word.split_once(char::is_whitespace).map(|(name, value)| (name, value.trim())) {
            Some(("track", "ip_src")) => track = Some(Track::Src),
            Some(("track", "ip_dst")) => track = Some(Track::Dst),
            Some(("track", "ip_pair")) => track = Some(Track::Pair),
            Some(("expire", seconds)) => expire = seconds.parse().map_err(|_| "'expire' takes seconds".to_owned())?,
            _ => return Err(format!("'{word}' does not go with xbits")),
        }
    }
    let track = track.ok_or("xbits needs 'track'")?;
    let bits = HostBits { command, bit: builder.shared.bit(&format!("x {name}")), track, expire };
    if command.is_test() {
        builder.packet.push(PacketTest::XBits(bits));
    } else {
        builder.effects.push(Effect::XBits(bits));
    }
    Ok(())
}

pub(crate) fn hostbits(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let mut words = text.split(',').map(str::trim);
    let command = words.next().and_then(BitCommand::parse).ok_or("hostbits takes a command")?;
    let name = words.next().filter(|name| !name.is_empty()).ok_or("hostbits takes a name")?;
    let track = match words.next() {
        None | Some("src") => Track::Src,
        Some("dst") => Track::Dst,
        Some("both") => Track::Both,
        Some(other) => return Err(format!("'{other}' is no side")),
    };
    let bits = HostBits { command, bit: builder.shared.bit(&format!("host {name}")), track, expire: i64::MAX };
    if command.is_test() {
        builder.packet.push(PacketTest::HostBits(bits));
    } else {
        builder.effects.push(Effect::HostBits(bits));
    }
    Ok(())
}

fn count(builder: &mut Builder<'_, '_>, count: FlowCount, to_server: Option<bool>, text: &str) -> Done {
    let wanted = Compare::parse(text)?;
    builder.packet.push(PacketTest::Flow { count, to_server, wanted });
    Ok(())
}

pub(crate) fn flow_age(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    count(builder, FlowCount::Age, None, text)
}

/// `flow.pkts:toserver,>5`, or without a side.
fn sided(builder: &mut Builder<'_, '_>, what: FlowCount, text: &str) -> Done {
    match text.split_once(',').map(|(side, rest)| (side.trim(), rest)) {
        Some(("toserver", rest)) => count(builder, what, Some(true), rest),
        Some(("toclient", rest)) => count(builder, what, Some(false), rest),
        Some(("either" | "both", rest)) => count(builder, what, None, rest),
        _ => count(builder, what, None, text),
    }
}

pub(crate) fn flow_pkts(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    sided(builder, FlowCount::Packets, text)
}

pub(crate) fn flow_bytes(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    sided(builder, FlowCount::Bytes, text)
}

pub(crate) fn flow_pkts_server(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    count(builder, FlowCount::Packets, Some(true), text)
}

pub(crate) fn flow_pkts_client(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    count(builder, FlowCount::Packets, Some(false), text)
}

pub(crate) fn flow_bytes_server(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    count(builder, FlowCount::Bytes, Some(true), text)
}

pub(crate) fn flow_bytes_client(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    count(builder, FlowCount::Bytes, Some(false), text)
}

pub(crate) fn threshold(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    builder.threshold = Some(Threshold::parse(text, false)?);
    Ok(())
}

pub(crate) fn detection_filter(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    builder.detection_filter = Some(Threshold::parse(text, true)?);
    Ok(())
}

pub(crate) fn tag(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let words: Vec<&str> = text.split(',').map(str::trim).collect();
    let of = match (words.first(), words.last()) {
        (Some(&"session"), _) => TagOf::Flow,
        (Some(&"host"), Some(&"dst")) => TagOf::Dst,
        (Some(&"host"), _) => TagOf::Src,
        _ => return Err("tag takes session or host".into()),
    };
    let count = words.get(1).and_then(|word| word.parse().ok()).unwrap_or(256);
    let metric = match words.get(2) {
        Some(&"seconds") => TagMetric::Seconds,
        Some(&"bytes") => TagMetric::Bytes,
        _ => TagMetric::Packets,
    };
    builder.effects.push(Effect::Tag(Tag { of, count, metric }));
    Ok(())
}

pub(crate) fn stream_size(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let words: Vec<&str> = text.split(',').map(str::trim).collect();
    let [side, sign, number] = words.as_slice() else { return Err("stream_size takes three values".into()) };
    let side = match *side {
        "server" => StreamSide::Server,
        "client" => StreamSide::Client,
        "both" => StreamSide::Both,
        "either" => StreamSide::Either,
        other => return Err(format!("'{other}' is no side of a stream")),
    };
    let sign = if *sign == "!=" { "!" } else { sign };
    let wanted = Compare::parse(&format!("{sign}{number}"))?;
    builder.packet.push(PacketTest::StreamSize { side, wanted });
    Ok(())
}

pub(crate) fn iprep(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let words: Vec<&str> = text.split(',').map(str::trim).collect();
    let [side, category, sign, number] = words.as_slice() else { return Err("iprep takes four values".into()) };
    let side = match *side {
        "any" => 0,
        "src" => 1,
        "dst" => 2,
        "both" => 3,
        other => return Err(format!("'{other}' is no side")),
    };
    let wanted = Compare::parse(&format!("{sign}{number}"))?;
    builder.packet.push(PacketTest::Reputation { side, category: (*category).to_owned(), wanted });
    Ok(())
}

/// The words behind a set's name: type and file.
fn set_words(builder: &Builder<'_, '_>, words: &[&str]) -> Result<(SetType, Option<String>), String> {
    let (mut kind, mut file) = (None, None);
    for word in words {
        let (name, value) = word.split_once(char::is_whitespace).unwrap_or((word, ""));
        match (name, value.trim()) {
            ("type", "string") => kind = Some(SetType::Text),
            ("type", "md5") => kind = Some(SetType::Md5),
            ("type", "sha256") => kind = Some(SetType::Sha256),
            ("type", "ip" | "ipv4" | "ipv6") => kind = Some(SetType::Address),
            ("type", other) => return Err(format!("'{other}' is no type of a set")),
            ("load" | "state", path) => file = Some((name, path.to_owned())),
            ("save" | "memcap" | "hashsize", _) => {}
            _ => return Err(format!("'{word}' does not go with a set")),
        }
    }
    let text = match file {
        Some(("load", path)) => {
            Some(builder.shared.file(&path).ok_or_else(|| format!("cannot read the file '{path}'"))?)
        }
        Some((_, path)) => builder.shared.file(&path),
        None => None,
    };
    Ok((kind.unwrap_or(SetType::Text), text))
}

pub(crate) fn dataset(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let words: Vec<&str> = text.split(',').map(str::trim).collect();
    let [command, name, rest @ ..] = words.as_slice() else { return Err("dataset takes a command and a name".into()) };
    let command = match *command {
        "set" => SetCommand::Set,
        "unset" => SetCommand::Unset,
        "isset" => SetCommand::IsSet,
        "isnotset" => SetCommand::IsNotSet,
        other => return Err(format!("'{other}' is no command of dataset")),
    };
    if matches!(builder.place, Place::Payload) {
        return Err("dataset stands behind the name of a buffer".into());
    }
    let (kind, file) = set_words(builder, rest)?;
    let set = builder.shared.sets.open(name, kind, file.as_deref(), false)?;
    builder.step(Step::DataSet(DataSetTest { set, command }))
}

pub(crate) fn datarep(builder: &mut Builder<'_, '_>, text: &str) -> Done {
    let words: Vec<&str> = text.split(',').map(str::trim).collect();
    let [name, sign, number, rest @ ..] = words.as_slice() else { return Err("datarep takes three values".into()) };
    if matches!(builder.place, Place::Payload) {
        return Err("datarep stands behind the name of a buffer".into());
    }
    let wanted = Compare::parse(&format!("{}{number}", sign.trim_start_matches("==")))?;
    let (kind, file) = set_words(builder, rest)?;
    let set = builder.shared.sets.open(name, kind, file.as_deref(), true)?;
    builder.step(Step::Reputation(ReputationTest { set, wanted }))
}
