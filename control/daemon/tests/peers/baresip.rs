//! baresip as a phone: one process with one account, a tone that it says, and ears.

use std::{
    fs,
    io::{BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    program::{PATIENCE, Program, free_ports, wait_for},
    site::{ACCOUNTS, Site},
    voice::Sound,
};

/// The only codec that a phone has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Pcmu,
    Pcma,
    G722,
    Opus,
}

impl Codec {
    /// As SDP and detail records have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
            Self::G722 => "G722",
            Self::Opus => "opus",
        }
    }

    /// As accounts have it; another writing is silently none.
    fn in_account(self) -> &'static str {
        match self {
            Self::Pcmu | Self::Pcma => self.name(),
            Self::G722 => "G722/16000",
            Self::Opus => "opus/48000/2",
        }
    }

    /// Of the samples on both sides of it.
    fn rate(self) -> u32 {
        match self {
            Self::Pcmu | Self::Pcma => 8_000,
            Self::G722 => 16_000,
            Self::Opus => 48_000,
        }
    }
}

/// What a phone is told before it starts.
pub(crate) struct Baresip {
    user: &'static str,
    codec: Codec,
    hz: f64,
    transport: &'static str,
    answers: bool,
    /// As accounts have it.
    mediaenc: &'static str,
}

/// A phone that runs.
pub(crate) struct Phone {
    codec: Codec,
    server: SocketAddr,
    dir: PathBuf,
    control: SocketAddr,
    program: Program,
}

impl Baresip {
    /// The phone of an account, which answers at once and says a tone.
    pub(crate) fn of(user: &'static str, codec: Codec, hz: f64) -> Self {
        Self {
            user,
            codec,
            hz,
            transport: "udp",
            answers: true,
            mediaenc: "",
        }
    }

    /// `udp`, `tcp` or `tls`.
    pub(crate) fn over(mut self, transport: &'static str) -> Self {
        self.transport = transport;
        self
    }

    /// Its audio is encrypted, with keys in SDP, or there is none.
    pub(crate) fn encrypting(mut self) -> Self {
        self.mediaenc = ";mediaenc=srtp-mand";
        self
    }

    /// It lets calls ring.
    pub(crate) fn that_only_calls(mut self) -> Self {
        self.answers = false;
        self
    }

    /// Starts it and waits until it is registered.
    pub(crate) fn start(self, site: &Site) -> Phone {
        let dir = site.dir.join(format!("baresip-{}", self.user));
        fs::create_dir_all(dir.join("heard")).unwrap();
        let tone = dir.join("tone.wav");
        write_wav(&tone, self.hz, self.codec.rate(), 120);
        let (sip_port, control_port, rtp_port) = (free_ports(2), free_ports(2), free_ports(20));
        let control = SocketAddr::from((Ipv4Addr::LOCALHOST, control_port));
        let rate = self.codec.rate();
        let mut config = format!(
            "sip_listen 127.0.0.1:{sip_port}\nsip_cafile {ca}\nctrl_tcp_listen {control}\n\
            audio_player aufile,{dir}/played.wav\naudio_source aufile,{tone}\naudio_alert aufile,{tone}\n\
            audio_srate {rate}-{rate}\naudio_channels 1-1\nausrc_srate {rate}\nauplay_srate {rate}\n\
            ausrc_channels 1\nauplay_channels 1\nrtp_ports {rtp_port}-{rtp_last}\nrtcp_mux no\n\
            jitter_buffer_delay 2-5\nopus_bitrate 32000\nsnd_path {dir}/heard\nmodule_path /usr/lib/baresip/modules\n",
            ca = site.dir.join("tls.crt").display(),
            dir = dir.display(),
            tone = tone.display(),
            rtp_last = rtp_port + 19,
        );
        for module in ["g711", "g722", "opus", "aufile", "sndfile", "srtp", "uuid"] {
            config += &format!("module {module}.so\n");
        }
        config += "module_tmp account.so\n";
        for module in ["menu", "ctrl_tcp"] {
            config += &format!("module_app {module}.so\n");
        }
        fs::write(dir.join("config"), config).unwrap();
        fs::write(dir.join("contacts"), "").unwrap();
        fs::write(dir.join("accounts"), self.account(site)).unwrap();
        let mut command = Command::new("baresip");
        let output = fs::File::create(dir.join("out")).unwrap();
        command
            .args(["-4", "-s", "-v", "-f"])
            .arg(&dir)
            .current_dir(&dir)
            .stdout(Stdio::from(output));
        let program = Program::start(
            "baresip",
            command,
            dir.join("log"),
            "apt-get install baresip-core",
        );
        wait_for("baresip registers", || {
            (site.registrations(self.user) == 1).then_some(())
        });
        Phone {
            codec: self.codec,
            server: self.server(site),
            dir,
            control,
            program,
        }
    }

