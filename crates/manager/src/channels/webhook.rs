//! `webhook`: posts the facts as JSON, signed ([`sakimori_respond::message`]), with the message's id and a mark where it may
//! be a repeat. Whoever receives it makes of it what they like.

use sakimori_respond::actions::Safety;
use sakimori_respond::message::{SIGNATURE_HEADER, signature};
use sakimori_respond::ports::BoxFuture;
use sakimori_runtime::clock::SharedClock;

use super::{Failure, Key, Kind, Letter, Need, Receipt, Receiver, http};

/// What it is.
pub const KIND: Kind = Kind {
    id: "webhook",
    about: "JSON by HTTP POST, signed with HMAC-SHA256",
    url: Need::Must("where it is posted to"),
    secret: Need::May("key of the signature"),
    settings: &[],
    safety: Safety::Repeatable,
    closes: false,
    findings: None,
    settles: 0,
    rate: (300, 6_000),
    open: |channel, tools| {
        let (client, clock) = (tools.client.clone(), tools.clock.clone());
        Ok(Box::new(Webhook { client, clock, url: channel.url.clone() }))
    },
};

struct Webhook {
    client: reqwest::Client,
    clock: SharedClock,
    url: String,
}

impl Receiver for Webhook {
    fn tell<'a>(&'a self, letter: &'a Letter<'a>, secret: &'a Key) -> BoxFuture<'a, Result<Receipt, Failure>> {
        Box::pin(async move {
            let mut request = self
                .client
                .post(&self.url)
                .header("Content-Type", "application/json")
                .header("X-Sakimori-Message", letter.id);
            if letter.may_be_repeat {
                request = request.header("X-Sakimori-Repeat", "may be a repeat");
            }
            let now = self.clock.now();
            if let Some(key) = secret.bytes() {
                request = request.header(SIGNATURE_HEADER, signature(key, now, letter.body));
            }
            let answer = http::ask("the webhook", request.body(letter.body.to_owned()), now).await?;
            Ok(Receipt::said(answer.good("the webhook")?.status.to_string()))
        })
    }
}
