//! Starting everything in order, waiting for a reason to end, and ending in bounded time.

use std::{
    io::Write as _,
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use media_engine::host::{Host, HostConfig, Interface, InterfaceAddress, NoRandomness, SecretRandom};
use media_net::IoChoice;
use rtp::time::Now;
use rustix::{
    process::{Resource, getrlimit},
    rand::{GetRandomFlags, getrandom},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    config::{Config, IoBackend},
    cpus::{self, Layout},
    doorbell::Doorbell,
    durations::Durations,
    exchange::Exchange,
    files::Store,
    grpc::{self, Context},
    hosting::{Hosting, Parts},
    limits, liveness,
    management::{self, Pages},
    notify::Notifier,
    prompts::{Prompts, Reading},
    recordings::{Recordings, Threads},
    reload::{self, Reloader, Reloads, Source},
    requests::{HostLine, Request},
    seats::Seats,
    sockets,
    team::Team,
    worker,
};

/// Checks what can be checked without starting: also that the machine has what is configured.
///
/// # Errors
/// Names the setting and the remedy.
pub(crate) fn check(config: &Config) -> Result<(), String> {
    let layout = lay_out(config)?;
    config.control.tls.as_ref().map(grpc::tls::read).transpose()?;
    check_files(config, layout.workers.len(), getrlimit(Resource::Nofile).maximum)?;
    let now = Now {
        mono: Instant::now(),
        wall: SystemTime::now(),
    };
    Host::new(host_config(config, layout.workers.len()), "check", 0, now)
        .map_err(|error| error.to_string())?;
    for interface in &config.media.interfaces {
        for ip in &interface.addresses {
            std::net::UdpSocket::bind(SocketAddr::new(*ip, 0)).map_err(|error| {
                format!(
                    "media.interfaces {:?}: {ip}: {error}; give an address of this machine",
                    interface.name
                )
            })?;
        }
    }
    Ok(())
}

/// Every socket of every worker, every connection and a few more can be open at once. `limit`: `None` is no limit.
fn check_files(config: &Config, workers: usize, limit: Option<u64>) -> Result<(), String> {
    let recordings = if config.recordings.directory.as_os_str().is_empty() {
        0
    } else {
        limits::RECORDINGS_MAX
    };
    let need =
        (workers * config.io.sockets_max + config.limits.connections + recordings + limits::SPARE_FILES)
            as u64;
    match limit {
        Some(have) if have < need => Err(format!(
            "io.sockets_max: {workers} workers with {} sockets each, {} connections and {recordings} recordings need {need} open \
             files, the hard limit is {have}; raise it (systemd: LimitNOFILE=, docker: --ulimit nofile=) or lower io.sockets_max",
            config.io.sockets_max, config.limits.connections
        )),
        Some(_) | None => Ok(()),
    }
}

/// Runs the media host until a signal or a failure.
///
/// # Errors
/// What could not be started, or what failed.
pub(crate) fn run(config: Config, source: Source) -> Result<(), String> {
    check(&config)?;
    let layout = lay_out(&config)?;
    if !layout.others.is_empty()
        && let Err(error) = cpus::pin(&layout.others)
    {
        tracing::warn!(%error, "cannot keep other threads off the workers' CPUs");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("tokio runtime: {error}"))?;
    runtime.block_on(serve(config, layout, source))
}

fn lay_out(config: &Config) -> Result<Layout, String> {
    let allowed = cpus::allowed().map_err(|error| format!("sched_getaffinity: {error}"))?;
    cpus::layout(&config.workers, &allowed)
}

async fn serve(config: Config, layout: Layout, source: Source) -> Result<(), String> {
    let notifier = Arc::new(Notifier::from_env()?);
    // From here on SIGHUP does not end the process.
    let hang_up = listen(SignalKind::hangup())?;
    let greeting = config.control.tls.as_ref().map(grpc::tls::read).transpose()?;
    let (greeting, greeted) = watch::channel(greeting);
    // Listeners first: a taken port must not cost the time of everything else.
    let (control, control_addr) = grpc::bind(config.control.listen).await?;
    let (metrics, metrics_addr) = management::bind("metrics.listen", config.metrics.listen).await?;
    let doorbell = Arc::new(Doorbell::default());
    let boot_id = format!("{:016x}{:016x}", random()?, random()?);
    let line = HostLine::new(config.limits.requests, Arc::clone(&doorbell), &boot_id);
    let handles = start_workers(&config, &layout, &doorbell)?;
    let backend = handles
        .first()
        .map(|handle| handle.backend.clone())
        .unwrap_or_default();
    let shared = handles.iter().map(|handle| Arc::clone(&handle.shared)).collect();

    let (latest, latest_seen) = watch::channel(0);
    let (store, recording) = start_files(&config, &line)?;
    let recordings = store.recordings.clone();
    let seats = Arc::new(Seats::default());
    let wired = Wired {
        line: line.clone(),
        doorbell,
        latest,
        seats: Arc::clone(&seats),
        recordings: recordings.clone(),
    };
    let hosting = start_hosting(&config, &boot_id, handles, wired)?;
    let (end, ending) = watch::channel(false);
    let context = Context::new(&config.limits, line.clone(), (latest_seen, ending), seats, store);
    let reloads = Arc::new(Reloads::default());
    let pages = Pages {
        context: context.clone(),
        workers: shared,
        reloads: Arc::clone(&reloads),
    };
    let pages = tokio::spawn(management::serve(metrics, pages));
    let workers = layout.workers.len();
    let bounds = config.limits.clone();
    let calls = tokio::spawn(async move { grpc::serve(&bounds, control, greeted, context).await });
    first_answer(&line).await?;
    // Whoever reads that it is ready may end it at once: a signal that nobody listens to would cut its calls off.
    let signals = Signals::listen()?;
    tracing::info!(%control_addr, %metrics_addr, workers, cpus = ?layout.workers, backend, boot_id, "ready");
    announce(control_addr, metrics_addr, &boot_id);
    notifier.ready();

    let reloader = Reloader {
        source,
        running: config,
        greeting,
        line: line.clone(),
        notifier: Arc::clone(&notifier),
        reloads,
    };
    let reloading = tokio::spawn(reloader.run(hang_up));
    let watching = tokio::spawn(liveness::watch(Arc::clone(&notifier), line.clone()));
    let ended = until_the_end(hosting, calls, pages, &line, (end, &notifier), signals).await;
    seal(&recordings, recording).await;
    reloading.abort();
    watching.abort();
    tracing::info!("stopped");
    ended
}

fn start_workers(
    config: &Config,
    layout: &Layout,
    doorbell: &Arc<Doorbell>,
) -> Result<Vec<worker::Handle>, String> {
    let io = match config.io.backend {
        IoBackend::Auto => IoChoice::Auto,
        IoBackend::Uring => IoChoice::Uring,
        IoBackend::Mmsg => IoChoice::Mmsg,
        IoBackend::Shared => IoChoice::Shared,
    };
    // Workers steer with one program: clones share it.
    let net = config.net();
    let exchange = Arc::new(Exchange::new(layout.workers.len()));
    let start = |(index, cpu): (usize, &Option<usize>)| {
        let start = worker::Start {
            index,
            cpu: *cpu,
            realtime_priority: config.workers.realtime_priority,
            io,
            net: net.clone(),
            mailbox: config.limits.mailbox,
            opus_complexity: config.opus.complexity,
            seed: random()?,
        };
        worker::start(start, Arc::clone(doorbell), Arc::clone(&exchange))
    };
    layout.workers.iter().enumerate().map(start).collect()
}

/// The host thread carries out requests: whoever calls from now on is served.
async fn first_answer(line: &HostLine) -> Result<(), String> {
    match timeout(limits::HOST_ANSWERS, line.ask(Request::Status)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.message),
        Err(_) => Err("the host thread does not answer".into()),
    }
}

