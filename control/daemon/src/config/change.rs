//! What another configuration changes: what can be put into effect while calls go on, and what cannot.

use serde::Serialize;

use super::Config;

/// A setting that takes effect at the next start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Fixed {
    /// `section.key`.
    pub(crate) key: String,
    /// As it is.
    pub(crate) from: String,
    /// As the file says.
    pub(crate) to: String,
}

/// Names each of these settings that is not what it was, and gives it back its running value.
macro_rules! keep {
    ($new:ident, $running:ident: $($section:ident.$key:ident),* $(,)?) => {{
        let mut kept = Vec::new();
        $(if $new.$section.$key != $running.$section.$key {
            kept.push(Fixed {
                key: concat!(stringify!($section), ".", stringify!($key)).to_owned(),
                from: format!("{:?}", $running.$section.$key),
                to: format!("{:?}", $new.$section.$key),
            });
            $new.$section.$key.clone_from(&$running.$section.$key);
        })*
        kept
    }};
}

/// Names each of these settings that is not what it was.
macro_rules! differing {
    ($new:ident, $running:ident: $($section:ident.$key:ident),* $(,)?) => {{
        let mut found = Vec::new();
        $(if $new.$section.$key != $running.$section.$key {
            found.push(concat!(stringify!($section), ".", stringify!($key), " changed").to_owned());
        })*
        found
    }};
}

impl Config {
    /// Gives what cannot change while calls go on its running value, and says what that was. None of it is secret.
    pub(crate) fn keep_fixed(&mut self, running: &Self) -> Vec<Fixed> {
        let new = self;
        let mut kept = keep!(new, running:
            signalling.domains, signalling.realm, signalling.digest, signalling.udp, signalling.tcp, signalling.tls,
            signalling.ws, signalling.wss, signalling.advertise, signalling.owner_token,
            dns.servers, dns.timeout_ms, dns.attempts, dns.avoid_s,
            management.listen,
            media_client.controller, media_client.lease_ms, media_client.tls,
            journal.path, journal.sync_ms, journal.segment_bytes, journal.segments_kept,
            store.path, log.format,
        );
        for host in &mut new.media.hosts {
            let known = running.media.hosts.iter().find(|known| known.name == host.name);
            if let Some(known) = known.filter(|known| known.address != host.address) {
                kept.push(Fixed {
                    key: format!("media.hosts.{}.address", host.name),
                    from: known.address.clone(),
                    to: std::mem::replace(&mut host.address, known.address.clone()),
                });
            }
        }
        kept
    }

    /// What is not as it was, by name: values may be passwords.
    pub(crate) fn changes(&self, running: &Self) -> Vec<String> {
        let new = self;
        let mut found = Vec::new();
        named(
            "accounts",
            (&running.accounts, &new.accounts),
            |it| &it.user,
            &mut found,
        );
        named(
            "queues",
            (&running.queues, &new.queues),
            |it| &it.name,
            &mut found,
        );
        named("menus", (&running.menus, &new.menus), |it| &it.name, &mut found);
        named(
            "trunks",
            (&running.trunks, &new.trunks),
            |it| &it.name,
            &mut found,
        );
        let hosts = (&running.media.hosts[..], &new.media.hosts[..]);
        named("media.hosts", hosts, |it| it.name.as_str(), &mut found);
        found.extend(differing!(new, running:
            signalling.trusted, signalling.digest_any_uri, signalling.allow_anonymous_calls, signalling.tcp_connections,
            signalling.tcp_connections_per_source, signalling.tcp_message_s, signalling.tcp_idle_s,
            signalling.keepalive_s, management.token_file, management.token, log.level,
        ));
        let media = |config: &Self| {
            let mut media = config.media.clone();
            media.hosts.clear();
            media
        };
        let sections = [
            ("tls", running.tls != new.tls),
            ("websocket", running.websocket != new.websocket),
            ("sources", running.sources != new.sources),
            ("media", media(running) != media(new)),
            ("registration", running.registration != new.registration),
            ("calls", running.calls != new.calls),
            ("agents", running.agents != new.agents),
            ("music", running.music != new.music),
            ("conferences", running.conferences != new.conferences),
            ("recording", running.recording != new.recording),
            ("originate", running.originate != new.originate),
            ("dialplan", running.dialplan != new.dialplan),
        ];
        let changed = sections.iter().filter(|(_, differs)| *differs);
        found.extend(changed.map(|(name, _)| format!("{name} changed")));
        found
    }
}

/// What was added to a list, changed in it, or removed.
fn named<T: PartialEq>(
    list: &str,
    (running, new): (&[T], &[T]),
    name: impl Fn(&T) -> &str,
    found: &mut Vec<String>,
) {
    let before: std::collections::BTreeMap<&str, &T> = running.iter().map(|it| (name(it), it)).collect();
    let after: std::collections::BTreeMap<&str, &T> = new.iter().map(|it| (name(it), it)).collect();
    for (name, it) in &after {
        match before.get(name) {
            None => found.push(format!("{list}.{name} added")),
            Some(was) if was != it => found.push(format!("{list}.{name} changed")),
            Some(_) => {}
        }
    }
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    found.extend(gone.map(|name| format!("{list}.{name} removed")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Override;

    const HOST: &str = "media.hosts=[{name='a', address='http://127.0.0.1:8700'}]";

    fn config(settings: &[&str]) -> Config {
        let settings = [&[HOST], settings].concat();
        let overrides: Vec<_> = settings
            .iter()
            .map(|text| Override::parse_flag(text).unwrap())
            .collect();
        Config::load(None, &overrides).unwrap()
    }

    #[test]
    fn what_needs_a_restart_is_named_and_stays_as_it_is() {
        let running = config(&[]);
        let mut new = config(&[
            "signalling.udp=['127.0.0.1:5070']",
            "journal.path=elsewhere",
            "media.hosts=[{name='a', address='http://127.0.0.1:8701'}]",
            "calls.count_max=5",
        ]);
        let told: Vec<String> = new
            .keep_fixed(&running)
            .iter()
            .map(|it| format!("{} {} {}", it.key, it.from, it.to))
            .collect();
        assert_eq!(
            told,
            [
                "signalling.udp [0.0.0.0:5060] [127.0.0.1:5070]",
                "journal.path \"controld.journal\" \"elsewhere\"",
                "media.hosts.a.address http://127.0.0.1:8700 http://127.0.0.1:8701",
            ]
        );
        assert_eq!(new.changes(&running), ["calls changed"]);
        new.calls = running.calls;
        assert_eq!(new, running);
    }

    #[test]
    fn what_changes_is_named_without_its_values() {
        let running = config(&[
            "accounts=[{user='a', password='old'}, {user='b', password='x'}]",
            "queues=[{name='q', agents=['a']}]",
        ]);
        let new = config(&[
            "accounts=[{user='a', password='new'}, {user='c', password='y'}]",
            "queues=[{name='q', agents=['a', 'c']}]",
            "log.level=debug",
            "media.codecs=['PCMU']",
        ]);
        assert_eq!(
            new.changes(&running),
            [
                "accounts.a changed",
                "accounts.c added",
                "accounts.b removed",
                "queues.q changed",
                "log.level changed",
                "media changed",
            ]
        );
        assert_eq!(new.changes(&new), Vec::<String>::new());
    }
}
