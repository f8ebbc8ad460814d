//! From whom a session takes packets, and how much it sends to somebody who never answered.
//!
//! Two doors that attackers of media gateways use: packets of a stranger that turn the media
//! towards him (RTP bleed), and an SDP that names a victim as the destination. The first is shut
//! by [`SourcePolicy`], the second by the limit on what is sent before anything valid came back,
//! unless signalling has proven already that the peer is at that address.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crosspoint_codecs::clock::Instant;

use super::config::{RemoteAddress, SourcePolicy};

/// Packets in a row that prove a sender under [`SourcePolicy::Latch`].
const PROOF: u8 = 5;

/// Largest step of the sequence within a proof: two lost packets are no break.
const PROOF_STEP: u16 = 3;

/// Senders that may be on probation at once. More ports of one address than this are no device.
const CANDIDATES: usize = 4;

/// After this much silence a candidate gives up its place.
const CANDIDATE_PATIENCE: Duration = Duration::from_secs(1);

/// Datagrams that are sent before the first valid one came back.
pub const UNPROVEN_PACKETS: u32 = 50;

/// How long datagrams are sent before the first valid one came back.
pub const UNPROVEN_TIME: Duration = Duration::from_secs(5);

/// What to do with a packet, by its address alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the peer.
    Accept,
    /// It may be the peer: authenticate and parse it, then ask [`SourceGate::probe`].
    Probe,
    /// It is not the peer.
    Refuse,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    from: SocketAddr,
    ssrc: u32,
    payload_type: u8,
    sequence: u16,
    seen: u8,
    at: Instant,
}

/// The gate of one session.
#[derive(Debug)]
pub(super) struct SourceGate {
    policy: SourcePolicy,
    negotiated: Option<RemoteAddress>,
    mux: bool,
    /// Where media really comes from, when that is not what was negotiated.
    latched: Option<SocketAddr>,
    latched_rtcp: Option<SocketAddr>,
    /// The latch moves no more.
    frozen: bool,
    candidates: [Option<Candidate>; CANDIDATES],
    /// Something valid came back.
    proven: bool,
    /// The address at which signalling has proven the peer.
    proven_ip: Option<IpAddr>,
    sent: u32,
    first_sent: Option<Instant>,
}

impl SourceGate {
    pub(super) const fn new(policy: SourcePolicy, negotiated: Option<RemoteAddress>, mux: bool) -> Self {
        Self {
            policy,
            negotiated,
            mux,
            latched: None,
            latched_rtcp: None,
            frozen: false,
            candidates: [None; CANDIDATES],
            proven: false,
            proven_ip: None,
            sent: 0,
            first_sent: None,
        }
    }

    /// A re-offer: the latch may move again. The old one is kept as destination until then, when
    /// the negotiated address is the same: a device behind a NAT must hear us through a hold.
    pub(super) fn configure(&mut self, policy: SourcePolicy, negotiated: Option<RemoteAddress>, mux: bool) {
        let same = self.negotiated == negotiated && self.policy == policy && self.mux == mux;
        if same {
            self.frozen = false;
            self.candidates = [None; CANDIDATES];
        } else {
            *self = Self::new(policy, negotiated, mux);
        }
    }

    /// What signalling has proven of the peer's address, after [`Self::configure`].
    pub(super) const fn set_proven_ip(&mut self, ip: Option<IpAddr>) {
        self.proven_ip = ip;
    }

    /// Where RTP goes.
    pub(super) fn rtp(&self) -> Option<SocketAddr> {
        self.latched.or_else(|| self.negotiated.map(|remote| remote.rtp))
    }

    /// Where RTCP goes.
    pub(super) fn rtcp(&self) -> Option<SocketAddr> {
        if self.mux {
            return self.rtp();
        }
        self.latched_rtcp.or_else(|| self.negotiated.and_then(|remote| remote.rtcp))
    }

    /// Judges the source of an RTP datagram.
    pub(super) fn rtp_from(&self, from: SocketAddr) -> Verdict {
        let from = canonical(from);
        if self.latched.is_some_and(|latched| latched == from) {
            return Verdict::Accept;
        }
        if let SourcePolicy::Latch(ip) = self.policy {
            if self.frozen {
                // Frozen to the negotiated address, or to another one.
                let home = self.latched.is_none() && self.is_negotiated(from);
                return if home { Verdict::Accept } else { Verdict::Refuse };
            }
            if self.latched.is_none() && self.is_negotiated(from) {
                return Verdict::Accept;
            }
            return if from.ip() == ip.to_canonical() { Verdict::Probe } else { Verdict::Refuse };
        }
        if self.is_negotiated(from) { Verdict::Accept } else { Verdict::Refuse }
    }

