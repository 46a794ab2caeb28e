//! All settings of the engine, by its parts.

use crate::app::AppSettings;
use crate::decode::{DecodeSettings, DefragSettings};
use crate::detect::OutcomeSettings;
use crate::flow::FlowSettings;
use crate::flow::tcp::StreamSettings;
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
    /// Packets can be dropped, and so are inspected before they are delivered.
    pub fn prevent(&mut self) {
        self.outcome.prevent = true;
        self.stream.inline = true;
    }
}
