//! Our own `mediad`, driven over one gRPC control stream.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use proto::mediad::v1 as api;
use proto::mediad::v1::host_client::HostClient;
use proto::mediad::v1::media_client::MediaClient;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::process::ServerProcess;
use super::{Churn, IN_FLIGHT, Media, Server};
use crate::load::{Call, Sides, SrtpKeys};
use crate::machine::{Observed, SERVER_CORE};

/// Where and how `mediad` is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program.
    pub program: PathBuf,
    /// Control port (gRPC); the management port is the next one.
    pub control_port: u16,
    /// First and last media port.
    pub media_ports: (u16, u16),
    /// `io.latency_budget_us`, busy or not; `None` leaves the daemon's defaults.
    pub latency_budget_us: Option<u64>,
    /// Further settings, `section.key=value`.
    pub settings: Vec<String>,
    /// Directory of its log.
    pub dir: PathBuf,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            program: "mediad".into(),
            control_port: 22_240,
            media_ports: (30_000, 64_999),
            latency_budget_us: None,
            settings: Vec::new(),
            dir: std::env::temp_dir(),
        }
    }
}

/// A running `mediad`.
#[derive(Debug)]
pub struct Mediad {
    process: ServerProcess,
    observed: Observed,
    runtime: Runtime,
    control_port: u16,
}

impl Mediad {
    /// Starts it with one worker on the server core and waits until it serves.
    ///
    /// # Errors
    /// The program is missing or does not come up.
    pub fn start(options: &Options) -> anyhow::Result<Mediad> {
        let mut settings = vec![
            format!("control.listen=127.0.0.1:{}", options.control_port),
            format!("metrics.listen=127.0.0.1:{}", options.control_port + 1),
            format!(
                "media.interfaces=[{{name='bench', addresses=['127.0.0.1'], port_min={}, port_max={}}}]",
                options.media_ports.0, options.media_ports.1
            ),
            // Thousands of calls per second come and go: a port must be free again at once, as it is in rtpengine.
            "media.quarantine_ms=0".into(),
            "workers.count=1".into(),
            format!("workers.cpus=[{SERVER_CORE}]"),
            "log.level=warn".into(),
        ];
        if let Some(us) = options.latency_budget_us {
            let budgets = ["io.latency_budget_us", "io.latency_budget_busy_us"];
            settings.extend(budgets.map(|budget| format!("{budget}={us}")));
        }
        settings.extend(options.settings.iter().cloned());
        let args: Vec<String> = settings
            .into_iter()
            .flat_map(|one| ["--set".to_owned(), one])
            .collect();
        let mut process = ServerProcess::start(&options.program, &args, &options.dir).context("mediad")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let control_port = options.control_port;
        let serving = || runtime.block_on(status(control_port)).is_ok();
        process
            .wait_until(Duration::from_secs(10), serving)
            .context("mediad")?;
        let observed = process.observe()?;
        Ok(Mediad {
            process,
            observed,
            runtime,
            control_port,
        })
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Makes or edits the session called `session`; gives where each of its transports receives.
    ///
    /// # Errors
    /// It refuses.
    pub fn apply(
        &self,
        session: &str,
        request: api::ApplyRequest,
    ) -> anyhow::Result<BTreeMap<String, SocketAddrV4>> {
        let request = api::ApplyRequest {
            session: session.into(),
            owner: owner(),
            ..request
        };
        let reply = self.runtime.block_on(async {
            let mut media = MediaClient::new(connect(self.control_port).await?);
            anyhow::Ok(media.apply(request).await?.into_inner())
        })?;
        let local = |transport: &api::TransportState| {
            let address = transport.local.as_ref().context("a transport without address")?;
            let ip: Ipv4Addr = address.ip.parse().context("not an IPv4 address")?;
            let port = u16::try_from(address.port).context("not a port")?;
            Ok((transport.id.clone(), SocketAddrV4::new(ip, port)))
        };
        reply.transports.iter().map(local).collect()
    }

    /// Ends the session called `session`.
    ///
    /// # Errors
    /// It refuses.
    pub fn end(&self, session: &str) -> anyhow::Result<()> {
        let request = api::DeleteRequest {
            session: session.into(),
            owner: owner(),
        };
        self.runtime.block_on(async {
            let mut media = MediaClient::new(connect(self.control_port).await?);
            media.delete(request).await?;
            anyhow::Ok(())
        })
    }

    /// What it says of itself: version and socket backend.
    ///
    /// # Errors
    /// It does not answer.
    pub fn describe(&self) -> anyhow::Result<String> {
        let status = self.runtime.block_on(status(self.control_port))?;
        Ok(format!("mediad {} ({})", status.version, status.backend))
    }
}

impl Server for Mediad {
    fn name(&self) -> &'static str {
        "mediad"
    }

    fn process(&self) -> Observed {
        self.observed
    }

