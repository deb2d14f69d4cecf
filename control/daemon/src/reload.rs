//! The configuration is read again, at SIGHUP or `POST /v1/reload`: what can change while calls go on does, what cannot is
//! named. A mistake anywhere changes nothing.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::SystemTime,
};

use tokio::sync::{mpsc, oneshot};
use tracing_subscriber::EnvFilter;

use crate::{
    config::{Config, ConfigError, Fixed, Override},
    core::{Bound, Inputs, Question},
    limits,
    media::Hosts,
    process,
    token::Token,
    transport::{Terms, guard::Guard, tls::Identities},
};

/// Changes the log level; false: it cannot.
pub(crate) type Level = Box<dyn Fn(EnvFilter) -> bool + Send>;

/// Where the configuration came from.
pub(crate) struct Source {
    file: Option<PathBuf>,
    overrides: Vec<Override>,
    level: Level,
}

impl Source {
    pub(crate) fn new(file: Option<PathBuf>, overrides: Vec<Override>, level: Level) -> Self {
        Self {
            file,
            overrides,
            level,
        }
    }

    /// A mistake, with the file it stands in.
    fn told(&self, error: &ConfigError) -> String {
        match (&self.file, error) {
            (Some(file), ConfigError::Value { .. } | ConfigError::Controller(_)) => {
                format!("configuration file {}: {error}", file.display())
            }
            _ => error.to_string(),
        }
    }
}

/// What a reload did.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Reloaded {
    /// What is other than before, by name.
    pub(crate) changed: Vec<String>,
    /// What is not, before the next start.
    pub(crate) needs_restart: Vec<Fixed>,
}

/// What became of a reload; or why nothing changed: file, key, value and remedy.
pub(crate) type Outcome = Result<Reloaded, String>;

/// Who waits for the outcome of a reload.
pub(crate) type Request = oneshot::Sender<Outcome>;

/// The reloads there were, for the management address: it asks for more, too.
#[derive(Debug, Clone)]
pub(crate) struct Reloads {
    requests: mpsc::Sender<Request>,
    history: Arc<Mutex<History>>,
}

/// See [`Reloads`].
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    pub(crate) applied: u64,
    pub(crate) refused: u64,
    /// The last one: when, and what it did; `None`: it was refused. Why is for the log and who asked: it may hold what stands
    /// in the file, and everybody may look here.
    pub(crate) last: Option<(SystemTime, Option<Reloaded>)>,
}

impl Reloads {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Request>) {
        let (requests, to_be_done) = mpsc::channel(limits::RELOADS);
        let history = Arc::default();
        (Self { requests, history }, to_be_done)
    }

    /// Has the configuration read again. `None`: too many want that, or the process stops.
    pub(crate) async fn ask(&self) -> Option<Outcome> {
        let (answer, answered) = oneshot::channel();
        self.requests.try_send(answer).ok()?;
        answered.await.ok()
    }

    pub(crate) fn history(&self) -> History {
        self.lock().clone()
    }

    fn note(&self, outcome: &Outcome) {
        let mut history = self.lock();
        match outcome {
            Ok(_) => history.applied += 1,
            Err(_) => history.refused += 1,
        }
        history.last = Some((SystemTime::now(), outcome.clone().ok()));
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect("nobody panics while holding it")
    }
}

/// Everything that a reload reaches.
pub(crate) struct Reloader {
    pub(crate) source: Source,
    /// What is in force.
    pub(crate) running: Config,
    pub(crate) bound: Bound,
    pub(crate) guard: Arc<Guard>,
    pub(crate) identities: Arc<Identities>,
    pub(crate) terms: Arc<Terms>,
    pub(crate) token: Token,
    pub(crate) inputs: Inputs,
    pub(crate) hosts: Hosts,
    pub(crate) reloads: Reloads,
}

impl Reloader {
    /// Reads everything again and puts into effect what can change.
    pub(crate) async fn reload(&mut self) -> Outcome {
        let outcome = self.try_reload().await;
        self.reloads.note(&outcome);
        match &outcome {
            Ok(done) => {
                let changed = done.changed.join(", ");
                tracing::info!(changed, "configuration reloaded");
                for Fixed { key, from, to } in &done.needs_restart {
                    tracing::warn!(key, from, to, "changed; restart to put it into effect");
                }
                for warning in self.running.controller(&self.bound).warnings() {
                    tracing::warn!("{warning}");
                }
            }
            Err(error) => tracing::error!(error, "configuration not reloaded; nothing changed"),
        }
        outcome
    }

    /// All or nothing: whatever can fail does so before anything is changed.
    async fn try_reload(&mut self) -> Outcome {
        let told = |error: ConfigError| self.source.told(&error);
        let mut new = Config::load(self.source.file.as_deref(), &self.source.overrides).map_err(told)?;
        let mut needs_restart = new.keep_fixed(&self.running);
        self.keep_addresses(&mut new, &mut needs_restart);
        // With what stays as it is the rest may not fit.
        new.check().map_err(told)?;
        let identities = Identities::read(&new.tls)?;
        let token = Token::read(&new.management)?;
        self.hosts.check(&new.media.hosts)?;
        process::allow_files(&new)?;
        let config = Box::new(new.controller(&self.bound));
        let question = |to| Question::Reconfigure(config, to);
        let answer = self.inputs.ask_for(limits::RELOAD_TIMEOUT, question).await;
        answer
            .ok_or("the core thread does not answer")?
            .map_err(|error| told(error.into()))?;
        self.identities.exchange(&identities);
        self.token.exchange(&token);
        self.guard.reload(new.sources.but_for(&new.trunks));
        self.terms.reload(&new);
        let changed = new.changes(&self.running);
        if new.log.level != self.running.log.level && !(self.source.level)(filter(&new.log.level)) {
            tracing::warn!(level = new.log.level, "the log level cannot be changed");
        }
        self.running = new;
        Ok(Reloaded {
            changed,
            needs_restart,
        })
    }

    /// A media host that was taken out and is not empty yet cannot come back from another address.
    fn keep_addresses(&self, new: &mut Config, needs_restart: &mut Vec<Fixed>) {
        for host in &mut new.media.hosts {
            let there = self.hosts.address(&host.name);
            if let Some(there) = there.filter(|there| *there != host.address) {
                needs_restart.push(Fixed {
                    key: format!("media.hosts.{}.address", host.name),
                    from: there.clone(),
                    to: std::mem::replace(&mut host.address, there),
                });
            }
        }
    }
}

/// The filter of a log level.
pub(crate) fn filter(level: &str) -> EnvFilter {
    EnvFilter::new(format!(
        "{level},h2=warn,hyper=warn,tower=warn,hickory_resolver=warn,hickory_net=warn"
    ))
}
