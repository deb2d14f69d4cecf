//! The media host as the demonstration uses it: a process to start and stop, a session to make and end.

use std::{
    env, fmt,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use proto::mediad::v1::{self as pb, media_client::MediaClient, node, transport};
use tonic::{Code, Status, transport::Channel};

use crate::party::Party;

/// Ports the host gets.
const PORTS: u16 = 32;
/// How long it may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running mediad; killed when dropped.
#[derive(Debug)]
pub(crate) struct MediaHost {
    child: Child,
    pub(crate) control: SocketAddr,
    pub(crate) metrics: SocketAddr,
}

impl MediaHost {
    /// Starts the program on loopback, with free ports, and waits until it is ready.
    pub(crate) fn start(program: Option<&Path>, io: &str) -> Result<Self> {
        let program = program.map_or_else(beside_us, |program| Ok(program.to_path_buf()))?;
        let port_min = free_ports()?;
        let interface = format!(
            "media.interfaces=[{{name='demo', port_min={port_min}, port_max={}}}]",
            port_min + PORTS - 1
        );
        let mut command = Command::new(&program);
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MEDIAD_")) {
            command.env_remove(name);
        }
        command.args(["--control", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--io", io]);
        command.args([
            "--set",
            &interface,
            "--set",
            "log.level=warn",
            "--set",
            "workers.pin=false",
        ]);
        let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| {
            format!(
                "cannot start {}; build it with `cargo build -p mediad`, or name it with --mediad",
                program.display()
            )
        })?;
        let out = child.stdout.take().context("mediad's standard output")?;
        let mut line = String::new();
        BufReader::new(out)
            .read_line(&mut line)
            .context("waiting for mediad")?;
        let addr = |key: &str| {
            let word = line.split_whitespace().find_map(|word| word.strip_prefix(key));
            word.and_then(|addr| addr.parse().ok())
        };
        let Some((control, metrics)) = addr("control=").zip(addr("metrics=")) else {
            let _ = child.kill();
            let status = child.wait().context("waiting for mediad")?;
            bail!("mediad ended before it was ready ({status}); its reason stands above");
        };
        Ok(Self {
            child,
            control,
            metrics,
        })
    }

    pub(crate) async fn connect(&self) -> Result<Control> {
        let channel = Channel::from_shared(format!("http://{}", self.control))?
            .connect()
            .await
            .with_context(|| format!("cannot reach mediad at {}", self.control))?;
        Ok(Control {
            media: MediaClient::new(channel),
        })
    }

    /// Asks it to end, as an operator would, and checks that it does so cleanly.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let asked = Command::new("kill")
            .arg(self.child.id().to_string())
            .status()
            .context("kill")?;
        ensure!(asked.success(), "mediad had ended by itself");
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "mediad ended badly: {status}");
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        bail!("mediad did not end within {} s", PATIENCE.as_secs())
    }
}

impl Drop for MediaHost {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The contract, as far as one call needs it.
#[derive(Debug)]
pub(crate) struct Control {
    media: MediaClient<Channel>,
}

/// A session that exists.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) name: String,
    /// Where each party sends, in their order.
    pub(crate) ports: Vec<SocketAddr>,
    pub(crate) set_up: Duration,
}

/// One sentence of Explain.
#[derive(Debug)]
pub(crate) struct Finding(pb::Finding);

impl Finding {
    /// Somebody hears badly or nothing.
    pub(crate) fn is_trouble(&self) -> bool {
        matches!(self.0.severity(), pb::Severity::Warning | pb::Severity::Problem)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.subject, self.0.text)
    }
}

