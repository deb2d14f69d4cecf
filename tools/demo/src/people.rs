//! Who plays, and their phones as processes.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{BufReader, Write as _},
    net::{Ipv4Addr, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use demo::report::PhoneReport;

use crate::Args;

/// How long all agents may take to register, and to leave.
const PATIENCE: Duration = Duration::from_secs(10);

/// The tone of the music: nobody speaks it.
pub(crate) const MUSIC_HZ: f64 = 600.0;

/// One phone.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) media_ports: String,
    /// The tone it sends.
    pub(crate) hz: f64,
}

/// Everybody.
#[derive(Debug, Clone)]
pub(crate) struct Cast {
    pub(crate) agents: Vec<Person>,
    pub(crate) customers: Vec<Person>,
    pub(crate) talk_s: f64,
    /// Agents let it ring this long, so that who calls hears music first.
    pub(crate) ring_s: f64,
    server_port: u16,
}

impl Cast {
    pub(crate) fn new(args: &Args) -> Result<Self> {
        let is_small = args.agents <= 4 && args.calls == 1;
        let port = |first: u16, index: usize| {
            u16::try_from(index)
                .ok()
                .and_then(|index| first.checked_add(index))
                .filter(|port| *port < 60_000)
                .with_context(|| format!("{index} ports from {first} on go beyond 60000"))
        };
        // A crowd's customers begin above the agents' ports.
        let customer_first = if is_small {
            args.customer_port
        } else {
            args.customer_port.max(args.agent_port + 100)
        };
        let range = |first: u16, length: u16| format!("{first}-{}", first.saturating_add(length));
        let mut agents = Vec::new();
        for index in 0..args.agents {
            let port = port(args.agent_port, index)?;
            let ports = if is_small {
                range(port + 1_000, 100)
            } else {
                range(args.agent_port + 1_000, 900)
            };
            let hz = if index < 2 {
                440.0 + 290.0 * index as f64
            } else {
                1_960.0 + 20.0 * index as f64
            };
            agents.push(Person {
                name: agent_name(index),
                port,
                media_ports: ports,
                hz,
            });
        }
        let mut customers = Vec::new();
        for index in 0..args.calls {
            let port = port(customer_first, index)?;
            let ports = if args.calls == 1 {
                range(port + 2_000, 100)
            } else {
                range(customer_first + 3_000, 2_000)
            };
            let name = if args.calls == 1 {
                "customer".to_owned()
            } else {
                format!("customer{}", index + 1)
            };
            let hz = 1_000.0 + 10.0 * (index % 96) as f64;
            customers.push(Person {
                name,
                port,
                media_ports: ports,
                hz,
            });
        }
        Ok(Self {
            agents,
            customers,
            talk_s: args
                .call_duration
                .unwrap_or(if args.calls == 1 { 12.0 } else { 4.0 }),
            ring_s: if args.calls == 1 { 2.0 } else { 0.3 },
            server_port: args.server_port,
        })
    }

    /// Fails early, naming the port and the flag, rather than late.
    pub(crate) fn check_ports(&self, server_port: u16) -> Result<()> {
        let free = |ip: Ipv4Addr, port: u16, flag: &str| {
            UdpSocket::bind((ip, port)).map(drop).with_context(|| {
                format!(
                    "port {port} (udp, {ip}) is in use; stop the other process or choose another with {flag}"
                )
            })
        };
        free(Ipv4Addr::UNSPECIFIED, server_port, "--server-port")?;
        for agent in &self.agents {
            free(Ipv4Addr::LOCALHOST, agent.port, "--agent-port")?;
        }
        for customer in &self.customers {
            free(Ipv4Addr::LOCALHOST, customer.port, "--customer-port")?;
        }
        Ok(())
    }

    pub(crate) fn everybody(&self) -> impl Iterator<Item = &Person> {
        self.agents.iter().chain(&self.customers)
    }

    fn tones(&self) -> String {
        let tones = self.everybody().map(|person| person.hz).chain([MUSIC_HZ]);
        let tones: Vec<String> = tones.map(|hz| hz.to_string()).collect();
        tones.join(",")
    }
}

