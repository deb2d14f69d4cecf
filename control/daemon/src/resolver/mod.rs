//! Where a name leads (RFC 3263): NAPTR, then SRV by priority and weight, then addresses. Records are cached for as
//! long as they say. Targets that failed lately come last.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join_all;
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{RData, RecordType},
};
use sip::stack::{Lookup, NameHop, Target, Transport};
use tokio::{runtime::Handle, sync::Semaphore, time::timeout};

use crate::{
    config::Dns,
    core::{Bound, Input, Inputs},
    limits,
};

/// Asks name servers on behalf of the core thread.
#[derive(Clone)]
pub(crate) struct Resolver {
    shared: Arc<Shared>,
}

struct Shared {
    dns: TokioResolver,
    /// What we have sockets for: transport, and whether IPv4.
    reachable: Vec<(Transport, bool)>,
    runtime: Handle,
    /// Bounds the look-ups under way.
    permits: Semaphore,
    avoid: Duration,
    avoided: Mutex<BTreeMap<Target, Instant>>,
    /// Chooses among servers by their weights. Nothing hangs on its quality.
    random: Mutex<u64>,
}

/// A server of a service: what an SRV record says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Server {
    priority: u16,
    weight: u16,
    port: u16,
    host: String,
}

/// A rule of a NAPTR record: a transport, and the name whose SRV records to ask for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Rule {
    order: u16,
    preference: u16,
    transport: Transport,
    service: String,
}

/// The name servers cannot be asked: other questions would wait in vain too.
struct Unavailable;