impl Control {
    /// A session in which every party hears every other; one endpoint and transport each, named after it.
    pub(crate) async fn create(&mut self, parties: &[&Party; 2]) -> Result<Session> {
        let name = "demo-call".to_owned();
        let [a, b] = parties.map(|party| party.name.to_owned());
        let request = pb::ApplyRequest {
            session: name.clone(),
            owner: Some(owner()),
            if_revision: Some(0),
            put_transports: parties.iter().map(|party| udp(party)).collect(),
            put_nodes: parties.iter().map(|party| endpoint(party)).collect(),
            put_edges: vec![edge(&a, &b), edge(&b, &a)],
            ..Default::default()
        };
        let before = Instant::now();
        let reply = self
            .media
            .apply(request)
            .await
            .map_err(|s| explained("Apply", &s))?
            .into_inner();
        let set_up = before.elapsed();
        let port_of = |party: &&Party| {
            let state = reply.transports.iter().find(|state| state.id == party.name);
            let local = state
                .and_then(|state| state.local.as_ref())
                .context("Apply named no local address")?;
            Ok(SocketAddr::new(local.ip.parse()?, u16::try_from(local.port)?))
        };
        let ports = parties.iter().map(port_of).collect::<Result<_>>()?;
        Ok(Session { name, ports, set_up })
    }

    pub(crate) async fn explain(&mut self, session: &str) -> Result<Vec<Finding>> {
        let request = pb::ExplainRequest {
            session: session.into(),
            ..Default::default()
        };
        let reply = self
            .media
            .explain(request)
            .await
            .map_err(|s| explained("Explain", &s))?;
        Ok(reply.into_inner().findings.into_iter().map(Finding).collect())
    }

    /// Ends the session; the host's own figures come back.
    pub(crate) async fn end(&mut self, session: &str) -> Result<Vec<pb::EndpointStats>> {
        let request = pb::DeleteRequest {
            session: session.into(),
            owner: Some(owner()),
        };
        let reply = self
            .media
            .delete(request)
            .await
            .map_err(|s| explained("Delete", &s))?;
        Ok(reply.into_inner().endpoints)
    }
}

fn explained(call: &str, status: &Status) -> anyhow::Error {
    let code: Code = status.code();
    anyhow::anyhow!("mediad refused {call}: {code:?}: {}", status.message())
}

fn owner() -> pb::Owner {
    pb::Owner {
        controller: "demo".into(),
        epoch: 1,
    }
}

fn udp(party: &Party) -> pb::Transport {
    let remote = pb::Address {
        ip: party.addr().ip().to_string(),
        port: party.addr().port().into(),
    };
    let udp = pb::UdpTransport {
        remote: Some(remote),
        ..Default::default()
    };
    pb::Transport {
        id: party.name.into(),
        kind: Some(transport::Kind::Udp(udp)),
    }
}

fn endpoint(party: &Party) -> pb::Node {
    let pcmu = pb::PayloadFormat {
        payload_type: 0,
        codec: pb::Codec::Pcmu.into(),
        ..Default::default()
    };
    let endpoint = pb::Endpoint {
        transport: party.name.into(),
        formats: vec![pcmu],
        ..Default::default()
    };
    pb::Node {
        id: party.name.into(),
        kind: Some(node::Kind::Endpoint(endpoint)),
    }
}

fn edge(from: &str, to: &str) -> pb::Edge {
    pb::Edge {
        from: from.into(),
        to: to.into(),
        ..Default::default()
    }
}

/// mediad in the directory of this program.
fn beside_us() -> Result<PathBuf> {
    let us = env::current_exe().context("own path")?;
    let beside = us.with_file_name("mediad");
    ensure!(
        beside.exists(),
        "{} is missing; build it with `cargo build -p mediad`, or name it with --mediad",
        beside.display()
    );
    Ok(beside)
}

/// A range of ports that nobody uses, below the kernel's ephemeral ones.
fn free_ports() -> Result<u16> {
    let starts = (0..400u16)
        .map(|n| 17_000 + (n.wrapping_mul(37).wrapping_add(std::process::id() as u16) % 400) * PORTS);
    let free = |first: &u16| {
        (*first..first + PORTS).all(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
    };
    starts
        .into_iter()
        .find(free)
        .with_context(|| format!("no {PORTS} free UDP ports in a row between 17000 and 29800"))
}
