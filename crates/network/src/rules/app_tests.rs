//! Keywords about a transaction that look at no bytes: versions, types, codes, events.

use super::number::Compare;
use crate::app::AppProto;

/// One test of a transaction.
#[derive(Clone, Debug)]
pub(crate) enum AppTest {
    /// `app-layer-event:http.…`.
    Event {
        name: String,
    },
    DnsOpcode(Compare<u8>),
    DnsRrtype(Compare<u16>),
    DnsRcode(Compare<u8>),
    /// `tls.version`, as the two bytes of the wire.
    TlsVersion(Vec<u16>),
    /// `ssl_state`: bits of states, any of them.
    TlsState(Vec<(u8, bool)>),
    TlsCertCount(Compare<u32>),
    /// Seconds since 1970.
    TlsNotBefore(Compare<i64>),
    TlsNotAfter(Compare<i64>),
    TlsExpired(bool),
    Http2FrameType(u8),
    Http2Settings(String),
    Http2Priority(Compare<u8>),
    Http2Window(Compare<u32>),
    Http2ErrorCode(u32),
    Http2SizeUpdate(Compare<u64>),
    FtpDataCommand(String),
}

impl AppTest {
    /// Protocols whose transactions have it.
    pub(crate) fn apps(&self) -> &'static [AppProto] {
        match self {
            Self::Event { .. } => &[],
            Self::DnsOpcode(_) | Self::DnsRrtype(_) | Self::DnsRcode(_) => &[AppProto::Dns],
            Self::TlsVersion(_)
            | Self::TlsState(_)
            | Self::TlsCertCount(_)
            | Self::TlsNotBefore(_)
            | Self::TlsNotAfter(_)
            | Self::TlsExpired(_) => &[AppProto::Tls],
            Self::Http2FrameType(_)
            | Self::Http2Settings(_)
            | Self::Http2Priority(_)
            | Self::Http2Window(_)
            | Self::Http2ErrorCode(_)
            | Self::Http2SizeUpdate(_) => &[AppProto::Http2],
            Self::FtpDataCommand(_) => &[AppProto::FtpData],
        }
    }

    /// Stage of either direction from which on it can be told.
    pub(crate) fn stage(&self) -> u8 {
        match self {
            Self::TlsCertCount(_) | Self::TlsNotBefore(_) | Self::TlsNotAfter(_) | Self::TlsExpired(_) => 2,
            Self::DnsOpcode(_) | Self::DnsRrtype(_) | Self::DnsRcode(_) => 1,
            _ => 0,
        }
    }
}
