//! What a rule is looked for by: the one of its contents that a rule asks for or that is most selective, or the literals
//! that one of its regular expressions needs, where they are rarer.

use super::builder::Builder;
use super::model::{Fast, Step};
use super::pcre::Pcre;
use super::required;

impl Builder<'_, '_> {
    /// The pattern that is looked for first: the one asked for, else the most selective.
    pub(super) fn fast(&self) -> Option<Fast> {
        let mut best: Option<(bool, u32, Fast)> = None;
        let mut consider = |steps: &[Step], place: &dyn Fn(usize) -> Fast| {
            for (at, step) in steps.iter().enumerate() {
                let Step::Content(content) = step else { continue };
                if content.negated {
                    continue;
                }
                let rank = (content.fast, content.strength());
                if best.as_ref().is_none_or(|best| (best.0, best.1) < rank) {
                    best = Some((rank.0, rank.1, place(at)));
                }
            }
        };
        for (number, test) in self.buffers.iter().enumerate() {
            if test.buffer.is_app() && !test.buffer.is_frame() {
                consider(&test.steps, &|at| Fast::Buffer(number, at));
            }
        }
        // Payload patterns of rules on transactions are judged with the transaction.
        let app = self.buffers.iter().any(|test| test.buffer.is_app()) || !self.app_tests.is_empty();
        if !app {
            consider(&self.payload, &Fast::Payload);
        }
        self.rarer(best.map(|best| best.2))
    }

    /// A regular expression in the place of a content, where the literals that it needs are rarer. What a rule finds
    /// stays the same: its steps have to hold whatever was looked for first, and it is only looked at when it could match.
    fn rarer(&self, best: Option<Fast>) -> Option<Fast> {
        // Asking a data set may change it, so who is asked when must not change.
        let lists = || self.buffers.iter().map(|test| &test.steps).chain([&self.payload]);
        if lists().flatten().any(|step| matches!(step, Step::DataSet(_))) {
            return best;
        }
        let known = match best {
            Some(Fast::Payload(at)) => self.payload.get(at),
            Some(Fast::Buffer(number, at)) => self.buffers.get(number).and_then(|test| test.steps.get(at)),
            None => None,
        };
        let mut least = match known {
            Some(Step::Content(content)) => required::chance(&content.bytes) / 2.0,
            _ => f64::MAX,
        };
        let mut rarest = best;
        let mut consider = |steps: &[Step], place: &dyn Fn(usize) -> Fast| {
            for (at, step) in steps.iter().enumerate() {
                let Step::Pcre(Pcre { required: Some(required), .. }) = step else { continue };
                if required.chance < least {
                    (least, rarest) = (required.chance, Some(place(at)));
                }
            }
        };
        let of_packets = self.app_tests.is_empty() && !self.buffers.iter().any(|test| test.buffer.is_app());
        if of_packets {
            if !self.proto.header_only {
                consider(&self.payload, &Fast::Payload);
            }
            return rarest;
        }
        // A rule on transactions remembers which of its parts held, so it must not begin later than it did: parts that
        // are of one packet, or of a buffer that grows, hold at one time and not at another.
        let lasting = self.packet.is_empty() && self.payload.is_empty() && self.app_tests.is_empty();
        for (number, test) in self.buffers.iter().enumerate() {
            let same = best.is_none_or(|best| matches!(best, Fast::Buffer(known, _) if known == number));
            let mut others = self.buffers.iter().enumerate().filter(|(other, _)| *other != number);
            let steady = others.all(|(_, other)| other.buffer.is_app() && !other.buffer.def().grows);
            if lasting && same && steady && test.buffer.is_app() && !test.buffer.is_frame() {
                consider(&test.steps, &|at| Fast::Buffer(number, at));
            }
        }
        rarest
    }
}
