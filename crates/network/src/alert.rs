//! An alert, as the engine gives it.

use std::net::IpAddr;
use std::sync::Arc;

use crate::app::AppProto;
use crate::rules::{Action, Rule};

/// One alert.
#[derive(Clone, Debug)]
pub struct Alert {
    pub rule: Arc<Rule>,
    /// What the rule did; a rate filter may have changed it.
    pub action: Action,
    /// Whether the packet was stopped by this (or would have been, where nothing can be dropped).
    pub blocked: bool,
    /// Whether the packet was stopped, by this rule or another.
    pub stopped: bool,
    /// Number of the frame from 1; 0 at the end of a flow.
    pub packet: u64,
    /// Microseconds since 1970.
    pub time: i64,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub sport: u16,
    pub dport: u16,
    /// IP protocol number.
    pub proto: u8,
    pub app: Option<AppProto>,
    pub to_server: bool,
    pub flow: Option<u64>,
    /// Transaction within the flow.
    pub tx: Option<u64>,
    pub vlan: Vec<u16>,
    /// Bytes around the match: of the packet, or of the stream.
    pub payload: Vec<u8>,
    pub http: Option<HttpSummary>,
    /// Packets that the rule wants to be kept from now on.
    pub tag: Option<crate::rules::Tag>,
}

/// The request that an alert is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpSummary {
    pub method: String,
    pub host: String,
    pub uri: String,
    pub user_agent: String,
    pub status: String,
    /// Value of `X-Forwarded-For`, as it came.
    pub forwarded_for: String,
}
