//! Reading the configuration again while calls go on: what can change does, what cannot is named.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use media_engine::host::{EffortRange, Tuning};
use tokio::{signal::unix::Signal, sync::watch, time::timeout};
use tokio_rustls::rustls::ServerConfig;

use crate::{
    config::Config,
    grpc, limits,
    notify::Notifier,
    process,
    requests::{HostLine, Request},
};

/// Where the configuration comes from, and where its log settings go.
pub(crate) struct Source {
    /// File, environment and flags once more.
    pub(crate) load: Box<dyn Fn() -> Result<Config, String> + Send>,
    /// Makes the level of the log that of the configuration.
    pub(crate) set_log: SetLog,
}

/// See [`Source::set_log`].
pub(crate) type SetLog = Box<dyn Fn(&Config) -> Result<(), String> + Send>;

/// How often it was done, for metrics.
#[derive(Debug, Default)]
pub(crate) struct Reloads {
    ok: AtomicU64,
    failed: AtomicU64,
}

impl Reloads {
    /// (done, failed).
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.ok.load(Relaxed), self.failed.load(Relaxed))
    }
}

/// Everything a reload needs.
pub(crate) struct Reloader {
    pub(crate) source: Source,
    /// What is in force.
    pub(crate) running: Config,
    pub(crate) greeting: watch::Sender<Option<Arc<ServerConfig>>>,
    pub(crate) line: HostLine,
    pub(crate) notifier: Arc<Notifier>,
    pub(crate) reloads: Arc<Reloads>,
}

impl Reloader {
    /// Reloads at every SIGHUP.
    pub(crate) async fn run(mut self, mut hang_up: Signal) {
        while hang_up.recv().await.is_some() {
            self.notifier.reloading();
            match self.reload().await {
                Ok(changes) => {
                    self.reloads.ok.fetch_add(1, Relaxed);
                    tell(&changes);
                    self.notifier.status("");
                }
                Err(why) => {
                    self.reloads.failed.fetch_add(1, Relaxed);
                    tracing::error!("the configuration was not reloaded and nothing changed: {why}");
                    self.notifier.status(&format!("reload failed: {why}"));
                }
            }
            self.notifier.ready();
        }
    }

    /// All or nothing: whatever can fail does so before anything is changed.
    async fn reload(&mut self) -> Result<Vec<Change>, String> {
        let wanted = (self.source.load)()?;
        process::check(&wanted)?;
        let changes = changes(&self.running, &wanted)?;
        let mut running = self.running.clone();
        running.log.level.clone_from(&wanted.log.level);
        running.sessions = wanted.sessions.clone();
        running.limits.sessions_max = wanted.limits.sessions_max;
        running.limits.busy_percent_max = wanted.limits.busy_percent_max;
        running.opus = wanted.opus.clone();
        running.media.quarantine_ms = wanted.media.quarantine_ms;
        if running.control.tls.is_some() && wanted.control.tls.is_some() {
            running.control.tls = wanted.control.tls;
        }
        // Also when the paths are the same: certificates are renewed in their files.
        let greeting = running.control.tls.as_ref().map(grpc::tls::read).transpose()?;
        let tune = self.line.ask(|reply| Request::Tune(tuning(&running), reply));
        timeout(limits::HOST_ANSWERS, tune)
            .await
            .map_err(|_| "the host thread does not answer".to_owned())?
            .map_err(|error| error.message)?;
        (self.source.set_log)(&running)?;
        self.greeting.send_replace(greeting);
        self.running = running;
        Ok(changes)
    }
}

fn tell(changes: &[Change]) {
    let now: Vec<String> = changes.iter().filter(|c| c.live).map(Change::to_string).collect();
    match &now[..] {
        [] => tracing::info!("configuration reloaded; nothing changes now"),
        now => tracing::info!("configuration reloaded; {}", now.join(", ")),
    }
    for change in changes.iter().filter(|change| !change.live) {
        tracing::warn!("{change}: takes effect at the next start");
    }
}

