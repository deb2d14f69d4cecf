//! A controller with its media hosts, and what they say is going on.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;

use crate::{
    api::ask,
    baresip::write_wav,
    program::{Program, free_ports, scratch, wait_for},
    tether::Tether,
};

/// RTP ports of each media host.
const PORTS: u16 = 64;

/// Accounts and their passwords.
pub(crate) const ACCOUNTS: [(&str, &str); 3] =
    [("alice", "secret-a"), ("bob", "secret-b"), ("carol", "secret-c")];

/// How a site is made up.
pub(crate) struct Plan {
    name: String,
    settings: Vec<String>,
    more: String,
    hosts: usize,
    ip: IpAddr,
    is_tethered: bool,
    /// Files of the media hosts: name, tone, seconds.
    prompts: Vec<(&'static str, f64, u32)>,
}

impl Plan {
    /// A controller and a media host on 127.0.0.1.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            settings: Vec::new(),
            more: String::new(),
            hosts: 1,
            ip: Ipv4Addr::LOCALHOST.into(),
            is_tethered: false,
            prompts: Vec::new(),
        }
    }

    /// A setting of the controller, `KEY=VALUE`, over those it has anyway.
    pub(crate) fn with(mut self, setting: &str) -> Self {
        self.settings.push(setting.to_owned());
        self
    }

    /// Sections at the end of the controller's configuration.
    pub(crate) fn with_sections(mut self, toml: &str) -> Self {
        self.more += toml;
        self
    }

    /// Every codec there is.
    pub(crate) fn with_all_codecs(self) -> Self {
        self.with("media.codecs=['PCMU', 'PCMA', 'G722', 'opus']")
    }

    /// A file that media hosts can play: a tone of so many seconds.
    pub(crate) fn with_prompt(mut self, name: &'static str, hz: f64, seconds: u32) -> Self {
        self.prompts.push((name, hz, seconds));
        self
    }

    pub(crate) fn with_media_hosts(mut self, hosts: usize) -> Self {
        self.hosts = hosts;
        self
    }

    /// The way to the first media host can be cut.
    pub(crate) fn tethered(mut self) -> Self {
        self.is_tethered = true;
        self
    }

    /// Signalling and media on `::1` only.
    pub(crate) fn over_ipv6(mut self) -> Self {
        self.ip = Ipv6Addr::LOCALHOST.into();
        self
    }

    pub(crate) fn start(self) -> Site {
        let dir = scratch(&self.name);
        fs::create_dir_all(dir.join("prompts")).unwrap();
        for (name, hz, seconds) in self.prompts {
            write_wav(&dir.join("prompts").join(name), hz, 8_000, seconds);
        }
        let mut hosts: Vec<MediaHost> = (0..self.hosts)
            .map(|number| MediaHost::start(&dir, number, self.ip))
            .collect();
        let tether = self.is_tethered.then(|| Tether::to(hosts[0].control));
        if let Some(tether) = &tether {
            hosts[0].control = tether.address;
        }
        let sip_port = free_ports(2);
        let at = |port| SocketAddr::new(self.ip, port);
        let (udp, tls) = (at(sip_port), at(sip_port + 1));
        let text = configuration(&dir, &hosts, udp, tls) + &self.more;
        fs::write(dir.join("controld.toml"), text).unwrap();
        let (controld, http) = start_controld(&dir, &self.settings, 1);
        let site = Site {
            udp,
            tcp: udp,
            tls,
            dir,
            http,
            settings: self.settings,
            starts: 1,
            controld,
            hosts,
            tether,
        };
        site.wait_until_ready();
        site
    }
}

/// controld and mediad on loopback. Alice and Bob serve the queue `support`; strangers may call.
pub(crate) struct Site {
    pub(crate) udp: SocketAddr,
    pub(crate) tcp: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) dir: PathBuf,
    http: SocketAddr,
    settings: Vec<String>,
    starts: usize,
    /// Ended before the media hosts.
    controld: Program,
    hosts: Vec<MediaHost>,
    tether: Option<Tether>,
}

impl Site {
    pub(crate) fn start(name: &str) -> Self {
        Plan::new(name).start()
    }

