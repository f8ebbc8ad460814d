//! The handshakes of one stream: on its port for RTP and, without rtcp-mux, another on that for RTCP
//! (RFC 5764 section 4.1).

use std::net::{IpAddr, SocketAddr};

use crosspoint_codecs::clock::Instant;
use crosspoint_proto::dtls::Agreed;
use crosspoint_proto::rtp::session::{Channel, SessionConfig, SourcePolicy};

use super::dtls::{Association, DtlsFault, Identity, Outcome};

/// Associations with one peer, by what SDP agreed.
#[derive(Debug)]
pub(super) struct Handshakes {
    agreed: Agreed,
    /// Where SDP says that the peer is.
    said: SocketAddr,
    source: SourcePolicy,
    rtp: Way,
    rtcp: Option<Way>,
}

/// The association of one port.
#[derive(Debug)]
struct Way {
    association: Association,
    /// Where its datagrams go: where SDP says, or where a peer behind a NAT showed up.
    to: SocketAddr,
    heard: bool,
}

impl Handshakes {
    /// What `config` asks for: those of `before` when they are with the same peer, role and
    /// certificate (RFC 8842 section 4.3), else new ones.
    pub(super) fn agreed(
        before: Option<Self>,
        config: &SessionConfig,
        identity: &Identity,
        now: Instant,
        zero: std::time::Instant,
    ) -> Result<Option<Self>, DtlsFault> {
        let Some(agreed) = &config.dtls else { return Ok(None) };
        let same = |it: &Self| {
            it.agreed == *agreed
                && config.remote.is_none_or(|remote| remote.rtp == it.said)
                && (config.remote.is_none() || it.rtcp.is_some() != config.rtcp_mux)
        };
        if let Some(before) = before.filter(same) {
            return Ok(Some(before));
        }
        // A stream that is held from its start has no peer yet.
        let Some(remote) = config.remote else { return Ok(None) };
        let way = |to: SocketAddr| -> Result<Way, DtlsFault> {
            let association =
                Association::new(identity, agreed.role, agreed.fingerprints.clone(), now, zero)?;
            Ok(Way { association, to, heard: false })
        };
        let rtcp = remote.rtcp.filter(|_| !config.rtcp_mux).map(way).transpose()?;
        let source = config.source;
        Ok(Some(Self { agreed: agreed.clone(), said: remote.rtp, source, rtp: way(remote.rtp)?, rtcp }))
    }

    /// Takes a datagram. From anywhere but the peer's media address it changes nothing (a foreign
    /// hello would otherwise begin a handshake in the peer's place).
    pub(super) fn receive(
        &mut self,
        now: Instant,
        channel: Channel,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Option<Outcome> {
        let source = self.source;
        let way = self.way(channel)?;
        if canonical(from) != canonical(way.to) {
            let near =
                matches!(source, SourcePolicy::Latch(ip) if ip.to_canonical() == from.ip().to_canonical());
            if !near || way.heard {
                return None;
            }
            way.to = from;
        }
        way.heard = true;
        way.association.receive(now, datagram)
    }

    /// Does what is due, on one port after the other until neither has more.
    pub(super) fn timeout(&mut self, now: Instant) -> Option<(Channel, Outcome)> {
        for channel in [Channel::Rtp, Channel::Rtcp] {
            let Some(way) = self.way(channel) else { continue };
            if way.association.deadline().is_some_and(|at| at <= now)
                && let Some(outcome) = way.association.timeout(now)
            {
                return Some((channel, outcome));
            }
        }
        None
    }

    /// When [`Self::timeout`] wants to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let rtcp = self.rtcp.as_ref().and_then(|way| way.association.deadline());
        [self.rtp.association.deadline(), rtcp].into_iter().flatten().min()
    }

    /// Sends what waits to be sent.
    pub(super) fn flush(&mut self, mut send: impl FnMut(Channel, SocketAddr, &[u8])) {
        for channel in [Channel::Rtp, Channel::Rtcp] {
            let Some(way) = self.way(channel) else { continue };
            while let Some(datagram) = way.association.poll_transmit() {
                send(channel, way.to, datagram.as_ref());
            }
        }
    }

    const fn way(&mut self, channel: Channel) -> Option<&mut Way> {
        match channel {
            Channel::Rtp => Some(&mut self.rtp),
            Channel::Rtcp => self.rtcp.as_mut(),
        }
    }
}

