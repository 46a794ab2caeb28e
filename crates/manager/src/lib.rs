//! The control plane: API, agent channel, ingest, detection, reconcilers.
//!
//! Start: [`Manager::start`] opens control state, journal and lake, settles what a crash left open, replays the
//! journal, and gives its tasks to the one supervisor.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

pub mod accounts;
mod answers;
pub mod api;
pub mod backup;
pub mod books;
pub mod ca;
pub mod channels;
pub mod config;
mod crowd;
mod descriptors;
mod disk;
pub mod exceptions;
pub mod executions;
pub mod flood;
pub mod fold;
mod guesses;
mod heads;
mod impact;
pub mod ingest;
pub mod jobs;
pub mod link;
pub mod lint;
pub mod metrics;
pub mod noisy;
pub mod notices;
mod orders;
pub mod package;
pub mod policy;
pub mod presence;
mod recover;
pub mod release;
pub mod respond;
pub mod rollouts;
pub mod rules;
pub mod sealing;
mod seals;
pub mod shared;
pub mod sign_in;
pub mod sources;
mod stream;

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use sakimori_cloud::aws::waf::WafSets;
use sakimori_content::files::Files;
use sakimori_content::keys::Use;
use sakimori_model::Timestamp;
use sakimori_respond::ports::AddressSet;
use sakimori_runtime::{Restart, Stop, Supervisor, SystemClock, Task, clock::SharedClock};
use sakimori_store::control::{Control, Scope, Sole, shed};
use sakimori_store::lake::Lake;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Notify, Semaphore, broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::accounts::Accounts;
use crate::channels::{Channels, template::Templates};
use crate::config::Config;
use crate::ingest::{Ingest, IngestHandle, Ways};
use crate::sealing::{Sealing, files as key_files};
use crate::shared::{Links, Release, Shared};

/// Name under which this process commits to the lake. One manager process writes (D7).
pub const WRITER: &str = "manager";
/// New events that a slow reader of the live feed may fall behind.
const LIVE: usize = 4_096;
/// Most spans of shedding that a start goes on with.
const MOST_SPANS: i64 = 65_536;
/// How long a stop waits for tasks.
const PATIENCE: Duration = Duration::from_secs(30);

/// A manager.
#[derive(Debug)]
pub struct Manager;

/// A running manager.
pub struct Running {
    /// Where the API answers.
    pub api_addr: SocketAddr,
    /// Where agents connect.
    pub link_addr: SocketAddr,
    /// Password of the user `admin`, where this start made it.
    pub first_password: Option<String>,
    /// Its parts, for tests and the command line.
    pub shared: Arc<Shared>,
    stop: Stop,
    supervisor: Supervisor,
    _sole: Sole,
}

impl Running {
    /// Stops in good order: what was acknowledged is flushed.
    pub async fn stop(self) {
        self.stop.tell();
        self.finish().await;
    }

    /// Waits for the stop that a signal or a failing task tells, then ends in good order.
    pub async fn finish(self) {
        self.supervisor.finish(PATIENCE).await;
        self.shared.control.close().await;
    }

    /// Tells it to stop.
    pub fn stopper(&self) -> Stop {
        self.stop.clone()
    }
}

/// What a manager acts on in the cloud.
#[derive(Default)]
pub struct Outside {
    /// The WAF's sets.
    pub waf: Option<Arc<dyn AddressSet>>,
    /// Accounts.
    pub accounts: Accounts,
}

impl Manager {
    /// Starts a manager with the machine's clock.
    ///
    /// # Errors
    /// What could not be opened or listened on, with the next step.
    pub async fn start(config: Config) -> anyhow::Result<Running> {
        Self::start_with(config, Arc::new(SystemClock)).await
    }

