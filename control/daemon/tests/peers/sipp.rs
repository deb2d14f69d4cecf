//! sipp as a phone: one run of one scenario from `sipp/`.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{
    program::{Program, free_ports, wait_for},
    site::{ACCOUNTS, Site},
};

/// What a phone is told before it starts.
pub(crate) struct Sipp {
    scenario: &'static str,
    words: Vec<(&'static str, String)>,
    tcp: bool,
    /// Where it sends to, if not straight to the controller.
    proxy: Option<SocketAddr>,
    port: u16,
    pause_ms: u32,
    arguments: Vec<String>,
}

/// A phone at work.
pub(crate) struct Playing {
    program: Program,
    messages: PathBuf,
}

impl Sipp {
    /// `scenario`: a file name in `sipp/`, without its ending. Words in it such as `@USER@` stand for what
    /// [`Sipp::with`] gives.
    pub(crate) fn new(scenario: &'static str) -> Self {
        Self {
            scenario,
            words: Vec::new(),
            tcp: false,
            proxy: None,
            port: free_ports(2),
            pause_ms: 300,
            arguments: Vec::new(),
        }
    }

    pub(crate) fn with(mut self, word: &'static str, value: impl ToString) -> Self {
        self.words.push((word, value.to_string()));
        self
    }

    /// One of the accounts: its name and password.
    pub(crate) fn user(self, user: &str) -> Self {
        let (_, password) = ACCOUNTS.iter().find(|(name, _)| *name == user).unwrap();
        self.with("USER", user).with("PASSWORD", password)
    }

    pub(crate) fn over_tcp(mut self) -> Self {
        self.tcp = true;
        self
    }

    /// By way of a proxy.
    pub(crate) fn through(mut self, proxy: SocketAddr) -> Self {
        self.proxy = Some(proxy);
        self
    }

