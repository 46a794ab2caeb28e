//! Names of application protocols.

/// A protocol that flows speak. Those without a parser are recognised where that is cheap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AppProto {
    /// Either version of HTTP; of rules, never of a flow.
    Http,
    Http1,
    Http2,
    Dns,
    Tls,
    Ssh,
    Smtp,
    Ftp,
    FtpData,
    Smb,
    Dcerpc,
    Nfs,
    Mqtt,
    Sip,
    Quic,
    Krb5,
    Ike,
    Snmp,
    Tftp,
    Dhcp,
    Rfb,
    Rdp,
    Modbus,
    Dnp3,
    Enip,
    Pgsql,
    Telnet,
    Imap,
    Pop3,
    Ntp,
    BittorrentDht,
    Failed,
}

const NAMES: &[(&str, AppProto)] = &[
    ("http", AppProto::Http),
    ("http1", AppProto::Http1),
    ("http2", AppProto::Http2),
    ("dns", AppProto::Dns),
    ("tls", AppProto::Tls),
    ("ssl", AppProto::Tls),
    ("ssh", AppProto::Ssh),
    ("smtp", AppProto::Smtp),
    ("ftp", AppProto::Ftp),
    ("ftp-data", AppProto::FtpData),
    ("smb", AppProto::Smb),
    ("dcerpc", AppProto::Dcerpc),
    ("nfs", AppProto::Nfs),
    ("mqtt", AppProto::Mqtt),
    ("sip", AppProto::Sip),
    ("quic", AppProto::Quic),
    ("krb5", AppProto::Krb5),
    ("ike", AppProto::Ike),
    ("ikev2", AppProto::Ike),
    ("snmp", AppProto::Snmp),
    ("tftp", AppProto::Tftp),
    ("dhcp", AppProto::Dhcp),
    ("rfb", AppProto::Rfb),
    ("rdp", AppProto::Rdp),
    ("modbus", AppProto::Modbus),
    ("dnp3", AppProto::Dnp3),
    ("enip", AppProto::Enip),
    ("pgsql", AppProto::Pgsql),
    ("telnet", AppProto::Telnet),
    ("imap", AppProto::Imap),
    ("pop3", AppProto::Pop3),
    ("ntp", AppProto::Ntp),
    ("bittorrent-dht", AppProto::BittorrentDht),
    ("failed", AppProto::Failed),
];

impl AppProto {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        NAMES.iter().find(|known| known.0 == name).map(|known| known.1)
    }

    /// The name that rules use.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|known| known.1 == self).map_or("unknown", |known| known.0)
    }

    /// Whether a rule for this protocol is for flows of the other.
    pub(crate) fn includes(self, flow: Self) -> bool {
        self == flow
            || (self == Self::Http && matches!(flow, Self::Http1 | Self::Http2))
            || (self == Self::Dcerpc && flow == Self::Smb)
    }

    /// IP protocols that carry it.
    pub(crate) fn transports(self) -> &'static [u8] {
        match self {
            Self::Dns | Self::Sip | Self::Krb5 | Self::Dcerpc | Self::Enip | Self::Nfs | Self::Failed => &[6, 17],
            Self::Quic | Self::Ike | Self::Snmp | Self::Tftp | Self::Dhcp | Self::Ntp | Self::BittorrentDht => &[17],
            _ => &[6],
        }
    }
}
