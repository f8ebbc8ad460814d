//! Packets and frames from session to session.

use super::*;

/// A packet of source `end` as the relay sees it.
fn media<'a>(epoch: u32, index: u64, timestamp: u32, at: Instant, payload: &'a [u8]) -> MediaPacket<'a> {
    MediaPacket {
        number: Numbering { epoch, index },
        timestamp,
        media_time: MediaTime(i64::try_from(at.as_nanos()).unwrap()),
        marker: false,
        carries: Carries::from(&pcmu()),
        level: None,
        payload,
    }
}

fn sink() -> End {
    let mut end = End::new(2, MediaKind::Audio);
    end.configure(START, config(2, 1, &pcmu(), 0));
    // Its peer answers, so that no limit for strangers applies.
    let peer = "10.0.0.1:4000".parse().unwrap();
    end.take_rtp(START, peer, RtpHeader { ssrc: 1, ..RtpHeader::default() }, b"x");
    end
}

#[test]
fn a_payload_type_means_what_was_agreed_last() {
    let mut end = sink();
    let heard = |end: &mut End, sequence: u16, payload_type: u8| {
        let header = RtpHeader { ssrc: 1, sequence, payload_type, ..RtpHeader::default() };
        let (mut data, mut leg) = (rtp(header, b"x"), LegClock::default());
        let peer = "10.0.0.1:4000".parse().unwrap();
        end.with(|session, wire| {
            match session.receive(START, &mut leg, Channel::Rtp, peer, &mut data, wire) {
                Received::Media(packet) => Some(packet.carries.codec),
                _ => None,
            }
        })
    };
    assert_eq!(heard(&mut end, 1, 0), Some(Codec::Pcmu));
    let a_law = MediaFormat::Audio(AudioFormat::new(Codec::Pcma));
    end.configure(START, config(2, 1, &a_law, 0));
    // A key and a type that means nothing in between.
    let codecs = [(2, 0), (3, 101), (4, 0), (5, 7), (6, 0)].map(|(n, kind)| heard(&mut end, n, kind));
    assert_eq!(codecs, [Some(Codec::Pcma), None, Some(Codec::Pcma), None, Some(Codec::Pcma)]);
    assert_eq!(end.session.relay_form(&Carries::from(&a_law)), Some(RelayForm::Packet));
    assert_eq!(end.session.relay_form(&Carries::from(&pcmu())), None);
}

#[test]
fn numbers_and_stamps_go_on_over_changes_of_source_and_every_wrap() {
    let mut sink = sink();
    let mut now = START;
    // Three sources, each with numbers and stamps that wrap within its turn.
    for source in 0..3_u64 {
        for n in 0..100_u64 {
            let stamp = (u32::MAX - 8000).wrapping_add(u32::try_from(n * 160).unwrap());
            let packet = media(u32::try_from(source).unwrap(), 0x1_ffce + n, stamp, now, b"sound");
            sink.with(|session, wire| session.forward(now, source, &packet, wire));
            now += Duration::from_millis(20);
        }
        // A pause between the routes.
        now += Duration::from_millis(500);
    }
    let sent = sink.rtp_sent();
    assert_eq!(sent.len(), 300);
    for (at, two) in sent.windows(2).enumerate() {
        let step = two[1].0.timestamp.wrapping_sub(two[0].0.timestamp);
        assert_eq!(two[1].0.sequence, two[0].0.sequence.wrapping_add(1), "packet {at}");
        // Within a route the source's own steps; over a change the time that passed.
        let expected = if (at + 1) % 100 == 0 { 160 + 4000 } else { 160 };
        assert!(step.abs_diff(expected) <= 1, "packet {at}: {step}");
        assert_eq!(two[1].0.marker, (at + 1) % 100 == 0);
    }
    assert!(sent.iter().all(|(header, _)| header.ssrc == 2 && header.payload_type == 0));
}

#[test]
fn our_own_numbers_wrap_at_two_to_the_sixteen() {
    let mut sink = sink();
    let mut last = None;
    for n in 0..140_000_u64 {
        let now = START + Duration::from_millis(n * 20);
        let packet = media(1, 0x1_0000 + n, u32::try_from(n * 160).unwrap(), now, b"x");
        sink.with(|session, wire| session.forward(now, 1, &packet, wire));
        let (header, _) = sink.rtp_sent().pop().unwrap();
        sink.sent.clear();
        if let Some(last) = last.replace(header.sequence) {
            assert_eq!(header.sequence, u16::wrapping_add(last, 1));
        }
    }
}

