//! The machine and its processes: pinning, CPU clocks, memory, and the facts a reader needs to judge a figure.

use std::fs;
use std::marker::PhantomData;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use anyhow::Context;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::{Pid, gettid};
use serde::Serialize;

/// Core of the server under test.
pub const SERVER_CORE: usize = 0;
/// Core of the generator and of everything else the bench does.
pub const GENERATOR_CORE: usize = 1;
/// `SCHED_FIFO` priority of the server under test.
pub const SERVER_PRIORITY: u8 = 10;
/// `SCHED_FIFO` priority of the generator.
pub const GENERATOR_PRIORITY: u8 = 20;
/// Files a server with thousands of calls needs: four sockets per call and some.
const OPEN_FILES: u64 = 65_536;

/// Pins the calling thread, and what it starts later, to one core.
///
/// # Errors
/// The machine has no such core, or it is not ours to use.
pub fn pin_this_thread(core: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set)
        .with_context(|| format!("pin to core {core}: the bench needs two cores"))
}

/// The calling thread is under `SCHED_FIFO` while this lives.
#[derive(Debug)]
pub struct Raised {
    // Scheduling belongs to the thread that was raised.
    not_send: PhantomData<*const ()>,
}

impl Raised {
    /// Raises the calling thread; `None` when that is not permitted.
    #[must_use]
    pub fn raise(priority: u8) -> Option<Raised> {
        schedule_this_thread("--fifo", priority).then_some(Raised {
            not_send: PhantomData,
        })
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        // Lowering one's own priority is always permitted.
        let _ = schedule_this_thread("--other", 0);
    }
}

fn schedule_this_thread(policy: &str, priority: u8) -> bool {
    Command::new("chrt")
        .args([policy, "--pid", &priority.to_string(), &gettid().to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether a child may be started under `SCHED_FIFO`.
#[must_use]
pub fn may_raise() -> bool {
    Command::new("chrt")
        .args(["--fifo", &SERVER_PRIORITY.to_string(), "true"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Keeps cores from halting until this process ends: on each of them spins a thread that runs only when nothing else would
/// (`SCHED_IDLE`), which is what `idle=poll` makes the kernel do. A virtual core that halts goes to another guest, and comes
/// back milliseconds after the packet that should have woken it. Gives whether all of them spin.
#[must_use]
pub fn keep_awake(cores: &[usize]) -> bool {
    let (told, hears) = mpsc::channel();
    for &core in cores {
        let told = told.clone();
        thread::spawn(move || {
            let ready = pin_this_thread(core).is_ok() && schedule_this_thread("--idle", 0);
            let _ = told.send(ready);
            if ready {
                loop {
                    std::hint::spin_loop();
                }
            }
        });
    }
    hears.iter().take(cores.len()).all(|ready| ready)
}

/// Moves this process into a network namespace of its own with nothing but loopback: no port of another program
/// is in the way, no firewall rule in the path. Must run before any thread or socket exists.
///
/// # Errors
/// Not permitted, or `ip` is missing.
pub fn enter_own_network() -> anyhow::Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).context("unshare the network namespace")?;
    let status = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()
        .context("ip (iproute2)")?;
    anyhow::ensure!(status.success(), "ip link set lo up: {status}");
    Ok(())
}

/// Raises the open-files limit as far as permitted; children inherit it. Returns the limit in force.
#[must_use]
pub fn raise_open_files() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 0;
    };
    for wanted in [OPEN_FILES.max(hard), hard] {
        if wanted > soft && setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted).is_ok() {
            return wanted;
        }
    }
    soft
}

/// What a process's CPU clock shows, nanoseconds.
///
/// # Errors
/// The process is gone.
pub(crate) fn clock_ns(clock: ClockId) -> anyhow::Result<u64> {
    let used = clock_gettime(clock).context("the server's CPU clock: did it die?")?;
    Ok(used.tv_sec() as u64 * 1_000_000_000 + used.tv_nsec() as u64)
}

/// A process whose CPU and memory are read from outside.
#[derive(Clone, Copy, Debug)]
pub struct Observed {
    pid: Pid,
    clock: ClockId,
}

impl Observed {
    /// Opens the CPU clock of `pid`.
    ///
    /// # Errors
    /// No such process.
    pub fn open(pid: u32) -> anyhow::Result<Observed> {
        let pid = Pid::from_raw(i32::try_from(pid).context("a pid fits an i32")?);
        let clock = clock_getcpuclockid(pid).with_context(|| format!("CPU clock of process {pid}"))?;
        Ok(Observed { pid, clock })
    }

    /// The process's CPU clock: user and system time of all its threads, exact nanoseconds.
    #[must_use]
    pub fn clock(&self) -> ClockId {
        self.clock
    }

    /// CPU used since the process began, nanoseconds.
    ///
    /// # Errors
    /// The process is gone.
    pub fn cpu_ns(&self) -> anyhow::Result<u64> {
        clock_ns(self.clock)
    }

    /// Resident memory, kB.
    ///
    /// # Errors
    /// The process is gone.
    pub fn rss_kb(&self) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/smaps_rollup", self.pid);
        let text = fs::read_to_string(&path).with_context(|| path.clone())?;
        text.lines()
            .find_map(|line| {
                line.strip_prefix("Rss:")?
                    .trim()
                    .strip_suffix("kB")?
                    .trim()
                    .parse()
                    .ok()
            })
            .with_context(|| format!("no Rss in {path}"))
    }

    /// CPU of each thread so far: name, thread id and seconds on a core.
    ///
    /// # Errors
    /// The process is gone.
    pub fn threads(&self) -> anyhow::Result<Vec<ThreadCpu>> {
        let mut threads = Vec::new();
        for entry in fs::read_dir(format!("/proc/{}/task", self.pid)).context("threads of the server")? {
            let path = entry?.path();
            // A thread may end between the listing and the reading.
            let (Ok(name), Ok(stat)) = (
                fs::read_to_string(path.join("comm")),
                fs::read_to_string(path.join("schedstat")),
            ) else {
                continue;
            };
            let ns: u64 = stat
                .split(' ')
                .next()
                .and_then(|word| word.parse().ok())
                .unwrap_or(0);
            let id = path
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.parse().ok())
                .unwrap_or(0);
            threads.push(ThreadCpu {
                name: name.trim().to_owned(),
                id,
                seconds: ns as f64 * 1e-9,
            });
        }
        threads.sort_by(|one, two| two.seconds.total_cmp(&one.seconds));
        Ok(threads)
    }
}

