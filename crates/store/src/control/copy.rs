//! A copy of the control database as one file of its own: what a backup holds.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{Control, ControlError, Result};

/// See [`Control::snapshot`].
pub(super) async fn snapshot(control: &Control, file: &Path) -> Result<()> {
    let fail = |source| ControlError::Copy { path: file.to_owned(), source };
    // SQLite takes an empty file as a new database, so the mode is right before the first byte.
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(fail)?;
    let path = file.to_str().ok_or_else(|| fail(std::io::Error::other("its name is no UTF-8")))?;
    sqlx::query("VACUUM INTO $1").bind(path).execute(control.read()).await?;
    let written = std::fs::File::open(file).and_then(|file| file.sync_all());
    written.map_err(fail)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::tests::fresh;
    use super::super::{DEFAULT_TENANT, settings};
    use super::*;

    #[tokio::test]
    async fn a_copy_has_the_rows_of_its_moment_and_is_for_its_owner_alone() {
        let (dir, control) = fresh().await;
        let mut change = control.begin().await.unwrap();
        settings::set(change.connection(), DEFAULT_TENANT, "a", "1").await.unwrap();
        change.commit().await.unwrap();
        // A change that is under way neither waits nor shows.
        let mut change = control.begin().await.unwrap();
        settings::set(change.connection(), DEFAULT_TENANT, "a", "2").await.unwrap();
        let file = dir.path().join("copy.db");
        control.snapshot(&file).await.unwrap();
        change.commit().await.unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let copy = Control::open(&format!("sqlite:{}", file.display())).await.unwrap();
        assert_eq!(settings::get(copy.read(), DEFAULT_TENANT, "a").await.unwrap().as_deref(), Some("1"));
        assert!(control.snapshot(&file).await.is_err(), "nothing is written over");
    }
}
