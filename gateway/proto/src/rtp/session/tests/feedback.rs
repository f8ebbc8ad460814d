//! Loss, keyframes, rates, keys, reports and silence.

use crosspoint_codecs::format::Direction;

use super::*;
use crate::rtp::rtcp::{self, RtcpEvent};

const ALL: Feedback = Feedback { nack: true, pli: true, fir: true, tmmbr: true, remb: false };

fn lossy(loss: f64) -> Conditions {
    Conditions { loss, delay: Duration::from_millis(20), ..Conditions::PERFECT }
}

/// Video for `pictures` pictures; both ends send, so that nobody is a stranger.
fn watch(call: &mut Call, pictures: u64, size: usize) {
    for n in 0..pictures {
        let now = call.now;
        for end in &mut call.ends {
            let keyframe = n == 0 || end.events.last() == Some(&Event::KeyframeAsked);
            if keyframe {
                end.events.push(Event::MediaStarted);
            }
            let frame = picture(n, keyframe, size);
            end.with(|session, wire| session.send_frame(now, None, &frame, wire));
        }
        call.run(Duration::from_nanos(33_333_333));
    }
}

#[test]
fn what_nack_brings_back_is_no_loss_to_the_decoder() {
    let video = h264(PacketizationMode::NonInterleaved);
    let mut repaired = pair(&video, lossy(0.05), |_, config| config.feedback = ALL);
    let mut plain = pair(&video, lossy(0.05), |_, config| {
        config.feedback = Feedback { pli: true, ..Feedback::NONE };
    });
    for call in [&mut repaired, &mut plain] {
        for end in &mut call.ends {
            end.session.open_frames(Pool::new(64, 1 << 16));
        }
        watch(call, 600, 4000);
        call.run(Duration::from_secs(1));
    }
    let whole = |call: &Call| call.ends[1].frames.iter().filter(|frame| frame.lost_before == 0).count();
    let lost = repaired.roads[0].counters().lost;
    assert!(lost > 60, "{lost}");
    // 20 ms each way leave time for three tries within the wait: all but a few come back.
    assert!(whole(&repaired) >= 595, "{}", whole(&repaired));
    assert!(whole(&plain) < 520, "{}", whole(&plain));
    let stats = repaired.ends[0].session.stats();
    assert!(stats.packets_sent > 600 * 4 + lost / 2, "retransmissions count as sent: {stats:?}");
    // Each packet went to the decoder once.
    assert!(repaired.ends[1].frames.len() <= 600);
}

/// How late sound may be is for its playout to say, which knows when it is due.
#[test]
fn sound_that_was_overtaken_is_a_frame_once_however_late_it_is() {
    let mut call = pair(&pcmu(), Conditions::PERFECT, |_, _| ());
    let [_, end] = &mut call.ends;
    end.session.open_frames(Pool::new(64, 1500));
    let from = "10.0.0.1:4000".parse().unwrap();
    let header = |n: u16| RtpHeader {
        payload_type: 96,
        marker: false,
        sequence: n,
        timestamp: u32::from(n) * 160,
        ssrc: 1,
    };
    for (millis, n) in [(0, 0), (20, 1), (60, 3), (80, 4), (100, 2), (101, 2), (102, 1), (120, 5)] {
        let now = START + Duration::from_millis(millis);
        end.take_rtp(now, from, header(n), &[n.to_be_bytes()[1]; 160]);
        end.timeout(now + Duration::from_millis(11));
    }
    let frames: Vec<_> = end.frames.iter().map(|frame| (frame.data[0], frame.lost_before)).collect();
    assert_eq!(frames, [(0, 0), (1, 0), (3, 1), (4, 0), (2, 0), (5, 0)]);
}

#[test]
fn a_gap_costs_one_request_a_second_at_most() {
    let video = h264(PacketizationMode::NonInterleaved);
    let mut call = pair(&video, lossy(0.1), |_, config| {
        config.feedback = Feedback { pli: true, ..Feedback::NONE };
    });
    watch(&mut call, 300, 3000);
    let stats = call.ends[1].session.stats();
    // Ten seconds with ten losses a second.
    assert!((8..=11).contains(&stats.keyframes_requested), "{stats:?}");
    let asked = call.ends[0].count(Event::KeyframeAsked);
    assert!((5..=11).contains(&asked), "{asked}");
}

