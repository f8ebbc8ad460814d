//! Whom outgoing TLS trusts at one host: a certificate that is known by its SHA-256, or authorities of its
//! own, instead of what holds for all other hosts.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use sha2::{Digest as _, Sha256};

/// What is trusted, by host. A connection is of a host by the name that it was asked for, or by its address
/// when it was asked for none.
#[derive(Clone, Default)]
pub(super) struct Peers(HashMap<String, Arc<ClientConfig>>);

impl Peers {
    /// Connections to `host`, a name or an address, are made with that.
    pub(super) fn add(&mut self, host: &str, client: Arc<ClientConfig>) {
        self.0.insert(key(host), client);
    }

    /// What a connection to `name`, or without one to `to`, is made with, if that is not what others are.
    pub(super) fn find(&self, name: Option<&str>, to: SocketAddr) -> Option<Arc<ClientConfig>> {
        let key = name.map_or_else(|| to.ip().to_canonical().to_string(), key);
        self.0.get(&key).cloned()
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Names are alike in any case of letters, and addresses in any spelling.
fn key(host: &str) -> String {
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().to_string(),
        Err(_) => host.trim_end_matches('.').to_ascii_lowercase(),
    }
}

/// Takes one certificate and none other, whoever vouches for that. Its name and its dates say nothing then:
/// who wrote down its fingerprint meant this very one.
#[derive(Debug)]
pub(super) struct Pinned {
    pub(super) fingerprint: [u8; 32],
    pub(super) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found: [u8; 32] = Sha256::digest(certificate).into();
        if found == self.fingerprint {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::CertificateError::ApplicationVerificationFailure.into())
        }
    }

    // It has the key of the certificate, or it could show that of somebody else.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;
    use crate::net::tls::{Certificates, Tls, Trust};

    #[test]
    fn a_host_is_found_by_name_or_address_and_no_other() {
        let folder = std::env::temp_dir().join(format!("crosspoint-peers-{}", std::process::id()));
        let made = Certificates::load_or_make(&folder, &[], &[], SystemTime::now()).unwrap();
        let tls = Tls::new(made, &Trust::Anybody)
            .unwrap()
            .trusting("Sip.Carrier.Example", &Trust::Pinned([1; 32]))
            .unwrap()
            .trusting("2001:db8::1", &Trust::Pinned([2; 32]))
            .unwrap();
        let to = |text: &str| text.parse().unwrap();
        let special = |name, address| !Arc::ptr_eq(&tls.client_for(name, to(address)), &tls.client);
        assert!(special(Some("sip.carrier.example."), "192.0.2.1:5061"));
        assert!(special(None, "[2001:db8:0::1]:5061"));
        assert!(!special(Some("carrier.example"), "[2001:db8::1]:5061"), "asked for by another name");
        assert!(!special(None, "192.0.2.1:5061"));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn one_certificate_is_taken_by_its_fingerprint_and_no_other() {
        let folder = std::env::temp_dir().join(format!("crosspoint-pinned-{}", std::process::id()));
        let made = Certificates::load_or_make(&folder, &[], &[], SystemTime::now()).unwrap();
        let right: [u8; 32] = Sha256::digest(made.certificate().unwrap()).into();
        let mut wrong = right;
        wrong[31] ^= 1;
        let tls = Tls::new(made, &Trust::System).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        for (trust, taken) in
            [(Trust::Pinned(right), true), (Trust::Pinned(wrong), false), (Trust::System, false)]
        {
            let tls = tls.clone().trusting("127.0.0.1", &trust).unwrap();
            let server = TlsAcceptor::from(tls.server.clone());
            let accept = async {
                let (stream, _) = listener.accept().await.unwrap();
                server.accept(stream).await.is_ok()
            };
            let connect = async {
                let name = ServerName::IpAddress(to.ip().into());
                let stream = TcpStream::connect(to).await.unwrap();
                TlsConnector::from(tls.client_for(None, to)).connect(name, stream).await.is_ok()
            };
            let (_, connected) = tokio::join!(accept, connect);
            assert_eq!(connected, taken, "{trust:?}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
