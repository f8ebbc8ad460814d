//! TLS of signalling: certificates that can be replaced while the gateway runs, a self-signed one
//! for the first start, and what outgoing connections trust. The crypto provider is passed
//! explicitly, so that several gateways and their host can live in one process.

use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

use super::peers::{Peers, Pinned};

/// How long a self-signed certificate is valid. Devices pin it or do not check it at all, so that
/// an early end would only bring calls down.
const SELF_SIGNED_YEARS: u32 = 10;

/// Where distributions keep the certificates that they trust.
const SYSTEM_TRUST: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// How often the certificate's files are looked at for a change.
const WATCH: Duration = Duration::from_secs(60);

/// Why TLS cannot be set up. Each says which file and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {what} {path}: {reason}", path = path.display())]
    Read {
        /// "the certificate", "the private key", "the trusted certificates".
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {error}; make its folder writable or set sip.certificate and sip.key", path = path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Certificate and key do not fit, or their kind is not supported.
    #[error("{certificate} and {key} cannot be used together: {reason}", certificate = certificate.display(), key = key.display())]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        reason: String,
    },
    /// Something that cannot happen with the files of this machine.
    #[error("TLS cannot be set up: {0}")]
    Internal(String),
}

/// The certificate that TLS listeners show. It is read anew when its files change
/// ([`Certificates::reload`]); connections that stand keep theirs.
#[derive(Debug)]
pub struct Certificates {
    current: ArcSwap<CertifiedKey>,
    certificate: PathBuf,
    key: PathBuf,
    changed: Mutex<Stamp>,
}

/// When both files were last changed.
type Stamp = (Option<SystemTime>, Option<SystemTime>);

impl Certificates {
    /// Loads a PEM chain and its PEM key.
    pub fn load(certificate: &Path, key: &Path) -> Result<Arc<Self>, TlsError> {
        let stamp = stamp(certificate, key);
        let current = certified_key(certificate, key)?;
        Ok(Arc::new(Self {
            current: ArcSwap::from_pointee(current),
            certificate: certificate.into(),
            key: key.into(),
            changed: Mutex::new(stamp),
        }))
    }

    /// Loads `certificate.pem` and `key.pem` of `folder`; makes a self-signed pair for `names` and
    /// `addresses` when there is none. Putting other files in their place replaces it.
    pub fn load_or_make(
        folder: &Path,
        names: &[String],
        addresses: &[IpAddr],
        now: SystemTime,
    ) -> Result<Arc<Self>, TlsError> {
        let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        if !certificate.exists() || !key.exists() {
            let (certificate_pem, key_pem) = self_signed(names, addresses, now)?;
            let write = |path: &Path, error| TlsError::Write { path: path.into(), error };
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(|error| write(folder, error))?;
            // The key first: a certificate without its key would be taken for a complete pair.
            write_private(&key, &key_pem).map_err(|error| write(&key, error))?;
            write_private(&certificate, &certificate_pem).map_err(|error| write(&certificate, error))?;
            tracing::info!(certificate = %certificate.display(), "made a self-signed certificate");
        }
        Self::load(&certificate, &key)
    }

    /// Reads the files again if they changed since. `Ok(false)`: they did not. After an error the
    /// old certificate stays in use.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let stamp = stamp(&self.certificate, &self.key);
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if *changed == stamp {
            return Ok(false);
        }
        self.current.store(Arc::new(certified_key(&self.certificate, &self.key)?));
        *changed = stamp;
        Ok(true)
    }

    /// Reads the files again whenever they change, for as long as it is polled.
    pub async fn watch(&self) {
        let mut tick = tokio::time::interval(WATCH);
        let mut complained = None;
        loop {
            tick.tick().await;
            match self.reload() {
                Ok(true) => {
                    complained = None;
                    tracing::info!(certificate = %self.certificate.display(), "certificate replaced");
                }
                Ok(false) => {}
                // A pair is often written file by file: the next look sees both.
                Err(error) => {
                    let told = error.to_string();
                    if complained.as_ref() != Some(&told) {
                        tracing::warn!(%error, "the new certificate is not used");
                    }
                    complained = Some(told);
                }
            }
        }
    }

    /// The file of the certificate.
    pub fn path(&self) -> &Path {
        &self.certificate
    }

    /// The certificate shown to peers, DER.
    pub fn certificate(&self) -> Option<CertificateDer<'static>> {
        self.current.load().cert.first().cloned()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

/// What both directions of TLS use.
#[derive(Clone, Debug)]
pub struct Tls {
    /// For connections that we accept.
    pub server: Arc<ServerConfig>,
    /// For connections that we open.
    pub client: Arc<ClientConfig>,
    /// For those to hosts that are trusted otherwise.
    peers: Peers,
}

/// What outgoing connections trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The certificates of the operating system.
    System,
    /// Those of a PEM file.
    File(PathBuf),
    /// Everybody. The far end is not checked at all.
    Anybody,
    /// Who has the certificate of that SHA-256 alone.
    Pinned([u8; 32]),
}

/// What connections of browsers and proxies use.
#[derive(Clone, Debug)]
pub struct WebTls(pub(crate) Arc<ServerConfig>);