#[test]
fn a_gap_stays_a_gap_and_what_comes_late_takes_its_place() {
    let mut sink = sink();
    for index in [100, 101, 104, 103, 105] {
        let packet = media(1, index, u32::try_from(index * 160).unwrap(), START, b"x");
        sink.with(|session, wire| session.forward(START, 1, &packet, wire));
    }
    let sent = sink.rtp_sent();
    let steps: Vec<u16> =
        sent.iter().map(|(header, _)| header.sequence.wrapping_sub(sent[0].0.sequence)).collect();
    assert_eq!(steps, [0, 1, 4, 3, 5]);
    // Older than the route: it has no number of ours.
    let packet = media(1, 99, 99 * 160, START, b"x");
    sink.with(|session, wire| session.forward(START, 1, &packet, wire));
    assert_eq!(sink.rtp_sent().len(), 5);
}

#[test]
fn events_end_here_and_leave_no_hole() {
    let mut sink = sink();
    for index in 100..110_u64 {
        if (103..106).contains(&index) {
            sink.session.skip(1, Numbering { epoch: 1, index });
            continue;
        }
        // 107 is lost.
        if index != 107 {
            let packet = media(1, index, u32::try_from(index * 160).unwrap(), START, b"x");
            sink.with(|session, wire| session.forward(START, 1, &packet, wire));
        }
    }
    let sent = sink.rtp_sent();
    let steps: Vec<u16> =
        sent.iter().map(|(header, _)| header.sequence.wrapping_sub(sent[0].0.sequence)).collect();
    assert_eq!(steps, [0, 1, 2, 3, 5, 6]);
    let stamps: Vec<u32> =
        sent.iter().map(|(header, _)| header.timestamp.wrapping_sub(sent[0].0.timestamp) / 160).collect();
    assert_eq!(stamps, [0, 1, 2, 6, 8, 9]);
}

#[test]
fn a_relay_after_the_engine_never_goes_back() {
    let mut sink = sink();
    for n in 0..10 {
        let now = START + Duration::from_millis(n * 20);
        sink.with(|session, wire| session.send_frame(now, None, &sound(n, 160), wire));
    }
    // The source's timeline lies 70 ms behind the engine's.
    let mut routes = RouteClock::default();
    let now = START + Duration::from_millis(200);
    let behind = media(1, 7, 5000, now - Duration::from_millis(70), b"x");
    sink.with(|session, wire| session.forward(now, 1, &behind, wire));
    let mapped = MediaPacket { media_time: routes.map(now, behind.media_time), ..behind };
    sink.with(|session, wire| session.forward(now, 2, &mapped, wire));
    let sent = sink.rtp_sent();
    for two in sent.windows(2) {
        assert_eq!(two[1].0.sequence, two[0].0.sequence.wrapping_add(1));
        assert!(two[1].0.timestamp.wrapping_sub(two[0].0.timestamp).cast_signed() > 0, "{two:?}");
    }
    // And the engine after the relay.
    let early = EncodedFrame { media_time: MediaTime(0), ..sound(0, 160) };
    sink.with(|session, wire| session.send_frame(now, None, &early, wire));
    let sent = sink.rtp_sent();
    let (before, after) = (sent[sent.len() - 2].0, sent[sent.len() - 1].0);
    assert!(after.timestamp.wrapping_sub(before.timestamp).cast_signed() > 0 && after.marker);
}

