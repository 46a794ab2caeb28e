//! What the worker does with a line: for now every line becomes a plain event with its original text. Parsing,
//! rules and playbooks join here with the detection engine.

use sakimori_model::policy::LogInput;
use sakimori_model::{Event, Network, Order, Timestamp, field};
use sakimori_wire::batch::Batch;
use sakimori_wire::ipc::LogsStart;

/// What one read became.
pub struct Made {
    /// Lines that were read.
    pub lines: usize,
    /// Their events, and alerts.
    pub events: Vec<Event>,
    /// What the alerts ask for.
    pub orders: Vec<Order>,
}

/// Rules and their state.
pub struct Engine {
    agent: String,
    host_name: String,
    host_id: String,
    files: usize,
}

/// Makes one batch.
pub struct Maker<'a> {
    engine: &'a mut Engine,
    source: String,
    now: Timestamp,
    events: Vec<Event>,
}

impl Maker<'_> {
    /// Takes a line.
    pub fn line(&mut self, line: &[u8], offset: u64, dropped: u64) {
        let mut event = Event::new();
        event.set(field::EVENT_ORIGINAL, String::from_utf8_lossy(line).into_owned());
        event.set(field::TIMESTAMP, self.now);
        event.set(field::SAKIMORI_RECEIVED, self.now);
        event.set(field::SAKIMORI_SOURCE, self.source.clone());
        event.set(field::LOG_OFFSET, i64::try_from(offset).unwrap_or(i64::MAX));
        event.set(field::HOST_NAME, self.engine.host_name.clone());
        event.set(field::HOST_ID, self.engine.host_id.clone());
        event.set(field::AGENT_ID, self.engine.agent.clone());
        if dropped > 0 {
            event.set(field::ERROR_MESSAGE, format!("the line is longer than allowed: {dropped} bytes were dropped"));
        }
        self.events.push(event);
    }

    /// The batch.
    pub fn finish(self) -> Made {
        Made { lines: self.events.len(), events: self.events, orders: Vec::new() }
    }
}

/// Is this event an alert of the engine?
pub fn is_alert(event: &Event) -> bool {
    event.get(field::SAKIMORI_ALERT_ID).is_some()
}

impl Engine {
    /// Loads rules; what does not load is said and left out.
    pub fn load(start: &LogsStart, _bundle: u64, files: &[(String, Vec<u8>)]) -> (Self, Vec<String>) {
        let engine = Self {
            agent: start.agent.clone(),
            host_name: start.host_name.clone(),
            host_id: start.host_id.clone(),
            files: files.iter().filter(|(path, _)| path.starts_with("sigma/")).count(),
        };
        (engine, Vec::new())
    }

    /// Loaded rules.
    pub fn rules(&self) -> u32 {
        u32::try_from(self.files).unwrap_or(u32::MAX)
    }

    /// Takes a snapshot's state.
    ///
    /// # Errors
    /// Where it is of other rules.
    pub fn restore(&mut self, _state: &[u8]) -> Result<(), String> {
        Ok(())
    }

    /// State of all windows.
    pub fn snapshot(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Takes what outlives a change of rules from the engine before.
    pub fn take_over(&mut self, _former: &mut Self) {}

    /// Proxies whose X-Forwarded-For is believed.
    pub fn set_proxies(&mut self, _proxies: Vec<Network>) {}

    /// Feeds a batch of the spool, and says nothing.
    pub fn replay(&mut self, _batch: &Batch) {}

    /// Begins a batch of an input.
    pub fn maker(&mut self, input: &LogInput, _batch: &str, now: Timestamp, _history: u64) -> Maker<'_> {
        Maker { engine: self, source: input.source.clone(), now, events: Vec::new() }
    }

    /// What time brings.
    pub fn advance(&mut self, _now: Timestamp) -> (Vec<Event>, Vec<Order>) {
        (Vec::new(), Vec::new())
    }
}
