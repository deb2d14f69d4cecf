//! A controld with ports of its own, and clients that speak just enough.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

use sip::{
    auth::{ClientSession, Ha1, choose_challenge},
    limits::Limits,
    message::{HeaderName, Message, Request, parse_datagram},
};

/// Shown by whoever changes something.
pub(crate) const TOKEN: &str = "0123456789abcdef";

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Controld {
    child: Child,
    ready: String,
    place: PathBuf,
    leaves_files: bool,
    pub(crate) udp: SocketAddr,
    pub(crate) tcp: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) journal: PathBuf,
}

/// Arguments for a controld on free ports, with a media host that is not there.
pub(crate) fn arguments(journal: &std::path::Path) -> Vec<String> {
    let sets = [
        "signalling.udp=['127.0.0.1:0']".to_owned(),
        "signalling.tcp=['127.0.0.1:0']".to_owned(),
        "management.listen=127.0.0.1:0".to_owned(),
        format!("management.token={TOKEN}"),
        // Port 9: nobody listens.
        "media.hosts=[{name='a', address='http://127.0.0.1:9'}]".to_owned(),
        format!("journal.path={}", journal.display()),
        format!("store.path={}", journal.join("controld.db").display()),
    ];
    let mut args = Vec::new();
    for set in sets {
        args.extend(["--set".to_owned(), set]);
    }
    args
}

impl Controld {
    pub(crate) fn start(more: &[&str]) -> Self {
        Self::start_logging_to(Stdio::null(), more)
    }

    pub(crate) fn start_logging_to(log: Stdio, more: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Relaxed);
        let place = std::env::temp_dir().join(format!("controld-test-{}-{number}", std::process::id()));
        Self::launch(place, log, more)
    }

    /// Ends it as a power failure would, and starts another one on the same journal.
    pub(crate) fn restart(&mut self, more: &[&str]) {
        self.restart_after(more, |_| {});
    }

    /// The same; while none runs, something is done with the journal.
    pub(crate) fn restart_after(&mut self, more: &[&str], meanwhile: impl FnOnce(&Path)) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        meanwhile(&self.journal);
        self.leaves_files = true;
        *self = Self::launch(self.place.clone(), Stdio::null(), more);
    }

    fn launch(place: PathBuf, log: Stdio, more: &[&str]) -> Self {
        let (config, journal) = (place.with_extension("toml"), place.with_extension("journal"));
        let text = "[[accounts]]\nuser = 'alice'\npassword = 'secret'\n[[queues]]\nname = 'support'\nagents = ['alice']\n";
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_controld"));
        command.arg("--config").arg(&config).args(arguments(&journal));
        for set in more {
            command.args(["--set", set]);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self {
            udp: address(&line, "udp:"),
            tcp: address(&line, "tcp:"),
            http: address(&line, "management="),
            ready: line,
            place,
            leaves_files: false,
            child,
            journal,
        }
    }

    /// What `--check-config` says against these settings; it must say something.
    pub(crate) fn check(more: &[String]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_controld"));
        command.arg("--check-config").args(arguments("/nowhere".as_ref()));
        for set in more {
            command.args(["--set", set]);
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Where it listens for another transport: `tls`, `ws`, `wss`.
    pub(crate) fn at(&self, transport: &str) -> SocketAddr {
        address(&self.ready, &format!(",{transport}:"))
    }

    /// SIGHUP.
    pub(crate) fn reload(&self) {
        self.signal("-HUP");
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end.
    pub(crate) fn ended(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Status and body of a page.
    pub(crate) fn page(&self, path: &str) -> (u16, String) {
        self.ask("GET", path)
    }

    /// Status and body of the answer to any method, with the token.
    pub(crate) fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
        let (status, _, body) = self.send(method, path, &bearer, "");
        (status, body)
    }

    /// Status, head and body of the answer. `headers` are whole lines.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_ascii_lowercase(), body.to_owned())
    }

    /// Adds to its configuration file; [`Controld::reload`] puts it into effect.
    pub(crate) fn configure(&self, more: &str) {
        let text = std::fs::read_to_string(self.file()).unwrap() + more;
        self.write(&text);
    }

    /// Another configuration file; [`Controld::reload`] puts it into effect.
    pub(crate) fn write(&self, text: &str) {
        std::fs::write(self.file(), text).unwrap();
    }

    /// Its configuration file.
    pub(crate) fn file(&self) -> PathBuf {
        self.place.with_extension("toml")
    }

    /// Reads the configuration again: status and body of the answer.
    pub(crate) fn ask_to_reload(&self) -> (u16, serde_json::Value) {
        let (status, body) = self.ask("POST", "/v1/reload");
        (status, serde_json::from_str(&body).unwrap())
    }

    /// The answer to a phone of this user that registers with this password.
    pub(crate) fn register_as(&self, user: &str, password: &str) -> String {
        let phone = udp();
        phone.connect(self.udp).unwrap();
        let local = phone.local_addr().unwrap();
        let contact = format!("Contact: <sip:{user}@{local}>\r\nExpires: 300\r\n");
        let register = |number| {
            request("REGISTER", "UDP", local, number, &contact).replace("sip:alice@", &format!("sip:{user}@"))
        };
        phone.send(register(1).as_bytes()).unwrap();
        let challenge = receive(&phone);
        let second = proved_as(&register(2), &challenge, user, password);
        phone.send(second.as_bytes()).unwrap();
        receive(&phone)
    }

    /// Registers Alice's phone at this socket.
    pub(crate) fn register(&self, phone: &UdpSocket) {
        phone.connect(self.udp).unwrap();
        let local = phone.local_addr().unwrap();
        let contact = format!("Contact: <sip:alice@{local}>\r\nExpires: 300\r\n");
        let first = request("REGISTER", "UDP", local, 1, &contact);
        phone.send(first.as_bytes()).unwrap();
        let challenge = receive(phone);
        let second = authorised(&request("REGISTER", "UDP", local, 2, &contact), &challenge);
        phone.send(second.as_bytes()).unwrap();
        assert!(receive(phone).starts_with("SIP/2.0 200"));
    }

    /// Everything in the journal, as it stands on disk.
    pub(crate) fn journal_text(&self) -> String {
        let mut files: Vec<PathBuf> = std::fs::read_dir(&self.journal)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "journal"))
            .collect();
        files.sort();
        files
            .iter()
            .map(|path| std::fs::read_to_string(path).unwrap())
            .collect()
    }

    /// The value of one line of the metrics page.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let (_, page) = self.page("/metrics");
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
    }

    /// Waits until a metric has a value.
    pub(crate) fn until_metric(&self, name: &str, value: f64) {
        let since = Instant::now();
        while self.metric(name) != value {
            assert!(
                since.elapsed() < PATIENCE,
                "{name} is {}, not {value}",
                self.metric(name)
            );
            std::thread::yield_now();
        }
    }

    pub(crate) fn terminate(self) -> ExitStatus {
        self.signal("-TERM");
        self.ended()
    }
}

