//! SIGHUP: certificates, limits of sources and the log level are read again. Calls, registrations and connections go on
//! as they are.

use std::{path::PathBuf, sync::Arc};

use tracing_subscriber::EnvFilter;

use crate::{
    config::{Config, Override},
    transport::{guard::Guard, tls::Identities},
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

    /// Reads everything again and puts into effect what can change. A mistake is logged and changes nothing.
    pub(crate) fn reload(&self, running: &mut Config, guard: &Arc<Guard>, identities: &Arc<Identities>) {
        let new = match Config::load(self.file.as_deref(), &self.overrides) {
            Ok(new) => new,
            Err(error) => return tracing::error!(%error, "not reloaded"),
        };
        if let Err(error) = identities.reload(&new.tls) {
            return tracing::error!(error, "not reloaded");
        }
        guard.reload(new.sources.clone());
        let is_set = (self.level)(filter(&new.log.level));
        for section in fixed_sections(running, &new) {
            tracing::warn!(section, "changed; restart to put it into effect");
        }
        running.tls = new.tls;
        running.sources = new.sources;
        running.log.level = new.log.level;
        let (certificates, level) = (running.tls.certificates.len(), &running.log.level);
        tracing::info!(certificates, level, is_set, "reloaded");
    }
}

/// The filter of a log level.
pub(crate) fn filter(level: &str) -> EnvFilter {
    EnvFilter::new(format!(
        "{level},h2=warn,hyper=warn,tower=warn,hickory_resolver=warn,hickory_net=warn"
    ))
}

/// Sections that differ and need a restart.
fn fixed_sections(old: &Config, new: &Config) -> Vec<&'static str> {
    let sections = [
        ("signalling", old.signalling != new.signalling),
        ("websocket", old.websocket != new.websocket),
        ("dns", old.dns != new.dns),
        ("management", old.management != new.management),
        ("media", old.media != new.media),
        ("media_client", old.media_client != new.media_client),
        ("journal", old.journal != new.journal),
        ("store", old.store != new.store),
        ("registration", old.registration != new.registration),
        ("calls", old.calls != new.calls),
        ("agents", old.agents != new.agents),
        ("accounts", old.accounts != new.accounts),
        ("queues", old.queues != new.queues),
        ("log.format", old.log.format != new.log.format),
    ];
    let changed = sections.into_iter().filter(|(_, changed)| *changed);
    changed.map(|(name, _)| name).collect()
}
