//! The server's side of digest authentication (RFC 3261 section 22, RFC 7616 section 3).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use sha2::Sha256;

use super::{Algorithm, Challenge, Credentials, Secret};
use crate::sip::{Headers, Name, Request, Uri};
use crate::{Instant, Now};

/// How long a nonce is good. Devices that refresh less often pay one more round trip.
pub const NONCE_LIFETIME: Duration = Duration::from_secs(300);

/// Nonces remembered because somebody used them with the right password; about 10 MiB when full.
/// 400 fresh logins a second fit into a lifetime. Beyond that the oldest is forgotten, and with it
/// every nonce issued before it is refused as stale: none is ever accepted a second time.
const USED_NONCES: usize = 131_072;

/// Stale uses remembered, so that each is told `stale=true` once; the oldest is forgotten.
const STALE_USES: usize = 4_096;

/// Nonce counts (RFC 7616 section 3.4) below the highest that may still come: parallel requests overtake
/// each other.
const NC_WINDOW: u32 = 64;

/// What an attempt comes to. All but [`Verdict::Accepted`] are answered with fresh challenges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is that user.
    Accepted {
        /// The user name of the credentials.
        username: String,
    },
    /// No credentials for our realm.
    Missing,
    /// The digest is right, the nonce is too old, used, or not ours: challenge with `stale=true`.
    Stale,
    /// The user is unknown, the password wrong, or the digest is for another target.
    Refused,
}

/// Issues challenges and checks what comes back.
///
/// A nonce carries its time and a signature over it, the client's address and the realm, so that a
/// challenge costs no memory, whoever asks for it. Time is counted from the wall clock and by the
/// monotonic one: a wall clock that is set back neither makes an old nonce good again nor locks
/// anybody out.
#[derive(Debug)]
pub struct Verifier {
    realm: String,
    algorithms: Vec<Algorithm>,
    key: Key,
    salts: ChaCha12Rng,
    clock: Clock,
    used: UsedNonces,
    stale: StaleUses,
    /// What an unknown user is checked against.
    nobody: Secret,
}

impl Verifier {
    /// For a realm. `key` signs nonces and seeds their salt: 32 random octets, kept nowhere else.
    /// Challenges come in the order of `algorithms`; RFC 8760 section 2.3 wants the strongest first.
    pub fn new(realm: &str, algorithms: &[Algorithm], key: [u8; 32]) -> Self {
        let mut salts = ChaCha12Rng::from_seed(key);
        let nobody = Secret::Password(format!("{:016x}{:016x}", salts.next_u64(), salts.next_u64()));
        Self {
            realm: realm.to_owned(),
            algorithms: algorithms.to_vec(),
            key: Key(key),
            salts,
            clock: Clock::default(),
            used: UsedNonces::default(),
            stale: StaleUses::default(),
            nobody,
        }
    }

    /// The realm.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// The challenges of a 401 or 407 to that address: one header each, in this order.
    pub fn challenges(&mut self, now: Now, source: IpAddr, stale: bool) -> Vec<Challenge> {
        self.challenges_in(now, source, stale, |_| true)
    }

    /// The same, of those algorithms that `offered` names. Where it names none, of all: nobody is told by
    /// their absence that there is something else about him.
    pub fn challenges_in(
        &mut self,
        now: Now,
        source: IpAddr,
        stale: bool,
        offered: impl Fn(Algorithm) -> bool,
    ) -> Vec<Challenge> {
        let issued = self.clock.read(now);
        let nonce = self.key.sign(Stamp { issued, salt: self.salts.next_u64() }, source, &self.realm);
        let challenge = |algorithm: &Algorithm| Challenge {
            realm: self.realm.clone(),
            nonce: nonce.clone(),
            opaque: None,
            algorithm: *algorithm,
            qop_auth: true,
            stale,
        };
        let some = self.algorithms.iter().any(|algorithm| offered(*algorithm));
        self.algorithms.iter().filter(|it| !some || offered(**it)).map(challenge).collect()
    }

    /// The credentials for our realm among the headers of that name.
    pub fn credentials(&self, headers: &Headers, name: &Name) -> Option<Credentials> {
        headers
            .all(name)
            .filter_map(Credentials::parse)
            .find(|c| c.realm == self.realm && c.qop.is_some() && self.algorithms.contains(&c.algorithm))
    }