#[test]
fn without_a_way_in_the_media_the_leg_is_told_to_ask() {
    let video = h264(PacketizationMode::NonInterleaved);
    let mut call = pair(&video, lossy(0.0), |_, _| ());
    watch(&mut call, 5, 300);
    let now = call.now;
    for _ in 0..10 {
        call.ends[1].with(|session, wire| session.request_keyframe(now, wire));
    }
    assert_eq!(call.ends[1].count(Event::KeyframeNeeded), 1);
    call.run(Duration::from_millis(1500));
    assert_eq!(call.ends[1].count(Event::KeyframeNeeded), 2);
    let now = call.now;
    call.ends[0].with(|session, wire| session.send_frame(now, None, &picture(50, true, 300), wire));
    call.run(Duration::from_secs(5));
    assert_eq!(call.ends[1].count(Event::KeyframeNeeded), 2);
}

#[test]
fn requests_of_both_kinds_and_of_many_are_one_event() {
    let video = h264(PacketizationMode::NonInterleaved);
    for feedback in [Feedback { pli: true, ..Feedback::NONE }, Feedback { fir: true, ..Feedback::NONE }] {
        let mut call = pair(&video, lossy(0.0), |_, config| config.feedback = feedback);
        watch(&mut call, 5, 300);
        for _ in 0..20 {
            let now = call.now;
            call.ends[1].with(|session, wire| session.request_keyframe(now, wire));
            call.run(Duration::from_millis(10));
        }
        call.run(Duration::from_millis(100));
        assert_eq!(call.ends[0].count(Event::KeyframeAsked), 1, "{feedback:?}");
        assert_eq!(call.ends[0].session.stats().keyframes_asked, 1);
    }
}

#[test]
fn where_packets_are_lost_a_request_is_two_datagrams_with_one_number() {
    let video = h264(PacketizationMode::NonInterleaved);
    let mut call = pair(&video, lossy(0.1), |_, config| {
        config.feedback = Feedback { fir: true, ..Feedback::NONE };
    });
    watch(&mut call, 300, 3000);
    let [peer, end] = &mut call.ends;
    end.sent.clear();
    let requests = |end: &mut End| {
        let (mut numbers, mut datagrams) = (Vec::new(), Vec::new());
        for sent in end.sent.drain(..) {
            let before = numbers.len();
            rtcp::read(&sent.data, &mut |event| {
                if let RtcpEvent::Fir { number, .. } = event {
                    numbers.push(number);
                }
            })
            .unwrap();
            datagrams.extend((numbers.len() > before).then_some(sent));
        }
        (numbers, datagrams)
    };
    let mut numbers = Vec::new();
    // Later than any request before.
    for second in [2, 3] {
        let now = call.now + Duration::from_secs(second);
        let asked = peer.session.stats().keyframes_asked;
        let mut both = Vec::new();
        end.with(|session, wire| session.request_keyframe(now, wire));
        for (millis, count) in [(0, 1), (29, 0), (30, 1), (900, 0)] {
            let now = now + Duration::from_millis(millis);
            end.timeout(now);
            let (number, datagrams) = requests(end);
            assert_eq!(number.len(), count, "{millis} ms after the request");
            numbers.extend(number);
            both.extend(datagrams);
        }
        for sent in both {
            peer.take(now, sent.channel, sent.from, &sent.data);
        }
        assert_eq!(peer.session.stats().keyframes_asked, asked + 1);
    }
    let first = numbers[0];
    assert_eq!(numbers, [first, first, first.wrapping_add(1), first.wrapping_add(1)]);
}