    /// Starts a manager with this clock.
    ///
    /// # Errors
    /// As [`Manager::start`].
    pub async fn start_with(config: Config, clock: SharedClock) -> anyhow::Result<Running> {
        sakimori_runtime::http::install_crypto();
        let waf: Option<Arc<dyn AddressSet>> = match &config.cloud.waf {
            Some(waf) => Some(Arc::new(WafSets::open_by(waf.clone(), Arc::clone(&clock)).await?)),
            None => None,
        };
        let accounts = Accounts::open(&config.cloud.accounts).await?;
        Self::start_on(config, clock, Outside { waf, accounts }).await
    }

    /// Starts a manager that acts on these, whatever the configuration names.
    ///
    /// # Errors
    /// As [`Manager::start`].
    pub async fn start_on(
        config: Config,
        clock: SharedClock,
        Outside { waf, accounts }: Outside,
    ) -> anyhow::Result<Running> {
        sakimori_runtime::http::install_crypto();
        let state = config.state_dir.clone();
        make_private(&state)?;
        api::check_listen(&config).map_err(anyhow::Error::msg)?;
        config.ingest.check().map_err(anyhow::Error::msg)?;
        config.sign_in.check(config.api.public_url.as_deref()).map_err(anyhow::Error::msg)?;
        let providers = sign_in::providers::Providers::open(&config.sign_in)?;
        let stop = Stop::new();
        backup::remove_drafts(&state);
        let since = backup::since::Since::load(&state)?;
        let control = Control::open(&config.control_url()).await?;
        let sole = control.sole().await?;
        // Before a first user is made, whose password must not be lost to an error.
        let sealing = Arc::new(Sealing::open(&config, &control).await?);
        let first_password = api::ensure_first_user(&control, &*clock).await?;
        let api_listener = listen(config.api.listen, "api.listen").await?;
        let link_listener = listen(config.link.listen, "link.listen").await?;
        let (api_addr, link_addr) = (api_listener.local_addr()?, link_listener.local_addr()?);
        let authority = ca::Authority::open(
            &state,
            &sealing,
            &[link_addr.ip().to_string(), config.link.advertise.clone()],
            clock.now(),
        )?;
        let key = sealing.signing_key(&state, key_files::BUNDLE, Use::Bundle)?;
        let at_least = since.map_or(0, |since| since.bundle);
        let (release, files) = release::prepare(&state, config.content_dir.as_deref(), at_least, &key, &*clock)
            .map_err(anyhow::Error::msg)?;
        let order_key = sealing.signing_key(&state, key_files::ORDER, Use::Order)?;
        let lake = Lake::open(config.lake_options()).await?;
        let channels = open_channels(&config, &files, (&control, &sealing), &clock)?;
        let mut recovered = recover::open(&config, &control, &lake).await?;
        let occurrences = std::mem::take(&mut recovered.occurrences);
        let (ingest, receiver) = IngestHandle::new(recovered.streams.clone(), occurrences);
        let (stand_still, asked) = mpsc::channel(1);
        let fold = fold::Fold::load(&files, release.number);
        for problem in fold.errors() {
            tracing::warn!("content was left out: {problem}");
        }
        let spans = shed::list(control.read(), &Scope::All, Timestamp::from_micros(0), MOST_SPANS).await?;
        let floods = std::sync::Mutex::new(flood::Floods::restore(&spans, clock.now()));
        let shared = Arc::new(Shared {
            floods,
            bundle: ArcSwap::from_pointee(Release { number: release.number, bytes: release.bytes }),
            exchange: std::sync::Mutex::default(),
            bundle_key: key.verifying_key(),
            bundle_signer: key,
            order_key,
            clock,
            stop: stop.clone(),
            control,
            sealing,
            lake,
            authority,
            ingest,
            ways: ingest::ways::Open::new(&config.ingest),
            syslog_addresses: std::sync::Mutex::default(),
            links: Links::default(),
            copies: presence::Copies::default(),
            waf,
            accounts,
            channels,
            providers,
            exceptions: exceptions::Table::default(),
            live: broadcast::channel(LIVE).0,
            actions_changed: Notify::new(),
            executions_changed: Notify::new(),
            outbox_changed: Notify::new(),
            message_waiting: Notify::new(),
            stand_still,
            journal_kept: Arc::new(AtomicU64::new(u64::MAX)),
            backups: Arc::new(Semaphore::new(1)),
            flush_now: Notify::new(),
            flush_claimed: watch::channel(0).0,
            rules: watch::channel(release.number).0,
            ingest_done: CancellationToken::new(),
            metrics: metrics::Metrics::default(),
            api_address: OnceLock::from(api_addr),
            link_address: OnceLock::from(link_addr),
            config,
        });
        shared.exceptions.load(&shared.control, shared.clock.now()).await?;
        let journal = Arc::clone(&recovered.journal);
        let task =
            recovered.replay(&shared, fold, Ways { batches: receiver, asked }).await.map_err(anyhow::Error::msg)?;
        let mut supervisor = Supervisor::new(stop.clone());
        start_ingest(&mut supervisor, &shared, task);
        jobs::start(&mut supervisor, &shared, &journal);
        ingest::ways::start(&mut supervisor, &shared);
        serve(&mut supervisor, &shared, api_listener, link_listener);
        Ok(Running { api_addr, link_addr, first_password, shared, stop, supervisor, _sole: sole })
    }
}

