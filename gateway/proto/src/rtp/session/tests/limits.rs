//! Rates that a receiver asks for (TMMBR, RFC 5104; REMB), there and back.

use super::*;
use crate::rtp::rtcp::{RateLimit, RtcpEvent, RtcpWriter, read};

const TMMBR: Feedback = Feedback { pli: true, tmmbr: true, ..Feedback::NONE };

const REMB: Feedback = Feedback { pli: true, remb: true, ..Feedback::NONE };

/// Two ends that send each other pictures, of which both know.
fn call(loss: f64) -> Call {
    call_with(TMMBR, loss)
}

fn call_with(feedback: Feedback, loss: f64) -> Call {
    let conditions = Conditions { loss, ..Conditions::PERFECT };
    let mut call =
        pair(&h264(PacketizationMode::NonInterleaved), conditions, |_, config| config.feedback = feedback);
    for n in 0..6 {
        let now = call.now;
        for end in &mut call.ends {
            end.with(|session, wire| session.send_frame(now, None, &picture(n, true, 300), wire));
        }
        call.run(Duration::from_millis(33));
    }
    call
}

/// Everything of one kind that end 1 was sent or has sent in RTCP.
fn rates(sent: &[Sent]) -> Vec<RtcpEvent<'static>> {
    let mut found = Vec::new();
    for sent in sent.iter().filter(|sent| DatagramKind::of(&sent.data) == DatagramKind::Rtcp) {
        let _ = read(&sent.data, &mut |event| match event {
            RtcpEvent::Tmmbr { from, limit } => found.push(RtcpEvent::Tmmbr { from, limit }),
            RtcpEvent::Tmmbn { from, limit } => found.push(RtcpEvent::Tmmbn { from, limit }),
            RtcpEvent::Remb { media, bitrate } => found.push(RtcpEvent::Remb { media, bitrate }),
            _ => {}
        });
    }
    found
}

fn asked(end: &mut End, now: Instant, seconds: u64) -> Vec<u64> {
    let mut all = Vec::new();
    for n in 0..=seconds * 10 {
        let at = now + Duration::from_millis(n * 100);
        if end.session.poll_timeout().is_some_and(|due| due <= at) {
            end.timeout(at);
        }
        for event in rates(&end.sent) {
            if let RtcpEvent::Tmmbr { limit, .. } = event {
                all.push(limit.bitrate);
            }
        }
        end.sent.clear();
    }
    all
}

#[test]
fn a_rate_is_asked_for_three_times_unless_it_is_answered_and_the_last_word_counts() {
    let mut silent = call(0.0);
    let (now, end) = (silent.now, &mut silent.ends[1]);
    end.with(|session, wire| session.limit_peer(now, 256_000, wire));
    // Within the second only what was said last is kept: that goes when the second is over.
    end.with(|session, wire| session.limit_peer(now, 128_000, wire));
    end.with(|session, wire| session.limit_peer(now, 512_000, wire));
    assert_eq!(asked(end, now, 10), [256_000, 512_000, 512_000, 512_000]);
    // The same again is one more request, and freedom is asked for as a limit is.
    let now = now + Duration::from_secs(11);
    end.with(|session, wire| session.limit_peer(now, 512_000, wire));
    assert_eq!(asked(end, now, 5), [512_000]);
    let now = now + Duration::from_secs(6);
    assert!(end.session.limits_peer());
    end.with(|session, wire| session.free_peer(now, wire));
    assert!(!end.session.limits_peer());
    let free = asked(end, now, 5);
    assert!(free.len() == 3 && free.iter().all(|bits| *bits > 4_000_000_000), "{free:?}");
    end.with(|session, wire| session.free_peer(now, wire));
    assert!(asked(end, now + Duration::from_secs(6), 5).is_empty(), "once");

    let mut answered = call(0.0);
    let now = answered.now;
    answered.ends[1].with(|session, wire| session.limit_peer(now, 256_000, wire));
    answered.run(Duration::from_millis(200));
    assert_eq!(answered.ends[0].session.send_limit(), Some(256_000));
    let now = answered.now;
    assert!(asked(&mut answered.ends[1], now, 5).is_empty(), "it was answered");
}

