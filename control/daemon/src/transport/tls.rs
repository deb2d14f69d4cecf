//! Certificates: ours by the name a peer asks for, and those of others against the roots we were told. They can be
//! exchanged while connections live.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::Path,
    sync::{Arc, RwLock},
};

use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        client::WantsClientCert,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
        server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
        sign::CertifiedKey,
    },
};

use crate::config::{CertificateFiles, ClientCertificates, Tls};

/// Where Linux distributions keep the roots they trust.
const SYSTEM_ROOTS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// What new connections are met with.
#[derive(Debug)]
pub(crate) struct Identities {
    current: RwLock<Pair>,
}

#[derive(Debug, Clone)]
struct Pair {
    server: Option<Arc<ServerConfig>>,
    client: Arc<ClientConfig>,
}

impl Identities {
    /// Reads every file.
    ///
    /// # Errors
    /// Names the setting, the file and what is wrong with it.
    pub(crate) fn read(tls: &Tls) -> Result<Self, String> {
        Ok(Self {
            current: RwLock::new(read(tls)?),
        })
    }

    /// Those that were read now instead. Connections that stand go on as they are.
    pub(crate) fn exchange(&self, new: &Self) {
        let new = new.current();
        *self
            .current
            .write()
            .expect("nobody panics while holding the identities") = new;
    }

    pub(super) fn acceptor(&self) -> Option<TlsAcceptor> {
        self.current().server.map(TlsAcceptor::from)
    }

    pub(super) fn connector(&self) -> TlsConnector {
        TlsConnector::from(self.current().client)
    }

    fn current(&self) -> Pair {
        let current = self
            .current
            .read()
            .expect("nobody panics while holding the identities");
        current.clone()
    }
}

/// The name a peer's certificate must hold: the one that was looked up, or its address (RFC 5922 §4).
pub(super) fn expected_name(name: Option<&[u8]>, address: IpAddr) -> Option<ServerName<'static>> {
    match name {
        Some(name) => ServerName::try_from(std::str::from_utf8(name).ok()?.to_owned()).ok(),
        None => Some(ServerName::IpAddress(address.to_canonical().into())),
    }
}

fn read(tls: &Tls) -> Result<Pair, String> {
    let provider = Arc::new(ring::default_provider());
    let identities = tls
        .certificates
        .iter()
        .enumerate()
        .map(|(index, files)| identity(index, files, &provider))
        .collect::<Result<Vec<_>, _>>()?;
    let server = match ByName::new(identities.clone()) {
        Some(by_name) => Some(server_config(tls, by_name, &provider)?),
        None => None,
    };
    let client = client_config(tls, identities.first(), &provider)?;
    Ok(Pair { server, client })
}