    /// The controller dies as by SIGKILL.
    pub(crate) fn kill_controld(&mut self) {
        self.controld.kill();
    }

    /// Another controller at the same addresses, with the same files.
    pub(crate) fn start_controld_again(&mut self) {
        self.starts += 1;
        (self.controld, self.http) = start_controld(&self.dir, &self.settings, self.starts);
        self.wait_until_ready();
    }

    /// Edits the controller's file and has it read again, which must go well: what was changed, and what needs a restart.
    pub(crate) fn reconfigure(&self, edit: impl FnOnce(&str) -> String) -> Value {
        let file = self.dir.join("controld.toml");
        let text = fs::read_to_string(&file).unwrap();
        let edited = edit(&text);
        assert_ne!(text, edited, "nothing is edited");
        fs::write(&file, edited).unwrap();
        let answer = ask(self.http, "POST", "/v1/reload", "", "");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }

    /// A media host dies as by SIGKILL.
    pub(crate) fn kill_media_host(&mut self, name: &str) {
        self.hosts.retain_mut(|host| {
            let is_it = host.name == name;
            if is_it {
                host.program.kill();
            }
            !is_it
        });
    }

    /// A media host does nothing, as a machine that hangs, or goes on.
    pub(crate) fn hold_media_host(&self, name: &str, still: bool) {
        let host = self.hosts.iter().find(|host| host.name == name);
        host.unwrap().program.hold(still);
    }

    /// A media host dies as by SIGKILL, and another begins at the same addresses with the same files.
    pub(crate) fn restart_media_host(&mut self, name: &str) {
        self.restart_media_host_alone(name);
        self.wait_until_ready();
    }

    /// As [`Site::restart_media_host`], when there is no controller.
    pub(crate) fn restart_media_host_alone(&mut self, name: &str) {
        let host = self.hosts.iter_mut().find(|host| host.name == name);
        host.unwrap().start_again(&self.dir);
    }

    /// What the way to the first media host hangs on, of a site that is [`Plan::tethered`].
    pub(crate) fn tether(&self) -> &Tether {
        self.tether.as_ref().unwrap()
    }

    fn wait_until_ready(&self) {
        wait_for("the media hosts are up", || {
            let hosts = self.list("/v1/hosts");
            let up = hosts.iter().filter(|host| host["up"] == true).count();
            (up == self.hosts.len()).then_some(())
        });
    }

    /// Where its HTTP is.
    pub(crate) fn http(&self) -> SocketAddr {
        self.http
    }

    /// One of the JSON pages.
    pub(crate) fn page(&self, path: &str) -> Value {
        let answer = ask(self.http, "GET", path, "", "");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.body
    }

    /// What is listed on a page.
    pub(crate) fn list(&self, path: &str) -> Vec<Value> {
        match self.page(path) {
            Value::Array(list) => list,
            other => panic!("{path} is no list: {other}"),
        }
    }

    /// How often a user is registered.
    pub(crate) fn registrations(&self, user: &str) -> usize {
        let list = self.list("/v1/registrations");
        list.iter()
            .filter(|registration| registration["user"] == user)
            .count()
    }

    /// Waits until an agent is in this state.
    pub(crate) fn wait_for_agent(&self, name: &str, state: &str) {
        wait_for(&format!("{name} is {state}"), || {
            let agents = self.list("/v1/agents");
            agents
                .iter()
                .any(|agent| agent["name"] == name && agent["state"] == state)
                .then_some(())
        });
    }

    /// Waits until the only call is at this stage, and gives it.
    pub(crate) fn wait_for_call(&self, stage: &str) -> Value {
        wait_for(&format!("the call is {stage}"), || {
            let calls = self.list("/v1/calls");
            calls.into_iter().find(|call| call["stage"] == stage)
        })
    }