    fn server(&self, site: &Site) -> SocketAddr {
        match self.transport {
            "tls" => site.tls,
            _ => site.udp,
        }
    }

    fn account(&self, site: &Site) -> String {
        let password = ACCOUNTS.iter().find(|(name, _)| *name == self.user).unwrap().1;
        format!(
            "<sip:{user}@{};transport={}>;auth_user={user};auth_pass={password};regint=60;audio_codecs={};\
             answermode={};ptime=20{}\n",
            self.server(site),
            self.transport,
            self.codec.in_account(),
            if self.answers { "auto" } else { "manual" },
            self.mediaenc,
            user = self.user,
        )
    }
}

impl Phone {
    /// Calls somebody.
    pub(crate) fn dial(&self, called: &str) {
        self.order("dial", &format!("sip:{called}@{}", self.server));
    }

    pub(crate) fn hang_up(&self) {
        self.order("hangup", "");
    }

    /// Gives it a command of its menu.
    pub(crate) fn order(&self, command: &str, parameters: &str) {
        let mut stream = wait_for("baresip listens for commands", || {
            TcpStream::connect(self.control).ok()
        });
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let text = json!({ "command": command, "params": parameters, "token": "order" }).to_string();
        write!(stream, "{}:{text},", text.len()).unwrap();
        let mut stream = BufReader::new(stream);
        // Events come by the same way.
        let reply = loop {
            let told = read_netstring(&mut stream);
            if told["token"] == "order" {
                break told;
            }
        };
        assert_eq!(
            reply["ok"],
            true,
            "{command} {parameters}: {reply}\n{}",
            self.story()
        );
    }

    /// The next 1.6 s that it hears, after a moment in which what was on the way arrives.
    pub(crate) fn listen(&self) -> Sound {
        let rate = self.codec.rate() as usize;
        let begin = self.heard().len() + rate * 6 / 10;
        let samples = wait_for("baresip hears 1.6 s of audio", || {
            let heard = self.heard();
            heard.get(begin..begin + rate * 16 / 10).map(<[i16]>::to_vec)
        });
        Sound {
            samples,
            rate: rate as f64,
        }
    }

    /// Waits until somebody speaks: who has just answered may take a moment to begin on a busy machine, and what is sent
    /// meanwhile is silence.
    pub(crate) fn await_sound(&self) {
        wait_for("baresip hears somebody", || {
            let heard = self.heard();
            heard
                .iter()
                .any(|sample| sample.unsigned_abs() > 1_000)
                .then_some(())
        });
    }

    /// Everything it heard in its last call, as it stands in the file that it writes.
    pub(crate) fn heard(&self) -> Vec<i16> {
        let files = fs::read_dir(self.dir.join("heard")).unwrap();
        let paths = files.map(|file| file.unwrap().path());
        let last = paths
            .filter(|path| path.to_string_lossy().ends_with("dec.wav"))
            .max();
        let Some(bytes) = last.and_then(|path| fs::read(path).ok()) else {
            return Vec::new();
        };
        let Some(data) = bytes.windows(4).position(|window| window == b"data") else {
            return Vec::new();
        };
        let rate = u32::from_le_bytes(bytes[24..28].try_into().unwrap());
        assert_eq!(rate, self.codec.rate(), "the rate of what it writes");
        // Opus is heard by both ears.
        let frame_bytes = 2 * usize::from(bytes[22]);
        let samples = bytes
            .get(data + 8..)
            .unwrap_or_default()
            .chunks_exact(frame_bytes);
        samples
            .map(|frame| i16::from_le_bytes([frame[0], frame[1]]))
            .collect()
    }

