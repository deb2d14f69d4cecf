//! SIGHUP: certificates, the token, limits and the log level are read again. Calls, registrations and connections go on
//! as they are.

use std::{path::PathBuf, sync::Arc};

use tracing_subscriber::EnvFilter;

use crate::{
    config::{Config, Override},
    core::{Input, Inputs},
    token::Token,
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
    pub(crate) fn reload(
        &self,
        running: &mut Config,
        guard: &Arc<Guard>,
        identities: &Arc<Identities>,
        token: &Token,
        inputs: &Inputs,
    ) {
        let new = match Config::load(self.file.as_deref(), &self.overrides) {
            Ok(new) => new,
            Err(error) => return tracing::error!(%error, "not reloaded"),
        };
        // Before anything is exchanged.
        if let Err(error) = new.check_files() {
            return tracing::error!(%error, "not reloaded");
        }
        if let Err(error) = identities
            .reload(&new.tls)
            .and_then(|()| token.reload(&new.management))
        {
            return tracing::error!(error, "not reloaded");
        }
        // It was checked with all listeners; here only limits are looked at.
        let (limits, inputs) = (Input::Limits(Box::new(new.controller(&[]))), inputs.clone());
        tokio::spawn(async move { inputs.deliver(limits).await });
        guard.reload(new.sources.clone());
        let is_set = (self.level)(filter(&new.log.level));
        for section in fixed_sections(running, &new) {
            tracing::warn!(section, "changed; restart to put it into effect");
        }
        running.management = new.management;
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

/// What is left when limits, which are put into effect at once, do not count.
fn without_limits(config: &Config) -> Config {
    let mut config = config.clone();
    config.calls.count_max = 0;
    (config.originate.calls_max, config.originate.calls_per_s) = (0, 0);
    config.dialplan.calls_per_s = 0;
    (config.conferences.count_max, config.conferences.members_max) = (0, 0);
    for trunk in &mut config.trunks {
        trunk.calls_max = 0;
        (trunk.tx_calls_per_s, trunk.rx_calls_per_s) = (0, 0);
    }
    config
}

/// Sections that differ and need a restart.
fn fixed_sections(old: &Config, new: &Config) -> Vec<&'static str> {
    let (old, new) = (&without_limits(old), &without_limits(new));
    let sections = [
        ("signalling", old.signalling != new.signalling),
        ("websocket", old.websocket != new.websocket),
        ("dns", old.dns != new.dns),
        (
            "management.listen",
            old.management.listen != new.management.listen,
        ),
        ("media", old.media != new.media),
        ("media_client", old.media_client != new.media_client),
        ("journal", old.journal != new.journal),
        ("store", old.store != new.store),
        ("registration", old.registration != new.registration),
        ("calls", old.calls != new.calls),
        ("originate", old.originate != new.originate),
        ("trunks", old.trunks != new.trunks),
        ("dialplan", old.dialplan != new.dialplan),
        ("music", old.music != new.music),
        ("conferences", old.conferences != new.conferences),
        ("recording", old.recording != new.recording),
        ("agents", old.agents != new.agents),
        ("accounts", old.accounts != new.accounts),
        ("queues", old.queues != new.queues),
        ("log.format", old.log.format != new.log.format),
    ];
    let changed = sections.into_iter().filter(|(_, changed)| *changed);
    changed.map(|(name, _)| name).collect()
}