#[test]
fn an_answer_to_an_earlier_request_leaves_the_later_one_due() {
    let mut call = call(0.0);
    let now = call.now;
    call.ends[1].with(|session, wire| session.limit_peer(now, 256_000, wire));
    call.ends[1].with(|session, wire| session.limit_peer(now, 128_000, wire));
    call.run(Duration::from_millis(200));
    assert_eq!(call.ends[0].session.send_limit(), Some(256_000));
    let now = call.now;
    assert_eq!(asked(&mut call.ends[1], now, 5), [128_000; 3]);

    // There and back to the same: what was answered has been taken back since.
    let now = now + Duration::from_secs(6);
    call.ends[1].with(|session, wire| session.limit_peer(now, 256_000, wire));
    call.ends[1].with(|session, wire| session.limit_peer(now, 128_000, wire));
    call.ends[1].with(|session, wire| session.limit_peer(now, 256_000, wire));
    answer(&mut call, now, 256_000);
    assert_eq!(asked(&mut call.ends[1], now, 5), [256_000; 4]);

    // Freedom is not lost with a limit that was answered, nor is a rate that the field rounds asked for again.
    let now = now + Duration::from_secs(6);
    call.ends[1].with(|session, wire| session.limit_peer(now, 300_001, wire));
    call.ends[1].with(|session, wire| session.free_peer(now, wire));
    answer(&mut call, now, 300_000);
    let free = asked(&mut call.ends[1], now, 5);
    assert_eq!((free.len(), free[0]), (4, 300_000), "{free:?}");
    let now = now + Duration::from_secs(6);
    call.ends[1].with(|session, wire| session.limit_peer(now, 300_001, wire));
    answer(&mut call, now, 300_000);
    assert_eq!(asked(&mut call.ends[1], now, 5), [300_000]);
}

#[test]
fn who_takes_no_tmmbr_is_asked_by_remb_three_times_each() {
    let mut call = call_with(REMB, 0.0);
    let (now, end) = (call.now, &mut call.ends[1]);
    end.with(|session, wire| session.limit_peer(now, 256_000, wire));
    let first = end.sent.last().map(|sent| (sent.channel, sent.from, sent.data.clone())).unwrap();
    let mut asked = Vec::new();
    for n in 0..100 {
        let at = now + Duration::from_millis(n * 100);
        if end.session.poll_timeout().is_some_and(|due| due <= at) {
            end.timeout(at);
        }
        asked.extend(rates(&end.sent));
        end.sent.clear();
    }
    assert_eq!(asked, [RtcpEvent::Remb { media: 1, bitrate: 256_000 }; 3], "there is no answer to it");
    // The other one keeps to it, and answers nothing.
    let (channel, from, data) = first;
    call.ends[0].take(now, channel, from, &data);
    assert_eq!(call.ends[0].session.send_limit(), Some(256_000));
    assert_eq!(rates(&call.ends[0].sent), []);
    // Where both are agreed, it is the one that is answered.
    let mut both = call_with(Feedback { tmmbr: true, ..REMB }, 0.0);
    let now = both.now;
    both.ends[1].with(|session, wire| session.limit_peer(now, 256_000, wire));
    assert!(matches!(rates(&both.ends[1].sent)[..], [RtcpEvent::Tmmbr { .. }]));
}

#[test]
fn an_estimate_counts_when_it_falls_and_when_it_has_risen() {
    let mut call = call_with(REMB, 0.0);
    let now = call.now;
    let limits = [256_000_u64, 260_000, 268_000, 272_000, 271_000].map(|bitrate| {
        let mut compound = [0; 200];
        let mut writer = RtcpWriter::new(&mut compound);
        writer.receiver_report(2, &[]).unwrap();
        writer.cname(2, "leg-2").unwrap();
        writer.remb(2, 1, bitrate).unwrap();
        let len = writer.len();
        call.ends[0].take(now, Channel::Rtcp, "10.0.0.2:4001".parse().unwrap(), &compound[..len]);
        call.ends[0].session.send_limit()
    });
    assert_eq!(limits, [256_000, 256_000, 256_000, 272_000, 271_000].map(Some));
}