    /// It uses its codec both ways, by its own account.
    #[track_caller]
    pub(crate) fn assert_speaks(&self) {
        for half in ["encoder", "decoder"] {
            let said = format!("Set audio {half}: {} ", self.codec.name());
            assert!(self.story().contains(&said), "no {said:?} in\n{}", self.story());
        }
    }

    /// The dialog of its answered call to somebody: Call-ID, the tag of the other side, its own.
    pub(crate) fn dialog_with(&self, called: &str) -> [String; 3] {
        let story = self.story();
        let messages: Vec<&str> = story.split("\r\n\r\n").collect();
        let value = |message: &str, name: &str| {
            let line = message.lines().find_map(|line| line.strip_prefix(name));
            line.map(|line| line.trim().to_owned())
        };
        let tag = |field: String| field.split(";tag=").nth(1).map(str::to_owned);
        let invite = format!("INVITE sip:{called}@");
        let invite = messages.iter().find(|message| message.contains(&invite));
        let call_id = invite.and_then(|invite| value(invite, "Call-ID:")).unwrap();
        let is_answer = |message: &&&str| {
            message.contains("SIP/2.0 200 ")
                && value(message, "Call-ID:").as_ref() == Some(&call_id)
                && value(message, "CSeq:").is_some_and(|cseq| cseq.ends_with(" INVITE"))
        };
        let answer = messages
            .iter()
            .find(is_answer)
            .unwrap_or_else(|| panic!("no answer in\n{story}"));
        let side = |name| value(answer, name).and_then(tag).unwrap();
        [call_id.clone(), side("To:"), side("From:")]
    }

    /// The suites by which it says that it encrypts.
    pub(crate) fn suites(&self) -> Vec<String> {
        let story = self.story();
        let said = story.split("SRTP is Enabled (cryptosuite=").skip(1);
        said.filter_map(|rest| Some(rest.split(')').next()?.to_owned()))
            .collect()
    }

    /// What it printed.
    pub(crate) fn story(&self) -> String {
        let output = fs::read(self.dir.join("out")).unwrap_or_default();
        String::from_utf8_lossy(&output).into_owned() + &self.program.story()
    }
}

/// `LENGTH:TEXT,` with JSON in it.
fn read_netstring(stream: &mut impl std::io::Read) -> Value {
    let mut length = 0;
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte).unwrap();
        match byte[0] {
            digit @ b'0'..=b'9' => length = length * 10 + usize::from(digit - b'0'),
            _ => break,
        }
    }
    let mut text = vec![0; length + 1];
    stream.read_exact(&mut text).unwrap();
    serde_json::from_slice(&text[..length]).unwrap()
}

/// Two minutes of a tone.
/// A tone of so many seconds.
pub(crate) fn write_wav(path: &Path, hz: f64, rate: u32, seconds: u32) {
    let samples = rate * seconds;
    let mut bytes = Vec::new();
    bytes.extend(b"RIFF");
    bytes.extend((36 + samples * 2).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    bytes.extend(rate.to_le_bytes());
    bytes.extend((rate * 2).to_le_bytes());
    bytes.extend(b"\x02\0\x10\0data");
    bytes.extend((samples * 2).to_le_bytes());
    // One second again and again: every tone of whole Hz fits.
    let second: Vec<u8> = (0..rate)
        .flat_map(|at| {
            let angle = std::f64::consts::TAU * hz * f64::from(at) / f64::from(rate);
            ((8_000.0 * angle.sin()) as i16).to_le_bytes()
        })
        .collect();
    for _ in 0..seconds {
        bytes.extend(&second);
    }
    fs::write(path, bytes).unwrap();
}