#[test]
fn a_relay_over_the_limit_is_told_and_given_up_after_three_seconds() {
    let video = h264(PacketizationMode::NonInterleaved);
    let mut call = pair(&video, lossy(0.0), |_, config| {
        config.max_send_bitrate = Some(200_000);
        config.feedback = ALL;
    });
    let mut told = Vec::new();
    for n in 0..200_u64 {
        let now = call.now;
        // 30 pictures of 2000 bytes a second: 480 kbit/s.
        let frame = picture(n, n == 0, 2000);
        call.ends[0].with(|session, wire| session.send_frame(now, Some(5), &frame, wire));
        call.ends[1].with(|session, wire| session.send_frame(now, None, &picture(n, n == 0, 100), wire));
        call.run(Duration::from_nanos(33_333_333));
        for event in call.ends[0].events.drain(..) {
            told.push((n / 30, event));
        }
    }
    let exceeded = told.iter().filter(|(_, event)| *event == Event::RateExceeded(200_000)).count();
    assert!((5..=7).contains(&exceeded), "{told:?}");
    let unfit: Vec<u64> =
        told.iter().filter(|(_, event)| *event == Event::RateUnfit).map(|(second, _)| *second).collect();
    assert_eq!(unfit, [3]);
}

#[test]
fn a_limit_by_tmmbr_reaches_the_sender() {
    let video = h264(PacketizationMode::NonInterleaved);
    let mut call = pair(&video, lossy(0.0), |_, config| {
        config.max_send_bitrate = Some(900_000);
        config.feedback = ALL;
    });
    watch(&mut call, 5, 300);
    let now = call.now;
    call.ends[1].with(|session, wire| session.limit_peer(now, 256_000, wire));
    // Again within the second: not sent.
    call.ends[1].with(|session, wire| session.limit_peer(now, 128_000, wire));
    call.run(Duration::from_millis(100));
    assert_eq!(call.ends[0].count(Event::PeerLimit(256_000)), 1);
    assert_eq!(call.ends[0].session.send_limit(), Some(256_000));
    assert_eq!(call.ends[0].count(Event::PeerLimit(128_000)), 0);
}

#[test]
fn keys_are_told_once_each_whatever_the_road_does() {
    for seed in 0..20 {
        let conditions = Conditions {
            loss: 0.1,
            duplicate: 0.2,
            reorder: 0.1,
            hold: Duration::from_millis(15),
            delay: Duration::from_millis(20),
            ..Conditions::PERFECT
        };
        let mut call = pair(&pcmu(), conditions, |_, _| ());
        call.roads[0] = Link::new(seed, conditions);
        for key in "1199#*0D".chars() {
            assert!(call.ends[0].session.send_dtmf(key, Duration::from_millis(100)));
        }
        for n in 0..150_u64 {
            let now = call.now;
            for end in &mut call.ends {
                end.with(|session, wire| session.send_frame(now, None, &sound(n, 160), wire));
            }
            call.run(Duration::from_millis(20));
        }
        let keys: String = call.ends[1]
            .events
            .iter()
            .filter_map(|event| if let Event::Dtmf(key) = event { Some(*key) } else { None })
            .collect();
        assert_eq!(keys, "1199#*0D", "seed {seed}");
    }
}

#[test]
fn sound_pauses_for_a_key_and_its_numbers_go_on() {
    let mut call = pair(&pcmu(), Conditions::PERFECT, |_, _| ());
    let mut headers = Vec::new();
    for n in 0..100_u64 {
        let now = call.now;
        if n == 20 {
            assert!(call.ends[0].session.send_dtmf('5', Duration::from_millis(200)));
        }
        call.ends[1].with(|session, wire| session.send_frame(now, None, &sound(n, 160), wire));
        let packet = MediaPacket {
            number: Numbering { epoch: 1, index: 500 + n },
            timestamp: u32::try_from(n * 160).unwrap(),
            media_time: sound(n, 1).media_time,
            marker: false,
            carries: Carries::from(&pcmu()),
            level: None,
            payload: b"relayed",
        };
        call.ends[0].with(|session, wire| session.forward(now, 3, &packet, wire));
        call.run(Duration::from_millis(20));
    }
    for (number, timestamp, _) in &call.ends[1].packets {
        headers.push((number.index, *timestamp));
    }
    let stats = call.ends[1].session.stats();
    assert_eq!((stats.packets_lost, call.ends[1].count(Event::Dtmf('5'))), (0, 1));
    // 200 ms of key and 100 ms of its repeated end replace the sound, and the stamps say so.
    assert!((84..=87).contains(&headers.len()), "{}", headers.len());
    assert!(headers.windows(2).all(|two| two[1].1.wrapping_sub(two[0].1) % 160 == 0));
    let whole = headers.last().unwrap().1.wrapping_sub(headers[0].1);
    assert_eq!(whole, 99 * 160);
}