impl WebTls {
    /// TLS 1.2 and 1.3 with these certificates; HTTP/1.1 is what is spoken within (RFC 7301).
    pub fn new(certificates: Arc<Certificates>) -> Result<Self, TlsError> {
        let mut server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Internal(error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(certificates);
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(server)))
    }
}

impl Tls {
    /// TLS 1.2 and 1.3 with these certificates and this trust.
    pub fn new(certificates: Arc<Certificates>, trust: &Trust) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let internal = |error: rustls::Error| TlsError::Internal(error.to_string());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(internal)?
            .with_no_client_auth()
            .with_cert_resolver(certificates);
        let client = client(provider, trust)?;
        Ok(Self { server: Arc::new(server), client, peers: Peers::default() })
    }

    /// Connections to `host`, a name or an address, trust that instead.
    pub fn trusting(mut self, host: &str, trust: &Trust) -> Result<Self, TlsError> {
        self.peers.add(host, client(Arc::new(aws_lc_rs::default_provider()), trust)?);
        Ok(self)
    }

    /// What a connection to `name`, or without one to `to`, is opened with.
    pub(super) fn client_for(&self, name: Option<&str>, to: SocketAddr) -> Arc<ClientConfig> {
        self.peers.find(name, to).unwrap_or_else(|| self.client.clone())
    }
}

fn client(provider: Arc<CryptoProvider>, trust: &Trust) -> Result<Arc<ClientConfig>, TlsError> {
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Internal(error.to_string()))?;
    let client = match trust {
        Trust::Anybody => client.dangerous().with_custom_certificate_verifier(Arc::new(Unchecked(provider))),
        Trust::Pinned(fingerprint) => {
            let pinned = Pinned { fingerprint: *fingerprint, provider };
            client.dangerous().with_custom_certificate_verifier(Arc::new(pinned))
        }
        Trust::System => client.with_root_certificates(system_roots()),
        Trust::File(path) => client.with_root_certificates(roots(path)?),
    };
    Ok(Arc::new(client.with_no_client_auth()))
}

/// The name that an outgoing connection asks for (SNI) and checks: the given one, else the address.
pub(super) fn server_name(name: Option<&str>, to: SocketAddr) -> Option<ServerName<'static>> {
    match name {
        Some(name) => ServerName::try_from(name.to_owned()).ok(),
        None => Some(ServerName::IpAddress(to.ip().into())),
    }
}

fn certified_key(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable("the certificate", certificate, &error))?;
    if chain.is_empty() {
        let error = rustls::pki_types::pem::Error::NoItemsFound;
        return Err(unreadable("the certificate", certificate, &error));
    }
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("the private key", key, &error))?;
    CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider()).map_err(|error| {
        let reason = match error {
            rustls::Error::InconsistentKeys(_) => "the key is not that of the certificate".into(),
            other => other.to_string(),
        };
        TlsError::Unusable { certificate: certificate.into(), key: key.into(), reason }
    })
}

fn unreadable(what: &'static str, path: &Path, error: &rustls::pki_types::pem::Error) -> TlsError {
    let reason = match error {
        rustls::pki_types::pem::Error::Io(error) => format!("{error}; check the path and its permissions"),
        rustls::pki_types::pem::Error::NoItemsFound => "there is no such PEM block in it".into(),
        other => format!("{other:?}; it must be a PEM file"),
    };
    TlsError::Read { what, path: path.into(), reason }
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable("the trusted certificates", path, &error))?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        let error = rustls::pki_types::pem::Error::NoItemsFound;
        return Err(unreadable("the trusted certificates", path, &error));
    }
    Ok(roots)
}

/// A machine without such a file trusts nobody: outgoing TLS then fails, and says so.
fn system_roots() -> RootCertStore {
    SYSTEM_TRUST.iter().find_map(|path| roots(Path::new(path)).ok()).unwrap_or_else(RootCertStore::empty)
}

fn stamp(certificate: &Path, key: &Path) -> Stamp {
    let of = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    (of(certificate), of(key))
}

/// Written beside and renamed, readable by us alone: whoever reads the folder never sees half.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

fn self_signed(
    names: &[String],
    addresses: &[IpAddr],
    now: SystemTime,
) -> Result<(String, String), TlsError> {
    let internal = |error: rcgen::Error| TlsError::Internal(error.to_string());
    let mut subjects: Vec<String> = names.to_vec();
    subjects.extend(addresses.iter().filter(|it| !it.is_unspecified()).map(ToString::to_string));
    subjects.extend(["localhost".into(), "127.0.0.1".into(), "::1".into()]);
    subjects.sort();
    subjects.dedup();
    let common_name = names.first().map_or("crosspoint", String::as_str);
    let mut parameters = rcgen::CertificateParams::new(subjects).map_err(internal)?;
    parameters.distinguished_name.push(rcgen::DnType::CommonName, common_name);
    // A day back: devices whose clock is a little behind shall take it.
    parameters.not_before = (now - Duration::from_secs(24 * 3600)).into();
    parameters.not_after = (now + Duration::from_secs(365 * 24 * 3600) * SELF_SIGNED_YEARS).into();
    parameters.extended_key_usages =
        vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let key = rcgen::KeyPair::generate().map_err(internal)?;
    let certificate = parameters.self_signed(&key).map_err(internal)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// `sip.verify_certificates = false`: signatures are checked, whose they are is not.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
