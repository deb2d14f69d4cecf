//! The way to media hosts: for each one task that keeps a command stream and an event stream, and reconnects.
//!
//! A host is up when its health service says so and it has answered our hello. Refused connections mean lost at
//! once; a broken stream means lost unless the host is back with the same boot id soon.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use call_control::{HostId, MediaInput, SessionFound, config::MediaHost};
use proto::mediad::v1::{self as pb, files_client::FilesClient, media_client::MediaClient, watch_reply};
use tokio::{
    runtime::Handle,
    sync::mpsc,
    task::AbortHandle,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Streaming,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    config,
    core::{Input, Inputs},
    limits,
    resolver::Resolver,
};

/// The events that the controller does something about. Of others nobody need be woken: audio that starts, for instance,
/// which it does in each call, and sessions that we delete ourselves.
const ACTED_UPON: [pb::EventKind; 7] = [
    pb::EventKind::DigitEnded,
    pb::EventKind::MediaResumed,
    pb::EventKind::MediaTimeout,
    pb::EventKind::SessionLost,
    pb::EventKind::PlayFinished,
    pb::EventKind::RecordingFinalised,
    pb::EventKind::EndpointRemoved,
];

/// Where commands for each host go; shared between the core thread and the tasks.
#[derive(Clone)]
pub(crate) struct Hosts {
    ways: Ways,
    setup: Arc<Setup>,
}

type Ways = Arc<Mutex<BTreeMap<HostId, Way>>>;

/// The way to one host.
struct Way {
    configured: MediaHost,
    task: AbortHandle,
    /// It was taken out, and its task ends soon.
    is_closing: bool,
    /// `None` while there is no command stream.
    open: Option<Open>,
}

/// A connection to a host, as others use it.
struct Open {
    commands: mpsc::Sender<pb::Command>,
    acknowledgements: mpsc::Sender<pb::AcknowledgeRequest>,
    questions: MediaClient<Channel>,
}

/// What every task is told.
struct Setup {
    tls: Option<ClientTlsConfig>,
    hello: pb::Hello,
    core: Handle,
    inputs: Inputs,
    resolver: Resolver,
}

impl Hosts {
    /// Starts a task for each host on the core thread's runtime.
    ///
    /// # Errors
    /// Names the host or file, and what to do.
    pub(crate) fn start(
        hosts: &[MediaHost],
        client: &config::MediaClient,
        core: &Handle,
        inputs: &Inputs,
        resolver: &Resolver,
    ) -> Result<Self, String> {
        let setup = Setup {
            tls: client.tls.as_ref().map(tls_config).transpose()?,
            hello: pb::Hello {
                controller: client.controller.clone(),
                lease_ms: client.lease_ms,
            },
            core: core.clone(),
            inputs: inputs.clone(),
            resolver: resolver.clone(),
        };
        let all = Self {
            ways: Ways::default(),
            setup: Arc::new(setup),
        };
        all.check(hosts)?;
        all.add(hosts);
        Ok(all)
    }

    /// Whether these could be connected to.
    ///
    /// # Errors
    /// As [`Hosts::start`].
    pub(crate) fn check(&self, hosts: &[MediaHost]) -> Result<(), String> {
        hosts
            .iter()
            .try_for_each(|host| endpoint(host, &host.address, self.setup.tls.clone()).map(drop))
    }

    /// Starts a task for each that has none.
    pub(crate) fn add(&self, hosts: &[MediaHost]) {
        let mut ways = lock(&self.ways);
        for host in hosts {
            if ways.get(&host.name).is_some_and(|way| !way.is_closing) {
                continue;
            }
            let setup = &self.setup;
            let mut link = Link {
                host: host.name.clone(),
                configured: host.clone(),
                tls: setup.tls.clone(),
                resolver: setup.resolver.clone(),
                hello: setup.hello.clone(),
                inputs: setup.inputs.clone(),
                ways: Arc::clone(&self.ways),
                is_up: false,
                suspect_until: None,
                seen: None,
            };
            let task = setup.core.spawn(async move { link.run().await });
            let way = Way {
                configured: host.clone(),
                task: task.abort_handle(),
                is_closing: false,
                open: None,
            };
            if let Some(before) = ways.insert(host.name.clone(), way) {
                before.task.abort();
            }
        }
    }