/// The part of the configuration that the host takes while sessions live.
pub(crate) fn tuning(config: &Config) -> Tuning {
    let ms = |ms: u32| Duration::from_millis(ms.into());
    Tuning {
        sessions_max: config.limits.sessions_max as usize,
        busy_percent_max: config.limits.busy_percent_max,
        effort: EffortRange {
            most: config.opus.complexity,
            least: config.opus.complexity_min,
        },
        quarantine: Duration::from_millis(config.media.quarantine_ms),
        lease: ms(config.sessions.lease_ms),
        media_timeout: ms(config.sessions.media_timeout_ms),
        orphan_max: ms(config.sessions.orphan_ms_max),
        relearn_after: ms(config.sessions.relearn_after_ms),
    }
}

/// One setting that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    key: String,
    from: String,
    to: String,
    /// Takes effect now.
    live: bool,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, from, to, .. } = self;
        write!(f, "{key} changed from {from} to {to}")
    }
}

/// Every setting that differs, in the order of their names.
fn changes(running: &Config, wanted: &Config) -> Result<Vec<Change>, String> {
    let settings = |config: &Config| {
        let table = toml::Table::try_from(config).map_err(|error| error.to_string())?;
        let mut found = BTreeMap::new();
        settings("", &toml::Value::Table(table), &mut found);
        Ok::<_, String>(found)
    };
    let (before, after) = (settings(running)?, settings(wanted)?);
    let both_tls = running.control.tls.is_some() && wanted.control.tls.is_some();
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let value =
        |of: &BTreeMap<String, String>, key: &String| of.get(key).map_or("unset".into(), String::clone);
    let change = |key: &String| Change {
        key: key.clone(),
        from: value(&before, key),
        to: value(&after, key),
        live: match key.as_str() {
            "log.level" | "limits.sessions_max" | "limits.busy_percent_max" | "media.quarantine_ms" => true,
            other => {
                other.starts_with("sessions.")
                    || other.starts_with("opus.")
                    || other.starts_with("control.tls.") && both_tls
            }
        },
    };
    let differs = |key: &&&String| before.get(**key) != after.get(**key);
    Ok(keys.iter().filter(differs).map(|key| change(key)).collect())
}

/// Every setting below `value` by its full name, as it is written.
fn settings(name: &str, value: &toml::Value, found: &mut BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let dot = if name.is_empty() { "" } else { "." };
                settings(&format!("{name}{dot}{key}"), value, found);
            }
        }
        toml::Value::Array(items) if items.iter().any(toml::Value::is_table) => {
            for (index, item) in items.iter().enumerate() {
                settings(&format!("{name}[{index}]"), item, found);
            }
        }
        other => drop(found.insert(name.to_owned(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Override, Tls};

    fn config(settings: &[&str]) -> Config {
        let overrides: Vec<_> = settings
            .iter()
            .map(|text| Override::parse_flag(text).unwrap())
            .collect();
        Config::load(None, &overrides).unwrap()
    }

    #[test]
    fn what_differs_is_named_and_told_apart() {
        let wanted = config(&[
            "workers.count=2",
            "log.level=debug",
            "sessions.lease_ms=5000",
            "media.interfaces=[{name='default', dscp=0}]",
        ]);
        let found = changes(&Config::default(), &wanted).unwrap();
        let told: Vec<(String, bool)> = found.iter().map(|c| (c.to_string(), c.live)).collect();
        let expected = [
            ("log.level changed from \"info\" to \"debug\"", true),
            ("media.interfaces[0].dscp changed from 46 to 0", false),
            ("sessions.lease_ms changed from 30000 to 5000", true),
            ("workers.count changed from 0 to 2", false),
        ];
        assert_eq!(told, expected.map(|(text, live)| (text.to_owned(), live)));
        assert_eq!(changes(&wanted, &wanted).unwrap(), []);
    }

    #[test]
    fn tls_begins_and_ends_with_the_process() {
        let secured = |key: &str| {
            let mut config = Config::default();
            config.control.tls = Some(Tls {
                cert: "c".into(),
                key: key.into(),
                client_ca: "a".into(),
            });
            config
        };
        let begun = changes(&Config::default(), &secured("k")).unwrap();
        assert_eq!(begun.len(), 3);
        assert!(begun.iter().all(|change| !change.live && change.from == "unset"));
        let moved = changes(&secured("k"), &secured("l")).unwrap();
        assert_eq!(
            moved[0].to_string(),
            "control.tls.key changed from \"k\" to \"l\""
        );
        assert!(moved[0].live && moved.len() == 1);
    }
}
