//! What the service manager is told: ready, reloading, stopping, and, while everybody makes progress, alive.
//!
//! # Source
//! sd_notify(3): datagrams of `KEY=VALUE` lines to the socket in `NOTIFY_SOCKET`; sd_watchdog_enabled(3).

use std::{
    env,
    ffi::OsString,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// The way to the service manager; silent without one.
#[derive(Debug)]
pub(crate) struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As the service manager left word in the environment.
    ///
    /// # Errors
    /// `NOTIFY_SOCKET` or `WATCHDOG_USEC` cannot be used.
    pub(crate) fn from_env() -> Result<Self, String> {
        let pid = env::var("WATCHDOG_PID").ok();
        // Meant for another process: sd_watchdog_enabled(3).
        let ours = pid.is_none_or(|pid| pid == std::process::id().to_string());
        let watchdog = env::var_os("WATCHDOG_USEC").filter(|_| ours);
        Self::new(env::var_os("NOTIFY_SOCKET"), watchdog)
    }

    fn new(socket: Option<OsString>, watchdog_us: Option<OsString>) -> Result<Self, String> {
        let to = match &socket {
            None => None,
            Some(path) => {
                let opened = address(path.as_bytes()).and_then(|to| Ok((UnixDatagram::unbound()?, to)));
                let (socket, to) =
                    opened.map_err(|error| format!("NOTIFY_SOCKET={}: {error}", path.display()))?;
                let _ = socket.set_nonblocking(true);
                Some((socket, to))
            }
        };
        let period = |text: OsString| {
            let us = text
                .to_str()
                .and_then(|text| text.parse().ok())
                .filter(|us| *us > 0);
            us.map(Duration::from_micros)
                .ok_or_else(|| format!("WATCHDOG_USEC={}: must be microseconds", text.display()))
        };
        Ok(Self {
            watchdog: watchdog_us.map(period).transpose()?.filter(|_| to.is_some()),
            to,
        })
    }

    /// How often the service manager wants to hear that the process is alive, if it does.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Serving; also after a reload.
    pub(crate) fn ready(&self) {
        self.tell("READY=1");
    }

    /// The configuration is being read again.
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let us = now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={us}"));
    }

    /// The end has begun.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Everybody makes progress.
    pub(crate) fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// What the service manager shows beside the state.
    pub(crate) fn status(&self, status: &str) {
        self.tell(&format!("STATUS={status}"));
    }

    /// A service manager that does not listen is its own concern.
    fn tell(&self, text: &str) {
        if let Some((socket, to)) = &self.to
            && let Err(error) = socket.send_to_addr(text.as_bytes(), to)
        {
            tracing::warn!(%error, text, "the service manager was not told");
        }
    }
}

/// A path, or a name in the abstract name space after `@`.
fn address(name: &[u8]) -> io::Result<SocketAddr> {
    match name {
        [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)),
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest),
        _ => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "is neither a path nor @name",
        )),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A service manager, and a notifier that talks to it.
    pub(crate) fn listened(name: &str, watchdog_us: u64) -> (UnixDatagram, Notifier) {
        let name = format!("mediad-{name}-{}", std::process::id());
        let heard = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        heard.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let watchdog = (watchdog_us > 0).then(|| watchdog_us.to_string().into());
        let notifier = Notifier::new(Some(format!("@{name}").into()), watchdog).unwrap();
        (heard, notifier)
    }

    pub(crate) fn next(heard: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let len = heard.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }

    #[test]
    fn each_word_is_one_datagram() {
        let (heard, notifier) = listened("words", 3_000_000);
        assert_eq!(notifier.watchdog(), Some(Duration::from_secs(3)));
        notifier.ready();
        notifier.reloading();
        notifier.stopping();
        assert_eq!(next(&heard), "READY=1");
        let reloading = next(&heard);
        let us = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(us.parse::<u64>().unwrap() > 0);
        assert_eq!(next(&heard), "STOPPING=1");
    }

    #[test]
    fn without_a_service_manager_nothing_is_said() {
        let alone = Notifier::new(None, Some("1000".into())).unwrap();
        alone.ready();
        assert_eq!(alone.watchdog(), None);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let error = Notifier::new(Some("relative".into()), None).unwrap_err();
        assert!(error.contains("NOTIFY_SOCKET=relative"), "{error}");
        for wrong in ["soon", "0"] {
            let error = Notifier::new(Some("@x".into()), Some(wrong.into())).unwrap_err();
            assert!(error.contains(&format!("WATCHDOG_USEC={wrong}")), "{error}");
        }
    }
}