fn agent_name(index: usize) -> String {
    match index {
        0 => "alice".to_owned(),
        1 => "bob".to_owned(),
        2 => "charlie".to_owned(),
        3 => "diana".to_owned(),
        more => format!("agent{}", more + 1),
    }
}

/// What a phone told.
#[derive(Debug)]
enum News {
    Said(String),
    Reported(PhoneReport),
    Gone,
}

/// The phones that run.
pub(crate) struct Crowd<'a> {
    cast: &'a Cast,
    run_dir: &'a Path,
    programs: PathBuf,
    begin: Instant,
    phones: BTreeMap<String, Child>,
    reports: BTreeMap<String, PhoneReport>,
    telling: Sender<(String, News)>,
    news: Receiver<(String, News)>,
}

impl<'a> Crowd<'a> {
    pub(crate) fn new(cast: &'a Cast, run_dir: &'a Path, programs: PathBuf, begin: Instant) -> Self {
        let (telling, news) = channel();
        Self {
            cast,
            run_dir,
            programs,
            begin,
            phones: BTreeMap::new(),
            reports: BTreeMap::new(),
            telling,
            news,
        }
    }

    /// Starts the agents and waits until each is registered.
    pub(crate) fn register_agents(&mut self) -> Result<()> {
        let cast = self.cast;
        for agent in &cast.agents {
            self.start(
                "agent",
                agent,
                &[
                    "--call-duration".into(),
                    cast.talk_s.to_string(),
                    "--ring".into(),
                    cast.ring_s.to_string(),
                ],
            )?;
        }
        let mut waiting: Vec<&str> = cast.agents.iter().map(|agent| agent.name.as_str()).collect();
        let until = Instant::now() + PATIENCE;
        while !waiting.is_empty() {
            let Some((name, news)) = self.next(until)? else {
                bail!(
                    "not registered within {} s: {}",
                    PATIENCE.as_secs(),
                    waiting.join(", ")
                );
            };
            match news {
                News::Said(text) if text.starts_with("registered") => waiting.retain(|agent| *agent != name),
                News::Said(_) => {}
                News::Reported(_) | News::Gone => bail!("{}", self.failure_of(&name)),
            }
        }
        Ok(())
    }

    /// Lets the customers call, and waits until each has reported.
    pub(crate) fn call(&mut self, wait: Duration) -> Result<Vec<PhoneReport>> {
        let cast = self.cast;
        // Customers hang up three seconds after an agent should have, however long they waited with music.
        let duration = (wait.as_secs_f64() + cast.talk_s + 3.0).to_string();
        let flags = [
            "--music".into(),
            MUSIC_HZ.to_string(),
            "--call-duration".into(),
            duration,
            "--wait-time".into(),
            wait.as_secs_f64().to_string(),
        ];
        for customer in &cast.customers {
            self.start("customer", customer, &flags)?;
        }
        let until = Instant::now() + wait + Duration::from_secs_f64(cast.talk_s) + PATIENCE * 2;
        let mut done = 0;
        while done < cast.customers.len() {
            let Some((name, news)) = self.next(until)? else {
                bail!("{done} of {} customers were served in time", cast.customers.len());
            };
            if matches!(news, News::Gone) {
                if name.starts_with("customer") {
                    done += 1;
                    if cast.customers.len() > 1 && done.is_multiple_of(10) {
                        self.progress(
                            "demo",
                            &format!("{done} of {} calls are over", cast.customers.len()),
                        );
                    }
                } else {
                    bail!("{}", self.failure_of(&name));
                }
            }
        }
        let report = |customer: &super::people::Person| {
            self.reports
                .get(&customer.name)
                .cloned()
                .with_context(|| format!("{} did not report; see {0}.log", customer.name))
        };
        cast.customers.iter().map(report).collect()
    }

