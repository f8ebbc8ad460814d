//! Who talks, many at once: a clip in RTP every 20 ms, and what came back counted and kept, so that it
//! can be listened to.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crosspoint::proof::purity;
use crosspoint_codecs::format::{AudioFormat, Codec};
use crosspoint_codecs::registry::Registry;

/// One packet.
const PACKET: Duration = Duration::from_millis(20);
/// In each of these a part of all send, so that packets come as those of strangers do.
const SLOTS: usize = 20;
/// Packets that are kept to be listened to: two seconds.
const KEPT: usize = 100;
/// Of the tone above all else, in half of the windows or more: a busy machine sends late, and playouts slip.
const CLEAN: f64 = 10.0;

/// A second of a tone in one codec, to be sent over and over.
#[derive(Debug)]
pub struct Clip {
    codec: Codec,
    frequency: u32,
    payload_type: u8,
    packets: Vec<Vec<u8>>,
}

impl Clip {
    pub fn new(codec: Codec, payload_type: u8, frequency: u32) -> Arc<Self> {
        let mut encoder = Registry::built_in().audio_encoder(&AudioFormat::new(codec)).unwrap();
        let rate = codec.sample_rate();
        let sample = |n: u32| {
            let turns = f64::from(n * frequency % rate) / f64::from(rate);
            (8_000.0 * (std::f64::consts::TAU * turns).sin()) as i16
        };
        let pcm: Vec<i16> = (0..rate).map(sample).collect();
        let mut room = [0; 1_500];
        let packets = pcm.chunks_exact(pcm.len() / 50).map(|pcm| {
            let length = encoder.encode(pcm, &mut room).unwrap();
            room[..length].to_vec()
        });
        Arc::new(Self { codec, frequency, payload_type, packets: packets.collect() })
    }

    /// Its description at a port.
    fn sdp(&self, port: u16) -> String {
        let number = self.payload_type;
        let name = match self.codec {
            Codec::Opus => "opus/48000/2",
            Codec::G722 => "G722/8000",
            Codec::Pcmu => "PCMU/8000",
            Codec::Pcma => "PCMA/8000",
            other => panic!("{other:?} has no clip"),
        };
        let sound = super::call::sdp_at(port, number);
        format!("{sound}a=rtpmap:{number} {name}\r\na=ptime:20\r\n")
    }
}

/// Somebody who talks and hears.
#[derive(Debug)]
pub struct Party {
    port: u16,
    socket: UdpSocket,
    clip: Arc<Clip>,
    to: SocketAddr,
    sent: u64,
    heard: u64,
    kept: Vec<Vec<u8>>,
}

impl Party {
    /// On a port of its own; it sends nowhere yet.
    pub fn new(clip: &Arc<Clip>) -> Self {
        let port = super::free_port();
        let socket = UdpSocket::bind(("127.0.0.1", port)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let to = ([0, 0, 0, 0], 0).into();
        Self { port, socket, clip: clip.clone(), to, sent: 0, heard: 0, kept: Vec::new() }
    }

    pub fn sdp(&self) -> String {
        self.clip.sdp(self.port)
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub fn send_to(&mut self, to: SocketAddr) {
        self.to = to;
    }

    /// Where a description leads.
    pub fn follow(&mut self, sdp: &str) {
        let port = sdp.split_once("m=audio ").unwrap().1.split(' ').next().unwrap();
        self.to = ([127, 0, 0, 1], port.parse().unwrap()).into();
    }

    fn send(&mut self) {
        let number = self.sent as usize % self.clip.packets.len();
        // RFC 3550 section 5.1; the clock of G.722 ticks at 8000 (RFC 3551 section 4.5.2).
        let step = if self.clip.codec == Codec::Opus { 960 } else { 160 };
        let mut packet = vec![0x80, self.clip.payload_type];
        packet.extend((self.sent as u16).to_be_bytes());
        packet.extend((self.sent as u32).wrapping_mul(step).to_be_bytes());
        packet.extend((u32::from(self.port) << 8 | 7).to_be_bytes());
        packet.extend(&self.clip.packets[number]);
        if self.socket.send_to(&packet, self.to).is_ok() {
            self.sent += 1;
        }
    }

    fn hear(&mut self) {
        let mut buffer = [0; 2_048];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            // RTCP has the same first octet, and a second one that no media here has.
            if length < 12 || buffer[1] & 0x7f != self.clip.payload_type {
                continue;
            }
            self.heard += 1;
            if self.kept.len() < KEPT {
                self.kept.push(buffer[12..length].to_vec());
            }
        }
    }

    /// How clean that tone is in what it has kept, in decibels.
    fn listen(&mut self, frequency: u32) -> f64 {
        let mut decoder = Registry::built_in().audio_decoder(&AudioFormat::new(self.clip.codec)).unwrap();
        let (mut samples, mut room) = (Vec::new(), [0; 5_760]);
        for packet in self.kept.drain(..) {
            let length = decoder.decode(&packet, &mut room).unwrap();
            samples.extend_from_slice(&room[..length]);
        }
        let mut windows = purity(&samples, self.clip.codec.sample_rate(), f64::from(frequency));
        windows.sort_by(f64::total_cmp);
        windows[windows.len() / 2]
    }
}

/// All of them talk for that time; one after another stands for a call of two. Each hears the other's
/// tone, and no more than one packet in a hundred is missing.
pub fn talk(parties: &mut [Party], time: Duration) {
    for party in parties.iter_mut() {
        party.hear();
        party.heard = 0;
        party.kept.clear();
    }
    let before: Vec<u64> = parties.iter().map(|party| party.sent).collect();
    let (start, slot) = (Instant::now(), PACKET / SLOTS as u32);
    for turn in 0..(time.as_micros() / slot.as_micros()) as usize {
        let due = start + slot * turn as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        for party in parties.iter_mut().skip(turn % SLOTS).step_by(SLOTS) {
            party.hear();
            party.send();
        }
    }
    // What is still on its way: playout buffers hold some packets back.
    std::thread::sleep(Duration::from_millis(200));
    parties.iter_mut().for_each(Party::hear);
    for (call, before) in parties.chunks_exact_mut(2).zip(before.chunks_exact(2)) {
        for (here, there) in [(0, 1), (1, 0)] {
            let sent = call[there].sent - before[there];
            let heard = call[here].heard;
            assert!(heard * 100 >= sent * 99, "{heard} of {sent} packets came");
            let wanted = call[there].clip.frequency;
            let clean = call[here].listen(wanted);
            assert!(clean > CLEAN, "{wanted} Hz is {clean} dB above all else");
        }
    }
}
