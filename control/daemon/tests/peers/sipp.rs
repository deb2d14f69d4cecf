//! sipp as a phone: one run of one scenario from `sipp/`.

use std::{
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{
    program::{Program, free_ports, wait_for},
    site::{ACCOUNTS, Site, bracketed},
    voice::Voice,
};

/// What a phone is told before it starts.
pub(crate) struct Sipp {
    scenario: &'static str,
    words: Vec<(&'static str, String)>,
    tcp: bool,
    /// Where it sends to, if not straight to the controller.
    proxy: Option<SocketAddr>,
    /// Where it is, if not where the controller is.
    ip: Option<IpAddr>,
    port: u16,
    pause_ms: u32,
    waits: bool,
    /// Played when it is called while it does something else.
    answers: Option<&'static str>,
    arguments: Vec<String>,
}

/// A phone at work.
pub(crate) struct Playing {
    program: Program,
    messages: PathBuf,
    at: SocketAddr,
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
            ip: None,
            port: free_ports(2),
            pause_ms: 300,
            waits: false,
            answers: None,
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

    /// SIP address of its own.
    pub(crate) fn on(mut self, ip: impl Into<IpAddr>) -> Self {
        self.ip = Some(ip.into());
        self
    }

    /// How long pauses without a length of their own are: how long it talks, or rings.
    pub(crate) fn pausing_ms(mut self, ms: u32) -> Self {
        self.pause_ms = ms;
        self
    }

    /// Pauses without a length of their own end when it is told so, by [`Playing::go_on`]. Over UDP.
    pub(crate) fn until_told(mut self) -> Self {
        self.waits = true;
        self
    }

    /// Of a [`registration`]: it does not end, and plays this scenario when it is called.
    pub(crate) fn then_answering(mut self, scenario: &'static str) -> Self {
        self.scenario = "register_and_stay";
        self.answers = Some(scenario);
        self
    }

    /// What it says and hears.
    pub(crate) fn with_audio(self, voice: &Voice) -> Self {
        self.with("MEDIA_PORT", voice.port())
            .with("LAW", voice.law().payload_type())
            .with("LAW_NAME", voice.law().name())
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
        let name = format!("{}-{}", self.scenario, self.port);
        let scenario = self.fill_in(self.scenario, site);
        let answers = self.answers.map(|scenario| self.fill_in(scenario, site));
        let messages = site.dir.join(format!("{name}.messages"));
        let straight = if self.tcp { site.tcp } else { site.udp };
        let server = self.proxy.unwrap_or(straight);
        let ip = self.ip.unwrap_or(server.ip());
        let media_ip = site.udp.ip().to_string();
        let mut command = Command::new("sipp");
        command
            .arg(server.to_string())
            .args(["-sf".as_ref(), scenario.as_os_str()])
            .args(["-i", &ip.to_string(), "-mi", &media_ip, "-m", "1", "-nostdin"])
            .args(["-p", &self.port.to_string(), "-d", &self.pause_ms.to_string()])
            .args(["-cid_str", &format!("%u-%p-{}@%s", self.port)])
            .args(["-timeout", "60s", "-timeout_error", "-trace_msg", "-message_file"])
            .arg(&messages)
            .args(["-trace_err", "-error_file"])
            .arg(site.dir.join(format!("{name}.errors")))
            .args(["-t", if self.tcp { "t1" } else { "u1" }])
            .args(
                answers
                    .iter()
                    .flat_map(|file| ["-oocsf".as_ref(), file.as_os_str()]),
            )
            .args(&self.arguments)
            .current_dir(&site.dir)
            .stdout(Stdio::null());
        let log = site.dir.join(format!("{name}.log"));
        let program = Program::start("sipp", command, log, "apt-get install sip-tester");
        let at = SocketAddr::new(ip, self.port);
        Playing {
            program,
            messages,
            at,
        }
    }

    /// The file with its words' values, in the site's directory.
    fn fill_in(&self, scenario: &str, site: &Site) -> PathBuf {
        let source = format!("{}/tests/peers/sipp/{scenario}.xml", env!("CARGO_MANIFEST_DIR"));
        let mut text = fs::read_to_string(&source).unwrap_or_else(|error| panic!("{source}: {error}"));
        for (word, value) in &self.words {
            text = text.replace(&format!("@{word}@"), value);
        }
        // Who gives itself no display name has none.
        text = text.replace("@NAME@", "");
        text = text.replace("@CONTACT@", "sip:[local_ip]:[local_port];transport=[transport]");
        if self.waits {
            text = text.replace("<pause/>", "<recv request=\"INFO\"/>");
        }
        let open = text
            .lines()
            .find(|line| line.contains('@') && line.split('@').nth(1).is_some_and(is_word));
        assert_eq!(open, None, "a word of {source} has no value");
        let filled_in = site.dir.join(format!("{scenario}-{}.xml", self.port));
        fs::write(&filled_in, text).unwrap();
        filled_in
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

    /// Ends a pause of a phone that waits until it is told.
    pub(crate) fn go_on(&self) {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let header = wait_for("sipp is in a call", || self.header_of_call());
        let word =
            format!("INFO sip:phone SIP/2.0\r\n{header}X-Number: {number}\r\nContent-Length: 0\r\n\r\n");
        let socket = UdpSocket::bind((self.at.ip(), 0)).unwrap();
        socket.send_to(word.as_bytes(), self.at).unwrap();
    }

    /// What makes a message one of its call. Its script answers the last message that it received, which is to be as
    /// good as the INVITE, if it was invited.
    fn header_of_call(&self) -> Option<String> {
        let messages = self.messages();
        let lines = |block: &'_ str, names: &[&str]| -> String {
            let lines = block.lines().map(str::trim);
            let wanted = lines.filter(|line| names.iter().any(|name| line.starts_with(name)));
            wanted.map(|line| format!("{line}\r\n")).collect()
        };
        let blocks = messages
            .split("\n-----")
            .filter(|block| block.contains("message received"));
        let invite = blocks.filter(|block| block.contains("\nINVITE ")).last();
        let header = match invite {
            Some(invite) => lines(
                invite,
                &["Via:", "From:", "To:", "Call-ID:", "CSeq:", "Record-Route:"],
            ),
            None => {
                let call_id = lines(&messages, &["Call-ID:"]);
                let call_id = call_id.lines().next()?;
                format!(
                    "Via: SIP/2.0/UDP {at};branch=z9hG4bKgo\r\nFrom: <sip:test@{at}>\r\nTo: <sip:phone@{at}>\r\n\
                     {call_id}\r\nCSeq: 1 INFO\r\n",
                    at = self.at
                )
            }
        };
        Some(header)
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
        let value = |message: &'_ str, name: &str| {
            let line = message.lines().find_map(|line| line.strip_prefix(name));
            line.map(|line| line.trim().to_owned())
        };
        let described = received.filter_map(|message| {
            let audio = value(message, "m=audio ")?;
            let address = value(message, "c=IN IP")?;
            let mut words = audio.split(' ');
            let port = words.next()?.parse().ok()?;
            let formats = words.skip(1).map(|word| word.parse().unwrap()).collect();
            let ip = address.rsplit(' ').next()?.parse().ok()?;
            Some((SocketAddr::new(ip, port), formats))
        });
        described.last()
    }

    /// How often a message that starts so was received.
    pub(crate) fn received(&self, start: &str) -> usize {
        self.count("message received", start)
    }

    /// How often it sent a message that starts so.
    pub(crate) fn sent(&self, start: &str) -> usize {
        self.count("message sent", start)
    }

    fn count(&self, way: &str, start: &str) -> usize {
        self.messages()
            .split("\n-----")
            .filter_map(|entry| entry.split_once(way))
            .filter(|(_, message)| {
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
    let phone = registration(site, user, port, tcp);
    if tcp { phone.over_tcp() } else { phone }.run(site);
    assert!(
        site.registrations(user) > 0,
        "{user} is registered\n{}",
        site.story()
    );
}

/// The registration of a user's phone at this port.
pub(crate) fn registration(site: &Site, user: &str, port: u16, tcp: bool) -> Sipp {
    Sipp::new("register")
        .user(user)
        .with("CONTACT_PORT", port)
        .with("TRANSPORT", if tcp { "tcp" } else { "udp" })
        .with("EXPIRES", 300)
        .proving_for(&bracketed(site.udp.ip()))
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
