//! Control state as a whole, and how each of its tests runs on a file and on a server.

use super::*;

/// A database for a test: each test runs on both kinds.
#[derive(Clone, Copy)]
pub(crate) enum Base {
    File,
    Server(&'static postgres_server::Server),
}

impl Base {
    /// One that is fresh, with what it lies in.
    pub(crate) async fn fresh(self) -> (tempfile::TempDir, Control) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let control = Control::open(&self.url(&dir).await).await.expect("opens");
        (dir, control)
    }

    /// The address of an empty one, to be opened.
    pub(crate) async fn url(self, dir: &tempfile::TempDir) -> String {
        match self {
            Self::File => format!("sqlite:{}/control.db", dir.path().display()),
            Self::Server(server) => server.database().await,
        }
    }
}

/// Makes two tests of each of these functions: `sqlite::…` and `postgres::…`.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $test() {
                super::$test($crate::control::tests::Base::File).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $test() {
                if let Some(server) = $crate::control::postgres_server::server(stringify!($test)) {
                    super::$test($crate::control::tests::Base::Server(server)).await;
                }
            })*
        }
    };
}
pub(crate) use on_both;

on_both!(
    opening_twice_keeps_what_is_there_and_a_dropped_change_leaves_nothing,
    a_reader_does_not_write,
    changes_of_many_follow_one_another_and_no_chain_forks,
);

async fn opening_twice_keeps_what_is_there_and_a_dropped_change_leaves_nothing(base: Base) {
    let dir = tempfile::tempdir().unwrap();
    let url = base.url(&dir).await;
    let control = Control::open(&url).await.unwrap();
    assert!(control.is_empty().await.unwrap());
    let mut change = control.begin().await.unwrap();
    settings::set(change.connection(), DEFAULT_TENANT, "a", "1").await.unwrap();
    change.commit().await.unwrap();
    let mut change = control.begin().await.unwrap();
    settings::set(change.connection(), DEFAULT_TENANT, "a", "2").await.unwrap();
    drop(change);
    control.close().await;
    let again = Control::open(&url).await.unwrap();
    assert_eq!(settings::get(again.read(), DEFAULT_TENANT, "a").await.unwrap().as_deref(), Some("1"));
    again.ping().await.unwrap();
}

#[tokio::test]
async fn another_scheme_is_refused_and_no_error_shows_a_password() {
    for url in [
        "mysql://me:secret@db/x",
        "postgres://me:secret@127.0.0.1:1/x?connect_timeout=1",
        "postgres://me:secret@127.0.0.1:port/x",
        "postgres://me:sec@ret@127.0.0.1:1/x?sslmode=secret",
        "secret:x",
    ] {
        let error = Control::open(url).await.err().expect("refused").to_string();
        assert!(!error.replace("secret:x", "").contains("me:sec"), "{error}");
    }
    let error = Control::open("mysql://me:secret@db/x").await.err().expect("refused").to_string();
    assert!(error.contains("mysql://db/x") && error.contains("postgres://user@host/database"), "{error}");
}

async fn a_reader_does_not_write(base: Base) {
    let (_dir, control) = base.fresh().await;
    assert!(sql::query("DELETE FROM tenants").execute(control.read()).await.is_err());
}

async fn changes_of_many_follow_one_another_and_no_chain_forks(base: Base) {
    let dir = tempfile::tempdir().unwrap();
    let url = base.url(&dir).await;
    let mut writers = tokio::task::JoinSet::new();
    // Two programs with several tasks each.
    for _ in 0..2 {
        let control = Control::open(&url).await.unwrap();
        for _ in 0..3 {
            let control = control.clone();
            writers.spawn(async move {
                for number in 0..15 {
                    let mut change = control.begin().await.unwrap();
                    let target = number.to_string();
                    let entry = audit::Entry {
                        tenant: DEFAULT_TENANT,
                        time: Timestamp::from_secs(number),
                        actor: "system",
                        action: "test:write",
                        target: &target,
                        before: None,
                        after: None,
                        address: "",
                        request: "",
                    };
                    change.audit(&entry).await.unwrap();
                    change.commit().await.unwrap();
                }
            });
        }
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    let control = Control::open(&url).await.unwrap();
    let verdicts = audit::verify(control.read(), &Scope::All).await.unwrap();
    assert_eq!(verdicts.iter().map(|one| (one.entries, one.broken_at)).collect::<Vec<_>>(), [(90, None)]);
    let rows = outbox::after(control.read(), 0, 1_000).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.sequence).collect::<Vec<_>>(), (1..=90).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_server_is_one_managers_until_it_ends() {
    let Some(server) = postgres_server::server("a_server_is_one_managers_until_it_ends") else { return };
    let url = server.database().await;
    let (one, other) = (Control::open(&url).await.unwrap(), Control::open(&url).await.unwrap());
    let sole = one.sole().await.unwrap();
    let waits = tokio::time::timeout(Duration::from_millis(700), other.sole()).await;
    assert!(waits.is_err(), "it waits for the other's end");
    assert!(one.begin().await.unwrap().commit().await.is_ok() && other.ping().await.is_ok(), "changes go on");
    drop(sole);
    other.sole().await.unwrap();
}

#[tokio::test]
async fn a_server_is_spoken_to_in_tls_as_the_url_asks() {
    let Some(server) = postgres_server::server("a_server_is_spoken_to_in_tls_as_the_url_asks") else { return };
    let url = server.database().await;
    let encrypted = async |control: Control| {
        let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        sql::query_scalar::<bool>(sql).fetch_one(control.read()).await.unwrap()
    };
    let ca = server.certificate.display();
    for (mode, wanted) in [
        ("sslmode=disable".to_owned(), Some(false)),
        ("sslmode=require".to_owned(), Some(true)),
        (format!("sslmode=verify-full&sslrootcert={ca}"), Some(true)),
        // Not one of the system's roots.
        ("sslmode=verify-full".to_owned(), None),
    ] {
        let opened = Control::open(&format!("{url}?{mode}")).await;
        match wanted {
            Some(wanted) => {
                assert_eq!(encrypted(opened.unwrap_or_else(|error| panic!("{mode}: {error}"))).await, wanted, "{mode}")
            }
            None => assert!(opened.is_err(), "{mode}"),
        }
    }
}
