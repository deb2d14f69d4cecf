//! Starting everything in order, waiting for a reason to end, and ending in bounded time.

use std::{io::Write as _, net::SocketAddr, sync::Arc, thread};

use call_control::Controller;
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    rand::{GetRandomFlags, getrandom},
};
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    audio::Ear,
    config::Config,
    core::{self, Bound, Core, Input, Inputs},
    journal::{self, Journal},
    limits,
    management::{self, Pages, StorePages},
    media::Hosts,
    reload::{self, Reloader, Reloads, Source},
    resolver::Resolver,
    snapshot::Snapshot,
    store::{Sqlite, projector::Projector},
    token::Token,
    transport::{Sockets, Terms, guard::Guard, tls::Identities},
};

/// Runs the controller until a signal or a failure.
///
/// # Errors
/// What could not be started, or what failed.
pub(crate) fn run(config: Config, source: Source) -> Result<(), String> {
    allow_files(&config)?;
    runtime()?.block_on(serve(config, source))
}

/// One for the thread that asks, and one for the core thread.
fn runtime() -> Result<Runtime, String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("tokio runtime: {error}"))
}

/// Every connection and everything else can be open at once: who connects often must not keep us from writing the journal
/// or from reaching a media host.
///
/// # Errors
/// So many files may not be open: names the setting, and what to do.
pub(crate) fn allow_files(config: &Config) -> Result<(), String> {
    let connections = config.signalling.tcp_connections;
    let need = (connections + limits::HTTP_CONNECTIONS + limits::SPARE_FILES) as u64;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|have| have >= need) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(need),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).map_err(|_| {
        let have = limit.maximum.unwrap_or(u64::MAX);
        format!(
            "signalling.tcp_connections: {connections} connections need {need} open files, the hard limit is {have}; \
             raise it (systemd: LimitNOFILE=, docker: --ulimit nofile=) or lower signalling.tcp_connections"
        )
    })
}

async fn serve(config: Config, source: Source) -> Result<(), String> {
    let identities = Arc::new(Identities::read(&config.tls)?);
    let guard = Arc::new(Guard::new(config.sources.but_for(&config.trunks)));
    let terms = Arc::new(Terms::new(&config));
    let token = Token::read(&config.management)?;
    // Listeners first: a taken port must not cost the time of everything else.
    let sockets = Sockets::bind(&config)?;
    let bound = sockets.bound();
    let (http, http_addr) = management::bind("management.listen", config.management.listen).await?;
    let (controller, journal) = go_on(&config, &bound)?;
    let journal_shared = journal.shared();
    let projector = start_projector(&config, &journal_shared)?;
    let store = store_pages(&config, projector.as_ref());

    let (inputs, queue) = Inputs::new();
    let [(stop, stopping), (end, ending)] = [false; 2].map(watch::channel);
    let resolver = start_resolver(&config, &bound)?;
    let of_core = runtime()?;
    let transports = sockets
        .start(of_core.handle(), &inputs, &ending, &guard, &identities, &terms)
        .map_err(|error| format!("signalling.udp: {error}"))?;
    let transport = transports.counters();
    let hosts = Hosts::start(
        &config.media.hosts,
        &config.media_client,
        of_core.handle(),
        &inputs,
        &resolver,
    )?;
    let core = Core::new(controller, queue, journal, &inputs, transports, resolver, &hosts);
    let core = start_core(of_core, core)?;
    let (reloads, requests) = Reloads::new();
    let pages = Pages {
        reloads: reloads.clone(),
        inputs: inputs.clone(),
        transport,
        guard: Arc::clone(&guard),
        journal: journal_shared,
        store,
        token: token.clone(),
        ear: Ear::new(&hosts),
        snapshot: Snapshot::default(),
        stopping,
        ending,
    };
    let pages = tokio::spawn(management::serve(http, pages));
    // Whoever reads that it is ready may send one at once: a signal that nobody listens to would end it there and then.
    let signals = Signals::listen()?;
    tracing::info!(bound = ?bound, %http_addr, domains = ?config.signalling.domains, "ready");
    announce(&bound, http_addr);
    let reloader = Reloader {
        source,
        running: config,
        bound,
        guard,
        identities,
        terms,
        token,
        inputs: inputs.clone(),
        hosts,
        reloads,
    };
    let ended = until_the_end(core, pages, &inputs, (stop, end), (reloader, requests, signals)).await;
    // Last: it carries what was written until now.
    drop(projector);
    tracing::info!("stopped");
    ended
}