    /// No call, no media session, no port in use, every agent with a phone ready; then the details of all calls there
    /// were, oldest first.
    pub(crate) fn assert_nothing_left(&self, calls: usize) -> Vec<Value> {
        wait_for("no call is left", || {
            self.list("/v1/calls").is_empty().then_some(())
        });
        let mut details = wait_for("every call has its detail record", || {
            Some(self.list("/v1/cdrs?limit=1000")).filter(|details| details.len() >= calls)
        });
        for host in &self.hosts {
            wait_for("no media session and no port is left", || {
                host.is_idle().then_some(())
            });
        }
        for (agent, _) in ACCOUNTS.iter().take(2) {
            if self.registrations(agent) > 0 {
                self.wait_for_agent(agent, "ready");
            }
        }
        for queue in self.list("/v1/queues") {
            assert_eq!(queue["waiting"], 0, "{queue}");
        }
        assert_eq!(details.len(), calls, "{details:#?}");
        details.reverse();
        details
    }

    /// The detail record of the only call there was.
    pub(crate) fn only_call(&self) -> Value {
        self.assert_nothing_left(1).remove(0)
    }

    /// The same of one that was answered, by this user, and ended well, by this side.
    pub(crate) fn only_call_ended(&self, answered_by: &str, ended_by: &str) -> Value {
        let call = self.only_call();
        assert_eq!(
            (&call["answered_by"], &call["ended_by"], &call["status"]),
            (&answered_by.into(), &ended_by.into(), &200.into()),
            "{call:#}"
        );
        call
    }

    /// How many requests with this method the controller sent since its last start.
    pub(crate) fn sent(&self, method: &str) -> usize {
        let start = format!(" start={method} ");
        let story = self.story();
        let sent = story.lines().filter(|line| line.contains("sip tx"));
        sent.filter(|line| line.contains(&start)).count()
    }

    /// One of the controller's metrics, by the start of its line.
    pub(crate) fn figure(&self, name: &str) -> u64 {
        figure(self.http, name)
    }

    /// The log of the controller, for what tells more than its pages.
    pub(crate) fn story(&self) -> String {
        self.controld.story()
    }
}

fn start_controld(dir: &Path, settings: &[String], number: usize) -> (Program, SocketAddr) {
    let mut command = program("controld", Path::new(env!("CARGO_BIN_EXE_controld")));
    command.arg("--config").arg(dir.join("controld.toml"));
    for setting in settings {
        command.args(["--set", setting]);
    }
    command.stdout(Stdio::piped());
    let log = dir.join(format!("controld-{number}.log"));
    let mut controld = Program::start("controld", command, log, "cargo build");
    let ready = controld.first_line();
    (controld, word(&ready, "management=").parse().unwrap())
}

/// A running mediad.
struct MediaHost {
    name: String,
    program: Program,
    control: SocketAddr,
    metrics: SocketAddr,
    ip: IpAddr,
    first_port: u16,
    starts: usize,
}

impl MediaHost {
    /// The first is `a`.
    fn start(dir: &Path, number: usize, ip: IpAddr) -> Self {
        let name = char::from(b'a' + u8::try_from(number).unwrap()).to_string();
        let first_port = free_ports(PORTS);
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let (program, control, metrics) = start_mediad(dir, &name, (ip, first_port), any, 1);
        Self {
            name,
            program,
            control,
            metrics,
            ip,
            first_port,
            starts: 1,
        }
    }

    fn start_again(&mut self, dir: &Path) {
        self.program.kill();
        self.starts += 1;
        let media = (self.ip, self.first_port);
        (self.program, self.control, self.metrics) =
            start_mediad(dir, &self.name, media, self.control, self.starts);
    }

    /// No session, no port in use.
    fn is_idle(&self) -> bool {
        let used = figure(self.metrics, "mediad_port_pairs{interface=\"lo\",state=\"used\"}");
        figure(self.metrics, "mediad_sessions ") == 0 && used == 0
    }
}

/// The metric whose line starts so.
fn figure(at: SocketAddr, name: &str) -> u64 {
    let page = ask(at, "GET", "/metrics", "", "").text;
    let line = page.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value
        .and_then(|value| value.parse().ok())
        .unwrap_or_else(|| panic!("no {name} among the metrics"))
}

