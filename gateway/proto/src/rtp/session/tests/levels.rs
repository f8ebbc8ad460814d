//! Levels of sound in the headers of packets (RFC 6464).

use super::*;
use crate::rtp::packet::AudioLevel;

const LOUD: AudioLevel = AudioLevel { level: 12, voice: true };

/// Two ends of which each tells levels under its number.
fn telling(conditions: Conditions, id: Option<u8>) -> Call {
    let mut call = pair(&pcmu(), conditions, |_, config| {
        config.levels = LevelItem { send: id, receive: id };
    });
    for end in &mut call.ends {
        end.with(|session, _| session.open_frames(Pool::new(64, 1500)));
    }
    call
}

/// A packet with a header extension as it is written here.
fn with_extension(number: u8, profile: u16, data: &[u8]) -> Vec<u8> {
    let header = RtpHeader { payload_type: 96, sequence: number.into(), ssrc: 1, ..RtpHeader::default() };
    let mut packet = rtp(RtpHeader { timestamp: u32::from(number) * 160, ..header }, &[]);
    packet[0] |= 0x10;
    packet.extend(profile.to_be_bytes());
    packet.extend(u16::try_from(data.len() / 4).unwrap().to_be_bytes());
    packet.extend(data);
    packet.extend(b"sound");
    packet
}

#[test]
fn a_level_goes_from_end_to_end_beside_the_same_sound_and_is_no_payload() {
    let run = |id| {
        let mut call = telling(Conditions::PERFECT, id);
        for n in 0..10 {
            let (now, frame) = (call.now, EncodedFrame { level: Some(12), ..sound(n, 160) });
            call.ends[0].with(|session, wire| session.send_frame(now, None, &frame, wire));
            call.run(Duration::from_millis(20));
        }
        call.run(Duration::from_millis(200));
        call
    };
    let (told, plain) = (run(Some(7)), run(None));
    let sound = |call: &Call| call.ends[1].frames.iter().map(|it| it.data.to_vec()).collect::<Vec<_>>();
    assert_eq!((sound(&told), sound(&told).len()), (sound(&plain), 10));
    assert!(told.ends[1].frames.iter().all(|frame| frame.level == Some(12)));
    assert!(plain.ends[1].frames.iter().all(|frame| frame.level.is_none()));
    // What is counted as media is the same (RFC 3550 section 6.4.1).
    let bytes =
        |call: &Call| (call.ends[0].session.stats().bytes_sent, call.ends[1].session.stats().bytes_received);
    assert_eq!(bytes(&told), bytes(&plain));
    assert_eq!(bytes(&told).0, 1600);
}

#[test]
fn a_relay_says_it_under_the_number_of_its_own_peer_or_not_at_all() {
    for (id, expected) in [(Some(3), Some(12)), (None, None)] {
        let mut source = telling(Conditions::PERFECT, Some(5));
        let mut sink = telling(Conditions::PERFECT, id);
        let header = RtpHeader { payload_type: 96, ssrc: 1, ..RtpHeader::default() };
        let mut packet = [0; 64];
        let end = header.write_extended(&[(3, &[0xff]), (5, &[LOUD.to_byte()])], &mut packet).unwrap();
        packet[end..end + 5].copy_from_slice(b"sound");
        let mut leg = LegClock::default();
        let from = "10.0.0.1:4000".parse().unwrap();
        let mut data = packet[..end + 5].to_vec();
        let wire: &mut dyn Wire = &mut |_: Channel, _: SocketAddr, _: &[u8]| ();
        let received = source.ends[1].session.receive(START, &mut leg, Channel::Rtp, from, &mut data, wire);
        let Received::Media(packet) = received else { panic!("{received:?}") };
        assert_eq!((packet.level, packet.payload), (Some(12), &b"sound"[..]));
        sink.ends[0].with(|session, wire| session.forward(START, 1, &packet, wire));
        let sent = &sink.ends[0].sent[0].data;
        let sent = RtpPacket::parse(sent).unwrap();
        assert_eq!(sent.payload, b"sound");
        // Whether it is voice we do not say: so it was agreed.
        let items: Vec<_> = sent.extension.iter().flat_map(|it| it.items()).collect();
        let wanted: &[(u8, &[u8])] = if expected.is_some() { &[(3, &[12])] } else { &[] };
        assert_eq!(items, wanted);
    }
}

#[test]
fn levels_that_are_malformed_or_were_not_agreed_are_none() {
    let one = 0xbede;
    let cases: [(u16, &[u8], Option<u8>); 11] = [
        (one, &[0x70, 0x8c, 0, 0], Some(12)),
        // Padding before it, and another item.
        (one, &[0, 0, 0x21, 1, 2, 0x70, 40, 0], Some(40)),
        // The form with two bytes says the same (RFC 8285 section 4.3).
        (0x1000, &[7, 1, 33, 0], Some(33)),
        (0x1000, &[7, 0, 0, 0], None),
        // Another number, another form, no bytes, an item that is longer than what is there.
        (one, &[0x60, 9, 0, 0], None),
        (0x1234, &[0x70, 9, 0, 0], None),
        (one, &[], None),
        (one, &[0x7f, 1, 2, 3], None),
        // What follows the end, or a torn item, is not read.
        (one, &[0xf0, 0x70, 9, 0], None),
        (one, &[0x2f, 0x70, 9, 0], None),
        (one, &[0x70, 0xff, 0, 0], Some(127)),
    ];
    let mut call = telling(Conditions::PERFECT, Some(7));
    let mut deaf = telling(Conditions::PERFECT, None);
    for (number, (profile, data, expected)) in (1..).zip(cases) {
        let packet = with_extension(number, profile, data);
        let now = START + Duration::from_millis(u64::from(number) * 20);
        for (call, expected) in [(&mut call, expected), (&mut deaf, None)] {
            let before = call.ends[1].frames.len();
            call.ends[1].take(now, Channel::Rtp, "10.0.0.1:4000".parse().unwrap(), &packet);
            let frames = &call.ends[1].frames[before..];
            assert_eq!(frames.len(), 1, "{number}: the sound is there all the same");
            assert_eq!((frames[0].level, &frames[0].data[..]), (expected, &b"sound"[..]), "{number}");
        }
    }
}