    fn create(&mut self, ids: Range<u32>, media: Media, sides: &Sides) -> anyhow::Result<Vec<Call>> {
        let mut calls = vec![None; ids.len()];
        let first_id = ids.start;
        self.runtime.block_on(async {
            let mut control = Control::open(self.control_port).await?;
            let apply = |id| api::command::Kind::Apply(session(id, media, sides));
            control
                .converse(ids, apply, |id, result| {
                    calls[(id - first_id) as usize] = Some(applied(id, media, result)?);
                    Ok(None)
                })
                .await
        })?;
        calls
            .into_iter()
            .map(|call| call.context("a session without a reply"))
            .collect()
    }

    fn delete(&mut self, ids: Range<u32>) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            let mut control = Control::open(self.control_port).await?;
            control
                .converse(ids, deletion, |id, result| refused(id, &result).map(|()| None))
                .await
        })
    }

    fn churn(&mut self, count: u32, sides: &Sides) -> anyhow::Result<Churn> {
        self.runtime.block_on(async {
            let mut control = Control::open(self.control_port).await?;
            let (started, cpu) = (Instant::now(), self.observed.cpu_ns()?);
            let apply = |id| api::command::Kind::Apply(session(id, Media::Relay, sides));
            control
                .converse(0..count, apply, |id, result| {
                    if let api::command_reply::Result::Delete(_) = result {
                        return Ok(None);
                    }
                    // Both ports must really be there.
                    applied(id, Media::Relay, result).map(|_| Some(deletion(id)))
                })
                .await?;
            Ok(Churn {
                calls: count,
                seconds: started.elapsed().as_secs_f64(),
                server_cpu_seconds: (self.observed.cpu_ns()? - cpu) as f64 * 1e-9,
            })
        })
    }
}

async fn connect(control_port: u16) -> anyhow::Result<Channel> {
    let address = format!("http://127.0.0.1:{control_port}");
    let endpoint = tonic::transport::Endpoint::from_shared(address)?.connect_timeout(Duration::from_secs(2));
    Ok(endpoint.connect().await?)
}

async fn status(control_port: u16) -> anyhow::Result<api::StatusReply> {
    let mut host = HostClient::new(connect(control_port).await?);
    Ok(host.status(api::StatusRequest {}).await?.into_inner())
}

/// One control stream. Each phase opens its own: between phases nobody answers the connection's keep-alive.
struct Control {
    requests: mpsc::Sender<api::ControlRequest>,
    replies: tonic::Streaming<api::ControlReply>,
}

impl Control {
    async fn open(control_port: u16) -> anyhow::Result<Control> {
        let (requests, outgoing) = mpsc::channel(2 * IN_FLIGHT);
        // A lease longer than any phase: sessions of a rate below the media time-out must stay.
        let hello = api::Hello {
            controller: CONTROLLER.into(),
            lease_ms: 600_000,
        };
        requests
            .send(api::ControlRequest {
                hello: Some(hello),
                commands: Vec::new(),
            })
            .await?;
        let mut media = MediaClient::new(connect(control_port).await?);
        let replies = media
            .control(ReceiverStream::new(outgoing))
            .await
            .context("control stream")?;
        let mut control = Control {
            requests,
            replies: replies.into_inner(),
        };
        let first = control
            .replies
            .message()
            .await?
            .context("control stream ended at once")?;
        anyhow::ensure!(first.hello.is_some(), "the host did not say hello");
        Ok(control)
    }

    /// Carries every id from its first command to the end, 16 at a time; `on_reply` gives its next command, if any.
    async fn converse(
        &mut self,
        mut ids: Range<u32>,
        mut first: impl FnMut(u32) -> api::command::Kind,
        mut on_reply: impl FnMut(u32, api::command_reply::Result) -> anyhow::Result<Option<api::command::Kind>>,
    ) -> anyhow::Result<()> {
        let mut flying = 0;
        let mut commands = Vec::new();
        let command = |id: u32, kind| api::Command {
            id: u64::from(id),
            kind: Some(kind),
        };
        loop {
            while flying < IN_FLIGHT {
                let Some(id) = ids.next() else { break };
                commands.push(command(id, first(id)));
                flying += 1;
            }
            if !commands.is_empty() {
                let commands = std::mem::take(&mut commands);
                self.requests
                    .send(api::ControlRequest {
                        hello: None,
                        commands,
                    })
                    .await?;
            }
            if flying == 0 {
                return Ok(());
            }
            let reply = self
                .replies
                .message()
                .await?
                .context("mediad closed the control stream")?;
            for one in reply.replies {
                let id = u32::try_from(one.id).context("a reply to a command never sent")?;
                match on_reply(id, one.result.context("an empty reply")?)? {
                    Some(kind) => commands.push(command(id, kind)),
                    None => flying -= 1,
                }
            }
        }
    }
}

