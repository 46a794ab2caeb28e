//! The one stop of all automatic answers of a tenant, as it stands. Numbers grow with every change, so that an agent
//! never takes an older one.

use sakimori_model::Timestamp;
use serde::{Deserialize, Serialize};

use super::sql::{Connection, Pool};
use super::{ControlError, Result, next, settings};

const NAME: &str = "halt";

/// How it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halt {
    /// Grows with every change; 0 where there never was one.
    pub number: i64,
    /// Are all answers stopped?
    pub halted: bool,
    /// Was what is in effect to be taken back?
    pub undo: bool,
    /// Who changed it last.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

impl Halt {
    /// Why an answer is refused, while all are stopped.
    pub fn words(&self) -> Option<String> {
        let reason = if self.reason.is_empty() { String::new() } else { format!(": {}", self.reason) };
        self.halted.then(|| format!("all answers are stopped by {} since {}{reason}", self.by, self.at))
    }
}

/// How it stands for a tenant.
///
/// # Errors
/// The database failed, or what is stored cannot be read.
pub async fn get(pool: &Pool, tenant: &str) -> Result<Halt> {
    match settings::get(pool, tenant, NAME).await? {
        None => Ok(Halt::default()),
        Some(text) => serde_json::from_str(&text).map_err(|error| ControlError::Stored("halt", error.to_string())),
    }
}

/// Changes it; its number is the next one.
///
/// # Errors
/// The database failed.
pub async fn set(connection: &mut Connection, tenant: &str, halt: Halt) -> Result<Halt> {
    let halt = Halt { number: next(connection, tenant, NAME).await?, ..halt };
    let text = serde_json::to_string(&halt).map_err(|error| ControlError::Stored("halt", error.to_string()))?;
    settings::set(connection, tenant, NAME, &text).await?;
    Ok(halt)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Base, on_both};
    use super::*;

    on_both!(each_change_has_a_greater_number_and_is_one_tenants,);

    async fn each_change_has_a_greater_number_and_is_one_tenants(base: Base) {
        let (_dir, control) = base.fresh().await;
        assert_eq!(get(control.read(), "a").await.unwrap(), Halt::default());
        let mut change = control.begin().await.unwrap();
        let stop = Halt { halted: true, by: "ann".into(), reason: "drill".into(), ..Halt::default() };
        assert_eq!(set(change.connection(), "a", stop.clone()).await.unwrap().number, 1);
        assert_eq!(set(change.connection(), "a", Halt { halted: false, ..stop }).await.unwrap().number, 2);
        change.commit().await.unwrap();
        let now = get(control.read(), "a").await.unwrap();
        assert_eq!((now.number, now.words()), (2, None));
        assert_eq!(get(control.read(), "b").await.unwrap().number, 0);
    }
}