#[test]
fn packets_cross_three_sessions_over_bad_roads() {
    // A sends to B's left leg; B's right leg sends to C.
    let conditions = Conditions {
        loss: 0.05,
        duplicate: 0.05,
        reorder: 0.05,
        hold: Duration::from_millis(30),
        delay: Duration::from_millis(20),
        ..Conditions::PERFECT
    };
    let mut left = pair(&pcmu(), conditions, |_, _| ());
    let mut right = pair(&pcmu(), Conditions::PERFECT, |_, _| ());
    let mut routes = RouteClock::default();
    let mut relayed = 0;
    for n in 0..2000_u64 {
        let now = left.now;
        left.ends[0].with(|session, wire| session.send_frame(now, None, &sound(n, 160), wire));
        // Somebody must answer.
        left.ends[1].with(|session, wire| session.send_frame(now, None, &sound(n, 160), wire));
        right.ends[1].with(|session, wire| session.send_frame(now, None, &sound(n, 160), wire));
        left.run(Duration::from_millis(20));
        for (number, timestamp, payload) in left.ends[1].packets.drain(..) {
            relayed += 1;
            let packet = MediaPacket { number, timestamp, ..media(0, 0, 0, left.now, &payload) };
            let packet = MediaPacket { media_time: routes.map(left.now, packet.media_time), ..packet };
            let now = right.now;
            right.ends[0].with(|session, wire| session.forward(now, 9, &packet, wire));
        }
        right.run(Duration::from_millis(20));
    }
    left.run(Duration::from_millis(200));
    let lost = left.roads[0].counters().lost;
    let heard = right.ends[1].session.stats();
    // What the first road lost shows as loss on the last one, nothing else does. (Reports are lost,
    // too.)
    assert_eq!(heard.packets_received, relayed);
    assert!(lost > 50 && heard.packets_lost.abs_diff(lost) <= 12, "{lost} {heard:?}");
    let stats = left.ends[1].session.stats();
    assert!(stats.packets_dropped > 50, "doubles are dropped: {stats:?}");
    let mut numbers: Vec<u64> = right.ends[1].packets.iter().map(|(number, ..)| number.index).collect();
    numbers.sort_unstable();
    assert!(numbers.windows(2).all(|two| two[0] != two[1]));
}

#[test]
fn access_units_cross_from_mode_1_to_mode_0_only_while_they_fit() {
    let mode_1 = h264(PacketizationMode::NonInterleaved);
    let mut call = pair(&mode_1, Conditions::PERFECT, |_, _| ());
    call.ends[1].session.open_frames(Pool::new(8, 1 << 20));
    let mut sink = End::new(2, MediaKind::Main);
    sink.configure(START, config(2, 1, &h264(PacketizationMode::SingleNal), 97));
    assert_eq!(sink.session.relay_form(&Carries::from(&mode_1)), Some(RelayForm::AccessUnit));
    for (n, (keyframe, size)) in
        (0..).zip([(true, 900), (false, 1100), (false, 5000), (false, 700), (false, 9000)])
    {
        let now = call.now;
        call.ends[0].with(|session, wire| session.send_frame(now, None, &picture(n, keyframe, size), wire));
        call.run(Duration::from_millis(33));
    }
    assert_eq!(call.ends[1].frames.len(), 5);
    for frame in call.ends[1].frames.drain(..) {
        sink.with(|session, wire| session.send_frame(call.now, Some(7), &frame, wire));
    }
    let sent = sink.rtp_sent();
    // SPS, PPS and slice of the first; then the two that fit. No fragment and no aggregate.
    let kinds: Vec<u8> = sent.iter().map(|(_, payload)| payload[0] & 0x1f).collect();
    assert_eq!(kinds, [7, 8, 5, 1, 1]);
    let markers: Vec<bool> = sent.iter().map(|(header, _)| header.marker).collect();
    assert_eq!(markers, [false, false, true, true, true]);
    assert_eq!(sink.count(Event::NalTooLarge), 1);
}

#[test]
fn sound_and_pictures_of_a_leg_arrive_on_one_timeline() {
    // Two streams of one sender whose stamps have nothing in common, the second 40 ms slower on its
    // way: reports put them together.
    let quick = Conditions { delay: Duration::from_millis(10), ..Conditions::PERFECT };
    let slow = Conditions { delay: Duration::from_millis(50), ..Conditions::PERFECT };
    let mut audio = pair(&pcmu(), quick, |_, _| ());
    let mut video = pair(&h264(PacketizationMode::NonInterleaved), slow, |_, _| ());
    audio.ends[1].session.open_frames(Pool::new(128, 1500));
    video.ends[1].session.open_frames(Pool::new(128, 1 << 16));
    let mut leg = LegClock::default();
    for n in 0..1500_u64 {
        for call in [&mut audio, &mut video] {
            let now = call.now;
            let frame = if call.ends[0].session.config.kind.is_video() {
                EncodedFrame { media_time: sound(n, 1).media_time, ..picture(n, n == 0, 500) }
            } else {
                sound(n, 160)
            };
            call.ends[1].leg = leg;
            call.ends[0].with(|session, wire| session.send_frame(now, None, &frame, wire));
            call.run(Duration::from_millis(20));
            leg = call.ends[1].leg;
        }
    }
    let skew = |at: usize| {
        let (sound, picture) = (&audio.ends[1].frames[at], &video.ends[1].frames[at]);
        picture.media_time.nanos_since(sound.media_time).abs() / 1_000_000
    };
    assert!(skew(0) >= 39, "{}", skew(0));
    assert!(skew(1400) <= 1, "{}", skew(1400));
}
