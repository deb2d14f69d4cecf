//! Our own `controld`, with accounts to register and `mediad` behind it.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

use super::process::ServerProcess;
use crate::machine::Observed;
use crate::sip::{DOMAIN, password, user};

/// Where and how `controld` is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program.
    pub program: PathBuf,
    /// SIP port (UDP).
    pub sip_port: u16,
    /// Management port (HTTP).
    pub management_port: u16,
    /// Control port of its media host.
    pub media_port: u16,
    /// Accounts; see [`user`] and [`password`].
    pub accounts: usize,
    /// Directory of its configuration, journal and log.
    pub dir: PathBuf,
}

/// A running `controld`.
#[derive(Debug)]
pub struct Controld {
    process: ServerProcess,
    observed: Observed,
    options: Options,
}

impl Controld {
    /// Starts it on the server core and waits until it is ready, its media host included.
    ///
    /// # Errors
    /// The program is missing or does not come up.
    pub fn start(options: Options) -> anyhow::Result<Controld> {
        let config = options.dir.join("bench-controld.toml");
        let journal = options.dir.join("bench-controld.journal");
        fs::write(&config, configuration(&options)).with_context(|| config.display().to_string())?;
        // Beside the journal, and gone with it. Left over from another run it would be read back.
        let store = format!("store.path={}", journal.join("controld.db").display());
        match fs::remove_dir_all(&journal) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context("the old journal");
            }
            Ok(()) | Err(_) => {}
        }
        let args = [
            "--config",
            &config.to_string_lossy(),
            "--journal",
            &journal.to_string_lossy(),
            "--set",
            &store,
        ]
        .map(String::from);
        let mut process = ServerProcess::start(&options.program, &args, &options.dir).context("controld")?;
        let management = SocketAddrV4::new(Ipv4Addr::LOCALHOST, options.management_port);
        let ready = || get(management, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"));
        process
            .wait_until(Duration::from_secs(10), ready)
            .context("controld")?;
        let observed = process.observe()?;
        Ok(Controld {
            process,
            observed,
            options,
        })
    }

    /// Where it listens for SIP.
    #[must_use]
    pub fn sip(&self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.options.sip_port)
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> Observed {
        self.observed
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

fn configuration(options: &Options) -> String {
    let Options {
        sip_port,
        management_port,
        media_port,
        ..
    } = options;
    let mut text = format!(
        "[signalling]\ndomains = [\"{DOMAIN}\"]\nudp = [\"127.0.0.1:{sip_port}\"]\ntcp = []\n\
         allow_anonymous_calls = true\n\
         [management]\nlisten = \"127.0.0.1:{management_port}\"\n\
         [log]\nlevel = \"warn\"\n\
         [[media.hosts]]\nname = \"bench\"\naddress = \"http://127.0.0.1:{media_port}\"\n"
    );
    for n in 0..options.accounts {
        write!(
            text,
            "[[accounts]]\nuser = \"{}\"\npassword = \"{}\"\n",
            user(n),
            password(n)
        )
        .expect("a string takes everything");
    }
    text
}

/// The answer to a GET, head and body.
fn get(address: SocketAddrV4, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address.into(), Duration::from_millis(500))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
