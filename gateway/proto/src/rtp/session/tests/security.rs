//! Strangers, keys and silence towards those who never answer.

use proptest::prelude::*;

use super::*;
use crate::rtp::srtp::{MasterKey, SrtpContext, SrtpSuite};

fn keys(send: u8, receive: u8) -> SrtpKeys {
    let key = |byte| MasterKey::new(SrtpSuite::Aes128CmSha1_80, &[byte; 30]).unwrap();
    SrtpKeys { send: key(send), receive: key(receive) }
}

fn header(ssrc: u32, sequence: u16) -> RtpHeader {
    RtpHeader {
        payload_type: 96,
        ssrc,
        sequence,
        timestamp: u32::from(sequence).wrapping_mul(160),
        marker: false,
    }
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn attackers_within_the_first_packets_get_and_give_nothing() {
    let mut end = End::new(2, MediaKind::Audio);
    let mut behind_nat = config(2, 1, &pcmu(), 96);
    behind_nat.source = SourcePolicy::Latch("203.0.113.7".parse().unwrap());
    end.configure(START, behind_nat);
    let (peer, near, far) = (at("203.0.113.7:62000"), at("203.0.113.7:1"), at("198.51.100.1:4000"));
    for n in 0..10_u16 {
        // One guesses everything but the address, one shares the NAT but has not the sequence.
        end.take_rtp(START, far, header(7, n), b"far");
        end.take_rtp(START, near, header(7, n * 100), b"near");
        end.take_rtp(START, peer, header(7, n), b"peer");
        end.with(|session, wire| session.send_frame(START, None, &sound(u64::from(n), 160), wire));
    }
    assert!(end.packets.iter().all(|(.., payload)| payload == b"peer"), "{:?}", end.packets.len());
    assert_eq!(end.packets.len(), 6);
    let receivers: Vec<SocketAddr> = end.sent.iter().map(|sent| sent.to).collect();
    assert!(receivers.iter().all(|to| *to == peer || *to == at("10.0.0.1:4000")), "{receivers:?}");
    assert_eq!(receivers.last(), Some(&peer));
    // Frozen: five in a row of another change nothing.
    for n in 0..50_u16 {
        end.take_rtp(START, near, header(7, 1000 + n), b"near");
    }
    assert_eq!((end.packets.len(), end.session.stats().remote), (6, Some(peer)));
}

#[test]
fn rtcp_that_comes_to_the_port_of_rtp_has_the_keys_of_that() {
    let mut end = End::new(2, MediaKind::Audio);
    let mut config = config(2, 1, &pcmu(), 96);
    config.dtls = Some(crate::dtls::Agreed { role: crate::dtls::Role::Client, fingerprints: Vec::new() });
    end.configure(START, config.clone());
    end.session.secure(Channel::Rtp, &keys(1, 2));
    end.session.secure(Channel::Rtcp, &keys(3, 4));
    // A re-offer brings them together (RFC 5764 section 4.1), with a handshake of its own.
    config.rtcp_mux = true;
    end.configure(START, config);
    end.session.secure(Channel::Rtp, &keys(5, 6));
    let mut now = START;
    while end.sent.is_empty() && now < START + Duration::from_secs(30) {
        now += Duration::from_millis(100);
        end.timeout(now);
    }
    let mut sent = end.sent.pop().expect("a report");
    assert_eq!(sent.channel, Channel::Rtp);
    assert!(SrtpContext::new(&keys(5, 6).send).unwrap().unprotect_rtcp(&mut sent.data).is_ok());
}

#[test]
fn who_never_answers_gets_fifty_packets() {
    let mut end = End::new(2, MediaKind::Audio);
    end.configure(START, config(2, 1, &pcmu(), 96));
    for n in 0..1000_u64 {
        let now = START + Duration::from_millis(n * 20);
        end.with(|session, wire| session.send_frame(now, None, &sound(n, 160), wire));
        if end.session.poll_timeout().is_some_and(|at| at <= now) {
            end.timeout(now);
        }
    }
    assert_eq!(end.sent.len(), 50);
    // One valid packet opens the way again.
    let now = START + Duration::from_secs(20);
    end.take_rtp(now, at("10.0.0.1:4000"), header(1, 1), b"here");
    end.with(|session, wire| session.send_frame(now, None, &sound(1000, 160), wire));
    assert_eq!(end.sent.len(), 51);
}

#[test]
fn who_is_proven_by_signalling_hears_us_without_a_word() {
    let mut end = End::new(2, MediaKind::Audio);
    let mut proven = config(2, 1, &pcmu(), 96);
    proven.proven = Some("10.0.0.1".parse().unwrap());
    end.configure(START, proven.clone());
    let ring = |end: &mut End, from: u64| {
        for n in from..from + 1000 {
            let now = START + Duration::from_millis(n * 20);
            end.with(|session, wire| session.send_frame(now, None, &sound(n, 160), wire));
        }
        (std::mem::take(&mut end.sent).len(), end.session.stats().packets_withheld)
    };
    assert_eq!(ring(&mut end, 0), (1000, 0));
    // A re-offer that names somebody else: the proof is not his.
    proven.remote = Some(RemoteAddress::new(at("198.51.100.1:4000"), false));
    end.configure(START + Duration::from_secs(20), proven);
    assert_eq!(ring(&mut end, 1000), (50, 950));
}

#[test]
fn foreign_malformed_and_unknown_packets_are_counted_and_dropped() {
    let mut end = End::new(2, MediaKind::Audio);
    end.configure(START, config(2, 1, &pcmu(), 96));
    let peer = at("10.0.0.1:4000");
    end.take_rtp(START, at("10.0.0.1:4002"), header(1, 1), b"other port");
    end.take(START, Channel::Rtp, peer, &[0x80, 96, 0]);
    end.take(START, Channel::Rtp, peer, b"");
    end.take(START, Channel::Rtp, peer, &[0; 20]);
    end.take_rtp(START, peer, RtpHeader { payload_type: 33, ..header(1, 1) }, b"type");
    // RTP on the RTCP port, and RTCP on the RTP port without rtcp-mux.
    end.take(START, Channel::Rtcp, at("10.0.0.1:4001"), &rtp(header(1, 1), b"x"));
    end.take(START, Channel::Rtp, peer, &[0x80, 201, 0, 1, 0, 0, 0, 1]);
    assert_eq!((end.session.stats().packets_dropped, end.packets.len()), (7, 0));
    assert_eq!(end.events, []);
}

#[test]
fn a_relay_from_clear_to_protected_and_back() {
    // Peer 1 speaks SRTP with end 2; the relay hands plain packets on, and protects those that go.
    let mut call = pair(&pcmu(), Conditions::PERFECT, |n, config| {
        config.srtp = Some(if n == 1 { keys(1, 2) } else { keys(2, 1) });
    });
    let mut clear = End::new(3, MediaKind::Audio);
    clear.configure(START, config(3, 4, &pcmu(), 0));
    for n in 0..20_u64 {
        let now = call.now;
        call.ends[0].with(|session, wire| session.send_frame(now, None, &sound(n, 160), wire));
        assert!(
            call.ends[0].sent.iter().all(|sent| !sent.data.windows(9).any(|w| w == [n.to_be_bytes()[7]; 9]))
        );
        call.run(Duration::from_millis(20));
        for (number, timestamp, payload) in std::mem::take(&mut call.ends[1].packets) {
            assert_eq!(payload, vec![n.to_be_bytes()[7]; 160]);
            let packet = MediaPacket {
                number,
                timestamp,
                media_time: sound(n, 1).media_time,
                marker: false,
                carries: Carries::from(&pcmu()),
                level: None,
                payload: &payload,
            };
            clear.with(|session, wire| session.forward(now, 2, &packet, wire));
            call.ends[1].with(|session, wire| session.forward(now, 3, &packet, wire));
        }
        call.run(Duration::from_millis(1));
        let (_, _, echoed) = call.ends[0].packets.pop().unwrap();
        assert_eq!(echoed, vec![n.to_be_bytes()[7]; 160]);
    }
    let sent = clear.rtp_sent();
    assert_eq!((sent.len(), sent[3].1.as_slice()), (20, &[3; 160][..]));
    assert!(call.ends[0].session.stats().encrypted && !clear.session.stats().encrypted);
}

#[test]
fn forged_and_replayed_packets_change_nothing() {
    let mut call = pair(&pcmu(), Conditions::PERFECT, |n, config| {
        config.srtp = Some(if n == 1 { keys(1, 2) } else { keys(2, 1) });
    });
    let now = call.now;
    call.ends[0].with(|session, wire| session.send_frame(now, None, &sound(1, 160), wire));
    let genuine = call.ends[0].sent.last().unwrap().clone();
    let peer = call.ends[0].rtp;
    for n in 0..1000_u16 {
        let forged = rtp(header(1, n), &[9; 170]);
        call.ends[1].take(now, Channel::Rtp, peer, &forged);
    }
    // A forgery opens no way: we still do not know that the peer is there.
    assert!(!call.ends[1].events.contains(&Event::MediaStarted));
    for _ in 0..3 {
        call.ends[1].take(now, Channel::Rtp, peer, &genuine.data);
    }
    assert_eq!(call.ends[1].packets.len(), 1);
    assert_eq!(call.ends[1].session.stats().packets_dropped, 1002);
}

#[test]
fn keys_that_stay_over_a_reoffer_keep_their_state_and_new_ones_do_not() {
    let mut call = pair(&pcmu(), Conditions::PERFECT, |n, config| {
        config.srtp = Some(if n == 1 { keys(1, 2) } else { keys(2, 1) });
    });
    for n in 0..10 {
        let now = call.now;
        call.ends[0].with(|session, wire| session.send_frame(now, None, &sound(n, 160), wire));
        call.run(Duration::from_millis(20));
    }
    let now = call.now;
    let old = {
        call.ends[0].with(|session, wire| session.send_frame(now, None, &sound(10, 160), wire));
        call.ends[0].sent.last().unwrap().data.clone()
    };
    call.run(Duration::from_millis(20));
    let mut again = config(2, 1, &pcmu(), 96);
    again.srtp = Some(keys(2, 1));
    call.ends[1].configure(now, again.clone());
    let peer = call.ends[0].rtp;
    let heard = call.ends[1].packets.len();
    call.ends[1].take(now, Channel::Rtp, peer, &old);
    assert_eq!(call.ends[1].packets.len(), heard, "a replay over a re-offer");
    again.srtp = Some(keys(2, 9));
    call.ends[1].configure(now, again);
    call.ends[0].with(|session, wire| session.send_frame(now, None, &sound(11, 160), wire));
    call.run(Duration::from_millis(20));
    assert_eq!(call.ends[1].packets.len(), heard, "another key");
    let mut rekeyed = config(1, 2, &pcmu(), 96);
    rekeyed.srtp = Some(keys(9, 2));
    call.ends[0].configure(now, rekeyed);
    call.ends[0].with(|session, wire| session.send_frame(now, None, &sound(12, 160), wire));
    call.run(Duration::from_millis(20));
    assert_eq!(call.ends[1].packets.len(), heard + 1);
}

proptest! {
    /// From the right address, with a valid beginning, anything may come.
    #[test]
    fn no_datagram_panics(
        datagrams in proptest::collection::vec(
            (any::<bool>(), any::<u8>(), proptest::collection::vec(any::<u8>(), 0..200)), 1..60),
        protected in any::<bool>(),
        video in any::<bool>(),
    ) {
        let format = if video { h264(PacketizationMode::NonInterleaved) } else { pcmu() };
        let mut end = End::new(2, if video { MediaKind::Main } else { MediaKind::Audio });
        let mut config = config(2, 1, &format, 96);
        config.feedback = Feedback { nack: true, pli: true, fir: true, tmmbr: true, remb: true };
        config.srtp = protected.then(|| keys(2, 1));
        end.configure(START, config);
        end.session.open_frames(Pool::new(8, 1 << 16));
        let mut sink = End::new(3, MediaKind::Audio);
        sink.configure(START, super::config(3, 4, &format, 96));
        for (n, (control, first, mut data)) in (0..).zip(datagrams) {
            let now = START + Duration::from_millis(n * 7);
            if let [version, kind, ..] = data.as_mut_slice() {
                *version = 0x80 | (first & 0x1f);
                *kind = if control { 200 + first % 8 } else if first & 1 == 0 { 96 } else { 101 };
            }
            let (channel, port) = if control { (Channel::Rtcp, 4001) } else { (Channel::Rtp, 4000) };
            let from = SocketAddr::new([10, 0, 0, 1].into(), port);
            end.take(now, channel, from, &data);
            for (number, timestamp, payload) in end.packets.drain(..) {
                let packet = MediaPacket {
                    number,
                    timestamp,
                    media_time: MediaTime(0),
                    marker: false,
                    carries: Carries::from(&format),
                    level: None,
                    payload: &payload,
                };
                sink.with(|session, wire| session.forward(now, 1, &packet, wire));
            }
            end.timeout(now);
        }
        let stats = end.session.stats();
        prop_assert!(stats.packets_received + stats.packets_dropped <= 60 * 2);
    }
}
