//! Batches for tests: of our own values, of addresses that are for documentation.

use sakimori_model::{Event, Timestamp, field as f};
use sakimori_wire::batch::BatchHeader;

use super::StampedBatch;

/// 2026-01-02T03:04:05Z.
pub(crate) const START: i64 = 1_767_323_045;

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(START + seconds)
}

/// A failed login.
pub(crate) fn login(number: u64) -> Event {
    let mut event = Event::new();
    let address = std::net::Ipv4Addr::new(198, 51, 100, u8::try_from(number % 250).expect("small"));
    event.set(f::TIMESTAMP, at(i64::try_from(number / 10).expect("small")));
    event.set(f::MESSAGE, format!("Failed password for user{} from {address} port 22 ssh2", number % 7));
    event
        .set(f::EVENT_ORIGINAL, format!("Jan  2 03:04:05 web1 sshd[{number}]: Failed password for user{}", number % 7));
    event.set(f::EVENT_KIND, "event");
    event.push(f::EVENT_CATEGORY, "authentication");
    event.set(f::EVENT_OUTCOME, "failure");
    event.set(f::EVENT_DATASET, "linux.auth");
    event.set(f::SOURCE_IP, std::net::IpAddr::from(address));
    event.set(f::SOURCE_PORT, i64::try_from(number % 60_000).expect("small"));
    event.set(f::USER_NAME, format!("user{}", number % 7));
    event.set(f::HOST_NAME, "web1");
    event.set(f::AGENT_ID, "agent-1");
    event.set(f::PROCESS_NAME, "sshd");
    event.set(f::ECS_VERSION, "8.17");
    event
}

/// A batch of failed logins that arrives at `at(arrival)`; the events' numbers follow `first`.
pub(crate) fn batch(tenant: &str, sequence: u64, first: u64, count: u64) -> StampedBatch {
    let header = BatchHeader {
        id: sakimori_model::id::batch_id("agent-1", "auth", sequence),
        origin: "agent-1".into(),
        stream: "auth".into(),
        sequence,
        first_event: first,
        count: u32::try_from(count).expect("small"),
        ..BatchHeader::default()
    };
    let arrival = at(i64::try_from(first / 10).expect("small"));
    StampedBatch {
        tenant: tenant.into(),
        header: BatchHeader { id: format!("{tenant}:{}", header.id), ..header },
        events: (first..first + count).map(login).collect(),
        arrival,
        first_sequence: first,
    }
}
