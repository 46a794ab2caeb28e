//! `intrusion_prevention`: packets are judged by rules before they are delivered, and dropped where policy and rule say
//! so. The kernel queues them, a pump hands them to a `network` worker; a module that is off has no such process, no
//! queue and no table.

use sakimori_host::queue_packets;
use sakimori_model::policy::{self, Switch};
use sakimori_runtime::doctor::{Finding, Health};

use super::Descriptor;
use crate::config::Config;

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: "intrusion_prevention",
    title: "Intrusion prevention",
    summary: "Judges packets by network rules before they are delivered, and drops or refuses attacks.",
    config_schema: policy::SCHEMA_VERSION,
    is_on: |policy| policy.modules.intrusion_prevention.state == Switch::On,
    check,
};

fn check(_: &Config) -> Vec<Finding> {
    vec![match queue_packets::form() {
        Ok(form) if form.native => Finding::ok("agent/queue", "the kernel queues packets by nft_queue"),
        Ok(_) => Finding::ok("agent/queue", "the kernel queues packets by xt_NFQUEUE (it has no nft_queue)"),
        Err(error) => Finding::problem(
            "agent/queue",
            Health::Limited,
            error.to_string(),
            "run as root on a kernel with nft_queue or xt_NFQUEUE; sakimori net replay works without",
        ),
    }]
}

/// Number of the daily probe's rule, which no bundle's rule may have.
pub const PROBE_RULE: u32 = 9_199_999;
/// What the probe asks for.
pub const PROBE_PATH: &str = "/sakimori-proof";

/// The probe's rule. It goes with every rule set, judges one port of the loopback device, and drops where the policy
/// prevents.
pub fn probe_rule(port: u16) -> String {
    format!(
        "drop http any any -> 127.0.0.1 {port} (msg:\"Probe of intrusion prevention\"; flow:established,to_server; \
         http.uri; content:\"{PROBE_PATH}\"; startswith; metadata:severity informational; sid:{PROBE_RULE}; rev:1;)\n"
    )
}