impl Drop for Controld {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !self.leaves_files {
            let _ = std::fs::remove_dir_all(&self.journal);
            let _ = std::fs::remove_file(self.place.with_extension("toml"));
        }
    }
}

fn address(line: &str, key: &str) -> SocketAddr {
    let at = line.find(key).unwrap_or_else(|| panic!("no {key} in {line:?}")) + key.len();
    let end = line[at..].find([' ', ',', '\n']).unwrap() + at;
    line[at..end].parse().unwrap()
}

/// Waits until something is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::yield_now();
    }
}

pub(crate) fn udp() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

pub(crate) fn tcp(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A request outside of dialogs. `extra` are whole lines.
pub(crate) fn request(method: &str, transport: &str, local: SocketAddr, number: u32, extra: &str) -> String {
    format!(
        "{method} sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/{transport} {local};branch=z9hG4bK{method}{number};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:alice@127.0.0.1>;tag=f{number}\r\nTo: <sip:alice@127.0.0.1>\r\n\
         Call-ID: {method}-{local}\r\nCSeq: {number} {method}\r\n{extra}Content-Length: 0\r\n\r\n"
    )
}

/// One answer from a stream, without body.
pub(crate) fn read_answer(stream: &mut impl std::io::Read) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

/// One answer from a socket.
pub(crate) fn receive(socket: &UdpSocket) -> String {
    let mut buffer = [0; 4_096];
    let length = socket.recv(&mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

/// The request again, with what the challenge asks for.
pub(crate) fn authorised(text: &str, challenge: &str) -> String {
    proved(text, challenge, "secret")
}

/// The same with a password of one's own.
pub(crate) fn proved(text: &str, challenge: &str, password: &str) -> String {
    proved_as(text, challenge, "alice", password)
}

fn proved_as(text: &str, challenge: &str, user: &str, password: &str) -> String {
    let parse = |text: &str| parse_datagram(text.as_bytes().to_vec().into(), &Limits::DEFAULT).unwrap();
    let Message::Response(challenge) = parse(challenge) else {
        panic!()
    };
    let Message::Request(mut again) = parse(text) else {
        panic!()
    };
    let challenge = choose_challenge(&challenge.headers.www_authenticate().unwrap()).unwrap();
    let ha1 = Ha1::from_password(
        challenge.hash,
        user.as_bytes(),
        &challenge.realm,
        password.as_bytes(),
    );
    let mut session = ClientSession::new(challenge, user, ha1, "0123456789abcdef").unwrap();
    let credentials = session.credentials(&again);
    again.headers.push_value(HeaderName::Authorization, &credentials);
    text_of(&again)
}

fn text_of(request: &Request) -> String {
    String::from_utf8(request.to_bytes().to_vec()).unwrap()
}
