//! Descriptions of RFCs and of real programs, and what no description may do.

use std::net::IpAddr;

use crosspoint_codecs::format::{
    AudioFormat, Capabilities, Codec, Direction, H264Profile, MediaCapability, MediaFormat, MediaKind,
    PacketizationMode, VideoFormat,
};

use super::crypto::{SRTP_SECRET_LENGTH, SrtpSecret};
use super::*;
use crate::address::PeerPolicy;

mod descriptions;
mod dtls;
mod encryption;
mod exchange;
mod levels;
mod peers;
mod properties;
mod reoffer;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn with(encryption: Encryption) -> Negotiation {
    let peer = PeerPolicy { accept_foreign: true, ..PeerPolicy::strict(ip("192.0.2.9")) };
    Negotiation::new(SessionParameters {
        session_id: 7,
        address: ip("192.0.2.1"),
        encryption,
        certificate: None,
        peer,
    })
}

fn plain() -> Negotiation {
    with(Encryption { policy: EncryptionPolicy::None, ..Encryption::default() })
}

fn audio(codec: Codec) -> MediaFormat {
    MediaFormat::Audio(AudioFormat::new(codec))
}

fn video(profile: H264Profile, level: u8, mode: PacketizationMode) -> MediaFormat {
    MediaFormat::Video(VideoFormat {
        codec: Codec::H264,
        profile,
        level,
        mode,
        max_bitrate: None,
        max_fs: None,
        max_mbps: None,
    })
}

fn cbp(mode: PacketizationMode) -> MediaFormat {
    video(H264Profile::ConstrainedBaseline, 31, mode)
}

fn entry(role: MediaKind, formats: &[MediaFormat]) -> MediaCapability {
    MediaCapability { role, direction: Direction::SendRecv, formats: formats.to_vec() }
}

fn of(media: Vec<MediaCapability>) -> Capabilities {
    Capabilities { media, max_bitrate: None }
}

fn sound(codecs: &[Codec]) -> Capabilities {
    let formats: Vec<MediaFormat> = codecs.iter().copied().map(audio).collect();
    of(vec![entry(MediaKind::Audio, &formats)])
}

fn directed(mut capabilities: Capabilities, direction: Direction) -> Capabilities {
    for media in &mut capabilities.media {
        media.direction = direction;
    }
    capabilities
}

/// Our end of every role, at ports from `port` on.
fn local(port: u16) -> Vec<LocalMedia> {
    [MediaKind::Audio, MediaKind::Main, MediaKind::Content]
        .into_iter()
        .enumerate()
        .map(|(place, role)| {
            let port = port + 2 * u16::try_from(place).unwrap();
            LocalMedia {
                role,
                rtp: (ip("192.0.2.1"), port).into(),
                rtcp: Some((ip("192.0.2.1"), port + 1).into()),
                rtcp_mux: false,
                key: Some(SrtpSecret::new([u8::try_from(port & 0xff).unwrap(); SRTP_SECRET_LENGTH])),
            }
        })
        .collect()
}

/// A description of a peer at 192.0.2.9 with these m-lines.
fn body(lines: &str) -> Vec<u8> {
    format!("v=0\no=- 1 1 IN IP4 192.0.2.9\ns=-\nc=IN IP4 192.0.2.9\nt=0 0\n{lines}")
        .replace('\n', "\r\n")
        .into_bytes()
}

fn text(sdp: &Sdp) -> String {
    String::from_utf8(sdp.to_bytes().to_vec()).unwrap().replace("\r\n", "\n")
}

/// The m-lines alone.
fn m_lines(sdp: &Sdp) -> Vec<String> {
    text(sdp).lines().filter(|line| line.starts_with("m=")).map(str::to_owned).collect()
}