    /// Where a host that there is a task for is reached.
    pub(crate) fn address(&self, host: &HostId) -> Option<String> {
        let ways = lock(&self.ways);
        let way = ways.get(host).filter(|way| !way.is_closing);
        way.map(|way| way.configured.address.clone())
    }

    /// Nothing of ours is left on a host that was taken out: its task ends, once it has told what is on its way.
    pub(crate) fn close(&self, host: &HostId) {
        if let Some(way) = lock(&self.ways).get_mut(host) {
            way.is_closing = true;
        }
        let (ways, host) = (Arc::clone(&self.ways), host.clone());
        self.setup.core.spawn(async move {
            sleep(limits::HOST_FAREWELL).await;
            let mut ways = lock(&ways);
            // It may have been put back, with another task.
            if ways.get(&host).is_some_and(|way| way.is_closing)
                && let Some(way) = ways.remove(&host)
            {
                way.task.abort();
                tracing::info!(%host, "media host let go");
            }
        });
    }

    /// Tells a host that a recording is accounted for. One that is not told tells us of it again.
    pub(crate) fn acknowledge(&self, host: &HostId, recording: pb::AcknowledgeRequest) {
        let ways = lock(&self.ways);
        let open = ways.get(host).and_then(|way| way.open.as_ref());
        let sent = open.is_some_and(|open| open.acknowledgements.try_send(recording).is_ok());
        if !sent {
            tracing::debug!(%host, "a recording is acknowledged when the media host is back");
        }
    }

    /// Queues a command. False when there is no way to the host.
    pub(crate) fn send(&self, host: &HostId, command: pb::Command) -> bool {
        let ways = lock(&self.ways);
        let open = ways.get(host).and_then(|way| way.open.as_ref());
        open.is_some_and(|open| open.commands.try_send(command).is_ok())
    }

    /// Who to ask something that changes nothing, beside the commands; `None` while there is no connection.
    pub(crate) fn questions(&self, host: &HostId) -> Option<MediaClient<Channel>> {
        let ways = lock(&self.ways);
        let open = ways.get(host).and_then(|way| way.open.as_ref());
        open.map(|open| open.questions.clone())
    }
}

fn lock(ways: &Ways) -> MutexGuard<'_, BTreeMap<HostId, Way>> {
    ways.lock().expect("nobody panics while holding the ways")
}

fn tls_config(tls: &config::MediaTls) -> Result<ClientTlsConfig, String> {
    let read = |path: &std::path::PathBuf| {
        fs::read(path)
            .map_err(|error| format!("media_client.tls: {}: {error}; give a PEM file", path.display()))
    };
    let identity = Identity::from_pem(read(&tls.cert)?, read(&tls.key)?);
    Ok(ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read(&tls.ca)?))
        .identity(identity))
}

/// The endpoint at an address, which is the host's own or one that its name leads to.
fn endpoint(host: &MediaHost, address: &str, tls: Option<ClientTlsConfig>) -> Result<Endpoint, String> {
    let wrong = |error| format!("media.hosts.{}: \"{}\": {error}", host.name, host.address);
    let endpoint = Endpoint::from_shared(address.to_owned())
        .map_err(wrong)?
        .connect_timeout(limits::HELLO_TIMEOUT)
        .tcp_nodelay(true)
        // Silence is suspect after 2 s and means lost after 5 s.
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(3))
        .keep_alive_while_idle(true);
    match tls.filter(|_| host.address.starts_with("https://")) {
        Some(tls) => endpoint.tls_config(tls).map_err(wrong),
        None => Ok(endpoint),
    }
}