    /// Judges the source of an RTCP datagram.
    pub(super) fn rtcp_from(&self, from: SocketAddr) -> Verdict {
        let from = canonical(from);
        if self.mux {
            // A candidate is proven by RTP alone.
            return match self.rtp_from(from) {
                Verdict::Accept => Verdict::Accept,
                Verdict::Probe | Verdict::Refuse => Verdict::Refuse,
            };
        }
        if let Some(latched) = self.latched_rtcp {
            return if latched == from { Verdict::Accept } else { Verdict::Refuse };
        }
        if let Some(latched) = self.latched {
            return if latched.ip() == from.ip() { Verdict::Probe } else { Verdict::Refuse };
        }
        let home = self.negotiated.and_then(|remote| remote.rtcp).is_some_and(|rtcp| canonical(rtcp) == from);
        if home { Verdict::Accept } else { Verdict::Refuse }
    }

    /// A valid RTP packet of the peer came from an accepted address.
    pub(super) fn accepted(
        &mut self,
        from: SocketAddr,
        ssrc: u32,
        payload_type: u8,
        sequence: u16,
        now: Instant,
    ) {
        self.proven = true;
        if self.frozen || self.policy == SourcePolicy::Strict {
            return;
        }
        if self.latched.is_none() {
            // The peer is where it said.
            self.frozen = true;
        } else {
            let _ = self.probe(from, ssrc, payload_type, sequence, now);
        }
    }

    /// A valid RTP packet came from an address on probation. True when that proves it: it is the
    /// peer's address from now on.
    pub(super) fn probe(
        &mut self,
        from: SocketAddr,
        ssrc: u32,
        payload_type: u8,
        sequence: u16,
        now: Instant,
    ) -> bool {
        let from = canonical(from);
        let fresh = Candidate { from, ssrc, payload_type, sequence, seen: 1, at: now };
        let known = self.candidates.iter_mut().flatten().find(|candidate| candidate.from == from);
        if let Some(candidate) = known {
            let step = sequence.wrapping_sub(candidate.sequence);
            let goes_on = candidate.ssrc == ssrc
                && candidate.payload_type == payload_type
                && (1..=PROOF_STEP).contains(&step);
            let seen = if goes_on { candidate.seen.saturating_add(1) } else { 1 };
            *candidate = Candidate { seen, ..fresh };
            if seen < PROOF {
                return false;
            }
            self.latched = Some(from);
            self.latched_rtcp = None;
            self.frozen = true;
            self.proven = true;
            self.candidates = [None; CANDIDATES];
            return true;
        }
        let stale = |place: &&mut Option<Candidate>| {
            place.is_none_or(|candidate| now.saturating_since(candidate.at) > CANDIDATE_PATIENCE)
        };
        if let Some(place) = self.candidates.iter_mut().find(stale) {
            *place = Some(fresh);
        }
        false
    }

    /// A valid RTCP packet came from an accepted address.
    pub(super) const fn rtcp_accepted(&mut self) {
        self.proven = true;
    }

    /// A valid RTCP packet of the latched sender's SSRC came from its IP address: that is where
    /// its RTCP lives.
    pub(super) fn rtcp_probe(&mut self, from: SocketAddr) {
        self.latched_rtcp = Some(canonical(from));
    }

    /// Whether one more datagram may be sent now; it counts as sent when it may.
    pub(super) fn may_send(&mut self, now: Instant) -> bool {
        if self.proven || self.is_proven_by_signalling() {
            return true;
        }
        let first = *self.first_sent.get_or_insert(now);
        if self.sent >= UNPROVEN_PACKETS || now.saturating_since(first) >= UNPROVEN_TIME {
            return false;
        }
        self.sent = self.sent.saturating_add(1);
        true
    }

    /// Whether all that we send goes to the address that signalling has proven.
    fn is_proven_by_signalling(&self) -> bool {
        let Some(ip) = self.proven_ip else { return false };
        let goes_there =
            |to: Option<SocketAddr>| to.is_none_or(|to| to.ip().to_canonical() == ip.to_canonical());
        goes_there(self.rtp()) && goes_there(self.rtcp())
    }

    fn is_negotiated(&self, from: SocketAddr) -> bool {
        self.negotiated.is_some_and(|remote| canonical(remote.rtp) == from)
    }
}

