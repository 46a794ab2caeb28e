//! What the demo prints at its end: each step with who saw it and what answered, and every shipped playbook with what it
//! changed, how long it and its undo took, and whether the state after the undo is the one before.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::field;
use crate::api::items;

/// One line of the story.
pub struct Line {
    /// The step, by its number in the story.
    pub step: &'static str,
    /// Who or what saw it.
    pub seen: String,
    /// What answered.
    pub answered: String,
    /// Since the step began.
    pub took: Duration,
}

/// A playbook that was seen to act and to be taken back.
pub struct Played {
    /// Its id.
    pub playbook: &'static str,
    /// In which step.
    pub step: &'static str,
    /// What another reader saw change.
    pub changed: String,
    /// From the order to "done".
    pub done: Duration,
    /// From the undo to "undone".
    pub undone: Duration,
    /// The state after the undo against the one before.
    pub equal: String,
}

/// What a story leaves behind.
#[derive(Default)]
pub struct Told {
    /// Its steps.
    pub lines: Vec<Line>,
    /// Its playbooks.
    pub played: Vec<Played>,
}

impl Told {
    /// Adds what was told elsewhere.
    pub fn extend(&mut self, other: Self) {
        self.lines.extend(other.lines);
        self.played.extend(other.played);
    }

    /// Was each playbook that is shipped seen, once?
    ///
    /// # Errors
    /// Which was not.
    pub fn all_playbooks(&self, shipped: &Value) -> Result<()> {
        let mut shipped: Vec<String> = items(shipped).iter().map(|one| field(one, "/id").to_owned()).collect();
        let mut played: Vec<&str> = self.played.iter().map(|one| one.playbook).collect();
        shipped.sort_unstable();
        played.sort_unstable();
        ensure!(played == shipped, "shipped are {shipped:?}, and seen were {played:?}");
        Ok(())
    }

    /// Prints both tables.
    pub fn print(&self) {
        let steps = self.lines.iter().map(|line| {
            [line.step.to_owned(), line.seen.clone(), line.answered.clone(), line.took.as_millis().to_string()]
        });
        print(["step", "seen by", "answered by", "ms"], steps.collect());
        let mut played: Vec<&Played> = self.played.iter().collect();
        played.sort_unstable_by_key(|one| one.playbook);
        let playbooks = played.iter().map(|one| {
            let [done, undone] = [one.done, one.undone].map(|took| match took.as_millis() {
                0 => "<1".to_owned(),
                more => more.to_string(),
            });
            [one.playbook.to_owned(), one.step.to_owned(), one.changed.clone(), one.equal.clone(), done, undone]
        });
        let head = ["playbook", "step", "what changed", "after the undo", "done ms", "undone ms"];
        print(head, playbooks.collect());
    }
}

/// Numbers, whose heads end in `ms`, are flush right.
fn print<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) {
    let mut all = vec![head.map(str::to_owned)];
    all.extend(rows);
    println!();
    for row in &all {
        let mut line = String::new();
        for (at, (cell, title)) in row.iter().zip(head).enumerate() {
            let width = all.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0);
            let part = match title.ends_with("ms") {
                true => format!("{cell:>width$}  "),
                false => format!("{cell:width$}  "),
            };
            line.push_str(&part);
        }
        println!("{}", line.trim_end());
    }
}