/// One host's task.
struct Link {
    host: HostId,
    configured: MediaHost,
    tls: Option<ClientTlsConfig>,
    resolver: Resolver,
    hello: pb::Hello,
    inputs: Inputs,
    ways: Ways,
    /// As the controller was told.
    is_up: bool,
    /// The connection broke, and the host has until then to be back.
    suspect_until: Option<Instant>,
    /// The boot id and the number of the last event seen: where to go on.
    seen: Option<(String, u64)>,
}

/// Why a connection ended or never was.
struct Ended {
    reason: String,
    /// Nobody is there: not a matter of patience.
    refused: bool,
}

impl Link {
    async fn run(&mut self) {
        let mut pause = limits::RECONNECT_MIN;
        loop {
            let since = Instant::now();
            let ended = match self.live().await {
                Ok(never) => match never {},
                Err(ended) => ended,
            };
            if since.elapsed() > limits::RECONNECT_MAX {
                pause = limits::RECONNECT_MIN;
            }
            tracing::debug!(host = %self.host, reason = ended.reason, "no connection to the media host");
            let deadline = *self
                .suspect_until
                .get_or_insert_with(|| Instant::now() + limits::SUSPECT);
            if self.is_up && (ended.refused || Instant::now() >= deadline) {
                tracing::warn!(host = %self.host, reason = ended.reason, "media host lost");
                self.is_up = false;
                let down = MediaInput::HostDown {
                    host: self.host.clone(),
                    reason: ended.reason,
                };
                if self.inputs.deliver(Input::Media(down)).await.is_err() {
                    return;
                }
            }
            if !self.is_up {
                self.suspect_until = None;
            }
            sleep(pause).await;
            pause = (pause * 2).min(limits::RECONNECT_MAX);
        }
    }

    /// A connection to the host's address, or to the first that answers of those its name leads to. The certificate is
    /// checked for the name.
    async fn connect(&self) -> Result<Channel, Ended> {
        let host = &self.configured;
        let mut failure = ended("its name leads nowhere");
        for (address, name) in self.addresses().await {
            let tls = match (self.tls.clone(), name) {
                (Some(tls), Some(name)) => Some(tls.domain_name(name)),
                (tls, _) => tls,
            };
            let endpoint = endpoint(host, &address, tls).map_err(|error| ended(&error))?;
            match endpoint.connect().await {
                Ok(channel) => return Ok(channel),
                Err(error) => {
                    let reason = root_cause(&error);
                    let refused = reason.contains("refused");
                    failure = Ended { reason, refused };
                }
            }
        }
        Err(failure)
    }

    /// URLs to try, each with the name it came from.
    async fn addresses(&self) -> Vec<(String, Option<String>)> {
        let url = &self.configured.address;
        let name = url.parse::<tonic::transport::Uri>().ok().and_then(|uri| {
            let host = uri.host()?.to_owned();
            let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
            (!is_address).then_some((host, uri.port_u16(), uri.scheme_str()?.to_owned()))
        });
        let Some((name, port, scheme)) = name else {
            return vec![(url.clone(), None)];
        };
        let port = port.unwrap_or(if scheme == "https" { 443 } else { 80 });
        let found = self.resolver.addresses(&name).await.into_iter();
        found
            .map(|ip| {
                (
                    format!("{scheme}://{}", SocketAddr::new(ip, port)),
                    Some(name.clone()),
                )
            })
            .collect()
    }