impl Resolver {
    /// A resolver over the servers configured, or those of the system. Needs a tokio runtime.
    ///
    /// # Errors
    /// The system's configuration cannot be used.
    pub(crate) fn new(dns: &Dns, bound: &Bound, seed: u64) -> Result<Self, String> {
        let provider = TokioRuntimeProvider::default();
        let (config, mut options) =
            if dns.servers.is_empty() {
                // An odd resolv.conf must not keep us from starting: names fail then, addresses do not.
                hickory_resolver::system_conf::read_system_conf().unwrap_or_else(|error| {
                tracing::warn!(%error, "/etc/resolv.conf cannot be used; set dns.servers to resolve names");
                (ResolverConfig::from_name_servers(Vec::new()), ResolverOpts::default())
            })
            } else {
                let servers = dns.servers.iter().map(|addr| name_server(*addr)).collect();
                (
                    ResolverConfig::from_name_servers(servers),
                    ResolverOpts::default(),
                )
            };
        options.timeout = Duration::from_millis(dns.timeout_ms);
        options.attempts = dns.attempts;
        let mut builder = TokioResolver::builder_with_config(config, provider);
        *builder.options_mut() = options;
        let dns_client = builder.build().map_err(|error| format!("dns: {error}"))?;
        let reachable = bound
            .iter()
            // Browsers connect to us, never the other way (RFC 7118 §5).
            .filter(|(transport, _)| !matches!(transport, Transport::Ws | Transport::Wss))
            .map(|(transport, local)| (*transport, local.is_ipv4()));
        let shared = Shared {
            dns: dns_client,
            reachable: reachable.collect(),
            runtime: Handle::current(),
            permits: Semaphore::new(limits::LOOKUPS),
            avoid: Duration::from_secs(dns.avoid_s),
            avoided: Mutex::default(),
            random: Mutex::new(seed | 1),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Looks a name up; the answer comes to the core thread as an input.
    pub(crate) fn ask(&self, lookup: Lookup, inputs: &Inputs) {
        let (resolver, inputs) = (self.clone(), inputs.clone());
        self.shared.runtime.spawn(async move {
            let targets = resolver.targets(&lookup.name).await;
            if targets.is_empty() {
                let name = String::from_utf8_lossy(&lookup.name.host).into_owned();
                tracing::warn!(name, "a name leads nowhere");
            }
            let _ = inputs.deliver(Input::Resolved(lookup.id, targets)).await;
        });
    }

    /// Prefers other targets for a while.
    pub(crate) fn avoid(&self, target: Target) {
        let now = Instant::now();
        let mut avoided = self.avoided();
        if avoided.len() >= limits::AVOIDED_TARGETS {
            avoided.retain(|_, until| *until > now);
        }
        if avoided.len() >= limits::AVOIDED_TARGETS {
            avoided.clear();
        }
        avoided.insert(target, now + self.shared.avoid);
    }

    /// The targets of a name, best first; none when name servers take too long.
    pub(crate) async fn targets(&self, name: &NameHop) -> Vec<Target> {
        let located = timeout(limits::LOOKUP_TIMEOUT, async {
            let _permit = self.shared.permits.acquire().await.map_err(|_| Unavailable)?;
            self.locate(name).await
        });
        let mut targets = located.await.unwrap_or(Err(Unavailable)).unwrap_or_default();
        targets.truncate(limits::TARGETS_PER_NAME);
        let now = Instant::now();
        let avoided = self.avoided();
        let is_avoided = |target: &Target| avoided.get(target).is_some_and(|until| *until > now);
        // Stable: the order stands within each half.
        targets.sort_by_key(is_avoided);
        targets
    }

    /// The addresses of a host, in no order of merit; for what is not SIP.
    pub(crate) async fn addresses(&self, host: &str) -> Vec<IpAddr> {
        let host = host.to_owned();
        let (four, six) = tokio::join!(
            self.records(&host, RecordType::A),
            self.records(&host, RecordType::AAAA)
        );
        let records = [four, six].into_iter().flatten().flatten();
        records.filter_map(|data| address_of(&data)).collect()
    }

    async fn locate(&self, name: &NameHop) -> Result<Vec<Target>, Unavailable> {
        let host = String::from_utf8_lossy(&name.host).into_owned();
        let otherwise = if name.secure {
            Transport::Tls
        } else {
            Transport::Udp
        };
        let transport = name.transport.unwrap_or(otherwise);
        // §4.2: with a port there is nothing to ask SRV for.
        if let Some(port) = name.port {
            return self.hosts(name, transport, &host, port).await;
        }
        let services = match name.transport {
            Some(_) => vec![(transport, service_name(transport, &host))],
            None => self.services(name, &host).await?,
        };
        let asked = services.iter();
        let asked = asked.map(|(transport, service)| self.service(name, *transport, service));
        let told = join_all(asked).await;
        // §4.2: the host itself only where no SRV records are.
        if told.iter().all(|told| matches!(told, Ok(None))) {
            return self.hosts(name, transport, &host, transport.default_port()).await;
        }
        let found: Vec<Option<Vec<Target>>> = what_stands(told)?;
        Ok(found.into_iter().flatten().flatten().collect())
    }

    /// What to ask SRV records of for a URI without transport (§4.1): what NAPTR records say, else each transport, in our
    /// order of preference.
    async fn services(&self, name: &NameHop, host: &str) -> Result<Vec<(Transport, String)>, Unavailable> {
        let rules = self.rules(name, host).await?;
        if rules.is_empty() {
            let usable = self.usable(name).into_iter();
            return Ok(usable
                .map(|transport| (transport, service_name(transport, host)))
                .collect());
        }
        let rules = rules.into_iter();
        Ok(rules.map(|rule| (rule.transport, rule.service)).collect())
    }

    /// The rules whose transport we have, in their order (§4.1).
    async fn rules(&self, name: &NameHop, host: &str) -> Result<Vec<Rule>, Unavailable> {
        let usable = self.usable(name);
        let records = self.records(host, RecordType::NAPTR).await?;
        let rule = |data: &RData| {
            let RData::NAPTR(naptr) = data else { return None };
            let transport = service_transport(&naptr.services)?;
            let wanted = naptr.flags.eq_ignore_ascii_case(b"s") && usable.contains(&transport);
            wanted.then(|| Rule {
                order: naptr.order,
                preference: naptr.preference,
                transport,
                service: naptr.replacement.to_ascii(),
            })
        };
        let mut rules: Vec<Rule> = records.iter().filter_map(rule).collect();
        rules.sort();
        Ok(rules)
    }

    /// The targets of a service's servers, as SRV records say which these are, and be it none; `None`: there are no records.
    async fn service(
        &self,
        name: &NameHop,
        transport: Transport,
        service: &str,
    ) -> Result<Option<Vec<Target>>, Unavailable> {
        let records = self.records(service, RecordType::SRV).await?;
        let server = |data: &RData| match data {
            RData::SRV(srv) => Some(Server {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                host: srv.target.to_ascii(),
            }),
            _ => None,
        };
        let servers: Vec<Server> = records.iter().filter_map(server).collect();
        if servers.is_empty() {
            return Ok(None);
        }
        let servers = servers.into_iter();
        // RFC 2782: a lone "." says that the service is decidedly not here.
        let servers: Vec<Server> = servers.filter(|server| server.host != ".").collect();
        let mut ordered = {
            let mut state = self.shared.random.lock().expect("nobody panics while drawing");
            in_order(servers, |below| draw(&mut state, below))
        };
        ordered.truncate(limits::TARGETS_PER_NAME);
        let asked = ordered.iter();
        let asked = asked.map(|server| self.hosts(name, transport, &server.host, server.port));
        let found: Vec<Vec<Target>> = what_stands(join_all(asked).await)?;
        Ok(Some(found.into_iter().flatten().collect()))
    }

    /// The addresses of a host that we have sockets for. IPv4 first: where both exist it is the one more often cared for.
    async fn hosts(
        &self,
        name: &NameHop,
        transport: Transport,
        host: &str,
        port: u16,
    ) -> Result<Vec<Target>, Unavailable> {
        let kinds = [(RecordType::A, true), (RecordType::AAAA, false)];
        let kinds = kinds.iter();
        let kinds = kinds.filter(|(_, is_ipv4)| self.shared.reachable.contains(&(transport, *is_ipv4)));
        let asked = kinds.map(|(kind, _)| self.records(host, *kind));
        let records: Vec<Vec<RData>> = what_stands(join_all(asked).await)?;
        let addresses = records.iter().flatten().filter_map(address_of);
        let found = addresses.map(|ip| target(name, transport, SocketAddr::new(ip, port)));
        Ok(found.collect())
    }

    /// The records of a name; none when there are none, or when its servers do not answer for this kind: many know no
    /// NAPTR, and some no AAAA (RFC 4074 §4). An absolute name: no search list plays into SIP.
    async fn records(&self, name: &str, kind: RecordType) -> Result<Vec<RData>, Unavailable> {
        let absolute = format!("{}.", name.trim_end_matches('.'));
        match self.shared.dns.lookup(absolute.as_str(), kind).await {
            Ok(found) => {
                let records = found.answers().iter();
                Ok(records
                    .filter(|record| record.data.record_type() == kind)
                    .map(|record| record.data.clone())
                    .collect())
            }
            Err(NetError::Dns(error)) => {
                tracing::debug!(name, %kind, %error, "no records");
                Ok(Vec::new())
            }
            Err(error) => {
                tracing::debug!(name, %kind, %error, "a name server does not answer");
                Err(Unavailable)
            }
        }
    }

    /// Transports we have and the URI allows, preferred first.
    fn usable(&self, name: &NameHop) -> Vec<Transport> {
        let all = [Transport::Udp, Transport::Tcp, Transport::Tls];
        let has = |transport: &Transport| self.shared.reachable.iter().any(|(have, _)| have == transport);
        all.into_iter()
            .filter(|transport| (!name.secure || *transport == Transport::Tls) && has(transport))
            .collect()
    }

    fn avoided(&self) -> std::sync::MutexGuard<'_, BTreeMap<Target, Instant>> {
        self.shared
            .avoided
            .lock()
            .expect("nobody panics while holding the targets")
    }
}

/// What was found, though name servers were silent about the rest; unless that is all there was.
fn what_stands<T>(asked: Vec<Result<T, Unavailable>>) -> Result<Vec<T>, Unavailable> {
    let is_silent = !asked.is_empty() && asked.iter().all(Result::is_err);
    match is_silent {
        true => Err(Unavailable),
        false => Ok(asked.into_iter().flatten().collect()),
    }
}

fn name_server(addr: SocketAddr) -> NameServerConfig {
    let at_port = |mut connection: ConnectionConfig| {
        connection.port = addr.port();
        connection
    };
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(at_port);
    NameServerConfig::new(addr.ip(), true, connections.to_vec())
}

/// RFC 5922 §4: a certificate is checked for the name in the URI, not for what DNS made of it.
fn target(name: &NameHop, transport: Transport, remote: SocketAddr) -> Target {
    let is_checked = matches!(transport, Transport::Tls | Transport::Wss);
    Target::Address {
        transport,
        remote,
        server_name: is_checked.then(|| Bytes::clone(&name.host)),
    }
}

fn address_of(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(a) => Some(a.0.into()),
        RData::AAAA(aaaa) => Some(aaaa.0.into()),
        _ => None,
    }
}