    /// Tells the agents to leave, and collects their reports.
    pub(crate) fn dismiss_agents(&mut self) -> Result<Vec<PhoneReport>> {
        let cast = self.cast;
        for agent in &cast.agents {
            if let Some(phone) = self.phones.get(&agent.name) {
                crate::servers::terminate(phone)?;
            }
        }
        let until = Instant::now() + PATIENCE;
        let mut left = cast.agents.len();
        while left > 0 {
            let Some((_, news)) = self.next(until)? else {
                bail!("{left} agents did not leave within {} s", PATIENCE.as_secs());
            };
            left -= usize::from(matches!(news, News::Gone));
        }
        let report = |agent: &Person| {
            let report = self.reports.get(&agent.name).cloned();
            report.with_context(|| format!("{} did not report; see {0}.log", agent.name))
        };
        cast.agents.iter().map(report).collect()
    }

    fn failure_of(&self, name: &str) -> String {
        let failure = self.reports.get(name).and_then(|report| report.failure.clone());
        let reason = failure.unwrap_or_else(|| format!("it ended; see {name}.log"));
        format!("{name}: {reason}")
    }

    /// The next thing told, shown to the person who watches. `None`: nothing in time.
    fn next(&mut self, until: Instant) -> Result<Option<(String, News)>> {
        let (name, news) = match self
            .news
            .recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            Ok(told) => told,
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("all phones are gone"),
        };
        match &news {
            News::Said(text) if self.cast.customers.len() == 1 => self.progress(&name, text),
            News::Said(_) | News::Gone => {}
            News::Reported(report) => {
                if let Some(failure) = &report.failure {
                    self.progress(&name, &format!("FAILED: {failure}"));
                }
                self.reports.insert(name.clone(), report.clone());
            }
        }
        Ok(Some((name, news)))
    }

    fn progress(&self, name: &str, text: &str) {
        println!("[{:6.2} s] {name:<9} {text}", self.begin.elapsed().as_secs_f64());
    }

    fn start(&mut self, program: &str, person: &Person, flags: &[String]) -> Result<()> {
        let path = self.run_dir.join(format!("{}.log", person.name));
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.with_context(|| path.display().to_string())?;
        let file = self.programs.join(program);
        let mut child = Command::new(&file)
            .args(["--name", &person.name, "--port", &person.port.to_string()])
            .args(["--server", &format!("127.0.0.1:{}", self.cast.server_port)])
            .args([
                "--media-ports",
                &person.media_ports,
                "--tone",
                &person.hz.to_string(),
            ])
            .args(["--listen-for", &self.cast.tones(), "--verbose", "--json"])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.try_clone()?)
            .spawn()
            .with_context(|| {
                format!(
                    "cannot start {}; build it with `cargo build -p demo`",
                    file.display()
                )
            })?;
        let out = child.stdout.take().context("the phone's standard output")?;
        let (name, telling) = (person.name.clone(), self.telling.clone());
        thread::spawn(move || listen(&name, BufReader::new(out), log, &telling));
        self.phones.insert(person.name.clone(), child);
        Ok(())
    }
}

impl Drop for Crowd<'_> {
    fn drop(&mut self) {
        for phone in self.phones.values_mut() {
            let _ = phone.kill();
            let _ = phone.wait();
        }
    }
}

/// Keeps what a phone writes, and passes on what is news.
fn listen(name: &str, lines: impl std::io::BufRead, mut log: File, telling: &Sender<(String, News)>) {
    for line in lines.lines().map_while(Result::ok) {
        let _ = writeln!(log, "{line}");
        let news = match PhoneReport::read(&line) {
            Some(report) => News::Reported(report),
            None => match line.split_once(&format!(" INFO {name}: ")) {
                Some((_, text)) => News::Said(text.to_owned()),
                None => continue,
            },
        };
        if telling.send((name.to_owned(), news)).is_err() {
            return;
        }
    }
    let _ = telling.send((name.to_owned(), News::Gone));
}

/// The programs beside this one, or where the caller says.
pub(crate) fn programs(given: Option<&Path>) -> Result<PathBuf> {
    let dir = match given {
        Some(dir) => dir.to_path_buf(),
        None => std::env::current_exe()
            .context("own path")?
            .parent()
            .context("own directory")?
            .to_path_buf(),
    };
    for program in ["mediad", "controld", "agent", "customer"] {
        ensure!(
            dir.join(program).exists(),
            "{} is missing; build it with `cargo build -p mediad -p controld -p demo`, or name its directory with \
             --programs",
            dir.join(program).display()
        );
    }
    Ok(dir)
}