    /// Checks a request from that address whose credentials stand in headers of that name; `secret`
    /// says what proves a user, nothing for one who is unknown.
    pub fn authenticate(
        &mut self,
        now: Now,
        source: IpAddr,
        request: &Request,
        name: &Name,
        secret: impl FnOnce(&str) -> Option<Secret>,
    ) -> Verdict {
        let Some(credentials) = self.credentials(&request.headers, name) else { return Verdict::Missing };
        let secret = secret(&credentials.username);
        self.verify(now, source, request, &credentials, secret.as_ref())
    }

    /// Whether a request answers a challenge that was sent to `source`. If so it comes from there, however
    /// wrong the answer is; what does not may come from anybody who writes that address on a datagram.
    pub fn is_answer(&self, source: IpAddr, request: &Request, name: &Name) -> bool {
        let credentials = self.credentials(&request.headers, name);
        credentials.is_some_and(|it| self.key.check(&it.nonce, source, &self.realm).is_some())
    }

    /// The same in two steps, for an owner that has to ask elsewhere for the secret. It must ask in
    /// the same way for users that it does not know.
    pub fn verify(
        &mut self,
        now: Now,
        source: IpAddr,
        request: &Request,
        credentials: &Credentials,
        secret: Option<&Secret>,
    ) -> Verdict {
        // An unknown user costs the same work as a wrong password, and gets the same answer. What a
        // known password costs more than its stored hash is spent on nobody.
        // Who answers by a hash that he was not asked for is nobody's user either.
        let secret = secret.filter(|secret| secret.has(credentials.algorithm));
        let known = secret.is_some();
        let secret = match secret {
            Some(secret @ Secret::Password(_)) => secret,
            Some(secret) => {
                std::hint::black_box(self.nobody.ha1(
                    credentials.algorithm,
                    &credentials.username,
                    &self.realm,
                ));
                secret
            }
            None => &self.nobody,
        };
        let proved = credentials.prove(&request.method, secret);
        // A digest made for another target is not good for this one (reuse to dial elsewhere; RFC 3261
        // section 22.4 lets the two differ in what proxies change, so they are compared as targets).
        let targeted = Uri::parse(&credentials.uri).is_ok_and(|uri| uri.same_target(&request.uri));
        let stamp = self.key.check(&credentials.nonce, source, &self.realm);
        let now = self.clock.read(now);
        let Some(qop) = credentials.qop.as_ref().filter(|_| proved && known && targeted) else {
            return Verdict::Refused;
        };
        match stamp {
            Some(stamp) if self.used.accept(now, stamp, qop.nc) => {
                Verdict::Accepted { username: credentials.username.clone() }
            }
            _ if self.stale.is_new(&self.key, &credentials.nonce, qop.nc) => Verdict::Stale,
            _ => Verdict::Refused,
        }
    }
}

/// When a nonce was made, in nanoseconds of [`Clock`], and what makes it differ from others of that
/// moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stamp {
    issued: u64,
    salt: u64,
}

struct Key([u8; 32]);

/// Octets of the signature that go into a nonce: 2^128 guesses.
const TAG: usize = 16;

impl Key {
    fn sign(&self, stamp: Stamp, source: IpAddr, realm: &str) -> String {
        let tag = self.mac(stamp, source, realm).finalize().into_bytes();
        let mut octets = Vec::with_capacity(16 + TAG);
        octets.extend_from_slice(&stamp.issued.to_be_bytes());
        octets.extend_from_slice(&stamp.salt.to_be_bytes());
        octets.extend(tag.iter().take(TAG));
        URL_SAFE_NO_PAD.encode(octets)
    }

    fn check(&self, nonce: &str, source: IpAddr, realm: &str) -> Option<Stamp> {
        let octets = URL_SAFE_NO_PAD.decode(nonce).ok()?;
        let (issued, rest) = octets.split_first_chunk()?;
        let (salt, tag) = rest.split_first_chunk()?;
        let stamp = Stamp { issued: u64::from_be_bytes(*issued), salt: u64::from_be_bytes(*salt) };
        let tag: &[u8; TAG] = tag.try_into().ok()?;
        self.mac(stamp, source, realm).verify_truncated_left(tag).ok()?;
        Some(stamp)
    }