const CONTROLLER: &str = "bench";

fn owner() -> Option<api::Owner> {
    Some(api::Owner {
        controller: CONTROLLER.into(),
        epoch: 1,
    })
}

fn session_id(id: u32) -> String {
    format!("bench-{id}")
}

fn deletion(id: u32) -> api::command::Kind {
    api::command::Kind::Delete(api::DeleteRequest {
        session: session_id(id),
        owner: owner(),
    })
}

/// Two endpoints on ports of their own, with RTCP ports, each hearing the other.
fn session(id: u32, media: Media, sides: &Sides) -> api::ApplyRequest {
    let leg = |name: &str, side: usize| {
        let remote = sides.address(id as usize, side);
        let udp = api::UdpTransport {
            remote: Some(api::Address {
                ip: remote.ip().to_string(),
                port: u32::from(remote.port()),
            }),
            security: media.key(id).filter(|_| side == 1).map(|key| {
                api::udp_transport::Security::Sdes(api::SdesSecurity {
                    suites: vec![api::SrtpSuite::AesCm128HmacSha180.into()],
                    remote: Some(api::SdesKey {
                        suite: api::SrtpSuite::AesCm128HmacSha180.into(),
                        key_salt: key.to_vec(),
                        tag: 1,
                    }),
                    ..api::SdesSecurity::default()
                })
            }),
            ..api::UdpTransport::default()
        };
        let transport = api::Transport {
            id: name.into(),
            kind: Some(api::transport::Kind::Udp(udp)),
        };
        let endpoint = api::Endpoint {
            transport: name.into(),
            formats: formats(media, side),
            ..api::Endpoint::default()
        };
        let node = api::Node {
            id: name.into(),
            kind: Some(api::node::Kind::Endpoint(endpoint)),
        };
        (transport, node)
    };
    let ((transport_a, node_a), (transport_b, node_b)) = (leg("a", 0), leg("b", 1));
    let edge = |from: &str, to: &str| api::Edge {
        from: from.into(),
        to: to.into(),
        ..api::Edge::default()
    };
    api::ApplyRequest {
        session: session_id(id),
        owner: owner(),
        put_transports: vec![transport_a, transport_b],
        put_nodes: vec![node_a, node_b],
        put_edges: vec![edge("a", "b"), edge("b", "a")],
        ..api::ApplyRequest::default()
    }
}

fn formats(media: Media, side: usize) -> Vec<api::PayloadFormat> {
    let format = |payload_type, codec: api::Codec| api::PayloadFormat {
        payload_type,
        codec: codec.into(),
        ..api::PayloadFormat::default()
    };
    match (media, side) {
        (Media::RelayEvents, _) => vec![
            format(0, api::Codec::Pcmu),
            format(101, api::Codec::TelephoneEvent),
        ],
        (Media::PcmuPcma, 1) => vec![format(8, api::Codec::Pcma)],
        (Media::PcmuOpus, 1) => vec![api::PayloadFormat {
            channels: 2,
            ..format(96, api::Codec::Opus)
        }],
        (Media::Relay | Media::PcmuPcma | Media::PcmuOpus | Media::RelaySrtp, _) => {
            vec![format(0, api::Codec::Pcmu)]
        }
    }
}

fn refused(id: u32, result: &api::command_reply::Result) -> anyhow::Result<()> {
    match result {
        api::command_reply::Result::Error(error) => {
            anyhow::bail!(
                "mediad refuses session {id}: {} ({}, code {})",
                error.message,
                error.subject,
                error.code
            )
        }
        _ => Ok(()),
    }
}

/// The addresses the legs send to.
fn applied(id: u32, media: Media, result: api::command_reply::Result) -> anyhow::Result<Call> {
    refused(id, &result)?;
    let api::command_reply::Result::Apply(reply) = result else {
        anyhow::bail!("session {id}: not a reply to Apply")
    };
    let local = |name: &str| -> anyhow::Result<SocketAddrV4> {
        let transport = reply.transports.iter().find(|transport| transport.id == name);
        let address = transport
            .and_then(|transport| transport.local.as_ref())
            .context("a transport without address")?;
        let ip: Ipv4Addr = address.ip.parse().context("not an IPv4 address")?;
        Ok(SocketAddrV4::new(
            ip,
            u16::try_from(address.port).context("not a port")?,
        ))
    };
    let srtp = match media.key(id) {
        None => None,
        Some(to_server) => {
            let told = reply
                .transports
                .iter()
                .flat_map(|transport| &transport.local_sdes)
                .next();
            let told = told.context("no SRTP key for leg B")?;
            Some(SrtpKeys {
                to_server,
                from_server: told.key_salt[..].try_into().context("not a key of this suite")?,
            })
        }
    };
    Ok(Call {
        a: local("a")?,
        b: local("b")?,
        srtp,
    })
}
