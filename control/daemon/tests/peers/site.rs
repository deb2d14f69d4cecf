//! A controller with its media host, and what they say is going on.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::program::{Program, free_ports, scratch, wait_for};

/// RTP ports of the media host.
const PORTS: u16 = 64;

/// Accounts and their passwords.
pub(crate) const ACCOUNTS: [(&str, &str); 3] =
    [("alice", "secret-a"), ("bob", "secret-b"), ("carol", "secret-c")];

/// controld and mediad on loopback. Alice and Bob serve the queue `support`; strangers may call.
pub(crate) struct Site {
    pub(crate) udp: SocketAddr,
    pub(crate) tcp: SocketAddr,
    pub(crate) dir: PathBuf,
    http: SocketAddr,
    metrics: SocketAddr,
    /// Ended before the media host.
    controld: Program,
    _mediad: Program,
}

impl Site {
    pub(crate) fn start(name: &str) -> Self {
        Self::start_with(name, &[])
    }

    /// As [`Site::start`], with these settings (`KEY=VALUE`) of the controller beside its own.
    pub(crate) fn start_with(name: &str, settings: &[&str]) -> Self {
        let dir = scratch(name);
        let (mediad, control, metrics) = start_mediad(&dir);
        let mut command = program("controld", Path::new(env!("CARGO_BIN_EXE_controld")));
        command.arg("--config").arg(configuration(&dir, control));
        for setting in settings {
            command.args(["--set", setting]);
        }
        command.stdout(Stdio::piped());
        let mut controld = Program::start("controld", command, dir.join("controld.log"), "cargo build");
        let ready = controld.first_line();
        let sip = word(&ready, "sip=");
        let at = |transport: &str| {
            let found = sip
                .split(',')
                .find_map(|listener| listener.strip_prefix(transport));
            found.unwrap().parse().unwrap()
        };
        let site = Self {
            udp: at("udp:"),
            tcp: at("tcp:"),
            http: word(&ready, "management=").parse().unwrap(),
            metrics,
            controld,
            dir,
            _mediad: mediad,
        };
        wait_for("a media host is up", || {
            let (status, _) = get(site.http, "/readyz");
            status.contains(" 200 ").then_some(())
        });
        site
    }

    /// Where its HTTP is.
    pub(crate) fn http(&self) -> SocketAddr {
        self.http
    }

    /// One of the JSON pages.
    pub(crate) fn page(&self, path: &str) -> Value {
        let (status, body) = get(self.http, path);
        assert!(status.contains(" 200 "), "{path}: {status}");
        serde_json::from_str(&body).unwrap()
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

    /// No call, no media session, no port in use, every agent with a phone ready; then the details of all calls there
    /// were, oldest first.
    pub(crate) fn assert_nothing_left(&self, calls: usize) -> Vec<Value> {
        wait_for("no call is left", || {
            self.list("/v1/calls").is_empty().then_some(())
        });
        let mut details = wait_for("every call has its detail record", || {
            Some(self.list("/v1/cdrs")).filter(|details| details.len() >= calls)
        });
        wait_for("no media session and no port is left", || {
            let (_, page) = get(self.metrics, "/metrics");
            let figure = |name: &str| {
                let line = page.lines().find(|line| line.starts_with(name));
                let value = line.and_then(|line| line.rsplit(' ').next());
                value
                    .unwrap_or_else(|| panic!("no {name} among the metrics"))
                    .to_owned()
            };
            let used = figure("mediad_port_pairs{interface=\"lo\",state=\"used\"}");
            (figure("mediad_sessions ") == "0" && used == "0").then_some(())
        });
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

    /// The log of the controller, for what tells more than its pages.
    pub(crate) fn story(&self) -> String {
        self.controld.story()
    }
}

fn start_mediad(dir: &Path) -> (Program, SocketAddr, SocketAddr) {
    let path = Path::new(env!("CARGO_BIN_EXE_controld")).with_file_name("mediad");
    assert!(
        path.exists(),
        "{} is missing; build it with `cargo build -p mediad`",
        path.display()
    );
    let first = free_ports(PORTS);
    let last = first + PORTS - 1;
    let mut command = program("mediad", &path);
    command.args(["--control", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]);
    let interfaces = format!("media.interfaces=[{{name='lo', port_min={first}, port_max={last}}}]");
    let recordings = dir.join("recordings");
    fs::create_dir_all(&recordings).unwrap();
    let recordings = format!("recordings.directory={}", recordings.display());
    let others = [
        recordings.as_str(),
        "workers.pin=false",
        "workers.count=1",
        "io.sockets_max=2048",
        // The machine may run other tests at the same time: a late packet is not a lost one here.
        "io.stale_ms=2000",
        "media.quarantine_ms=100",
    ];
    for setting in [interfaces.as_str()].iter().chain(&others) {
        command.args(["--set", setting]);
    }
    command.stdout(Stdio::piped());
    let mut mediad = Program::start("mediad", command, dir.join("mediad.log"), "cargo build -p mediad");
    let ready = mediad.first_line();
    let (control, metrics) = (word(&ready, "control="), word(&ready, "metrics="));
    (mediad, control.parse().unwrap(), metrics.parse().unwrap())
}

fn configuration(dir: &Path, mediad: SocketAddr) -> PathBuf {
    let mut text = format!(
        "[signalling]\nudp = ['127.0.0.1:0']\ntcp = ['127.0.0.1:0']\nallow_anonymous_calls = true\n\
        digest = ['MD5']\n\
        [management]\nlisten = '127.0.0.1:0'\n[journal]\npath = '{}'\n[store]\npath = '{}'\n\
        [media]\nhosts = [{{ name = 'a', address = 'http://{mediad}' }}]\ncodecs = ['PCMU', 'PCMA']\n\
        [calls]\nanswer_before_music = false\n\
        [agents]\nwrap_up_s = 0\n[log]\nlevel = 'debug'\n\
        [[queues]]\nname = 'support'\nagents = ['alice', 'bob']\nring_timeout_s = 2\n",
        dir.join("journal").display(),
        dir.join("controld.db").display()
    );
    for (user, password) in ACCOUNTS {
        text += &format!("[[accounts]]\nuser = '{user}'\npassword = '{password}'\n");
    }
    let path = dir.join("controld.toml");
    fs::write(&path, text).unwrap();
    path
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

/// Status line and body of a page.
fn get(at: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(at).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}