fn listen(kind: SignalKind) -> Result<Signal, String> {
    signal(kind).map_err(|error| format!("signal handler: {error}"))
}

/// What ends the process in order.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, String> {
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }
}

/// The host thread, and where it says how it ended.
struct HostThread {
    thread: thread::JoinHandle<()>,
    ended: oneshot::Receiver<Result<(), String>>,
}

/// Prompts and recordings, and the threads of the latter.
fn start_files(config: &Config, line: &HostLine) -> Result<(Store, Threads), String> {
    // Beyond a limit on the size of files a write fails, and the process lives on. Once listened to, the signal never
    // ends the process.
    drop(listen(SignalKind::from_raw(
        rustix::process::Signal::XFSZ.as_raw(),
    ))?);
    let (recordings, threads) = Recordings::start(&config.recordings, line.clone())?;
    let store = Store {
        prompts: config.media.prompts.clone(),
        recordings,
        durations: Durations::default(),
    };
    Ok((store, threads))
}

/// What connects the host thread with everybody else.
struct Wired {
    line: HostLine,
    doorbell: Arc<Doorbell>,
    latest: watch::Sender<u64>,
    seats: Arc<Seats>,
    recordings: Recordings,
}

fn start_hosting(
    config: &Config,
    boot_id: &str,
    handles: Vec<worker::Handle>,
    wired: Wired,
) -> Result<HostThread, String> {
    let now = Now {
        mono: Instant::now(),
        wall: SystemTime::now(),
    };
    let host = Host::new(host_config(config, handles.len()), boot_id, random()?, now)
        .map(|host| host.with_secrets(Box::new(SystemRandom)));
    let noisy = sockets::scout(&config.media)?;
    if !noisy.is_empty() {
        tracing::warn!(
            ports = noisy.len(),
            "these ports rest first: packets of an earlier life arrive there, or somebody has them"
        );
    }
    let reading = Reading::start().map_err(|error| format!("prompt thread: {error}"))?;
    let parts = Parts {
        host: host.map_err(|error| error.to_string())?,
        team: Team::new(handles, config.io.sockets_max),
        line: wired.line,
        doorbell: wired.doorbell,
        latest: wired.latest,
        noisy,
        quarantine: Duration::from_millis(config.media.quarantine_ms),
        prompts: Prompts::new(config.media.prompts.clone(), reading),
        seats: wired.seats,
        recordings: wired.recordings,
    };
    let (end, ended) = oneshot::channel();
    let hosting = Hosting::new(parts);
    let thread = thread::Builder::new()
        .name("host".into())
        .spawn(move || drop(end.send(hosting.run())))
        .map_err(|error| format!("host thread: {error}"))?;
    Ok(HostThread { thread, ended })
}

