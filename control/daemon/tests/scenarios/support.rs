//! A controld with ports of its own, and clients that speak just enough.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Controld {
    child: Child,
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
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Relaxed);
        let place = std::env::temp_dir().join(format!("controld-test-{}-{number}", std::process::id()));
        let (config, journal) = (place.with_extension("toml"), place.with_extension("journal"));
        let text = "[[accounts]]\nuser = 'alice'\npassword = 'secret'\n[[queues]]\nname = 'support'\nagents = ['alice']\n";
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_controld"));
        command.arg("--config").arg(&config).args(arguments(&journal));
        for set in more {
            command.args(["--set", set]);
        }
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        std::fs::remove_file(config).unwrap();
        let address = |key: &str| {
            let at = line.find(key).unwrap_or_else(|| panic!("no {key} in {line:?}")) + key.len();
            let end = line[at..].find([' ', ',', '\n']).unwrap() + at;
            line[at..end].parse().unwrap()
        };
        Self {
            udp: address("udp:"),
            tcp: address("tcp:"),
            http: address("management="),
            child,
            journal,
        }
    }

    /// Status and body of a page.
    pub(crate) fn page(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
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

    pub(crate) fn terminate(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        self.child.wait().unwrap()
    }
}

impl Drop for Controld {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.journal);
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
pub(crate) fn read_answer(stream: &mut TcpStream) -> String {
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