fn server_config(
    tls: &Tls,
    by_name: ByName,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, String> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("tls: {error}"))?;
    let builder = match tls.client_certificates {
        ClientCertificates::None => builder.with_no_client_auth(),
        asked => {
            let roots = roots("tls.client_ca", &tls.client_ca)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(provider));
            let verifier = match asked {
                ClientCertificates::Optional => verifier.allow_unauthenticated(),
                ClientCertificates::None | ClientCertificates::Required => verifier,
            };
            let verifier = verifier
                .build()
                .map_err(|error| unusable("tls.client_ca", &tls.client_ca, error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    Ok(Arc::new(builder.with_cert_resolver(Arc::new(by_name))))
}

/// Ours first certificate is also what we show when we connect and are asked.
fn client_config(
    tls: &Tls,
    own: Option<&Arc<CertifiedKey>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<ClientConfig>, String> {
    let roots = if tls.ca.as_os_str().is_empty() {
        let system = SYSTEM_ROOTS.iter().map(Path::new).find(|path| path.exists());
        // A machine without roots can still take calls; it trusts nobody it calls.
        system.map_or_else(|| Ok(RootCertStore::empty()), |path| roots("tls.ca", path))?
    } else {
        roots("tls.ca", &tls.ca)?
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("tls: {error}"))?
        .with_root_certificates(roots);
    Ok(Arc::new(with_own(builder, own)))
}

fn with_own(
    builder: tokio_rustls::rustls::ConfigBuilder<ClientConfig, WantsClientCert>,
    own: Option<&Arc<CertifiedKey>>,
) -> ClientConfig {
    match own {
        Some(own) => builder.with_client_cert_resolver(Arc::new(
            tokio_rustls::rustls::sign::SingleCertAndKey::from(Arc::clone(own)),
        )),
        None => builder.with_no_client_auth(),
    }
}

/// Certificates by the names they hold.
#[derive(Debug)]
struct ByName {
    exact: BTreeMap<String, Arc<CertifiedKey>>,
    /// `example.com` for `*.example.com`.
    wildcard: BTreeMap<String, Arc<CertifiedKey>>,
    /// For peers that ask for no name, or for one that we do not have: phones often ask for an address.
    first: Arc<CertifiedKey>,
}

impl ByName {
    fn new(identities: Vec<Arc<CertifiedKey>>) -> Option<Self> {
        let mut by_name = Self {
            exact: BTreeMap::new(),
            wildcard: BTreeMap::new(),
            first: Arc::clone(identities.first()?),
        };
        for identity in identities {
            for name in names_of(&identity) {
                let (table, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut by_name.wildcard, parent.to_owned()),
                    None => (&mut by_name.exact, name),
                };
                table.entry(name).or_insert_with(|| Arc::clone(&identity));
            }
        }
        Some(by_name)
    }

    fn find(&self, name: Option<&str>) -> &Arc<CertifiedKey> {
        let Some(name) = name.map(str::to_ascii_lowercase) else {
            return &self.first;
        };
        let parent = name.split_once('.').map(|(_, parent)| parent);
        let wildcard = || self.wildcard.get(parent?);
        self.exact.get(&name).or_else(wildcard).unwrap_or(&self.first)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.find(hello.server_name())))
    }
}

fn names_of(identity: &CertifiedKey) -> Vec<String> {
    let Some(Ok(certificate)) = identity.cert.first().map(webpki::EndEntityCert::try_from) else {
        return Vec::new();
    };
    certificate
        .valid_dns_names()
        .map(str::to_ascii_lowercase)
        .collect()
}

fn identity(
    index: usize,
    files: &CertificateFiles,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<CertifiedKey>, String> {
    let setting = |key: &str| format!("tls.certificates[{index}].{key}");
    let chain = certificates(&setting("cert"), &files.cert)?;
    let key = PrivateKeyDer::from_pem_slice(&contents(&setting("key"), &files.key)?)
        .map_err(|error| unusable(&setting("key"), &files.key, error))?;
    let identity = CertifiedKey::from_der(chain, key, provider).map_err(|error| {
        let cert = files.cert.display();
        let why = format!("{error}; it must be the key of {cert}");
        unusable(&setting("key"), &files.key, why)
    })?;
    Ok(Arc::new(identity))
}

fn roots(setting: &str, path: &Path) -> Result<RootCertStore, String> {
    if path.as_os_str().is_empty() {
        return Err(format!(
            "{setting} is missing; name the PEM file of the authorities that are trusted"
        ));
    }
    let mut roots = RootCertStore::empty();
    // A system's bundle may hold a root that is not understood; the others are good all the same.
    let (added, _ignored) = roots.add_parsable_certificates(certificates(setting, path)?);
    if added == 0 {
        return Err(unusable(
            setting,
            path,
            "holds no certificate that can be trusted",
        ));
    }
    Ok(roots)
}

fn certificates(setting: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&contents(setting, path)?).collect();
    let found = found.map_err(|error| unusable(setting, path, error))?;
    if found.is_empty() {
        return Err(unusable(setting, path, "holds no certificate"));
    }
    Ok(found)
}

fn contents(setting: &str, path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| unusable(setting, path, error))
}

fn unusable(setting: &str, path: &Path, why: impl std::fmt::Display) -> String {
    format!("{setting} = {}: {why}; give a PEM file", path.display())
}