/// With the addresses of its control and its metrics.
fn start_mediad(
    dir: &Path,
    name: &str,
    (ip, first_port): (IpAddr, u16),
    control: SocketAddr,
    number: usize,
) -> (Program, SocketAddr, SocketAddr) {
    let path = Path::new(env!("CARGO_BIN_EXE_controld")).with_file_name("mediad");
    assert!(
        path.exists(),
        "{} is missing; build it with `cargo build -p mediad`",
        path.display()
    );
    let last_port = first_port + PORTS - 1;
    let mut command = program("mediad", &path);
    command.args(["--control", &control.to_string(), "--metrics", "127.0.0.1:0"]);
    let interfaces = format!(
        "media.interfaces=[{{name='lo', addresses=['{ip}'], port_min={first_port}, port_max={last_port}}}]"
    );
    let recordings = dir.join("recordings").join(name);
    fs::create_dir_all(&recordings).unwrap();
    let recordings = format!("recordings.directory={}", recordings.display());
    let prompts = format!("media.prompts={}", dir.join("prompts").display());
    let settings = [
        interfaces.as_str(),
        recordings.as_str(),
        prompts.as_str(),
        "workers.pin=false",
        "workers.count=1",
        "io.sockets_max=2048",
        // The machine may run other tests at the same time: a late packet is not a lost one here.
        "io.stale_ms=2000",
        "limits.late_ms_max=0",
        "media.quarantine_ms=100",
    ];
    for setting in settings {
        command.args(["--set", setting]);
    }
    command.stdout(Stdio::piped());
    let log = dir.join(format!("mediad-{name}-{number}.log"));
    let mut mediad = Program::start("mediad", command, log, "cargo build -p mediad");
    let ready = mediad.first_line();
    let at = |key: &str| word(&ready, key).parse().unwrap();
    (mediad, at("control="), at("metrics="))
}

fn configuration(dir: &Path, hosts: &[MediaHost], sip: SocketAddr, tls: SocketAddr) -> String {
    let hosts: Vec<String> = hosts
        .iter()
        .map(|host| {
            format!(
                "{{ name = '{}', address = 'http://{}' }}",
                host.name, host.control
            )
        })
        .collect();
    let (cert, key) = certificate(dir, tls.ip());
    let mut text = format!(
        "[signalling]\nudp = ['{sip}']\ntcp = ['{sip}']\ntls = ['{tls}']\nallow_anonymous_calls = true\n\
        domains = ['{domain}']\ndigest = ['MD5']\n\
        [tls]\ncertificates = [{{ cert = '{}', key = '{}' }}]\n\
        [management]\nlisten = '127.0.0.1:0'\n[journal]\npath = '{}'\n[store]\npath = '{}'\n\
        [media]\nhosts = [{}]\ncodecs = ['PCMU', 'PCMA']\n\
        [calls]\nanswer_before_music = false\n\
        [agents]\nwrap_up_s = 0\n[log]\nlevel = 'debug'\n\
        [[queues]]\nname = 'support'\nagents = ['alice', 'bob']\nring_timeout_s = 2\n",
        cert.display(),
        key.display(),
        dir.join("journal").display(),
        dir.join("controld.db").display(),
        hosts.join(", "),
        domain = bracketed(sip.ip()),
    );
    for (user, password) in ACCOUNTS {
        text += &format!("[[accounts]]\nuser = '{user}'\npassword = '{password}'\n");
    }
    text
}

/// A certificate for an address, signed by itself, and its key; `tls.crt` is also what phones are to believe.
fn certificate(dir: &Path, ip: IpAddr) -> (PathBuf, PathBuf) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([ip.to_string()]).unwrap();
    let files = (dir.join("tls.crt"), dir.join("tls.key"));
    fs::write(&files.0, params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(&files.1, key.serialize_pem()).unwrap();
    files
}

/// An address as URIs have it.
pub(crate) fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// A program of ours, without settings of the machine it is tested on.
fn program(name: &str, path: &Path) -> Command {
    let prefix = format!("{}_", name.to_uppercase());
    let mut command = Command::new(path);
    for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with(&prefix)) {
        command.env_remove(variable);
    }
    command
}

fn word<'a>(line: &'a str, key: &str) -> &'a str {
    line.split_whitespace()
        .find_map(|word| word.strip_prefix(key))
        .unwrap_or_else(|| panic!("no {key} in {line:?}"))
}