    /// One connection from its beginning to its end.
    async fn live(&mut self) -> Result<std::convert::Infallible, Ended> {
        let channel = self.connect().await?;
        check_health(channel.clone()).await?;
        let files = FilesClient::new(channel.clone());
        let mut client = MediaClient::new(channel).max_decoding_message_size(16 << 20);
        let (requests, stream) = mpsc::channel(4);
        let hello = pb::ControlRequest {
            hello: Some(self.hello.clone()),
            commands: Vec::new(),
        };
        requests
            .send(hello)
            .await
            .map_err(|_| ended("the stream ended at once"))?;
        let mut replies = bounded(client.control(ReceiverStream::new(stream))).await?;
        let first = timeout(limits::HELLO_TIMEOUT, replies.message())
            .await
            .map_err(|_| ended("no hello in time"))?
            .map_err(|status| ended(status.message()))?;
        let Some(greeting) = first.and_then(|first| first.hello) else {
            return Err(ended("the host's first message is no hello"));
        };
        let events = self.watch(&mut client).await?;
        let (to_host, commands) = mpsc::channel(limits::COMMANDS_PER_HOST);
        let (to_files, acknowledgements) = mpsc::channel(limits::ACKNOWLEDGEMENTS);
        // Who is told that the host is up has commands for it at once.
        self.lead(Some(Open {
            commands: to_host,
            acknowledgements: to_files,
            questions: client,
        }));
        let acknowledging = tokio::spawn(acknowledge(files, acknowledgements));
        let (outcome, unanswered) = match self.greet(greeting).await {
            Ok(()) => self.carry(commands, requests, replies, events).await,
            Err(ended) => (Err(ended), Vec::new()),
        };
        self.lead(None);
        acknowledging.abort();
        let host = self.host.clone();
        self.tell(MediaInput::LinkLost { host }).await?;
        if !unanswered.is_empty() {
            let host = self.host.clone();
            let commands = unanswered;
            self.tell(MediaInput::Unanswered { host, commands }).await?;
        }
        outcome
    }

    /// This is the way there; none: there is no connection.
    fn lead(&self, open: Option<Open>) {
        if let Some(way) = lock(&self.ways).get_mut(&self.host) {
            way.open = open;
        }
    }

    /// Commands out, replies and events in. The ids of commands never answered come back with the end.
    async fn carry(
        &mut self,
        mut commands: mpsc::Receiver<pb::Command>,
        requests: mpsc::Sender<pb::ControlRequest>,
        mut replies: Streaming<pb::ControlReply>,
        mut events: Streaming<pb::WatchReply>,
    ) -> (Result<std::convert::Infallible, Ended>, Vec<u64>) {
        let mut flying = BTreeSet::new();
        let mut batch = Vec::new();
        let outcome = loop {
            tokio::select! {
                count = commands.recv_many(&mut batch, limits::COMMANDS_PER_MESSAGE) => {
                    if count == 0 {
                        break Err(ended("the core thread is gone"));
                    }
                    flying.extend(batch.iter().map(|command| command.id));
                    let request = pb::ControlRequest { hello: None, commands: std::mem::take(&mut batch) };
                    if requests.send(request).await.is_err() {
                        break Err(ended("the command stream closed"));
                    }
                }
                reply = replies.message() => match reply {
                    Ok(Some(reply)) => {
                        for one in &reply.replies {
                            flying.remove(&one.id);
                        }
                        if let Err(ended) = self.tell_replies(reply.replies).await {
                            break Err(ended);
                        }
                    }
                    Ok(None) => break Err(ended("the host closed the command stream")),
                    Err(status) => break Err(ended(status.message())),
                },
                event = events.message() => match event {
                    Ok(Some(reply)) => if let Err(ended) = self.tell_event(reply).await {
                        break Err(ended);
                    },
                    Ok(None) => break Err(ended("the host closed the event stream")),
                    Err(status) => break Err(ended(status.message())),
                },
            }
        };
        commands.close();
        while let Some(command) = commands.recv().await {
            flying.insert(command.id);
        }
        (outcome, flying.into_iter().collect())
    }

    async fn watch(&self, client: &mut MediaClient<Channel>) -> Result<Streaming<pb::WatchReply>, Ended> {
        let (boot_id, after) = self.seen.clone().unwrap_or_default();
        let request = pb::WatchRequest {
            controller: self.hello.controller.clone(),
            boot_id,
            after,
            only: ACTED_UPON.map(i32::from).to_vec(),
        };
        bounded(client.watch(request)).await
    }