    /// SIP port of its own.
    pub(crate) fn at(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// How long pauses without a length of their own are: how long it talks, or rings.
    pub(crate) fn pausing_ms(mut self, ms: u32) -> Self {
        self.pause_ms = ms;
        self
    }

    /// sipp answers a challenge for a URI of its own making unless it is told the Request-URI, without `sip:`.
    pub(crate) fn proving_for(self, uri: &str) -> Self {
        self.argument("-auth_uri").argument(uri)
    }

    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Starts it; its file is filled in first.
    pub(crate) fn play(self, site: &Site) -> Playing {
        let source = format!(
            "{}/tests/peers/sipp/{}.xml",
            env!("CARGO_MANIFEST_DIR"),
            self.scenario
        );
        let mut text = fs::read_to_string(&source).unwrap_or_else(|error| panic!("{source}: {error}"));
        for (word, value) in &self.words {
            text = text.replace(&format!("@{word}@"), value);
        }
        let name = format!("{}-{}", self.scenario, self.port);
        let scenario = site.dir.join(format!("{name}.xml"));
        let open = text
            .lines()
            .find(|line| line.contains('@') && line.split('@').nth(1).is_some_and(is_word));
        assert_eq!(open, None, "a word of {source} has no value");
        fs::write(&scenario, text).unwrap();
        let messages = site.dir.join(format!("{name}.messages"));
        let straight = if self.tcp { site.tcp } else { site.udp };
        let server = self.proxy.unwrap_or(straight);
        let mut command = Command::new("sipp");
        command
            .arg(server.to_string())
            .args(["-sf".as_ref(), scenario.as_os_str()])
            .args(["-i", "127.0.0.1", "-mi", "127.0.0.1", "-m", "1", "-nostdin"])
            .args(["-p", &self.port.to_string(), "-d", &self.pause_ms.to_string()])
            .args(["-cid_str", &format!("%u-%p-{}@%s", self.port)])
            .args(["-timeout", "20s", "-timeout_error", "-trace_msg", "-message_file"])
            .arg(&messages)
            .args(["-trace_err", "-error_file"])
            .arg(site.dir.join(format!("{name}.errors")))
            .args(["-t", if self.tcp { "t1" } else { "u1" }])
            .args(&self.arguments)
            .current_dir(&site.dir)
            .stdout(Stdio::null());
        let log = site.dir.join(format!("{name}.log"));
        let program = Program::start("sipp", command, log, "apt-get install sip-tester");
        Playing { program, messages }
    }

    /// Plays it to its end, which must be a good one.
    pub(crate) fn run(self, site: &Site) -> Playing {
        let mut playing = self.play(site);
        playing.assert_done();
        playing
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

impl Playing {
    /// It ended, and everything went as its scenario says.
    pub(crate) fn assert_done(&mut self) {
        let code = self.program.wait();
        assert_eq!(
            code,
            Some(0),
            "sipp: {}\n{}\n--- messages:\n{}",
            self.program.log.display(),
            self.errors(),
            self.messages()
        );
    }

    /// All messages, sent and received, as sipp logs them.
    pub(crate) fn messages(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.messages).unwrap_or_default()).into_owned()
    }

    fn errors(&self) -> String {
        let errors = fs::read(self.messages.with_extension("errors")).unwrap_or_default();
        format!("{}{}", self.program.story(), String::from_utf8_lossy(&errors))
    }

    /// The last description that came in whole: where it wants audio, and its payload types.
    pub(crate) fn description(&self) -> (SocketAddr, Vec<u8>) {
        wait_for("sipp was sent a description", || self.last_description())
    }

    fn last_description(&self) -> Option<(SocketAddr, Vec<u8>)> {
        let messages = self.messages();
        let received = messages
            .split("message received")
            .skip(1)
            .map(|message| message.split("-----").next().unwrap_or_default());
        let line = received
            .filter_map(|message| message.lines().find(|line| line.starts_with("m=audio ")))
            .last()?;
        let mut words = line.trim().split(' ').skip(1);
        let port = words.next()?.parse().ok()?;
        let formats = words.skip(1).map(|word| word.parse().unwrap()).collect();
        Some((SocketAddr::from((Ipv4Addr::LOCALHOST, port)), formats))
    }

    /// How often a message that starts so was received.
    pub(crate) fn received(&self, start: &str) -> usize {
        self.messages()
            .split("message received")
            .skip(1)
            .filter(|message| {
                let lines = message.lines().map(str::trim);
                lines
                    .skip(1)
                    .find(|line| !line.is_empty())
                    .is_some_and(|line| line.starts_with(start))
            })
            .count()
    }
}

/// Registers a user's phone at this port.
pub(crate) fn register(site: &Site, user: &str, port: u16, tcp: bool) {
    let phone = registration(user, port, tcp);
    if tcp { phone.over_tcp() } else { phone }.run(site);
    assert!(
        site.registrations(user) > 0,
        "{user} is registered\n{}",
        site.story()
    );
}

/// The registration of a user's phone at this port.
pub(crate) fn registration(user: &str, port: u16, tcp: bool) -> Sipp {
    Sipp::new("register")
        .user(user)
        .with("CONTACT_PORT", port)
        .with("TRANSPORT", if tcp { "tcp" } else { "udp" })
        .with("EXPIRES", 300)
        .proving_for("127.0.0.1")
}

/// A caller from outside, whose audio nobody listens to.
pub(crate) fn stranger(scenario: &'static str, called: &str) -> Sipp {
    silent(
        Sipp::new(scenario)
            .with("USER", "customer")
            .with("CALLED", called),
    )
}

/// The phone of an agent that is registered there, whose audio nobody listens to.
pub(crate) fn agent(scenario: &'static str, port: u16) -> Sipp {
    silent(Sipp::new(scenario).at(port))
}

/// Its description names a port where nobody is.
fn silent(phone: Sipp) -> Sipp {
    phone
        .with("MEDIA_PORT", 9)
        .with("LAW", 0)
        .with("LAW_NAME", "PCMU")
}