/// IPv4 addresses mapped into IPv6 are the same peer (RFC 4291 section 2.5.5.2); flow label and
/// scope say nothing about who it is.
fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::new(IpAddr::V4(v4), addr.port()),
        IpAddr::V6(_) => addr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_millis(1000);

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn strict() -> SourceGate {
        SourceGate::new(SourcePolicy::Strict, Some(RemoteAddress::new(at("192.0.2.1:4000"), false)), false)
    }

    fn latching() -> SourceGate {
        let remote = RemoteAddress::new(at("10.0.0.5:4000"), false);
        SourceGate::new(SourcePolicy::Latch("192.0.2.1".parse().unwrap()), Some(remote), false)
    }

    #[test]
    fn strict_takes_the_negotiated_address_alone() {
        let gate = strict();
        assert_eq!(gate.rtp_from(at("192.0.2.1:4000")), Verdict::Accept);
        assert_eq!(gate.rtp_from(at("[::ffff:192.0.2.1]:4000")), Verdict::Accept);
        assert_eq!(gate.rtp_from(at("192.0.2.1:4002")), Verdict::Refuse);
        assert_eq!(gate.rtp_from(at("192.0.2.2:4000")), Verdict::Refuse);
        assert_eq!(gate.rtcp_from(at("192.0.2.1:4001")), Verdict::Accept);
        assert_eq!(gate.rtcp_from(at("192.0.2.1:4000")), Verdict::Refuse);
    }

    #[test]
    fn a_latch_needs_the_signalling_ip_and_five_packets_in_a_row_and_then_freezes() {
        let mut gate = latching();
        let peer = at("192.0.2.1:61000");
        assert_eq!(gate.rtp_from(at("192.0.2.9:61000")), Verdict::Refuse);
        for sequence in [65_533, 65_534, 65_535, 0] {
            assert_eq!(gate.rtp_from(peer), Verdict::Probe);
            assert!(!gate.probe(peer, 7, 0, sequence, NOW));
        }
        assert_eq!(gate.rtp(), Some(at("10.0.0.5:4000")));
        assert!(gate.probe(peer, 7, 0, 1, NOW));
        assert_eq!(gate.rtp(), Some(peer));
        assert_eq!(gate.rtp_from(peer), Verdict::Accept);
        // Neither a stranger on the same IP nor the negotiated address moves it any more.
        assert_eq!(gate.rtp_from(at("192.0.2.1:61001")), Verdict::Refuse);
        assert_eq!(gate.rtp_from(at("10.0.0.5:4000")), Verdict::Refuse);
    }

    #[test]
    fn an_attacker_among_the_first_five_packets_gets_nothing() {
        let mut gate = latching();
        let (peer, thief) = (at("192.0.2.1:61000"), at("192.0.2.1:7"));
        // The thief guesses SSRC and sequence but cannot make five in a row before the peer does.
        for round in 0..4_u16 {
            assert!(!gate.probe(peer, 7, 0, 100 + round, NOW));
            assert!(!gate.probe(thief, 7, 0, 100 + round * 9, NOW));
        }
        assert!(gate.probe(peer, 7, 0, 104, NOW));
        assert_eq!(gate.rtp_from(thief), Verdict::Refuse);
        assert_eq!(gate.rtp(), Some(peer));
    }

    #[test]
    fn a_flood_of_ports_does_not_push_a_candidate_out() {
        let mut gate = latching();
        let peer = at("192.0.2.1:61000");
        assert!(!gate.probe(peer, 7, 0, 1, NOW));
        for port in 1000..2000 {
            assert!(!gate.probe(SocketAddr::new(peer.ip(), port), 8, 0, 1, NOW));
        }
        for sequence in 2..5 {
            assert!(!gate.probe(peer, 7, 0, sequence, NOW));
        }
        assert!(gate.probe(peer, 7, 0, 5, NOW));
    }

    #[test]
    fn a_peer_where_it_said_freezes_the_gate_at_once() {
        let mut gate = latching();
        let home = at("10.0.0.5:4000");
        assert_eq!(gate.rtp_from(home), Verdict::Accept);
        gate.accepted(home, 7, 0, 1, NOW);
        assert_eq!(gate.rtp_from(at("192.0.2.1:61000")), Verdict::Refuse);
        assert_eq!(gate.rtp_from(home), Verdict::Accept);
    }

    #[test]
    fn a_reoffer_lets_the_latch_move_but_keeps_the_old_one_until_then() {
        let mut gate = latching();
        let (old, new) = (at("192.0.2.1:61000"), at("192.0.2.1:62000"));
        for sequence in 1..=5 {
            let _ = gate.probe(old, 7, 0, sequence, NOW);
        }
        gate.configure(gate.policy, gate.negotiated, false);
        assert_eq!((gate.rtp(), gate.rtp_from(old)), (Some(old), Verdict::Accept));
        for sequence in 1..=5 {
            assert_eq!(gate.rtp_from(new), Verdict::Probe);
            let _ = gate.probe(new, 7, 0, sequence, NOW);
        }
        assert_eq!((gate.rtp(), gate.rtp_from(old)), (Some(new), Verdict::Refuse));
    }

    #[test]
    fn rtcp_of_a_latched_peer_is_learnt_from_the_same_ip() {
        let mut gate = latching();
        let peer = at("192.0.2.1:61000");
        assert_eq!(gate.rtcp_from(at("192.0.2.1:61001")), Verdict::Refuse);
        for sequence in 1..=5 {
            let _ = gate.probe(peer, 7, 0, sequence, NOW);
        }
        assert_eq!(gate.rtcp_from(at("192.0.2.2:61001")), Verdict::Refuse);
        assert_eq!(gate.rtcp_from(at("192.0.2.1:61001")), Verdict::Probe);
        gate.rtcp_probe(at("192.0.2.1:61001"));
        assert_eq!(gate.rtcp(), Some(at("192.0.2.1:61001")));
        assert_eq!(gate.rtcp_from(at("192.0.2.1:61003")), Verdict::Refuse);
    }

    #[test]
    fn a_peer_that_wants_no_rtcp_gets_none() {
        let remote = RemoteAddress { rtp: at("192.0.2.1:4000"), rtcp: None };
        let gate = SourceGate::new(SourcePolicy::Strict, Some(remote), false);
        assert_eq!((gate.rtp(), gate.rtcp()), (Some(remote.rtp), None));
        assert_eq!(gate.rtcp_from(at("192.0.2.1:4001")), Verdict::Refuse);
        // There is no port above the last one.
        assert_eq!(RemoteAddress::new(at("192.0.2.1:65535"), false).rtcp, None);
    }

    #[test]
    fn at_most_fifty_packets_or_five_seconds_go_to_who_never_answers() {
        let mut gate = strict();
        let sent = (0..1000_u64).filter(|_| gate.may_send(NOW)).count();
        assert_eq!(sent, 50);
        gate.rtcp_accepted();
        assert!(gate.may_send(NOW));

        let mut gate = strict();
        assert!(gate.may_send(NOW));
        assert!(gate.may_send(NOW + Duration::from_millis(4999)));
        assert!(!gate.may_send(NOW + Duration::from_secs(5)));

        // Another destination starts unproven again.
        let mut gate = strict();
        gate.rtcp_accepted();
        gate.configure(gate.policy, Some(RemoteAddress::new(at("198.51.100.1:4000"), false)), false);
        assert_eq!((0..1000_u64).filter(|_| gate.may_send(NOW)).count(), 50);
    }

    #[test]
    fn an_address_that_signalling_has_proven_needs_no_answer_and_no_other_gains_by_it() {
        let sends = |gate: &mut SourceGate| (0..1000_u64).filter(|_| gate.may_send(NOW)).count();
        let mut gate = strict();
        gate.set_proven_ip(Some("::ffff:192.0.2.1".parse().unwrap()));
        assert_eq!(sends(&mut gate), 1000);
        assert!(gate.may_send(NOW + Duration::from_secs(3600)));
        // A proof of one address is none of another, not even for reports alone.
        let elsewhere = RemoteAddress::new(at("198.51.100.1:4000"), false);
        let reports_elsewhere = RemoteAddress { rtp: at("192.0.2.1:4000"), ..elsewhere };
        for remote in [elsewhere, reports_elsewhere] {
            let mut gate = strict();
            gate.configure(SourcePolicy::Strict, Some(remote), false);
            gate.set_proven_ip(Some("192.0.2.1".parse().unwrap()));
            assert_eq!(sends(&mut gate), 50, "{remote:?}");
        }
        // A re-offer that moves the media away from it loses it, and one without a proof too.
        let mut gate = strict();
        gate.set_proven_ip(Some("192.0.2.1".parse().unwrap()));
        gate.configure(gate.policy, Some(elsewhere), false);
        gate.set_proven_ip(Some("192.0.2.1".parse().unwrap()));
        assert_eq!(sends(&mut gate), 50);
        let mut gate = strict();
        gate.set_proven_ip(Some("192.0.2.1".parse().unwrap()));
        gate.set_proven_ip(None);
        assert_eq!(sends(&mut gate), 50);
    }
}
