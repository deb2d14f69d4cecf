//! The two daemons as processes.

use std::{
    env,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    Args, http,
    people::{Cast, MUSIC_HZ},
    sound,
};

/// How long a daemon may take to become ready, and to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The prompt that who waits hears.
const MUSIC: &str = "music.wav";

/// Both, killed when dropped.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) programs: PathBuf,
    /// controld's HTTP.
    pub(crate) http: SocketAddr,
    /// mediad's.
    pub(crate) media_http: SocketAddr,
    controld: Daemon,
    mediad: Daemon,
}

#[derive(Debug)]
struct Daemon {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Servers {
    pub(crate) fn start(args: &Args, cast: &Cast, run_dir: &Path) -> Result<Self> {
        let programs = crate::people::programs(args.programs.as_deref())?;
        let pairs = u16::try_from(cast.customers.len().max(cast.agents.len()) * 8)?.max(32);
        let port_min = free_ports(pairs)?;
        let interface = format!(
            "media.interfaces=[{{name='demo', port_min={port_min}, port_max={}}}]",
            port_min + pairs - 1
        );
        let mut command = Command::new(programs.join("mediad"));
        command.args([
            "--control",
            "127.0.0.1:0",
            "--metrics",
            "127.0.0.1:0",
            "--io",
            &args.io,
        ]);
        command.args(["--set", &interface, "--set", "workers.pin=false"]);
        // Phones and daemons share the machine: what comes late was late at its sender, and is no old news.
        command.args(["--set", "io.stale_ms=2000", "--set", "limits.late_ms_max=0"]);
        // As many files as that takes may be open everywhere.
        command.args(["--set", &format!("io.sockets_max={}", pairs.max(1_024))]);
        let (prompts, recordings) = (run_dir.join("prompts"), run_dir.join("recordings"));
        for directory in [&prompts, &recordings] {
            fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        }
        sound::write_tone(&prompts.join(MUSIC), MUSIC_HZ).context("the music")?;
        for (key, directory) in [("media.prompts", &prompts), ("recordings.directory", &recordings)] {
            command.args(["--set", &format!("{key}={}", directory.display())]);
        }
        let (mediad, ready) = Daemon::start("mediad", command, "MEDIAD_", run_dir.join("media.log"))?;
        let control: SocketAddr = address(&ready, "control=")?;
        let media_http = address(&ready, "metrics=")?;

        let config = run_dir.join("controld.toml");
        fs::write(&config, configuration(args, cast, control, run_dir)).context("controld.toml")?;
        let mut command = Command::new(programs.join("controld"));
        command.arg("--config").arg(&config);
        let (controld, ready) = Daemon::start("controld", command, "CONTROLD_", run_dir.join("server.log"))?;
        let http = address(&ready, "management=")?;
        http::until_ready(http, PATIENCE).context("controld does not reach mediad; see server.log")?;
        Ok(Self {
            programs,
            http,
            media_http,
            controld,
            mediad,
        })
    }

    /// Asks both to end, as an operator would, and checks that they do so cleanly.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.controld.stop()?;
        self.mediad.stop()
    }
}

impl Daemon {
    /// Starts it and waits for its `ready` line.
    fn start(
        name: &'static str,
        mut command: Command,
        env_prefix: &str,
        log: PathBuf,
    ) -> Result<(Self, String)> {
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with(env_prefix)) {
            command.env_remove(name);
        }
        let file = File::create(&log).with_context(|| log.display().to_string())?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let out = child.stdout.take().context("standard output")?;
        let mut daemon = Self { name, child, log };
        let mut line = String::new();
        BufReader::new(out)
            .read_line(&mut line)
            .with_context(|| format!("waiting for {name}"))?;
        if !line.starts_with("ready ") {
            let status = daemon.child.wait()?;
            bail!(
                "{name} ended before it was ready ({status}): {}",
                daemon.last_words()
            );
        }
        Ok((daemon, line))
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let last = text.lines().rfind(|line| !line.is_empty());
        last.map_or_else(|| format!("see {}", self.log.display()), str::to_owned)
    }

    fn stop(&mut self) -> Result<()> {
        let name = self.name;
        ensure!(
            self.child.try_wait()?.is_none(),
            "{name} had ended by itself: {}",
            self.last_words()
        );
        terminate(&self.child)?;
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                ensure!(
                    status.success(),
                    "{name} ended badly ({status}): {}",
                    self.last_words()
                );
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        bail!("{name} did not end within {} s", PATIENCE.as_secs())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// SIGTERM.
pub(crate) fn terminate(child: &Child) -> Result<()> {
    // The standard library can only send SIGKILL.
    let sent = Command::new("kill")
        .arg(child.id().to_string())
        .status()
        .context("kill")?;
    ensure!(sent.success(), "process {} had ended by itself", child.id());
    Ok(())
}

fn address(ready: &str, key: &str) -> Result<SocketAddr> {
    let word = ready.split_whitespace().find_map(|word| word.strip_prefix(key));
    let address = word.and_then(|address| address.parse().ok());
    address.with_context(|| format!("no {key} in \"{}\"", ready.trim()))
}

fn configuration(args: &Args, cast: &Cast, media: SocketAddr, run_dir: &Path) -> String {
    use std::fmt::Write as _;

    let port = args.server_port;
    let wrap_up_s = if cast.customers.len() == 1 { 2 } else { 0 };
    let names: Vec<String> = cast
        .agents
        .iter()
        .map(|agent| format!("\"{}\"", agent.name))
        .collect();
    let mut text = format!(
        r#"# Written by the demonstration.
[signalling]
domains = ["127.0.0.1"]
udp = ["0.0.0.0:{port}"]
tcp = ["0.0.0.0:{port}"]
# Customers have no account.
allow_anonymous_calls = true

[management]
listen = "127.0.0.1:0"

[journal]
path = '{}'

[store]
path = '{}'

[agents]
wrap_up_s = {wrap_up_s}

[music]
prompt = "{MUSIC}"

[log]
level = "debug"

[[media.hosts]]
name = "demo"
address = "http://{media}"

[[queues]]
name = "support"
agents = [{}]
ring_timeout_s = 10
timeout_s = 60
record = true
"#,
        run_dir.join("journal").display(),
        run_dir.join("controld.db").display(),
        names.join(", ")
    );
    for agent in &cast.agents {
        let _ = write!(
            text,
            "\n[[accounts]]\nuser = \"{0}\"\npassword = \"{0}-secret\"\n",
            agent.name
        );
    }
    text
}

/// A range of ports that nobody uses, between the phones' and the kernel's ephemeral ones.
fn free_ports(count: u16) -> Result<u16> {
    const FIRST: u16 = 17_000;
    const LAST: u16 = 32_000;
    let slots = (LAST - FIRST) / count;
    let begin = u16::try_from(std::process::id() % u32::from(slots))?;
    let free = |first: &u16| {
        (*first..first + count).all(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
    };
    (0..slots)
        .map(|slot| FIRST + (begin + slot) % slots * count)
        .find(free)
        .with_context(|| format!("no {count} free UDP ports in a row between {FIRST} and {LAST}"))
}
