//! A day of packets, in which all numbers wrap (promise 47).

use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use crosspoint_codecs::format::{AudioFormat, Codec, MediaFormat, MediaKind};
use crosspoint_codecs::frame::{EncodedFrame, MediaTime, Pool};
use crosspoint_proto::Instant;
use crosspoint_proto::rtp::packet::RtpPacket;
use crosspoint_proto::rtp::session::{
    Channel, Payload, ReceivePayload, RemoteAddress, SendPayload, Session, SessionConfig, SrtpKeys,
};
use crosspoint_proto::rtp::srtp::{MasterKey, SrtpSuite};
use crosspoint_proto::rtp::timeline::LegClock;

use crate::{live, load};

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 4000 + 2 * u16::from(n)))
}

fn session(n: u8, peer: u8, protected: bool) -> Session {
    let format = MediaFormat::Audio(AudioFormat::new(Codec::Pcmu));
    let mut config = SessionConfig::new(MediaKind::Audio, u32::from(n), "leg".to_owned());
    config.receive = vec![ReceivePayload { payload_type: 0, payload: Payload::Media(format.clone()) }];
    config.send = Some(SendPayload { payload_type: 0, format });
    config.remote = Some(RemoteAddress::new(address(peer), true));
    config.rtcp_mux = true;
    let key = |byte| MasterKey::new(SrtpSuite::Aes128CmSha1_80, &[byte; 30]).unwrap();
    config.srtp = protected.then(|| SrtpKeys { send: key(n), receive: key(peer) });
    let mut session = Session::new(MediaKind::Audio, UNIX_EPOCH, [n; 32]);
    session.configure(Instant::from_millis(1), config);
    session
}

/// One way of a call with 50 packets a second: each frame arrives, once, whatever wraps.
fn packets(hours: u64, protected: bool) {
    let (mut peer, mut ours) = (session(1, 2, protected), session(2, 1, protected));
    ours.open_frames(Pool::new(64, 2_048));
    let source = Pool::new(4, 2_048);
    let mut leg = LegClock::default();
    let (mut arrived, mut wraps, mut last, mut began) = (0_u64, 0, 0_u16, 0);
    let frames = hours * 3_600 * 50;
    let mut buffer = [0; 2_048];
    for number in 0..frames {
        // 60 days without a word lie before the last tenth: nothing overflows, and the next word is heard.
        let gap = if number > frames / 10 * 9 { 60 * 86_400_000 } else { 0 };
        let now = Instant::from_millis(10 + gap + number * 20);
        let frame = EncodedFrame {
            kind: MediaKind::Audio,
            media_time: MediaTime(i64::try_from((gap + number * 20) * 1_000_000).unwrap()),
            duration: Duration::from_millis(20),
            lost_before: 0,
            keyframe: true,
            level: None,
            data: source.copy(&[(number % 251) as u8; 160]).unwrap(),
        };
        let mut len = 0;
        let mut keep = |channel: Channel, _: SocketAddr, data: &[u8]| {
            if matches!(channel, Channel::Rtp) {
                len = data.len();
                buffer[..len].copy_from_slice(data);
            }
        };
        // Who never hears anything is not talked to for long.
        if number.is_multiple_of(25) {
            ours.send_frame(now, None, &frame, &mut keep);
            let mut silent = |_: Channel, _: SocketAddr, _: &[u8]| ();
            let _ = peer.receive(now, &mut leg, Channel::Rtp, address(2), &mut buffer[..len], &mut silent);
        }
        let mut len = 0;
        peer.send_frame(now, None, &frame, &mut |channel: Channel, _: SocketAddr, data: &[u8]| {
            if matches!(channel, Channel::Rtp) {
                len = data.len();
                buffer[..len].copy_from_slice(data);
            }
        });
        let sequence = RtpPacket::parse(&buffer[..len]).unwrap().header.sequence;
        wraps += u64::from(number > 0 && sequence < last);
        last = sequence;
        let mut silent = |_: Channel, _: SocketAddr, _: &[u8]| ();
        let _ = ours.receive(now, &mut leg, Channel::Rtp, address(1), &mut buffer[..len], &mut silent);
        while let Some((_, frame)) = ours.poll_frame() {
            assert!(frame.data.iter().all(|octet| *octet == frame.data[0]));
            arrived += 1;
        }
        while peer.poll_event().or_else(|| ours.poll_event()).is_some() {}
        if number == frames / 24 {
            began = live();
        }
    }
    assert!(wraps + 1 >= frames / 65_536, "{wraps}");
    assert!(frames - arrived <= 4, "{arrived} of {frames}");
    assert!(live() <= began + 2, "{began} live allocations became {}", live());
}

#[test]
fn promise_47_a_day_of_sound_in_which_all_numbers_wrap_arrives_whole() {
    let hours = if load("CROSSPOINT_SOAK", 1) > 1 { 24 } else { 3 };
    for protected in [false, true] {
        packets(hours, protected);
    }
}
