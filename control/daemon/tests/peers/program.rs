//! Child processes: started, waited for, and ended by their own id.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Longest wait for anything; reached only when something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running program whose standard error goes to a file; killed when dropped.
pub(crate) struct Program {
    name: String,
    child: Child,
    pub(crate) log: PathBuf,
}

impl Program {
    /// Starts it with nothing to read.
    pub(crate) fn start(name: &str, mut command: Command, log: PathBuf, package: &str) -> Self {
        let errors = fs::File::create(&log).unwrap();
        let child = command.stdin(Stdio::null()).stderr(errors).spawn();
        let child = child.unwrap_or_else(|error| panic!("{name}: {error}; install it: {package}"));
        Self {
            name: name.to_owned(),
            child,
            log,
        }
    }

    /// The first line on standard output, which must have been piped.
    pub(crate) fn first_line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(!line.is_empty(), "{} did not start:\n{}", self.name, self.story());
        line
    }

    /// Waits for its end and gives the exit code; `None` when a signal ended it.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(
                since.elapsed() < PATIENCE * 2,
                "{} does not end:\n{}",
                self.name,
                self.story()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills it as SIGKILL does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Holds it still, as SIGSTOP does, or lets it go on.
    pub(crate) fn hold(&self, still: bool) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, if still { Signal::SIGSTOP } else { Signal::SIGCONT }).unwrap();
    }

    /// Asks it to end, as SIGTERM does, and waits: one that has processes of its own ends those first.
    pub(crate) fn end(&mut self) {
        let Ok(pid) = i32::try_from(self.child.id()) else {
            return;
        };
        // Already gone is as good; who does not listen is killed when dropped.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let since = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && since.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it logged.
    pub(crate) fn story(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            println!("--- {}:\n{}", self.name, self.story());
        }
    }
}

/// Looks until `found` finds something.
pub(crate) fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(since.elapsed() < PATIENCE, "still not: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The first of `count` ports that nobody uses, neither by UDP nor by TCP, below the kernel's ephemeral ones. Even.
pub(crate) fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 16_000;
    const SPAN: u16 = 12_000;
    let of_process = (std::process::id() % 150) as u16 * 80;
    for _ in 0..SPAN / count {
        let offset =
            of_process.wrapping_add(NEXT.fetch_add(count.next_multiple_of(2), Ordering::Relaxed)) % SPAN;
        let first = FIRST + offset;
        let is_free = |port: u16| {
            let at = (Ipv4Addr::LOCALHOST, port);
            UdpSocket::bind(at).is_ok() && TcpListener::bind(at).is_ok()
        };
        if (first..first + count).all(is_free) {
            return first;
        }
    }
    panic!("no {count} free ports in a row from {FIRST}");
}

/// A directory for the files of one test, empty.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}
