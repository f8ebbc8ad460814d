//! The client's side of digest authentication (RFC 3261 section 22, RFC 7616 sections 3.3 and 3.4).

use std::fmt;
use std::net::IpAddr;

use rand_core::Rng;

use super::{Challenge, Credentials, Qop, Secret};
use crate::sip::{Method, Name, Request, Response, Uri};

/// `stale=true` (RFC 7616 section 3.3) in a row for one request; a server that never gets enough is left.
const STALE_IN_A_ROW: u8 = 2;

/// Whom we are, and to whom we say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Our name there.
    pub username: String,
    /// What proves it.
    pub secret: Secret,
    /// The only realm whose challenges are answered. Without one it is the first that a peer asks
    /// for, and none other from then on.
    pub realm: Option<String>,
    /// The only addresses whose challenges are answered. A challenge from anybody else is a trap
    /// that collects digests.
    pub peers: Vec<IpAddr>,
}

/// Answers challenges for one account.
#[derive(Debug)]
pub struct Client {
    account: Account,
    session: Option<Session>,
    stale_in_a_row: u8,
}

/// The challenge in use.
#[derive(Debug)]
struct Session {
    header: Name,
    challenge: Challenge,
    nc: u32,
}

impl Client {
    /// Without a challenge yet.
    pub const fn new(account: Account) -> Self {
        Self { account, session: None, stale_in_a_row: 0 }
    }

    /// Answers the 401 or 407 that `peer` sent to our `request` (RFC 3261 sections 22.2 and 22.3): the
    /// header for the request to send next, which needs a higher CSeq and a new branch (section 8.1.3.5).
    /// Of several challenges the strongest counts, wherever it stands: the local policy that RFC 8760
    /// section 2.4 allows.
    ///
    /// The caller vouches that the response belongs to a transaction of ours.
    pub fn answer(
        &mut self,
        request: &Request,
        response: &Response,
        peer: IpAddr,
        rng: &mut impl Rng,
    ) -> Result<(Name, Credentials), ClientRefusal> {
        let (asked, header) = match response.status {
            401 => (Name::WwwAuthenticate, Name::Authorization),
            407 => (Name::ProxyAuthenticate, Name::ProxyAuthorization),
            _ => return Err(ClientRefusal::NoChallenge),
        };
        let peer = peer.to_canonical();
        if !self.account.peers.iter().any(|known| known.to_canonical() == peer) {
            return Err(ClientRefusal::OtherPeer);
        }
        let mut challenges: Vec<_> = response.headers.all(&asked).filter_map(Challenge::parse).collect();
        if challenges.is_empty() {
            return Err(ClientRefusal::NoChallenge);
        }
        let bound = self
            .account
            .realm
            .get_or_insert_with(|| challenges.first().map_or_else(String::new, |c| c.realm.clone()));
        challenges.retain(|challenge| challenge.realm == *bound);
        if challenges.is_empty() {
            return Err(ClientRefusal::OtherRealm);
        }
        challenges.retain(|challenge| self.account.secret.has(challenge.algorithm));
        let challenge =
            challenges.into_iter().max_by_key(|c| c.algorithm).ok_or(ClientRefusal::NoChallenge)?;
        let sent = request.headers.all(&header).filter_map(Credentials::parse);
        // A nonce that was good before and is not now has come of age, whether or not the server says so: one
        // that was started anew does not know it.
        let of_age = |sent: &Credentials| {
            self.session.as_ref().is_some_and(|it| it.challenge.nonce == sent.nonce && it.nc > 1)
        };
        match sent.into_iter().find(|credentials| credentials.realm == challenge.realm) {
            None => self.stale_in_a_row = 0,
            Some(sent) if !challenge.stale && !of_age(&sent) || sent.nonce == challenge.nonce => {
                self.session = None;
                return Err(ClientRefusal::Rejected);
            }
            Some(_) if self.stale_in_a_row >= STALE_IN_A_ROW => return Err(ClientRefusal::Rejected),
            Some(_) => self.stale_in_a_row = self.stale_in_a_row.saturating_add(1),
        }
        self.session = Some(Session { header, challenge, nc: 0 });
        self.next(&request.method, &request.uri, rng).ok_or(ClientRefusal::NoChallenge)
    }

