//! A server process: pinned, prioritised, and ended by its pid.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::machine::{self, Observed, SERVER_CORE, SERVER_PRIORITY};

/// A child process under test; dropping it ends it.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    log: PathBuf,
}

impl ServerProcess {
    /// Starts `program` on the server core, under `SCHED_FIFO` when permitted; its output goes to a file in `dir`.
    ///
    /// # Errors
    /// `setpriv`, `taskset` or the program is missing.
    pub fn start(program: &Path, args: &[String], dir: &Path) -> anyhow::Result<ServerProcess> {
        let name = program
            .file_name()
            .map_or_else(|| "server".into(), |name| name.to_string_lossy().into_owned());
        let log = dir.join(format!("{name}.log"));
        let out = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        // setpriv, chrt and taskset replace themselves by the program, so the child's pid is the server's. If the bench is
        // killed the kernel ends the server: it watches the thread that starts it, which must be the main one.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if machine::may_raise() {
            command.args(["chrt", "--fifo", &SERVER_PRIORITY.to_string()]);
        }
        let child = command
            .args(["taskset", "--cpu-list", &SERVER_CORE.to_string()])
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        Ok(ServerProcess { child, log })
    }

    /// Waits until `ready` says so.
    ///
    /// # Errors
    /// The process ended or the time is up; the error carries the end of its log.
    pub fn wait_until(&mut self, limit: Duration, mut ready: impl FnMut() -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        while !ready() {
            if let Some(status) = self.child.try_wait()? {
                anyhow::bail!("server ended at start ({status}): {}", self.log_tail());
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "server not ready after {limit:?}: {}",
                self.log_tail()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The process as seen from outside.
    ///
    /// # Errors
    /// It is gone.
    pub fn observe(&self) -> anyhow::Result<Observed> {
        Observed::open(self.child.id())
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(8).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // Already gone is as good.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