/// CPU of one thread.
#[derive(Clone, Debug, Serialize)]
pub struct ThreadCpu {
    /// The thread's name.
    pub name: String,
    /// Its id.
    pub id: u32,
    /// Seconds on a core since it began.
    pub seconds: f64,
}

/// What a reader must know of the machine to judge a figure.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    /// CPU model.
    pub cpu: String,
    /// Cores.
    pub cores: usize,
    /// Memory, MB.
    pub memory_mb: u64,
    /// Kernel release and version.
    pub kernel: String,
    /// Load averages when the run began.
    pub load: String,
    /// Commit of the project, with `+` when the tree differs from it.
    pub commit: String,
    /// The command line.
    pub command: String,
    /// UTC date and time.
    pub date: String,
    /// Versions of the servers.
    pub servers: Vec<String>,
    /// Limits and privileges that shape the result.
    pub conditions: Vec<String>,
}

impl Facts {
    /// Reads them; what cannot be read says so.
    #[must_use]
    pub fn read(root: &Path) -> Facts {
        let first_line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let field = |path: &str, key: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let line = text
                .lines()
                .find(|line| line.starts_with(key))
                .unwrap_or_default();
            line.split_once(':')
                .map_or("unknown".to_owned(), |(_, value)| value.trim().to_owned())
        };
        let root = root.display().to_string();
        let commit = output("git", &["-C", &root, "rev-parse", "--short=12", "HEAD"]);
        let dirty = output(
            "git",
            &["-C", &root, "status", "--porcelain", "--untracked-files=no"],
        );
        let memory_kb = field("/proc/meminfo", "MemTotal");
        Facts {
            cpu: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mb: memory_kb
                .split(' ')
                .next()
                .and_then(|kb| kb.parse::<u64>().ok())
                .unwrap_or(0)
                / 1024,
            kernel: format!(
                "{} {}",
                first_line("/proc/sys/kernel/osrelease"),
                first_line("/proc/sys/kernel/version")
            ),
            load: first_line("/proc/loadavg"),
            commit: format!("{commit}{}", if dirty.is_empty() { "" } else { "+" }),
            command: command_line(),
            date: output("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
            servers: Vec::new(),
            conditions: Vec::new(),
        }
    }
}

/// The program's name and arguments, without the directories it lies in.
fn command_line() -> String {
    let mut words: Vec<String> = std::env::args().collect();
    if let Some(program) = words.first_mut() {
        *program = Path::new(program.as_str())
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into());
    }
    words.join(" ")
}

/// First line a program prints, or nothing.
#[must_use]
pub fn output(program: &str, args: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(args).output() else {
        return String::new();
    };
    let text = if output.stdout.is_empty() {
        output.stderr
    } else {
        output.stdout
    };
    String::from_utf8_lossy(&text)
        .lines()
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_a_core_awake_runs_only_when_nothing_else_would() {
        /// As in sched(7).
        const SCHED_IDLE: &str = "5";
        assert!(keep_awake(&[SERVER_CORE]));
        let idle = fs::read_dir("/proc/self/task").unwrap().any(|task| {
            let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
            let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
            // The 41st field of proc_pid_stat(5) is the policy; the two first stand before these.
            fields.split_whitespace().nth(38) == Some(SCHED_IDLE)
        });
        assert!(idle, "no thread under SCHED_IDLE");
    }

    #[test]
    fn a_process_s_clock_runs_with_its_work_and_its_memory_is_read() {
        let this = Observed::open(std::process::id()).unwrap();
        let before = this.cpu_ns().unwrap();
        let mut sum = 0u64;
        while this.cpu_ns().unwrap() - before < 2_000_000 {
            sum = sum.wrapping_mul(31).wrapping_add(before);
        }
        assert!(
            this.rss_kb().unwrap() > 500,
            "a process of under half a megabyte ({sum})"
        );
        assert!(!this.threads().unwrap().is_empty());
        let mut ended = Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        assert!(
            Observed::open(ended.id()).is_err(),
            "a process that ended has no clock"
        );
    }
}