/// Opens where messages go, with the words that the content has for them.
fn open_channels(
    config: &Config,
    files: &Files,
    (control, sealing): (&Control, &Arc<Sealing>),
    clock: &SharedClock,
) -> anyhow::Result<Channels> {
    let templates = Templates::load(files, config.api.public_url.as_deref());
    for problem in templates.problems() {
        tracing::warn!("{problem}");
    }
    let tools = channels::Tools {
        client: sakimori_runtime::http::client(channels::PATIENCE)?,
        clock: Arc::clone(clock),
        accounts: config.cloud.accounts.clone(),
    };
    let named = channels::Named { control: control.clone(), sealing: Arc::clone(sealing) };
    Channels::open(&config.notify, &tools, named, &templates).map_err(anyhow::Error::msg)
}

/// The ingest task owns the order of everything: where it fails, the process ends and a new start replays.
fn start_ingest(supervisor: &mut Supervisor, shared: &Arc<Shared>, task: Ingest) {
    let task = Arc::new(Mutex::new(task));
    let shared = Arc::clone(shared);
    supervisor.start(Task { name: "ingest", restart: Restart::Never }, move |_| {
        let (task, shared) = (Arc::clone(&task), Arc::clone(&shared));
        async move {
            let outcome = task.lock().await.run().await;
            shared.ingest_done.cancel();
            outcome
        }
    });
}

fn serve(supervisor: &mut Supervisor, shared: &Arc<Shared>, api: TcpListener, link: TcpListener) {
    let listener = Arc::new(Mutex::new(Some(api)));
    let handles = Arc::clone(shared);
    supervisor.start(Task { name: "api", restart: Restart::Never }, move |_| {
        let (shared, listener) = (Arc::clone(&handles), Arc::clone(&listener));
        async move {
            let Some(listener) = listener.lock().await.take() else { return Err("it was started twice".into()) };
            api::serve(shared, listener).await
        }
    });
    let listener = Arc::new(Mutex::new(Some(link)));
    let handles = Arc::clone(shared);
    supervisor.start(Task { name: "link", restart: Restart::Never }, move |_| {
        let (shared, listener) = (Arc::clone(&handles), Arc::clone(&listener));
        async move {
            let Some(listener) = listener.lock().await.take() else { return Err("it was started twice".into()) };
            link::serve(shared, listener).await
        }
    });
}

async fn listen(address: SocketAddr, setting: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        anyhow::anyhow!("listen on {address}: {error}; choose another address with {setting} in the configuration")
    })
}

/// The state folder is root's alone: keys and everybody's events lie in it.
fn make_private(dir: &std::path::Path) -> anyhow::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let fail = |error: std::io::Error| anyhow::anyhow!("use {} as state_dir: {error}", dir.display());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fail)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).map_err(fail)
}
