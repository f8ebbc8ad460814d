//! A clip whose pictures are numbered, and which of them a stream of packets shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use crosspoint_codecs::codec::{Decoded, VideoDecoder as _};
use crosspoint_codecs::frame::{Pool, VideoFrame};
use crosspoint_codecs::video::h264::Decoder;
use crosspoint_proto::Instant as Moment;
use crosspoint_proto::rtp::packet::RtpPacket;
use crosspoint_proto::rtp::payload::h264::H264Depacketizer;
use crosspoint_proto::rtp::payload::{Depacketizer as _, Payload};
use crosspoint_proto::rtp::reorder::{Ready, Reorder, ReorderConfig};

use super::program;

/// Of the clip, a second.
pub const RATE: u32 = 25;
/// Squares across the top of each picture: white, black, then the bits of its number, lowest first,
/// and whether they are an odd count.
const SQUARES: usize = 16;
const BITS: usize = 11;
/// How long a receiver waits for a packet that another one overtook: longer than any road here needs.
const WAIT: Duration = Duration::from_millis(150);

/// Writes the clip: ffmpeg's moving test picture, 640x360, each picture with its number.
pub fn write_clip(path: &Path, seconds: u32) {
    let square = |place: usize, colour: &str, when: &str| {
        format!(
            ",drawbox=x=iw*{place}/{SQUARES}:y=0:w=iw/{SQUARES}:h=iw/{SQUARES}:color={colour}:t=fill{when}"
        )
    };
    let mut filter = format!("testsrc2=size=640x360:rate={RATE}");
    filter.push_str(&square(0, "white", ""));
    for place in 1..SQUARES {
        filter.push_str(&square(place, "black", ""));
    }
    let bit = |bit: usize| format!("mod(floor(n/{})\\,2)", 1 << bit);
    for number in 0..BITS {
        filter.push_str(&square(2 + number, "white", &format!(":enable={}", bit(number))));
    }
    let odd = (0..BITS).map(bit).collect::<Vec<_>>().join("+");
    filter.push_str(&square(2 + BITS, "white", &format!(":enable=mod({odd}\\,2)")));
    let made = program("ffmpeg")
        .args(["-loglevel", "error", "-y", "-f", "lavfi", "-i", &filter, "-t", &seconds.to_string()])
        .args(["-c:v", "mjpeg", "-q:v", "3", "-pix_fmt", "yuvj420p"])
        .arg(path)
        .status();
    assert!(made.unwrap().success(), "{filter}");
}

/// The number that is written on a picture, whatever size it was brought to.
pub fn number_of(picture: &VideoFrame) -> Option<u32> {
    let (width, side) = (picture.width(), picture.width() / SQUARES);
    let mean = |place: usize| {
        // The inner half of the square.
        let rows = (side / 4..side * 3 / 4)
            .map(|y| &picture.y()[y * width + place * side..][side / 4..side * 3 / 4]);
        let sum: usize = rows.flatten().map(|pixel| usize::from(*pixel)).sum();
        sum / (side / 2).pow(2).max(1)
    };
    let (white, black) = (mean(0), mean(1));
    if white < black + 80 {
        return None;
    }
    let set = |place: usize| mean(place) * 2 > white + black;
    let bits = (0..BITS).filter(|bit| set(2 + bit));
    let number = bits.fold(0u32, |number, bit| number | 1 << bit);
    (number.count_ones() % 2 == u32::from(set(2 + BITS))).then_some(number)
}

/// A picture that was seen, and when its last packet had come.
pub type Seen = (Instant, u32);

/// The numbers of what a receiver of these packets sees: from the first keyframe on, whatever its decoder
/// makes of damaged ones, as softphones do. What cannot be read was not seen.
pub fn seen<'a>(packets: impl Iterator<Item = (Instant, &'a [u8])>) -> Vec<Seen> {
    let mut receiver = Receiver::new();
    let mut began = None;
    for (at, data) in packets {
        let began = *began.get_or_insert(at);
        let Ok(packet) = RtpPacket::parse(data) else { continue };
        receiver.take(began, at, &packet);
    }
    receiver.seen
}

struct Receiver {
    window: Reorder<(Vec<u8>, u32, bool, Moment)>,
    newest: Option<u64>,
    depacketizer: H264Depacketizer,
    decoder: Decoder,
    begun: bool,
    seen: Vec<Seen>,
}