    /// The header for another request to the same peer, with the next nonce count (RFC 7616 section
    /// 3.4); nothing before the first challenge.
    pub fn next(&mut self, method: &Method, uri: &Uri, rng: &mut impl Rng) -> Option<(Name, Credentials)> {
        let session = self.session.as_mut()?;
        session.nc = session.nc.checked_add(1)?;
        let challenge = &session.challenge;
        let cnonce = || format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64());
        let qop = challenge.qop_auth.then(cnonce).map(|cnonce| Qop { nc: session.nc, cnonce });
        let mut credentials = Credentials {
            username: self.account.username.clone(),
            realm: challenge.realm.clone(),
            nonce: challenge.nonce.clone(),
            uri: uri.to_string(),
            response: String::new(),
            algorithm: challenge.algorithm,
            opaque: challenge.opaque.clone(),
            qop,
        };
        let ha1 = self.account.secret.ha1(challenge.algorithm, &credentials.username, &credentials.realm)?;
        credentials.response = credentials.digest(method, &ha1);
        Some((session.header.clone(), credentials))
    }
}

/// Why a challenge is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientRefusal {
    /// There is none that we know how to answer.
    NoChallenge,
    /// It is for another realm than the account's.
    OtherRealm,
    /// It comes from an address that the account does not name.
    OtherPeer,
    /// Our credentials were refused, or the server never has enough.
    Rejected,
}

impl fmt::Display for ClientRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoChallenge => "no challenge that can be answered",
            Self::OtherRealm => "challenge for another realm",
            Self::OtherPeer => "challenge from another address",
            Self::Rejected => "credentials refused",
        })
    }
}

