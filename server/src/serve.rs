//! The life of the server process: listener up, store open, work, drain, close.
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use foretell_engine::Engine;
use foretell_query::Database;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::alerts::Deliverer;
use crate::app::{App, Store};
use crate::config::Config;
use crate::http::Front;
use crate::{http, otlp, red, rules};

/// Exit code when a second signal ends the process at once.
const EXIT_FORCED: i32 = 130;
/// How long a stop waits for connections to close once no request is active.
const LAST_BYTES_MAX: Duration = Duration::from_secs(2);
/// Stack of a worker thread: DataFusion's planner recurses deeply.
const WORKER_STACK_BYTES: usize = 8 << 20;

/// Threads that decode large requests, open and close the store: what one of them works on is memory in use.
const BLOCKING_THREADS_MAX: usize = 32;

/// Runs the server until a signal ends it.
///
/// # Errors
/// When it cannot listen or the store cannot be opened.
pub fn run(config: Config) -> anyhow::Result<ExitCode> {
    let filter = EnvFilter::try_from_env("FORETELL_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    // A second server in one process (tests) keeps the first one's log.
    let _ =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal).try_init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("foretell")
        .thread_stack_size(WORKER_STACK_BYTES)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .context("cannot start the runtime")?;
    let code = runtime.block_on(live(config))?;
    // Whatever still runs has had its time.
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(code)
}

/// A line on standard output, for people and for programs that started this one.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever closed our standard output does not want to know.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// The first and every further signal to stop.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn signal(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn live(config: Config) -> anyhow::Result<ExitCode> {
    let mut stop = Stop::new().context("cannot listen for signals")?;
    let hangup = signal(SignalKind::hangup()).context("cannot listen for signals")?;
    let engine_config = config.engine()?;
    let query_limits = config.query_limits();
    let wal_bytes = bytes_in(&engine_config.data_dir.join("wal"));
    let (listen, listen_otlp, listen_grpc) = (config.http_addr()?, config.otlp_http_addr()?, config.grpc_addr()?);
    let settings = rules::Settings::new(&config);
    let specs = rules::load(&settings.files, &settings.defaults).context("cannot use the rule files")?;
    let label_limits = config.label_limits();
    let app = App::new(config, key_seed(), wal_bytes);

    let ending = http::listener::Stop::default();
    // All ports before anything is opened or said: a server without one of them would only seem to run.
    let mut bound = Vec::new();
    for (name, option, address, front) in [
        ("http", "--listen-http", listen, http::front as fn(Arc<App>) -> Front),
        ("otlp/http", "--listen-otlp-http", listen_otlp, otlp::http_front),
        ("grpc", "--listen-grpc", listen_grpc, otlp::grpc_front),
    ] {
        let Some(address) = address else { continue };
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!(
                "cannot listen on {address} for {name}; give {option} another address, port 0 for a free one, or none"
            )
        })?;
        bound.push((name, listener, front));
    }
    let mut accepting = Vec::new();
    for (name, listener, front) in bound {
        say(&format!("foretell: {name} listening on http://{}", listener.local_addr()?));
        let (front, app) = (front(Arc::clone(&app)), Arc::clone(&app));
        let ending = ending.of_one_listener();
        let drained = ending.drained.clone();
        let task = tokio::spawn(async move { http::listener::run(listener, front, &app.config.limits, ending).await });
        accepting.push((task, drained));
    }

    let started = Instant::now();
    let opening = tokio::task::spawn_blocking(move || {
        let engine = Engine::open(engine_config)?;
        let database = Database::open(engine.clone(), query_limits)?;
        Ok::<_, anyhow::Error>(Store { engine, database })
    });
    // A stop while replaying: what is replayed is still in the log, so there is nothing to save.
    let store = tokio::select! {
        opened = opening => opened.context("opening the store was interrupted")?.context("cannot open the store")?,
        () = stop.signal() => {
            tracing::info!("stopped while opening the store");
            std::process::exit(0);
        }
    };
    let stats = store.engine.stats();
    tracing::info!(
        lsn = stats.lsn.0,
        series = stats.series,
        segments = stats.segments,
        elapsed_ms = started.elapsed().as_millis() as u64,
        "ready"
    );
    app.set_ready(store.clone());
    red::switch_on(&store.database, &app.config.continuous.enable.0).await;
    app.rules.start(store.clone(), label_limits, app.metrics.rule_seconds(), specs).await;
    let deliverer = Deliverer::start(Arc::clone(&store.database), app.rules.settings().clone(), Arc::clone(&app.told));
    tokio::spawn(reload_on_hangup(Arc::clone(&app), hangup));

    stop.signal().await;
    tracing::info!("stopping: new work is refused; a second signal stops at once");
    tokio::spawn(async move {
        stop.signal().await;
        std::process::exit(EXIT_FORCED);
    });
    app.set_stopping();
    ending.draining.cancel();
    drain(&app).await;
    // Handlers are done, their last bytes may not be.
    let _ = tokio::time::timeout(LAST_BYTES_MAX, async {
        for (_, drained) in &accepting {
            drained.cancelled().await;
        }
    })
    .await;
    app.rules.stop().await;
    deliverer.close().await;
    store.database.close().await.context("cannot close the database")?;
    let engine = store.engine.clone();
    tokio::task::spawn_blocking(move || engine.close())
        .await
        .context("closing was interrupted")?
        .context("cannot close the store")?;
    ending.stopped.cancel();
    for (task, _) in accepting {
        let _ = task.await;
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Reads the rule files again at each SIGHUP; what is wrong with them is in the log.
async fn reload_on_hangup(app: Arc<App>, mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        let _ = app.rules.reload().await;
    }
}

/// Waits until no request is active and no client is told of lines any more, at most for the configured time.
async fn drain(app: &Arc<App>) {
    const POLL: Duration = Duration::from_millis(5);
    let deadline = Instant::now() + app.config.shutdown_timeout.0;
    while app.requests_active() + app.tails.open() > 0 {
        if Instant::now() >= deadline {
            tracing::warn!(
                requests = app.requests_active(),
                tails = app.tails.open(),
                "requests still active after shutdown_timeout are abandoned"
            );
            return;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// A seed that no sender can know, so that none can make keys collide.
fn key_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Bytes of the files in `dir`; 0 when there is none.
fn bytes_in(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}