    /// The host answers. Another boot id means that its sessions are gone, which the controller is told first.
    async fn greet(&mut self, greeting: pb::HelloReply) -> Result<(), Ended> {
        let boot_id = greeting.boot_id;
        let restarted = self.seen.as_ref().is_some_and(|(seen, _)| *seen != boot_id);
        if restarted && self.is_up {
            let down = MediaInput::HostDown {
                host: self.host.clone(),
                reason: "it was restarted".into(),
            };
            self.tell(down).await?;
        }
        if restarted || self.seen.is_none() {
            self.seen = Some((boot_id.clone(), 0));
        }
        tracing::info!(host = %self.host, boot_id, "media host is up");
        (self.is_up, self.suspect_until) = (true, None);
        let host = self.host.clone();
        self.tell(MediaInput::HostUp { host, boot_id }).await?;
        let found = |summary: pb::SessionSummary| SessionFound {
            session: summary.session,
            epoch: summary.owner.map_or(1, |owner| owner.epoch.max(1)),
        };
        let host = self.host.clone();
        let sessions = greeting.sessions.into_iter().map(found).collect();
        self.tell(MediaInput::Sessions { host, sessions }).await
    }

    async fn tell_replies(&self, replies: Vec<pb::CommandReply>) -> Result<(), Ended> {
        if replies.is_empty() {
            return Ok(());
        }
        let host = self.host.clone();
        self.tell(MediaInput::Replies { host, replies }).await
    }

    async fn tell_event(&mut self, reply: pb::WatchReply) -> Result<(), Ended> {
        match reply.kind {
            Some(watch_reply::Kind::Start(start)) => self.seen = Some((start.boot_id, start.after)),
            Some(watch_reply::Kind::Reset(reset)) => {
                tracing::warn!(host = %self.host, reason = reset.reason, "events of the media host were lost");
                self.seen = Some((reset.boot_id, 0));
            }
            Some(watch_reply::Kind::SnapshotEnd(end)) => {
                if let Some((_, seen)) = &mut self.seen {
                    *seen = end.sequence;
                }
            }
            Some(watch_reply::Kind::Mark(mark)) => {
                if let Some((_, seen)) = &mut self.seen {
                    *seen = mark.sequence;
                }
            }
            Some(watch_reply::Kind::Event(event)) => {
                if let Some((_, seen)) = &mut self.seen {
                    *seen = event.sequence;
                }
                let host = self.host.clone();
                let event = Box::new(event);
                self.tell(MediaInput::Event { host, event }).await?;
            }
            Some(watch_reply::Kind::Snapshot(_)) | None => {}
        }
        Ok(())
    }

    async fn tell(&self, input: MediaInput) -> Result<(), Ended> {
        self.inputs
            .deliver(Input::Media(input))
            .await
            .map_err(|_| ended("the core thread is gone"))
    }
}

/// Tells the host of recordings that are accounted for, for as long as there is a connection.
async fn acknowledge(
    mut files: FilesClient<Channel>,
    mut recordings: mpsc::Receiver<pb::AcknowledgeRequest>,
) {
    while let Some(request) = recordings.recv().await {
        let recording = request.recording.clone();
        if let Err(ended) = bounded(files.acknowledge(request)).await {
            tracing::warn!(
                recording,
                reason = ended.reason,
                "a recording is not acknowledged; it will be told of again"
            );
        }
    }
}

/// Ready means that the health service says so: with TLS 1.3 a connection stands before the host has seen our
/// certificate.
async fn check_health(channel: Channel) -> Result<(), Ended> {
    let request = HealthCheckRequest {
        service: "mediad.v1.Media".into(),
    };
    let status = bounded(HealthClient::new(channel).check(request)).await?.status();
    match status {
        ServingStatus::Serving => Ok(()),
        ServingStatus::Unknown | ServingStatus::NotServing | ServingStatus::ServiceUnknown => {
            Err(ended(&format!("its health is {status:?}")))
        }
    }
}

async fn bounded<T>(
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, Ended> {
    let deadline = Instant::now() + limits::HELLO_TIMEOUT;
    match timeout_at(deadline, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(ended(status.message())),
        Err(_) => Err(ended("no answer in time")),
    }
}

fn ended(reason: &str) -> Ended {
    Ended {
        reason: reason.to_owned(),
        refused: false,
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