fn service_name(transport: Transport, host: &str) -> String {
    let prefix = match transport {
        Transport::Udp => "_sip._udp",
        Transport::Tcp | Transport::Ws => "_sip._tcp",
        Transport::Tls | Transport::Wss => "_sips._tcp",
    };
    format!("{prefix}.{host}")
}

/// RFC 3263 §4.1: the services of NAPTR records that stand for transports.
fn service_transport(service: &[u8]) -> Option<Transport> {
    let known = [
        (&b"SIP+D2U"[..], Transport::Udp),
        (b"SIP+D2T", Transport::Tcp),
        (b"SIPS+D2T", Transport::Tls),
    ];
    let found = known.iter().find(|(name, _)| service.eq_ignore_ascii_case(name));
    found.map(|(_, transport)| *transport)
}

/// RFC 2782: by priority; within one, each next server is drawn with a chance that follows its weight.
fn in_order(mut servers: Vec<Server>, mut random: impl FnMut(u64) -> u64) -> Vec<Server> {
    // Those without weight first, so that they have a small chance.
    servers.sort_by_key(|server| (server.priority, server.weight));
    let mut ordered = Vec::with_capacity(servers.len());
    while let Some(priority) = servers.first().map(|server| server.priority) {
        let count = servers
            .iter()
            .take_while(|server| server.priority == priority)
            .count();
        let sum: u64 = servers[..count]
            .iter()
            .map(|server| u64::from(server.weight))
            .sum();
        let drawn = random(sum + 1);
        let mut passed = 0;
        let reaches = |server: &Server| {
            passed += u64::from(server.weight);
            passed >= drawn
        };
        let at = servers[..count].iter().position(reaches).unwrap_or_default();
        ordered.push(servers.remove(at));
    }
    ordered
}

/// Xorshift: below `below`.
fn draw(state: &mut u64, below: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state % below.max(1)
}

#[cfg(test)]
mod tests;
