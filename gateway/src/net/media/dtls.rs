//! DTLS-SRTP of one socket (RFC 5764): a handshake whose fruit are the keys of SRTP.
//!
//! The only file that knows the library. Its timer is not relied on: it is lost when a flight comes
//! in pieces, so [`Flights`] hands it none, and how often is sent again is decided here.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use crosspoint_proto::dtls::{Fingerprint, Flights, Role};
use crosspoint_proto::rtp::session::SrtpKeys;
use crosspoint_proto::rtp::srtp::{MasterKey, SrtpSuite};
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, HandshakeConfig};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;
use zeroize::Zeroizing;

/// A handshake that takes longer has failed. People hang up when they hear nothing for that long.
pub(super) const HANDSHAKE_LIMIT: Duration = Duration::from_secs(8);

/// When a flight is sent again the first time; RFC 6347 section 4.2.4.1 has a second, but the first
/// flight often finds a peer that has not read our answer yet, and nobody hears anything meanwhile.
const FIRST_RESEND: Duration = Duration::from_millis(300);

/// Each time is twice the one before, up to this: the library gives up after seven, which then are
/// more than [`HANDSHAKE_LIMIT`].
const LAST_RESEND: Duration = Duration::from_millis(1500);

/// Octets of a datagram of ours: what every path carries, whatever tunnels it has.
const MTU: usize = 1200;

/// RFC 5764 section 4.2.
const EXPORTER: &str = "EXTRACTOR-dtls_srtp";

/// Suites in our order (that of SDES), as DTLS calls them (RFC 5764 section 4.1.2, RFC 7714 section
/// 14.2).
const PROFILES: [(SrtpSuite, SrtpProtectionProfile); 4] = [
    (SrtpSuite::Aes128Gcm, SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm),
    (SrtpSuite::Aes256Gcm, SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm),
    (SrtpSuite::Aes128CmSha1_80, SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80),
    (SrtpSuite::Aes128CmSha1_32, SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_32),
];

/// Who we are towards peers of DTLS: a certificate that we made, and its digest for SDP.
#[derive(Clone)]
pub(super) struct Identity {
    certificate: Certificate,
    fingerprint: Fingerprint,
}

impl Identity {
    /// Makes a key (EC, P-256) and signs its certificate with it.
    pub(super) fn generate() -> Result<Self, String> {
        let provider = rtc_dtls::crypto_provider::default_provider().map_err(|fault| fault.to_string())?;
        // The name says nothing about the host.
        let certificate = Certificate::generate_self_signed(vec!["crosspoint".to_owned()], provider.crypto())
            .map_err(|fault| fault.to_string())?;
        let Some(leaf) = certificate.certificate.first() else { return Err("no certificate".to_owned()) };
        let fingerprint = Fingerprint::of(leaf);
        Ok(Self { certificate, fingerprint })
    }

    /// What stands in `a=fingerprint`.
    pub(super) const fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.fingerprint)
    }
}

/// Why there will be no keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DtlsFault {
    /// The certificate is not the one that was named in SDP: somebody is between us, or another
    /// program answers there.
    #[error("the certificate has not the fingerprint that was agreed")]
    Fingerprint,
    /// The peer does not speak SRTP, or no suite of ours.
    #[error("no SRTP suite in common")]
    NoSuite,
    /// It did not come to an end in time.
    #[error("the handshake did not end within {} s", HANDSHAKE_LIMIT.as_secs())]
    TimedOut,
    /// The peer ended it, or broke its rules.
    #[error("the handshake failed: {0}")]
    Handshake(String),
}

/// What comes out of a handshake, once.
pub(super) type Outcome = Result<SrtpKeys, DtlsFault>;

/// What the library calls the peer: where it is, is decided elsewhere.
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

/// One association, from its first datagram on.
pub(super) struct Association {
    role: Role,
    endpoint: Endpoint,
    flights: Flights,
    /// Set when the certificate was another one.
    foreign: Arc<AtomicBool>,
    state: State,
    /// The moment that the library is told. Time is ours: it goes on for it when its timer shall
    /// expire, and at no other time.
    told: std::time::Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Shaking { until: Instant, resend: Option<(Instant, Duration)> },
    Done,
    Failed,
}