    fn mac(&self, stamp: Stamp, source: IpAddr, realm: &str) -> Hmac<Sha256> {
        // HMAC pads a short key with zeros to its block; done here, the constructor cannot fail.
        let mut block = [0; 64];
        for (octet, key) in block.iter_mut().zip(self.0) {
            *octet = key;
        }
        let mut mac = Hmac::<Sha256>::new(&block.into());
        let source = match source {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        mac.update(&stamp.issued.to_be_bytes());
        mac.update(&stamp.salt.to_be_bytes());
        mac.update(&source.octets());
        mac.update(realm.as_bytes());
        mac
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Nanoseconds that follow the wall clock forwards and the monotonic one otherwise.
#[derive(Debug, Default)]
struct Clock {
    last: u64,
    mono: Instant,
}

impl Clock {
    fn read(&mut self, now: Now) -> u64 {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let elapsed = nanos(now.mono.saturating_since(self.mono));
        let wall = nanos(now.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
        self.mono = self.mono.max(now.mono);
        self.last = self.last.saturating_add(elapsed).max(wall);
        self.last
    }
}

/// Nonces that were used with the right password, oldest first.
#[derive(Debug, Default)]
struct UsedNonces {
    nonces: BTreeMap<Stamp, NcWindow>,
    /// Nonces issued up to here that are not in the table may have been forgotten.
    floor: Option<u64>,
}

impl UsedNonces {
    /// Whether that use is the first of its nonce and count, in time. Then it is remembered.
    fn accept(&mut self, now: u64, stamp: Stamp, nc: u32) -> bool {
        let oldest = now.saturating_sub(u64::try_from(NONCE_LIFETIME.as_nanos()).unwrap_or(u64::MAX));
        while self.nonces.first_key_value().is_some_and(|(first, _)| first.issued < oldest) {
            self.nonces.pop_first();
        }
        if stamp.issued < oldest || stamp.issued > now {
            return false;
        }
        if let Some(window) = self.nonces.get_mut(&stamp) {
            return window.accept(nc);
        }
        if self.floor.is_some_and(|floor| stamp.issued <= floor) {
            return false;
        }
        self.nonces.insert(stamp, NcWindow { highest: nc, below: 0 });
        if self.nonces.len() > USED_NONCES
            && let Some((forgotten, _)) = self.nonces.pop_first()
        {
            self.floor = self.floor.max(Some(forgotten.issued));
        }
        true
    }
}

/// Which counts of a nonce were used.
#[derive(Debug)]
struct NcWindow {
    highest: u32,
    /// Bit n: `highest - 1 - n` was used.
    below: u64,
}

impl NcWindow {
    fn accept(&mut self, nc: u32) -> bool {
        if nc > self.highest {
            let step = nc.saturating_sub(self.highest);
            // The old highest becomes the bit of its distance.
            let moved = self.below.checked_shl(step).unwrap_or(0);
            let old = 1_u64.checked_shl(step.saturating_sub(1)).unwrap_or(0);
            *self = Self { highest: nc, below: moved | old };
            return true;
        }
        let distance = self.highest.saturating_sub(nc);
        if distance == 0 || distance > NC_WINDOW {
            return false;
        }
        let bit = 1_u64.checked_shl(distance.saturating_sub(1)).unwrap_or(0);
        let fresh = self.below & bit == 0;
        self.below |= bit;
        fresh
    }
}

/// Uses of a nonce that were told `stale=true`. A client that got it once has a fresh nonce; who
/// comes again with the old one replays.
#[derive(Debug, Default)]
struct StaleUses {
    order: VecDeque<[u8; 16]>,
    known: BTreeSet<[u8; 16]>,
}

impl StaleUses {
    fn is_new(&mut self, key: &Key, nonce: &str, nc: u32) -> bool {
        let mut mac = Hmac::<Sha256>::new(&[0x5c; 64].into());
        mac.update(&key.0);
        mac.update(nonce.as_bytes());
        mac.update(&nc.to_be_bytes());
        let tag = mac.finalize().into_bytes();
        let Some(tag) = tag.first_chunk::<16>().copied() else { return false };
        if !self.known.insert(tag) {
            return false;
        }
        self.order.push_back(tag);
        if self.order.len() > STALE_USES
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::auth::{HASHES, Ha1, Qop};
    use crate::sip::{Method, Response};

    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));
    const BOTH: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Md5];

    fn at(mono: u64, wall: u64) -> Now {
        Now {
            mono: Instant::from_millis(mono * 1000),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(wall),
        }
    }

    const START: u64 = 1_800_000_000;

    fn verifier() -> Verifier {
        Verifier::new("example.com", &BOTH, [7; 32])
    }

    /// A REGISTER with the digest of a client that has `password`.
    fn register(challenge: &Challenge, nc: u32, password: &str) -> Request {
        let mut request = Request::new(Method::Register, Uri::parse("sip:example.com").unwrap());
        let mut credentials = Credentials {
            username: "alice".into(),
            realm: challenge.realm.clone(),
            nonce: challenge.nonce.clone(),
            uri: "sip:example.com".into(),
            response: String::new(),
            algorithm: challenge.algorithm,
            opaque: None,
            qop: Some(Qop { nc, cnonce: "c".into() }),
        };
        let ha1 = Secret::Password(password.into()).ha1(challenge.algorithm, "alice", &challenge.realm);
        credentials.response = credentials.digest(&request.method, &ha1.unwrap());
        request.headers.push(Name::Authorization, credentials);
        request
    }

    fn try_it(verifier: &mut Verifier, now: Now, source: IpAddr, request: &Request) -> Verdict {
        verifier.authenticate(now, source, request, &Name::Authorization, |user| {
            (user == "alice").then(|| Secret::Ha1(Ha1::new("alice", "example.com", "secret")))
        })
    }

    fn accepted() -> Verdict {
        Verdict::Accepted { username: "alice".into() }
    }

    #[test]
    fn who_has_a_third_hash_proves_himself_by_it_and_who_has_not_is_not_asked_for_it() {
        let all = [Algorithm::Sha512_256, Algorithm::Sha256, Algorithm::Md5];
        let mut verifier = Verifier::new("example.com", &all, [7; 32]);
        let now = at(100, START);
        let three = verifier.challenges(now, SOURCE, false);
        assert_eq!(three.iter().map(|it| it.algorithm).collect::<Vec<_>>(), all, "RFC 8760 section 2.3");
        let request = register(&three[0], 1, "secret");
        assert_eq!(try_it(&mut verifier, now, SOURCE, &request), accepted());
        let old = |it| it != Algorithm::Sha512_256;
        let two = verifier.challenges_in(now, SOURCE, false, old);
        assert_eq!(two.iter().map(|it| it.algorithm).collect::<Vec<_>>(), all[1..]);
        // By that hash his password is as wrong as any, and takes as long.
        let ha1 = Ha1 { sha512_256: None, ..Ha1::new("alice", "example.com", "secret") };
        let request =
            register(&Challenge { algorithm: Algorithm::Sha512_256, ..two[0].clone() }, 1, "secret");
        let mut cost = |secret: Option<Secret>| {
            let before = HASHES.with(std::cell::Cell::get);
            let verdict = verifier.authenticate(now, SOURCE, &request, &Name::Authorization, |_| secret);
            (verdict, HASHES.with(std::cell::Cell::get) - before)
        };
        let unknown = cost(None);
        assert_eq!(cost(Some(Secret::Ha1(ha1))), unknown);
        assert_eq!(unknown.0, Verdict::Refused);
        // Of one algorithm there is always one.
        let mut only = Verifier::new("example.com", &all[..1], [7; 32]);
        assert_eq!(only.challenges_in(now, SOURCE, false, old).len(), 1);
    }

    #[test]
    fn the_right_password_is_accepted_by_both_algorithms_strongest_offered_first() {
        let mut verifier = verifier();
        let now = at(0, START);
        let challenges = verifier.challenges(now, SOURCE, false);
        assert_eq!(challenges.iter().map(|c| c.algorithm).collect::<Vec<_>>(), BOTH);
        for (nc, challenge) in (1..).zip(&challenges) {
            assert_eq!(try_it(&mut verifier, now, SOURCE, &register(challenge, nc, "secret")), accepted());
        }
        let mut response = Response::to(&register(&challenges[0], 1, "x"), 401, None);
        response.headers.push(Name::WwwAuthenticate, &challenges[0]);
        assert_eq!(
            Challenge::parse(response.headers.get(&Name::WwwAuthenticate).unwrap()).as_ref(),
            challenges.first()
        );
    }

    #[test]
    fn unknown_user_wrong_password_and_no_credentials() {
        let mut verifier = verifier();
        let now = at(0, START);
        let challenge = verifier.challenges(now, SOURCE, false).remove(0);
        let wrong = register(&challenge, 1, "guess");
        assert_eq!(try_it(&mut verifier, now, SOURCE, &wrong), Verdict::Refused);
        let mut unknown = register(&challenge, 1, "secret");
        let value = unknown.headers.get(&Name::Authorization).unwrap().replace("alice", "mallory");
        unknown.headers.set(Name::Authorization, value);
        assert_eq!(try_it(&mut verifier, now, SOURCE, &unknown), Verdict::Refused);
        for other in ["NoOneKnowsThisScheme opaque-data=here", "Digest realm=\"other\""] {
            unknown.headers.set(Name::Authorization, other);
            assert_eq!(try_it(&mut verifier, now, SOURCE, &unknown), Verdict::Missing);
        }
        // A failed guess uses up nothing.
        assert_eq!(try_it(&mut verifier, now, SOURCE, &register(&challenge, 1, "secret")), accepted());
        // Somebody may stand among credentials for other realms.
        let mut several = register(&challenge, 2, "secret");
        several.headers.push_front(Name::Authorization, "Digest realm=\"other\"");
        assert_eq!(try_it(&mut verifier, now, SOURCE, &several), accepted());
    }

    #[test]
    fn unknown_users_cost_the_work_of_a_wrong_password() {
        let mut verifier = verifier();
        let now = at(0, START);
        let request = register(&verifier.challenges(now, SOURCE, false)[0], 1, "guess");
        let mut cost = |secret: Option<Secret>| {
            let before = HASHES.with(std::cell::Cell::get);
            let verdict = verifier.authenticate(now, SOURCE, &request, &Name::Authorization, |_| secret);
            assert_eq!(verdict, Verdict::Refused);
            HASHES.with(std::cell::Cell::get) - before
        };
        let unknown = cost(None);
        assert_eq!(unknown, 3);
        assert_eq!(cost(Some(Secret::Password("secret".into()))), unknown);
        assert_eq!(cost(Some(Secret::Ha1(Ha1::new("alice", "example.com", "secret")))), unknown);
    }

    #[test]
    fn nobody_knows_the_password_of_nobody() {
        // The stand-in secret of unknown users must not open the door even if it were guessed.
        let mut verifier = verifier();
        let now = at(0, START);
        let challenge = verifier.challenges(now, SOURCE, false).remove(0);
        let Secret::Password(nobody) = verifier.nobody.clone() else { panic!("no password") };
        let request = register(&challenge, 1, &nobody);
        let verdict = verifier.authenticate(now, SOURCE, &request, &Name::Authorization, |_| None);
        assert_eq!(verdict, Verdict::Refused);
    }

    #[test]
    fn each_count_is_good_once_in_any_order_within_the_window() {
        let mut verifier = verifier();
        let now = at(0, START);
        let challenge = verifier.challenges(now, SOURCE, false).remove(1);
        let mut use_it = |nc| try_it(&mut verifier, now, SOURCE, &register(&challenge, nc, "secret"));
        for nc in [3, 1, 2, 70, 6] {
            assert_eq!(use_it(nc), accepted(), "{nc}");
        }
        // Told to be stale once, then no more.
        for nc in [3, 1, 2, 70, 6] {
            assert_eq!(use_it(nc), Verdict::Stale, "{nc}");
            assert_eq!(use_it(nc), Verdict::Refused, "{nc}");
        }
        assert_eq!(use_it(5), Verdict::Stale, "below the window");
        assert_eq!(use_it(u32::MAX), accepted());
        assert_eq!(use_it(71), Verdict::Stale);
    }

    #[test]
    fn a_nonce_is_good_for_its_lifetime_its_address_and_its_key() {
        let mut verifier = verifier();
        let challenge = verifier.challenges(at(0, START), SOURCE, false).remove(0);
        let request = register(&challenge, 1, "secret");
        let elsewhere = "192.0.2.8".parse().unwrap();
        assert_eq!(try_it(&mut verifier, at(1, START + 1), elsewhere, &request), Verdict::Stale);
        let mut restarted = Verifier::new("example.com", &BOTH, [8; 32]);
        assert_eq!(try_it(&mut restarted, at(1, START + 1), SOURCE, &request), Verdict::Stale);
        let mut forged = challenge.clone();
        forged.nonce = "made up".into();
        assert_eq!(
            try_it(&mut verifier, at(1, START + 1), SOURCE, &register(&forged, 1, "secret")),
            Verdict::Stale
        );
        assert_eq!(try_it(&mut verifier, at(300, START + 300), SOURCE, &request), accepted());
        let late = register(&challenge, 2, "secret");
        assert_eq!(try_it(&mut verifier, at(301, START + 301), SOURCE, &late), Verdict::Stale);
        // An old nonce and a wrong password: no word that the nonce was ours.
        let guess = register(&challenge, 3, "guess");
        assert_eq!(try_it(&mut verifier, at(301, START + 301), SOURCE, &guess), Verdict::Refused);
        assert!(verifier.used.nonces.is_empty());
    }

    #[test]
    fn a_clock_that_is_set_back_extends_nothing_and_locks_nobody_out() {
        let mut verifier = verifier();
        let challenge = verifier.challenges(at(0, START), SOURCE, false).remove(0);
        assert_eq!(
            try_it(&mut verifier, at(10, START + 10), SOURCE, &register(&challenge, 1, "secret")),
            accepted()
        );
        for (mono, wall) in [(301, START), (302, START - 86_400), (303, 0)] {
            let replay = register(&challenge, 1, "secret");
            assert_ne!(try_it(&mut verifier, at(mono, wall), SOURCE, &replay), accepted());
            let fresh_count = register(&challenge, u32::try_from(mono).unwrap(), "secret");
            assert_ne!(try_it(&mut verifier, at(mono, wall), SOURCE, &fresh_count), accepted());
            let fresh = verifier.challenges(at(mono, wall), SOURCE, true).remove(0);
            assert_eq!(
                try_it(&mut verifier, at(mono, wall), SOURCE, &register(&fresh, 1, "secret")),
                accepted()
            );
        }
        // Ten years forwards cost one round trip, and so does the way back.
        let future = at(400, START + 315_360_000);
        assert_eq!(
            try_it(&mut verifier, future, SOURCE, &register(&challenge, 999, "secret")),
            Verdict::Stale
        );
        let fresh = verifier.challenges(future, SOURCE, true).remove(0);
        assert_eq!(
            try_it(&mut verifier, at(401, START + 401), SOURCE, &register(&fresh, 1, "secret")),
            accepted()
        );
        assert_ne!(
            try_it(&mut verifier, at(702, START + 702), SOURCE, &register(&fresh, 2, "secret")),
            accepted()
        );
    }

    #[test]
    fn a_digest_for_another_target_or_method_is_refused() {
        let mut verifier = verifier();
        let now = at(0, START);
        let challenge = verifier.challenges(now, SOURCE, false).remove(0);
        let mut dial = register(&challenge, 1, "secret");
        dial.uri = Uri::parse("sip:+900123456@example.com").unwrap();
        assert_eq!(try_it(&mut verifier, now, SOURCE, &dial), Verdict::Refused);
        let mut invite = register(&challenge, 1, "secret");
        invite.method = Method::Invite;
        assert_eq!(try_it(&mut verifier, now, SOURCE, &invite), Verdict::Refused);
        // Devices that leave out what does not change the target are not punished.
        let mut with_params = register(&challenge, 1, "secret");
        with_params.uri = Uri::parse("sip:example.com:5060;transport=udp").unwrap();
        assert_eq!(try_it(&mut verifier, now, SOURCE, &with_params), accepted());
    }

    #[test]
    fn forgetting_never_lets_a_nonce_in_again() {
        let mut used = UsedNonces::default();
        let stamp = |n: u64| Stamp { issued: 1_000 + n / 4, salt: n };
        let all = u64::try_from(USED_NONCES).unwrap() + 1_000;
        for n in 0..all {
            assert!(used.accept(1_000_000_000, stamp(n), 1));
        }
        assert_eq!(used.nonces.len(), USED_NONCES);
        let readmitted = (0..all).filter(|n| used.accept(1_000_000_000, stamp(*n), 1)).count();
        assert_eq!(readmitted, 0);
        // One that is younger than all forgotten ones still gets in.
        assert!(used.accept(1_000_000_000, Stamp { issued: 999_999_999, salt: 0 }, 1));
    }

    #[test]
    fn what_is_remembered_of_stale_uses_is_bounded() {
        let (mut stale, key) = (StaleUses::default(), Key([1; 32]));
        for nc in 0..u32::try_from(STALE_USES).unwrap() + 10 {
            assert!(stale.is_new(&key, "nonce", nc));
        }
        assert_eq!((stale.order.len(), stale.known.len()), (STALE_USES, STALE_USES));
        assert!(!stale.is_new(&key, "nonce", 100));
    }
}