#[test]
fn who_is_asked_in_another_way_from_now_on_is_told_again() {
    let mut call = call_with(Feedback { tmmbr: true, ..REMB }, 0.0);
    let now = call.now;
    call.ends[1].with(|session, wire| session.limit_peer(now, 256_000, wire));
    call.run(Duration::from_millis(200));
    let now = call.now;
    assert!(asked(&mut call.ends[1], now, 5).is_empty(), "it was answered");
    let now = now + Duration::from_secs(6);
    let mut config = config(2, 1, &h264(PacketizationMode::NonInterleaved), 96);
    config.feedback = REMB;
    call.ends[1].configure(now, config);
    call.ends[1].sent.clear();
    call.ends[1].timeout(now + Duration::from_secs(1));
    assert_eq!(rates(&call.ends[1].sent), [RtcpEvent::Remb { media: 1, bitrate: 256_000 }]);
}

#[test]
fn a_request_that_could_not_go_is_none() {
    let mut call = call(0.0);
    let (now, end) = (call.now, &mut call.ends[1]);
    // All that feedback may take of the rate is spent.
    end.with(|session, wire| (0..200).for_each(|_| session.send_nack(now, &[1], wire)));
    end.sent.clear();
    end.with(|session, wire| session.limit_peer(now, 256_000, wire));
    assert_eq!(rates(&end.sent), []);
    assert!(end.session.poll_timeout().is_some_and(|due| due > now), "nothing to be done at once");
    assert_eq!(asked(end, now, 10), [256_000; 3]);
}

/// End 1 hears that a rate is obeyed which it asked for.
fn answer(call: &mut Call, now: Instant, bitrate: u64) {
    let mut compound = [0; 200];
    let mut writer = RtcpWriter::new(&mut compound);
    writer.receiver_report(1, &[]).unwrap();
    writer.cname(1, "leg-1").unwrap();
    writer.tmmbn(1, &RateLimit { media: 2, bitrate, overhead: 40 }).unwrap();
    let len = writer.len();
    call.ends[1].take(now, Channel::Rtcp, "10.0.0.1:4001".parse().unwrap(), &compound[..len]);
}

#[test]
fn who_obeys_names_whose_limit_it_is() {
    let mut call = call(0.0);
    let now = call.now;
    call.ends[1].with(|session, wire| session.limit_peer(now, 256_000, wire));
    let sent = call.ends[1].sent.pop().unwrap();
    call.ends[0].take(now, sent.channel, sent.from, &sent.data);
    let limit = RateLimit { media: 2, bitrate: 256_000, overhead: 40 };
    assert_eq!(rates(&call.ends[0].sent), [RtcpEvent::Tmmbn { from: 1, limit }]);
}

#[test]
fn a_limit_goes_with_the_peer_who_set_it() {
    let mut call = call(0.0);
    let now = call.now;
    call.ends[1].with(|session, wire| session.limit_peer(now, 256_000, wire));
    call.run(Duration::from_millis(200));
    let now = call.now;
    let before = call.ends[0].session.send_limit();
    let mut config = config(1, 2, &h264(PacketizationMode::NonInterleaved), 96);
    config.feedback = TMMBR;
    call.ends[0].configure(now, config.clone());
    assert_eq!(call.ends[0].session.send_limit(), before, "the same one is there");
    config.remote = Some(RemoteAddress::new("10.0.0.9:4000".parse().unwrap(), false));
    call.ends[0].configure(now, config);
    assert_ne!(call.ends[0].session.send_limit(), before, "somebody else");
}

#[test]
fn no_limit_is_so_low_that_it_reads_as_none() {
    for bitrate in [0, 1, 15_999] {
        let mut call = call(0.0);
        let mut compound = [0; 200];
        let mut writer = RtcpWriter::new(&mut compound);
        writer.receiver_report(2, &[]).unwrap();
        writer.cname(2, "leg-2").unwrap();
        writer.tmmbr(2, &RateLimit { media: 1, bitrate, overhead: 40 }).unwrap();
        let len = writer.len();
        let from = "10.0.0.2:4001".parse().unwrap();
        let now = call.now;
        call.ends[0].take(now, Channel::Rtcp, from, &compound[..len]);
        assert_eq!(call.ends[0].session.send_limit(), Some(16_000), "{bitrate}");
        assert_eq!(call.ends[0].count(Event::PeerLimit(16_000)), 1);
    }
}