/// The controller, with what its journal tells.
fn go_on(config: &Config, bound: &Bound) -> Result<(Controller, Journal), String> {
    let settings = config.controller(bound);
    for warning in settings.warnings() {
        tracing::warn!("{warning}");
    }
    let mut controller =
        Controller::new(settings, seed()?, core::now()).map_err(|error| error.to_string())?;
    let journal = Journal::open(&config.journal, |record| controller.replay(record))?;
    controller.resume(core::now());
    Ok((controller, journal))
}

fn start_resolver(config: &Config, bound: &Bound) -> Result<Resolver, String> {
    let seed = u64::from_be_bytes(seed()?[..8].try_into().unwrap_or_default());
    Resolver::new(&config.dns, bound, seed)
}

/// What the pages know of the database.
fn store_pages(config: &Config, projector: Option<&Projector>) -> StorePages {
    StorePages::new(
        projector.is_some().then(|| config.store.path.clone()),
        projector.map(|projector| Arc::clone(&projector.counters)),
    )
}

/// Without a database there is nothing to carry the journal to.
fn start_projector(config: &Config, journal: &Arc<journal::Shared>) -> Result<Option<Projector>, String> {
    let path = config.store.path.clone();
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    Projector::start(&config.journal.path, Arc::clone(journal), move || {
        Sqlite::open(&path)
    })
    .map(Some)
    .map_err(|error| format!("projector thread: {error}"))
}

/// The core thread, and how it says that it ended.
struct CoreThread {
    thread: thread::JoinHandle<()>,
    ended: oneshot::Receiver<()>,
}

fn start_core(runtime: Runtime, core: Core) -> Result<CoreThread, String> {
    let (end, ended) = oneshot::channel();
    let thread = thread::Builder::new()
        .name("core".into())
        .spawn(move || {
            runtime.block_on(core.run());
            let _ = end.send(());
        })
        .map_err(|error| format!("core thread: {error}"))?;
    Ok(CoreThread { thread, ended })
}

async fn until_the_end(
    mut core: CoreThread,
    mut pages: JoinHandle<Result<(), String>>,
    inputs: &Inputs,
    (stop, end): (watch::Sender<bool>, watch::Sender<bool>),
    (mut reloader, mut requests, mut signals): (Reloader, mpsc::Receiver<reload::Request>, Signals),
) -> Result<(), String> {
    let reason = loop {
        tokio::select! {
            _ = signals.terminate.recv() => break "SIGTERM",
            _ = signals.interrupt.recv() => break "SIGINT",
            _ = signals.hangup.recv() => drop(reloader.reload().await),
            Some(request) = requests.recv() => {
                let outcome = reloader.reload().await;
                // Who asked may have gone away.
                let _gone = request.send(outcome);
            }
            _ = &mut core.ended => return Err("the core thread panicked".into()),
            served = &mut pages => return served.unwrap_or_else(|error| Err(error.to_string())),
        }
    };
    // Nobody is kept waiting for another.
    drop((reloader, requests));
    tracing::info!(reason, "ending all calls");
    let _ = stop.send(true);
    let patience = limits::SHUTDOWN_CALLS * 2;
    let stopped = timeout(patience, async {
        inputs.deliver(Input::Stop).await.map_err(|_| ())?;
        core.ended.await.map_err(|_| ())
    })
    .await;
    let _ = end.send(true);
    let _ = timeout(limits::SHUTDOWN_CONNECTIONS, pages).await;
    match stopped {
        Ok(Ok(())) => {
            let _ = core.thread.join();
            Ok(())
        }
        Ok(Err(())) => Err("the core thread panicked".into()),
        Err(_) => Err("the core thread did not stop in time".into()),
    }
}

/// What a supervisor tells.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Result<Self, String> {
        let listen = |kind| signal(kind).map_err(|error| format!("signal handler: {error}"));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }
}

/// One line for supervisors and tests; nobody reading it is no fault.
fn announce(bound: &Bound, management: SocketAddr) {
    let sip: Vec<String> = bound
        .iter()
        .map(|(transport, addr)| format!("{}:{addr}", transport.uri_token()))
        .collect();
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "ready sip={} management={management}", sip.join(","));
    let _ = out.flush();
}

fn seed() -> Result<[u8; 32], String> {
    let mut seed = [0; 32];
    getrandom(&mut seed, GetRandomFlags::empty()).map_err(|error| format!("getrandom: {error}"))?;
    Ok(seed)
}