#[test]
fn reports_measure_loss_and_the_round_trip() {
    let mut call = pair(&pcmu(), lossy(0.2), |_, _| ());
    for n in 0..1500_u64 {
        let now = call.now;
        for end in &mut call.ends {
            end.with(|session, wire| session.send_frame(now, None, &sound(n, 160), wire));
        }
        call.run(Duration::from_millis(20));
    }
    for end in &call.ends {
        let stats = end.session.stats();
        let trip = stats.round_trip.unwrap().as_millis();
        assert!((39..=41).contains(&trip), "{stats:?}");
        assert!((0.1..0.3).contains(&stats.remote_loss), "{stats:?}");
        assert!(stats.packets_lost > 200, "{stats:?}");
    }
}

#[test]
fn a_peer_that_falls_silent_is_told_once_and_a_held_one_never() {
    let mut call = pair(&pcmu(), Conditions::PERFECT, |n, config| {
        if n == 2 {
            config.direction = Direction::SendOnly;
        }
    });
    let now = call.now;
    for end in &mut call.ends {
        end.with(|session, wire| session.send_frame(now, None, &sound(0, 160), wire));
    }
    call.run(Duration::from_secs(1));
    // The reports of the one that vanished come from elsewhere from now on, which is no life.
    call.ends[1].rtp = "10.0.0.9:4000".parse().unwrap();
    call.run(Duration::from_secs(28));
    assert_eq!(call.ends[0].count(Event::MediaStarted), 1);
    assert_eq!(call.ends[0].count(Event::MediaTimeout), 0);
    call.run(Duration::from_secs(60));
    assert_eq!(call.ends[0].count(Event::MediaTimeout), 1);
    assert_eq!(call.ends[1].count(Event::MediaTimeout), 0);
}

#[test]
fn a_muted_peer_lives_by_its_reports_alone() {
    // RFC 3550 section 6.3: reports go on when the media pauses.
    let mut call = pair(&pcmu(), Conditions::PERFECT, |_, config| config.rtcp_mux = false);
    let now = call.now;
    for end in &mut call.ends {
        end.with(|session, wire| session.send_frame(now, None, &sound(0, 160), wire));
    }
    call.run(Duration::from_secs(120));
    assert_eq!(call.ends[0].count(Event::MediaTimeout), 0);
    // Their octets without a meaning are none.
    let from = call.ends[1].rtp;
    call.ends[1].rtp = "10.0.0.9:4000".parse().unwrap();
    for _ in 0..89 {
        call.run(Duration::from_secs(1));
        let now = call.now;
        let reports = SocketAddr::new(from.ip(), from.port() + 1);
        call.ends[0].take(now, Channel::Rtcp, reports, &[0x80, 201, 0, 9, 0, 0, 0, 2]);
    }
    assert_eq!(call.ends[0].count(Event::MediaTimeout), 1);
}

#[test]
fn goodbye_is_said_and_the_next_source_is_believed_at_once() {
    let mut call = pair(&pcmu(), Conditions::PERFECT, |_, _| ());
    for n in 0..10 {
        let now = call.now;
        for end in &mut call.ends {
            end.with(|session, wire| session.send_frame(now, None, &sound(n, 160), wire));
        }
        call.run(Duration::from_millis(20));
    }
    let now = call.now;
    call.ends[0].with(|session, wire| session.close(now, wire));
    call.run(Duration::from_millis(100));
    assert!(call.ends[1].session.receiver.source.as_ref().unwrap().left);
    let heard = call.ends[1].packets.len();
    let (peer, now) = (call.ends[0].rtp, call.now);
    let header = RtpHeader { payload_type: 96, ssrc: 77, sequence: 9, ..RtpHeader::default() };
    call.ends[1].take_rtp(now, peer, header, b"new");
    assert_eq!(call.ends[1].packets.len(), heard + 1);
    // A stray packet of a third is not, until a second one follows.
    for (sequence, more) in [(100, 1), (101, 2), (102, 3)] {
        let header = RtpHeader { payload_type: 96, ssrc: 78, sequence, ..RtpHeader::default() };
        call.ends[1].take_rtp(now, peer, header, b"third");
        assert_eq!(call.ends[1].packets.len(), heard + more);
    }
}