fn canonical(address: SocketAddr) -> (IpAddr, u16) {
    (address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use crosspoint_codecs::format::MediaKind;
    use crosspoint_proto::dtls::{Fingerprint, Role};
    use crosspoint_proto::rtp::session::RemoteAddress;

    use super::*;

    const NOW: Instant = Instant::from_millis(1);

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn zero() -> std::time::Instant {
        crate::net::clock::Clock::start().zero()
    }

    fn config(role: Role, remote: SocketAddr, certificate: &Fingerprint, mux: bool) -> SessionConfig {
        SessionConfig {
            dtls: Some(Agreed { role, fingerprints: vec![certificate.clone()] }),
            remote: Some(RemoteAddress::new(remote, mux)),
            rtcp_mux: mux,
            ..SessionConfig::new(MediaKind::Audio, 1, "leg".to_owned())
        }
    }

    fn agreed(before: Option<Handshakes>, config: &SessionConfig, identity: &Identity) -> Option<Handshakes> {
        Handshakes::agreed(before, config, identity, NOW, zero()).unwrap()
    }

    fn sent(by: &mut Handshakes) -> Vec<(Channel, SocketAddr, Vec<u8>)> {
        let mut sent = Vec::new();
        by.flush(|channel, to, datagram| sent.push((channel, to, datagram.to_vec())));
        sent
    }

    /// Carries datagrams between both until neither has more; whose keys were found.
    fn run(ends: [&mut Handshakes; 2], addresses: [SocketAddr; 2]) -> Vec<(usize, Channel, Outcome)> {
        let mut outcomes = Vec::new();
        let mut quiet = 0;
        while quiet < 2 {
            for from in 0..2 {
                let datagrams = sent(ends[from]);
                quiet = if datagrams.is_empty() { quiet + 1 } else { 0 };
                for (channel, _, datagram) in datagrams {
                    let mut source = addresses[from];
                    source.set_port(source.port() + u16::from(channel == Channel::Rtcp));
                    let outcome = ends[1 - from].receive(NOW, channel, source, &datagram);
                    outcomes.extend(outcome.map(|outcome| (1 - from, channel, outcome)));
                }
            }
        }
        outcomes
    }

    /// P-32 and threat 10: ten thousand hellos from elsewhere, before the peer's.
    #[test]
    fn promise_32_foreign_hellos_change_nothing() {
        let [ours, theirs, foreign] = [(); 3].map(|()| Identity::generate().unwrap());
        let (here, there) = (at("192.0.2.1:4000"), at("192.0.2.2:5000"));
        let server = config(Role::Server, there, theirs.fingerprint(), true);
        let mut us = agreed(None, &server, &ours).unwrap();
        let client = config(Role::Client, here, ours.fingerprint(), true);
        let hello = sent(&mut agreed(None, &client, &foreign).unwrap()).remove(0).2;
        for number in 0..10_000_u32 {
            // Other hosts, and other ports of the peer's.
            let from = if number % 2 == 0 {
                format!("198.51.100.7:{}", 1024 + number)
            } else {
                format!("192.0.2.2:{}", 5001 + number)
            };
            assert_eq!(us.receive(NOW, Channel::Rtp, at(&from), &hello), None);
        }
        assert_eq!(sent(&mut us), []);
        let mut peer = agreed(None, &client, &theirs).unwrap();
        let outcomes = run([&mut us, &mut peer], [here, there]);
        assert!(outcomes.len() == 2 && outcomes.iter().all(|(.., outcome)| outcome.is_ok()), "{outcomes:?}");
    }

    #[test]
    fn without_mux_each_port_finds_keys_of_its_own() {
        let [ours, theirs] = [(); 2].map(|()| Identity::generate().unwrap());
        let (here, there) = (at("192.0.2.1:4000"), at("192.0.2.2:5000"));
        let mut us = agreed(None, &config(Role::Server, there, theirs.fingerprint(), false), &ours).unwrap();
        let mut peer = agreed(None, &config(Role::Client, here, ours.fingerprint(), false), &theirs).unwrap();
        let outcomes = run([&mut us, &mut peer], [here, there]);
        let keys = |end: usize, channel: Channel| {
            let of = outcomes.iter().find(|(other, way, _)| (*other, *way) == (end, channel));
            of.and_then(|(.., outcome)| outcome.clone().ok()).unwrap()
        };
        for channel in [Channel::Rtp, Channel::Rtcp] {
            assert_eq!(keys(0, channel).send, keys(1, channel).receive);
        }
        assert_ne!(keys(0, Channel::Rtp).send, keys(0, Channel::Rtcp).send);
    }

    /// RFC 8842 section 4.3, without `a=tls-id`.
    #[test]
    fn a_reoffer_keeps_the_association_and_a_change_renews_it() {
        let [ours, theirs, other] = [(); 3].map(|()| Identity::generate().unwrap());
        let (here, there) = (at("192.0.2.1:4000"), at("192.0.2.2:5000"));
        let first = config(Role::Client, there, theirs.fingerprint(), true);
        let mut us = agreed(None, &first, &ours).unwrap();
        let mut peer = agreed(None, &config(Role::Server, here, ours.fingerprint(), true), &theirs).unwrap();
        assert_eq!(run([&mut us, &mut peer], [here, there]).len(), 2);
        let held = SessionConfig { remote: None, ..first.clone() };
        let mut us = agreed(Some(us), &first, &ours).unwrap();
        assert_eq!(sent(&mut us), [], "the same peer");
        let mut us = agreed(Some(us), &held, &ours).unwrap();
        assert_eq!(sent(&mut us), [], "on hold");
        for changed in [
            config(Role::Client, there, other.fingerprint(), true),
            config(Role::Client, at("192.0.2.3:5000"), theirs.fingerprint(), true),
        ] {
            us = agreed(Some(us), &changed, &ours).unwrap();
            assert_eq!(sent(&mut us).len(), 1, "a hello");
        }
        assert!(agreed(Some(us), &SessionConfig { dtls: None, ..first }, &ours).is_none());
    }

    #[test]
    fn behind_a_nat_the_first_port_of_the_peers_host_is_taken() {
        let [ours, theirs] = [(); 2].map(|()| Identity::generate().unwrap());
        let (here, outside) = (at("192.0.2.1:4000"), at("203.0.113.7:62000"));
        let said = config(Role::Server, at("203.0.113.7:5000"), theirs.fingerprint(), true);
        let latched = SessionConfig { source: SourcePolicy::Latch(outside.ip()), ..said };
        let mut us = agreed(None, &latched, &ours).unwrap();
        let mut peer = agreed(None, &config(Role::Client, here, ours.fingerprint(), true), &theirs).unwrap();
        let outcomes = run([&mut us, &mut peer], [here, outside]);
        assert!(outcomes.len() == 2 && outcomes.iter().all(|(.., outcome)| outcome.is_ok()), "{outcomes:?}");
    }
}