impl Association {
    /// An association with a peer whose certificate must have one of `fingerprints`. `zero` is any
    /// moment of the system's clock.
    pub(super) fn new(
        identity: &Identity,
        role: Role,
        fingerprints: Vec<Fingerprint>,
        now: Instant,
        zero: std::time::Instant,
    ) -> Result<Self, DtlsFault> {
        let foreign = Arc::new(AtomicBool::new(false));
        let config = configuration(identity, role, fingerprints, &foreign).map_err(of_library)?;
        let server = (role == Role::Server).then(|| config.clone());
        let mut endpoint = Endpoint::new(PEER, TransportProtocol::UDP, server);
        if role == Role::Client {
            endpoint.connect(zero, PEER, config, None).map_err(of_library)?;
        }
        let resend = (role == Role::Client).then(|| (now + FIRST_RESEND, FIRST_RESEND));
        let state = State::Shaking { until: now + HANDSHAKE_LIMIT, resend };
        Ok(Self { role, endpoint, flights: Flights::new(role), foreign, state, told: zero })
    }

    /// The next datagram to send.
    pub(super) fn poll_transmit(&mut self) -> Option<impl AsRef<[u8]> + use<>> {
        self.endpoint.poll_transmit().map(|transmit| transmit.message)
    }

    /// Takes a datagram of the peer.
    pub(super) fn receive(&mut self, now: Instant, datagram: &[u8]) -> Option<Outcome> {
        if self.state == State::Failed {
            return None;
        }
        let flight = self.flights.push(datagram)?;
        let events = match self.endpoint.read(self.told, PEER, None, flight.as_slice().into()) {
            Ok(events) => events,
            // Of an association that stands a forger cannot make anything.
            Err(_) if self.state == State::Done => return None,
            Err(fault) => return Some(Err(self.fail(of_library(fault)))),
        };
        if events.iter().any(|event| matches!(event, EndpointEvent::PeerClosed)) {
            // The keys stay good until signalling ends the call.
            let shaking = self.state != State::Done;
            self.state = State::Failed;
            return shaking.then(|| Err(DtlsFault::Handshake("the peer closed it".to_owned())));
        }
        if events.iter().any(|event| matches!(event, EndpointEvent::HandshakeComplete)) {
            return Some(self.complete());
        }
        if let State::Shaking { resend, .. } = &mut self.state {
            // A whole flight came, so ours before it arrived: the next begins its patience anew.
            *resend = Some((now + FIRST_RESEND, FIRST_RESEND));
        }
        None
    }

    /// Does what is due at [`Self::deadline`].
    pub(super) fn timeout(&mut self, now: Instant) -> Option<Outcome> {
        let State::Shaking { until, resend } = &mut self.state else { return None };
        if *until <= now {
            return Some(Err(self.fail(DtlsFault::TimedOut)));
        }
        if let Some((at, interval)) = resend
            && *at <= now
        {
            *interval = (*interval * 2).min(LAST_RESEND);
            *at = now + *interval;
            // Later than any timer that it has set.
            self.told = self.told.checked_add(HANDSHAKE_LIMIT).unwrap_or(self.told);
            if let Err(fault) = self.endpoint.handle_timeout(PEER, self.told) {
                return Some(Err(self.fail(of_library(fault))));
            }
        }
        None
    }

    /// When [`Self::timeout`] wants to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Shaking { until, resend } => Some(resend.map_or(until, |(at, _)| at.min(until))),
            State::Done | State::Failed => None,
        }
    }

    fn complete(&mut self) -> Outcome {
        match self.keys() {
            Ok(keys) => {
                self.flights.establish();
                self.state = State::Done;
                Ok(keys)
            }
            Err(fault) => Err(self.fail(fault)),
        }
    }

    /// Client key, server key, client salt, server salt (RFC 5764 section 4.2).
    fn keys(&self) -> Result<SrtpKeys, DtlsFault> {
        let state = self.endpoint.get_connection_state(PEER).ok_or(DtlsFault::NoSuite)?;
        let profile = state.srtp_protection_profile();
        let suite = PROFILES.iter().find(|(_, other)| *other == profile).map(|(suite, _)| *suite);
        let suite = suite.ok_or(DtlsFault::NoSuite)?;
        let (key, salt) = (suite.key_len(), suite.salt_len());
        let material = state.export_keying_material(EXPORTER, &[], 2 * (key + salt)).map_err(of_library)?;
        let material = Zeroizing::new(material.into_bytes());
        let (keys, salts) = material.split_at(2 * key);
        let master = |nth: usize| {
            let (key, salt) = (&keys[nth * key..][..key], &salts[nth * salt..][..salt]);
            MasterKey::new(suite, &Zeroizing::new([key, salt].concat())).ok_or(DtlsFault::NoSuite)
        };
        let (client, server) = (master(0)?, master(1)?);
        Ok(match self.role {
            Role::Client => SrtpKeys { send: client, receive: server },
            Role::Server => SrtpKeys { send: server, receive: client },
        })
    }

    fn fail(&mut self, fault: DtlsFault) -> DtlsFault {
        self.state = State::Failed;
        if self.foreign.load(Ordering::Relaxed) { DtlsFault::Fingerprint } else { fault }
    }
}