/// Waits for a signal or a failure, then ends sessions, workers and connections, each in bounded time.
async fn until_the_end(
    mut hosting: HostThread,
    mut calls: JoinHandle<Result<(), String>>,
    pages: JoinHandle<Result<(), String>>,
    line: &HostLine,
    (end, notifier): (watch::Sender<bool>, &Notifier),
    mut signals: Signals,
) -> Result<(), String> {
    let reason = tokio::select! {
        _ = signals.terminate.recv() => Ok("SIGTERM"),
        _ = signals.interrupt.recv() => Ok("SIGINT"),
        ended = &mut hosting.ended => Err(ended.unwrap_or_else(|_| Err("the host thread panicked".into()))),
        served = &mut calls => Err(served.unwrap_or_else(|error| Err(error.to_string()))),
    };
    let reason = match reason {
        Ok(signal) => signal,
        Err(ended) => return ended,
    };
    tracing::info!(reason, "ending all sessions");
    notifier.stopping();
    let asked = timeout(limits::SHUTDOWN_SESSIONS, async {
        while line.send(Request::Stop).is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    if asked.await.is_err() {
        return Err("the host thread takes no requests; ending without it".into());
    }
    let ended = timeout(
        limits::SHUTDOWN_SESSIONS * 2 + limits::SHUTDOWN_RECORDINGS,
        hosting.ended,
    )
    .await;
    let _ = end.send(true);
    let _ = timeout(limits::SHUTDOWN_CONNECTIONS, calls).await;
    let _ = timeout(limits::SHUTDOWN_CONNECTIONS, pages).await;
    match ended {
        Ok(Ok(ended)) => {
            let _ = hosting.thread.join();
            ended
        }
        Ok(Err(_)) => Err("the host thread panicked".into()),
        Err(_) => Err("the host thread did not stop in time".into()),
    }
}

/// Recordings that nobody ended are ended now.
async fn seal(recordings: &Recordings, threads: Threads) {
    recordings.stop();
    let joined = tokio::task::spawn_blocking(move || threads.join(limits::SHUTDOWN_RECORDINGS));
    let _ = joined.await;
}

fn host_config(config: &Config, workers: usize) -> HostConfig {
    let interface = |interface: &crate::config::Interface| {
        let advertise = if interface.advertise.is_empty() {
            &interface.addresses
        } else {
            &interface.advertise
        };
        let addresses = interface.addresses.iter().zip(advertise);
        Interface {
            name: interface.name.as_str().into(),
            addresses: addresses
                .map(|(bind, told)| InterfaceAddress {
                    bind: *bind,
                    advertise: *told,
                })
                .collect(),
            port_min: interface.port_min,
            port_max: interface.port_max,
            dscp: interface.dscp,
        }
    };
    let tuning = reload::tuning(config);
    HostConfig {
        interfaces: config.media.interfaces.iter().map(interface).collect(),
        workers,
        sessions_max: tuning.sessions_max,
        busy_percent_max: tuning.busy_percent_max,
        late_after: config.late_after(),
        effort: tuning.effort,
        quarantine: tuning.quarantine,
        events_keep: Duration::from_secs(config.events.ring_seconds),
        lease: tuning.lease,
        media_timeout: tuning.media_timeout,
        orphan_max: tuning.orphan_max,
        relearn_after: tuning.relearn_after,
    }
}

/// One line for supervisors and tests; nobody reading it is no fault.
fn announce(control: SocketAddr, metrics: SocketAddr, boot_id: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "ready control={control} metrics={metrics} boot_id={boot_id}");
    let _ = out.flush();
}

/// The system's randomness, for keys.
#[derive(Debug)]
struct SystemRandom;

impl SecretRandom for SystemRandom {
    fn fill(&mut self, secret: &mut [u8]) -> Result<(), NoRandomness> {
        // Up to 256 bytes come at once or not at all.
        match getrandom(&mut *secret, GetRandomFlags::empty()) {
            Ok(count) if count == secret.len() => Ok(()),
            Ok(_) | Err(_) => Err(NoRandomness),
        }
    }
}

fn random() -> Result<u64, String> {
    let mut bytes = [0; 8];
    getrandom(&mut bytes, GetRandomFlags::empty()).map_err(|error| format!("getrandom: {error}"))?;
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_open_files_are_said_before_the_first_call() {
        let config = Config::default();
        assert_eq!(check_files(&config, 4, None), Ok(()));
        assert_eq!(check_files(&config, 1, Some(65_536)), Ok(()));
        let message = check_files(&config, 4, Some(65_536)).unwrap_err();
        for part in [
            "4 workers with 16384 sockets",
            "the hard limit is 65536",
            "LimitNOFILE=",
        ] {
            assert!(message.contains(part), "{message}");
        }
    }
}
