//! All settings of the engine, by its parts.

use crate::app::AppSettings;
use crate::decode::{DecodeSettings, DefragSettings};
use crate::detect::OutcomeSettings;
use crate::flow::{ExceptionPolicy, FlowSettings, StreamSettings};
use crate::rules::LoadOptions;

/// What a policy says of network inspection.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub load: LoadOptions,
    pub decode: DecodeSettings,
    pub defrag: DefragSettings,
    pub flow: FlowSettings,
    pub stream: StreamSettings,
    pub app: AppSettings,
    pub outcome: OutcomeSettings,
}

impl Settings {
    /// For packets that a kernel holds until they are judged. Connections are followed from their middle where the
    /// beginning was not seen, since they are older than the engine; no connection is long enough to be let out of
    /// sight, but bulk that a server sends is passed over once so much of it was judged.
    pub fn inline() -> Self {
        let mut settings = Self::default();
        settings.prevent();
        settings.stream.midstream = true;
        settings.stream.midstream_policy = ExceptionPolicy::Ignore;
        settings.stream.depth = 0;
        settings.stream.bulk = Some(1 << 20);
        settings
    }

    /// Packets can be dropped, and so are inspected before they are delivered.
    pub fn prevent(&mut self) {
        self.outcome.prevent = true;
        self.stream.inline = true;
    }
}