impl fmt::Debug for Association {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Association")
            .field("role", &self.role)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

fn configuration(
    identity: &Identity,
    role: Role,
    fingerprints: Vec<Fingerprint>,
    foreign: &Arc<AtomicBool>,
) -> Result<Arc<HandshakeConfig>, rtc_shared::error::Error> {
    let foreign = foreign.clone();
    let provider = rtc_dtls::crypto_provider::default_provider()
        .map_err(|fault| rtc_shared::error::Error::Other(fault.to_string()))?;
    ConfigBuilder::default()
        .with_crypto_provider(provider)
        .with_certificates(vec![identity.certificate.clone()])
        .with_srtp_protection_profiles(PROFILES.iter().map(|(_, profile)| *profile).collect())
        // Without this a client would not be asked who it is.
        .with_client_auth(ClientAuthType::RequireAnyClientCert)
        // No chain is checked: SDP names the certificate (RFC 5763 section 5).
        .with_insecure_skip_verify(true)
        .with_verify_peer_certificate(Some(Arc::new(move |chain: &[Vec<u8>], _: &[_]| {
            let own = chain.first();
            if own.is_some_and(|own| fingerprints.iter().any(|fingerprint| fingerprint.matches(own))) {
                return Ok(());
            }
            foreign.store(true, Ordering::Relaxed);
            Err(rtc_shared::error::Error::Other(DtlsFault::Fingerprint.to_string()))
        })))
        .with_flight_interval(FIRST_RESEND)
        .with_mtu(MTU)
        .build(role == Role::Client, None)
        .map(Arc::new)
}

fn of_library(fault: rtc_shared::error::Error) -> DtlsFault {
    DtlsFault::Handshake(fault.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zero() -> std::time::Instant {
        crate::net::clock::Clock::start().zero()
    }

    /// Two ends, and which of their datagrams get lost.
    struct Pair {
        ends: [Association; 2],
        outcomes: [Option<Outcome>; 2],
        now: Instant,
        sent: u32,
        /// Datagram number n is lost when `n % every == phase`.
        lost: Option<(u32, u32)>,
    }

    impl Pair {
        fn new(client: &Identity, server: &Identity, lost: Option<(u32, u32)>) -> Self {
            Self::expecting(client, server, client.fingerprint(), server.fingerprint(), lost)
        }

        fn expecting(
            client: &Identity,
            server: &Identity,
            of_client: &Fingerprint,
            of_server: &Fingerprint,
            lost: Option<(u32, u32)>,
        ) -> Self {
            let (now, zero) = (Instant::from_millis(5), zero());
            let make = |identity, role, expected: &Fingerprint| {
                Association::new(identity, role, vec![expected.clone()], now, zero).unwrap()
            };
            let ends = [make(client, Role::Client, of_server), make(server, Role::Server, of_client)];
            Self { ends, outcomes: [None, None], now, sent: 0, lost }
        }

        /// Runs until nobody waits for anything; the virtual time that took.
        fn run(&mut self) -> Duration {
            let start = self.now;
            loop {
                self.exchange();
                let Some(at) = self.ends.iter().filter_map(Association::deadline).min() else { break };
                self.now = self.now.max(at);
                for (end, outcome) in self.ends.iter_mut().zip(&mut self.outcomes) {
                    if end.deadline().is_some_and(|at| at <= self.now)
                        && let Some(told) = end.timeout(self.now)
                    {
                        assert_eq!(outcome.replace(told), None, "told once");
                    }
                }
            }
            self.now - start
        }

        fn exchange(&mut self) {
            loop {
                let mut quiet = true;
                for from in 0..2 {
                    while let Some(datagram) = self.ends[from].poll_transmit() {
                        quiet = false;
                        self.sent += 1;
                        assert!(datagram.as_ref().len() <= MTU);
                        if self.lost.is_some_and(|(every, phase)| self.sent % every == phase) {
                            continue;
                        }
                        if let Some(told) = self.ends[1 - from].receive(self.now, datagram.as_ref()) {
                            assert_eq!(self.outcomes[1 - from].replace(told), None, "told once");
                        }
                    }
                }
                if quiet {
                    return;
                }
            }
        }

        fn keys(&self) -> [&SrtpKeys; 2] {
            self.outcomes.each_ref().map(|outcome| match outcome {
                Some(Ok(keys)) => keys,
                other => panic!("{other:?} after {} datagrams", self.sent),
            })
        }
    }

    fn of_rsa() -> Identity {
        let provider = rtc_dtls::crypto_provider::default_provider().unwrap();
        let certificate = Certificate::generate_self_signed_with_alg(
            vec!["rsa".to_owned()],
            &rcgen::PKCS_RSA_SHA256,
            provider.crypto(),
        )
        .unwrap();
        let fingerprint = Fingerprint::of(&certificate.certificate[0]);
        Identity { certificate, fingerprint }
    }

    #[test]
    fn both_ends_come_to_the_same_keys() {
        let (client, server) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let mut pair = Pair::new(&client, &server, None);
        assert_eq!(pair.run(), Duration::ZERO);
        let [ours, theirs] = pair.keys();
        assert_eq!((&ours.send, &ours.receive), (&theirs.receive, &theirs.send));
        assert_ne!(ours.send, ours.receive);
        assert_eq!(ours.send.suite(), SrtpSuite::Aes128Gcm);
    }

    /// The bar: a hundred handshakes, each with every third datagram lost, both ways, from another
    /// one on each time; half of the peers have an RSA certificate, on either side.
    #[test]
    fn a_hundred_of_a_hundred_handshakes_survive_the_loss_of_every_third_datagram() {
        let (own, other, rsa) = (Identity::generate().unwrap(), Identity::generate().unwrap(), of_rsa());
        let mut longest = Duration::ZERO;
        for number in 0..100 {
            let (client, server) = match number / 3 % 4 {
                0 => (&own, &rsa),
                1 => (&rsa, &own),
                _ => (&own, &other),
            };
            let mut pair = Pair::new(client, server, Some((3, number % 3)));
            longest = longest.max(pair.run());
            let [ours, theirs] = pair.keys();
            assert_eq!((&ours.send, &ours.receive), (&theirs.receive, &theirs.send), "{number}");
        }
        println!("the longest took {longest:?}");
    }

    #[test]
    fn a_certificate_with_another_fingerprint_gives_no_keys() {
        let [one, two, three] = [(); 3].map(|()| Identity::generate().unwrap());
        let mut pair = Pair::expecting(&one, &two, one.fingerprint(), three.fingerprint(), None);
        pair.run();
        assert_eq!(pair.outcomes[0], Some(Err(DtlsFault::Fingerprint)));
        assert!(matches!(pair.outcomes[1], Some(Err(DtlsFault::Handshake(_)))), "{:?}", pair.outcomes);
        let mut pair = Pair::expecting(&one, &two, three.fingerprint(), two.fingerprint(), None);
        pair.run();
        assert_eq!(pair.outcomes[1], Some(Err(DtlsFault::Fingerprint)));
        assert!(!matches!(pair.outcomes[0], Some(Ok(_))), "{:?}", pair.outcomes);
    }

    #[test]
    fn who_hears_nothing_gives_up_in_time_and_sends_little() {
        let identity = Identity::generate().unwrap();
        let mut pair = Pair::new(&identity, &identity, Some((1, 0)));
        assert_eq!(pair.run(), HANDSHAKE_LIMIT);
        assert_eq!(pair.outcomes, [Some(Err(DtlsFault::TimedOut)), Some(Err(DtlsFault::TimedOut))]);
        assert!((5..=8).contains(&pair.sent), "{}", pair.sent);
    }
}