impl Receiver {
    fn new() -> Self {
        let config = ReorderConfig { capacity: 512, max_wait: WAIT, nack: None };
        Self {
            window: Reorder::new(&config),
            newest: None,
            depacketizer: H264Depacketizer::new(),
            decoder: Decoder::new(Pool::new(4, VideoFrame::bytes(1920, 1088))),
            begun: false,
            seen: Vec::new(),
        }
    }

    fn take(&mut self, began: Instant, at: Instant, packet: &RtpPacket<'_>) {
        let index = match self.newest {
            None => (1 << 16) + u64::from(packet.header.sequence),
            // The nearest with that number.
            Some(newest) => {
                let ahead = packet.header.sequence.wrapping_sub(newest as u16).cast_signed();
                newest.wrapping_add_signed(i64::from(ahead))
            }
        };
        self.newest = self.newest.max(Some(index));
        let now = Moment::ZERO + (at - began);
        let mut due = Vec::new();
        while let Some(deadline) = self.window.deadline().filter(|deadline| *deadline < now) {
            self.window.poll(deadline, &mut |ready| due.push((deadline, ready)));
        }
        let (timestamp, marker) = (packet.header.timestamp, packet.header.marker);
        let held = (packet.payload.to_vec(), timestamp, marker, now);
        self.window.push(now, index, held, &mut |ready| due.push((now, ready)));
        for (now, ready) in due {
            self.show(began + now.saturating_since(Moment::ZERO), ready);
        }
    }

    fn show(&mut self, at: Instant, ready: Ready<(Vec<u8>, u32, bool, Moment)>) {
        let (data, timestamp, marker, _) = ready.item;
        let payload = Payload { data: &data, timestamp, marker, lost_before: ready.lost_before };
        let Self { depacketizer, decoder, begun, seen, .. } = self;
        let _ = depacketizer.push(payload, &mut |unit| {
            *begun |= unit.keyframe && !unit.damaged;
            if !*begun {
                return;
            }
            if let Ok(Decoded::Picture { frame, .. }) = decoder.decode(unit.data) {
                seen.extend(number_of(&frame).map(|number| (at, number)));
            }
        });
    }
}

/// How much of what was sent in a time was seen.
#[derive(Clone, Copy, Debug)]
pub struct Watched {
    /// Distinct pictures seen, of those that were sent.
    pub part: f64,
    /// Longest time without a new one.
    pub freeze: Duration,
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} of the pictures, none for {} ms", self.part, self.freeze.as_millis())
    }
}

/// A picture that comes later than this is not the one that was sent, but a number that was misread.
const LATEST: Duration = Duration::from_secs(2);

/// What was seen of what was sent: the number, and when it was both.
pub fn pairs(sent: &[Seen], seen: &[Seen]) -> Vec<(u32, Instant, Instant)> {
    let began: BTreeMap<_, _> = sent.iter().map(|(at, number)| (*number, *at)).collect();
    let of = |(at, number): &Seen| {
        let began = *began.get(number)?;
        (began <= *at && *at - began <= LATEST).then_some((*number, began, *at))
    };
    seen.iter().filter_map(of).collect()
}

/// Of what was sent between two moments, what was seen; the freeze is what lies between them, whatever
/// was seen when.
pub fn watched(sent: &[Seen], seen: &[Seen], from: Instant, to: Instant) -> Watched {
    let pairs = pairs(sent, seen);
    let wanted = sent.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, number)| *number);
    let wanted: BTreeSet<_> = wanted.collect();
    assert!(wanted.len() > 25, "only {} pictures were sent", wanted.len());
    let (mut newest, mut news) = (None, Vec::new());
    for (number, _, at) in &pairs {
        if newest.is_none_or(|newest| *number > newest) {
            newest = Some(*number);
            news.push(*at);
        }
    }
    let before = news.iter().rev().find(|at| **at < from).copied().unwrap_or(from);
    let within = news.iter().filter(|at| (from..to).contains(*at)).copied();
    let moments: Vec<_> = std::iter::once(before).chain(within).chain([to]).collect();
    let freeze = moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    let came: BTreeSet<_> = pairs.iter().map(|(number, ..)| *number).collect();
    Watched { part: came.intersection(&wanted).count() as f64 / wanted.len() as f64, freeze }
}