impl std::error::Error for ClientRefusal {}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;

    use super::*;
    use crate::sip::auth::{Algorithm, Verdict, Verifier};
    use crate::{Instant, Now};

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));
    const US: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));
    const NOW: Now = Now { mono: Instant::ZERO, wall: SystemTime::UNIX_EPOCH };

    fn client() -> Client {
        Client::new(Account {
            username: "gateway".into(),
            secret: Secret::Password("secret".into()),
            realm: Some("example.com".into()),
            peers: vec![PEER],
        })
    }

    fn rng() -> ChaCha12Rng {
        ChaCha12Rng::from_seed([3; 32])
    }

    fn invite() -> Request {
        Request::new(Method::Invite, Uri::parse("sip:+4420@example.com;user=phone").unwrap())
    }

    fn challenged(status: u16, challenges: &[&str]) -> Response {
        let mut response = Response::to(&invite(), status, None);
        let name = if status == 401 { Name::WwwAuthenticate } else { Name::ProxyAuthenticate };
        for challenge in challenges {
            response.headers.push(name.clone(), challenge);
        }
        response
    }

    #[test]
    fn client_and_verifier_agree_and_counts_go_up() {
        let (mut client, mut rng) = (client(), rng());
        let mut verifier = Verifier::new("example.com", &[Algorithm::Sha256, Algorithm::Md5], [1; 32]);
        let verify = |verifier: &mut Verifier, now, request: &Request| {
            verifier.authenticate(now, US, request, &Name::ProxyAuthorization, |_| {
                Some(Secret::Password("secret".into()))
            })
        };
        let mut request = invite();
        let mut refused = challenged(407, &[]);
        for challenge in verifier.challenges(NOW, US, false) {
            refused.headers.push(Name::ProxyAuthenticate, challenge);
        }
        let (name, credentials) = client.answer(&request, &refused, PEER, &mut rng).unwrap();
        assert_eq!((&name, credentials.algorithm), (&Name::ProxyAuthorization, Algorithm::Sha256));
        request.headers.set(name, &credentials);
        assert!(matches!(verify(&mut verifier, NOW, &request), Verdict::Accepted { .. }));
        for nc in 2..5 {
            let (name, credentials) = client.next(&request.method, &request.uri, &mut rng).unwrap();
            assert_eq!(credentials.qop.as_ref().unwrap().nc, nc);
            request.headers.set(name, credentials);
            assert!(matches!(verify(&mut verifier, NOW, &request), Verdict::Accepted { .. }));
        }
        // Six minutes later the nonce is stale, and answered with another.
        let later = Now {
            mono: Instant::from_millis(360_000),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(360),
        };
        let (name, credentials) = client.next(&request.method, &request.uri, &mut rng).unwrap();
        request.headers.set(name, credentials);
        assert_eq!(verify(&mut verifier, later, &request), Verdict::Stale);
        let mut refused = challenged(407, &[]);
        for challenge in verifier.challenges(later, US, true) {
            refused.headers.push(Name::ProxyAuthenticate, challenge);
        }
        let (name, credentials) = client.answer(&request, &refused, PEER, &mut rng).unwrap();
        request.headers.set(name, credentials);
        assert!(matches!(verify(&mut verifier, later, &request), Verdict::Accepted { .. }));
    }

    #[test]
    fn digests_are_for_the_configured_realm_and_peer_only() {
        let (mut client, mut rng) = (client(), rng());
        let ours = "Digest realm=\"example.com\", nonce=\"n\", qop=\"auth\"";
        let stranger = "203.0.113.66".parse().unwrap();
        let mut answer =
            |response: &Response, peer| client.answer(&invite(), response, peer, &mut rng).map(|_| ());
        assert_eq!(answer(&challenged(407, &[ours]), stranger), Err(ClientRefusal::OtherPeer));
        let other = ours.replace("example.com", "evil.example");
        assert_eq!(answer(&challenged(407, &[&other]), PEER), Err(ClientRefusal::OtherRealm));
        assert_eq!(
            answer(&challenged(401, &["Basic realm=\"example.com\""]), PEER),
            Err(ClientRefusal::NoChallenge)
        );
        assert_eq!(answer(&challenged(403, &[ours]), PEER), Err(ClientRefusal::NoChallenge));
        assert_eq!(answer(&challenged(401, &[&other, ours]), PEER), Ok(()));
    }

    #[test]
    fn without_a_realm_the_first_one_asked_for_binds() {
        let (mut client, mut rng) = (client(), rng());
        client.account.realm = None;
        let of =
            |realm: &str| challenged(401, &[&format!("Digest realm=\"{realm}\", nonce=\"n\", qop=\"auth\"")]);
        let stranger = "203.0.113.66".parse().unwrap();
        assert_eq!(
            client.answer(&invite(), &of("x"), stranger, &mut rng).unwrap_err(),
            ClientRefusal::OtherPeer
        );
        assert_eq!(client.answer(&invite(), &of("a"), PEER, &mut rng).unwrap().1.realm, "a");
        assert_eq!(
            client.answer(&invite(), &of("b"), PEER, &mut rng).unwrap_err(),
            ClientRefusal::OtherRealm
        );
    }

    #[test]
    fn a_refusal_is_final_and_stale_ends() {
        let (mut client, mut rng) = (client(), rng());
        let challenge = |n: u32, stale: bool| {
            challenged(
                401,
                &[&format!("Digest realm=\"example.com\", nonce=\"{n}\", stale={stale}, qop=\"auth\"")],
            )
        };
        let mut request = invite();
        let (name, credentials) = client.answer(&request, &challenge(1, false), PEER, &mut rng).unwrap();
        request.headers.set(name, credentials);
        assert_eq!(
            client.answer(&request, &challenge(2, false), PEER, &mut rng).unwrap_err(),
            ClientRefusal::Rejected
        );
        assert!(client.next(&request.method, &request.uri, &mut rng).is_none());
        for n in 3..=4 {
            let (name, credentials) = client.answer(&request, &challenge(n, true), PEER, &mut rng).unwrap();
            request.headers.set(name, credentials);
        }
        assert_eq!(
            client.answer(&request, &challenge(5, true), PEER, &mut rng).unwrap_err(),
            ClientRefusal::Rejected
        );
        // The same nonce as before is no news.
        let mut again = client;
        again.stale_in_a_row = 0;
        assert_eq!(
            again.answer(&request, &challenge(4, true), PEER, &mut rng).unwrap_err(),
            ClientRefusal::Rejected
        );
    }

    /// A server that was started anew knows no nonce of before, and may not call it stale.
    #[test]
    fn a_nonce_that_was_good_and_is_not_now_is_replaced_once() {
        let challenge = |n: u32, more: &str| {
            challenged(401, &[&format!("Digest realm=\"example.com\", nonce=\"{n}\"{more}")])
        };
        for more in [", qop=\"auth\"", ""] {
            let (mut client, mut rng) = (client(), rng());
            let mut request = invite();
            let (name, credentials) = client.answer(&request, &challenge(1, more), PEER, &mut rng).unwrap();
            request.headers.set(name, credentials);
            // It was taken; the next request has it from the beginning.
            let (name, credentials) = client.next(&request.method, &request.uri, &mut rng).unwrap();
            request.headers.set(name, credentials);
            let (name, credentials) = client.answer(&request, &challenge(2, more), PEER, &mut rng).unwrap();
            assert_eq!(credentials.nonce, "2");
            request.headers.set(name, credentials);
            // A new one that is refused is refused for good.
            let refused = client.answer(&request, &challenge(3, more), PEER, &mut rng);
            assert_eq!(refused.unwrap_err(), ClientRefusal::Rejected);
        }
    }

    #[test]
    fn a_challenge_without_qop_gets_the_digest_of_rfc_2069() {
        let (mut client, mut rng) = (client(), rng());
        let response = challenged(401, &["Digest realm=\"example.com\", nonce=\"n\", opaque=\"o\""]);
        let (name, credentials) = client.answer(&invite(), &response, PEER, &mut rng).unwrap();
        assert_eq!(
            (name, credentials.qop.is_none(), credentials.opaque.as_deref()),
            (Name::Authorization, true, Some("o"))
        );
        assert!(credentials.prove(&Method::Invite, &Secret::Password("secret".into())));
    }
}
