//! Keys: telephone events in RTP (RFC 4733), both ways, and in the body of SIP INFO.

use std::collections::VecDeque;
use std::time::Duration;

use crate::Instant;

/// The keys, at the place of their event number (RFC 4733 table 3).
const KEYS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '*', '#', 'A', 'B', 'C', 'D'];

/// The event number of a key; letters in either case.
pub fn event_of(key: char) -> Option<u8> {
    let key = key.to_ascii_uppercase();
    KEYS.iter().position(|known| *known == key).and_then(|place| u8::try_from(place).ok())
}

/// The key of an event number.
pub fn key_of(event: u8) -> Option<char> {
    KEYS.get(usize::from(event)).copied()
}

/// Bytes of a telephone event.
pub const EVENT_LEN: usize = 4;
/// The E bit, and -dBm0 in the low six bits (section 2.3).
const END: u8 = 0x80;
/// Level of the events that we send: that of a telephone's keypad (section 2.3.4 allows 0 to -63).
const VOLUME: u8 = 10;

/// Time without an update after which an event is over though its end was never seen: three updates
/// at their longest usual interval and some jitter.
pub const LOST_END: Duration = Duration::from_millis(200);

/// Tells each key once, at its start, however often its packets come and whichever are lost.
#[derive(Clone, Debug, Default)]
pub struct DtmfReceiver {
    last: Option<Last>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    event: u8,
    timestamp: u32,
    duration: u16,
    ended: bool,
    at: Instant,
}

impl DtmfReceiver {
    /// The payload of a telephone-event packet came. A key when it begins one; `None` for updates,
    /// ends, their copies, other events (flash, tones) and malformed payloads.
    pub fn receive(&mut self, now: Instant, timestamp: u32, marker: bool, payload: &[u8]) -> Option<char> {
        let &[event, flags, high, low, ..] = payload else { return None };
        let key = key_of(event)?;
        let duration = u16::from_be_bytes([high, low]);
        let ended = flags & END != 0;
        let this = Last { event, timestamp, duration, ended, at: now };
        let Some(last) = self.last else {
            self.last = Some(this);
            return Some(key);
        };
        let lately = now.saturating_since(last.at) < LOST_END;
        // There are senders whose clock stands still between keys; time and the marker tell those.
        let again = last.ended && marker && !lately;
        if timestamp == last.timestamp && event == last.event && !again {
            // Out of order the end may come before an update: ended it stays.
            self.last =
                Some(Last { ended: ended || last.ended, duration: duration.max(last.duration), ..this });
            return None;
        }
        let step = timestamp.wrapping_sub(last.timestamp).cast_signed();
        if step < 0 && lately {
            // A straggler of the event before.
            return None;
        }
        // A long event goes on as a new segment that begins where the full one ends (section 2.5.1.3);
        // and there are senders that move the stamp with each update, which a new key would mark.
        let segment = last.duration == u16::MAX && step == i32::from(u16::MAX);
        let goes_on = event == last.event && !last.ended && !marker && lately;
        self.last = Some(this);
        (!segment && !goes_on).then_some(key)
    }
}

/// Interval of updates while a key is held (section 2.5.1.2: that of the audio packets, or longer).
pub const UPDATE: Duration = Duration::from_millis(50);
/// Copies of the last packet, with itself (section 2.5.1.4).
const ENDS: u8 = 3;
/// Shortest tone that we make: ITU-T Q.24 asks receivers to take 40 ms, gateways behind RTP play what
/// they are told and lose some of it.
pub const MIN_TONE: Duration = Duration::from_millis(80);
/// Longest: the duration field holds 1.36 s of a clock of 48 kHz.
pub const MAX_TONE: Duration = Duration::from_millis(1300);
/// Shortest pause between keys, likewise from 40 ms up.
pub const MIN_GAP: Duration = Duration::from_millis(80);
/// Keys that wait. Overflow: the newest is refused.
pub const MAX_KEYS: usize = 32;

/// A packet of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DtmfPacket {
    /// Its payload.
    pub payload: [u8; EVENT_LEN],
    /// The stamp of the event's start, the same in all its packets.
    pub timestamp: u32,
    /// First packet of the event.
    pub marker: bool,
}

/// Sends keys one after the other, in the stream of the sound that they interrupt: same SSRC, one
/// row of sequence numbers. While [`Self::is_active`] the sound itself is not sent.
#[derive(Clone, Debug)]
pub struct DtmfSender {
    clock: u32,
    keys: VecDeque<(u8, Duration)>,
    tone: Option<Tone>,
    /// No key before this.
    quiet_until: Instant,
    refused: u64,
}

#[derive(Clone, Copy, Debug)]
struct Tone {
    event: u8,
    timestamp: u32,
    began: Instant,
    ends: Instant,
    next: Instant,
    begun: bool,
    ends_sent: u8,
}

impl DtmfSender {
    /// For telephone-event with `clock` ticks a second, that of the sound (section 2.4.1.1 of RFC
    /// 4733: 8000, unless the sound has another).
    pub fn new(clock: u32) -> Self {
        Self {
            clock: clock.max(1),
            keys: VecDeque::with_capacity(MAX_KEYS),
            tone: None,
            quiet_until: Instant::ZERO,
            refused: 0,
        }
    }

    /// Puts a key behind those that wait. False when it is no key or too many wait.
    pub fn push(&mut self, key: char, duration: Duration) -> bool {
        let Some(event) = event_of(key).filter(|_| self.keys.len() < MAX_KEYS) else {
            self.refused = self.refused.saturating_add(1);
            return false;
        };
        self.keys.push_back((event, duration.clamp(MIN_TONE, MAX_TONE)));
        true
    }

    /// The packet that is due at `now`, if there is one; call it until there is none.
    /// `timestamp` is what the stream's clock shows now; it becomes the stamp of a key that begins.
    pub fn poll(&mut self, now: Instant, timestamp: u32) -> Option<DtmfPacket> {
        if self.tone.is_none() && self.quiet_until <= now {
            let (event, duration) = self.keys.pop_front()?;
            let ends = now + duration;
            self.tone =
                Some(Tone { event, timestamp, began: now, ends, next: now, begun: false, ends_sent: 0 });
        }
        let clock = self.clock;
        let tone = self.tone.as_mut().filter(|tone| tone.next <= now)?;
        let over = now >= tone.ends;
        let lasted = if over { tone.ends } else { now } - tone.began;
        let ticks = lasted.as_nanos().saturating_mul(u128::from(clock)) / 1_000_000_000;
        let [high, low] = u16::try_from(ticks).unwrap_or(u16::MAX).to_be_bytes();
        let flags = if over { END | VOLUME } else { VOLUME };
        let packet = DtmfPacket {
            payload: [tone.event, flags, high, low],
            timestamp: tone.timestamp,
            marker: !tone.begun,
        };
        tone.begun = true;
        tone.next = now + UPDATE;
        if over {
            tone.ends_sent = tone.ends_sent.saturating_add(1);
        } else {
            tone.next = tone.next.min(tone.ends);
        }
        if tone.ends_sent >= ENDS {
            self.quiet_until = now + MIN_GAP;
            self.tone = None;
        }
        Some(packet)
    }

    /// When [`Self::poll`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.tone {
            Some(tone) => Some(tone.next),
            None => (!self.keys.is_empty()).then_some(self.quiet_until),
        }
    }

    /// Whether a key is being sent, so that sound must not be.
    pub const fn is_active(&self) -> bool {
        self.tone.is_some()
    }

    /// Keys that were refused.
    pub const fn refused(&self) -> u64 {
        self.refused
    }
}

/// A key in the body of SIP INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DtmfInfo {
    /// The key.
    pub key: char,
    /// How long it was held, where the body tells.
    pub duration: Option<Duration>,
}

/// Duration that a body without one means.
pub const DEFAULT_TONE: Duration = Duration::from_millis(160);
/// Bodies of keys are shorter.
const MAX_INFO: usize = 256;

impl DtmfInfo {
    /// The media type that we send, the one that most endpoints take.
    pub const RELAY_TYPE: &'static str = "application/dtmf-relay";
    /// The other one: the key alone.
    pub const PLAIN_TYPE: &'static str = "application/dtmf";

    /// Reads the body of an INFO. `None` when the type is another one, or the body says no key.
    pub fn parse(content_type: &str, body: &[u8]) -> Option<Self> {
        let media = content_type.split(';').next().unwrap_or_default().trim();
        let body = std::str::from_utf8(body.get(..body.len().min(MAX_INFO))?).ok()?;
        if media.eq_ignore_ascii_case(Self::PLAIN_TYPE) {
            return Some(Self { key: parse_key(body.trim())?, duration: None });
        }
        if !media.eq_ignore_ascii_case(Self::RELAY_TYPE) {
            return None;
        }
        let value = |name: &str| {
            body.lines().find_map(|line| {
                let (key, value) = line.split_once('=')?;
                key.trim().eq_ignore_ascii_case(name).then_some(value.trim())
            })
        };
        let duration = value("Duration").and_then(|millis| millis.parse::<u16>().ok());
        Some(Self {
            key: parse_key(value("Signal")?)?,
            duration: duration.map(|millis| Duration::from_millis(millis.into())),
        })
    }

    /// The body to send as [`Self::RELAY_TYPE`].
    pub fn body(&self) -> String {
        let millis = self.duration.unwrap_or(DEFAULT_TONE).as_millis();
        format!("Signal={}\r\nDuration={millis}\r\n", self.key)
    }
}

/// A key as character, or as event number with two digits, which some endpoints write for `*` to D.
fn parse_key(text: &str) -> Option<char> {
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some(key), None) => event_of(key).and_then(key_of),
        (Some(_), Some(_)) => text.parse::<u8>().ok().filter(|event| *event >= 10).and_then(key_of),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    /// Sends the keys in virtual time; returns the packets with their times.
    fn sent(clock: u32, keys: &[(char, u64)]) -> Vec<(u64, DtmfPacket)> {
        let mut sender = DtmfSender::new(clock);
        for (key, millis) in keys {
            assert!(sender.push(*key, Duration::from_millis(*millis)));
        }
        let mut packets = Vec::new();
        let mut now = at(1000);
        while let Some(deadline) = sender.deadline() {
            now = now.max(deadline);
            let millis = now.as_nanos() / 1_000_000;
            let stamp = u32::try_from(millis * u64::from(clock) / 1000).unwrap();
            while let Some(packet) = sender.poll(now, stamp) {
                packets.push((millis, packet));
            }
        }
        assert!(!sender.is_active());
        packets
    }

    #[test]
    fn a_key_is_begun_kept_up_and_ended_three_times() {
        let packets = sent(8000, &[('5', 120)]);
        let expected = [
            (1000, [5, 10, 0, 0], true),
            (1050, [5, 10, 1, 0x90], false),
            (1100, [5, 10, 3, 0x20], false),
            (1120, [5, 0x8a, 3, 0xc0], false),
            (1170, [5, 0x8a, 3, 0xc0], false),
            (1220, [5, 0x8a, 3, 0xc0], false),
        ]
        .map(|(millis, payload, marker)| (millis, DtmfPacket { payload, timestamp: 8000, marker }));
        assert_eq!(packets, expected);
    }

    #[test]
    fn keys_keep_their_distance_and_durations_their_bounds() {
        let packets = sent(48_000, &[('1', 0), ('1', 60_000)]);
        let starts: Vec<u64> =
            packets.iter().filter(|(_, packet)| packet.marker).map(|(millis, _)| *millis).collect();
        assert_eq!(starts, [1000, 1000 + 80 + 100 + 80]);
        let last = packets.last().unwrap().1.payload;
        assert_eq!(u32::from(u16::from_be_bytes([last[2], last[3]])), 48 * 1300);
    }

    #[test]
    fn keys_that_wait_are_bounded() {
        let mut sender = DtmfSender::new(8000);
        for _ in 0..MAX_KEYS {
            assert!(sender.push('7', MIN_TONE));
        }
        assert!(!sender.push('7', MIN_TONE));
        assert!(!sender.push('x', MIN_TONE));
        assert_eq!(sender.refused(), 2);
        sender.poll(at(0), 0).unwrap();
        assert!(sender.push('d', MIN_TONE), "a place is free again");
    }

    #[test]
    fn each_key_is_told_once_whatever_is_lost() {
        let packets = sent(8000, &[('1', 200), ('1', 100), ('#', 100), ('D', 100)]);
        // Each packet lost alone, and all but each end.
        for lost in 0..packets.len() {
            let mut receiver = DtmfReceiver::default();
            let heard: String = packets
                .iter()
                .enumerate()
                .filter(|(place, _)| *place != lost)
                .filter_map(|(_, (millis, packet))| {
                    receiver.receive(at(*millis), packet.timestamp, packet.marker, &packet.payload)
                })
                .collect();
            assert_eq!(heard, "11#D", "without packet {lost}");
        }
        let mut receiver = DtmfReceiver::default();
        let heard: String = packets
            .iter()
            .filter(|(_, packet)| packet.payload[1] & END != 0)
            .filter_map(|(millis, packet)| {
                receiver.receive(at(*millis), packet.timestamp, packet.marker, &packet.payload)
            })
            .collect();
        assert_eq!(heard, "11#D", "the ends alone");
    }

    #[test]
    fn a_key_whose_end_is_lost_does_not_swallow_the_next() {
        let mut receiver = DtmfReceiver::default();
        assert_eq!(receiver.receive(at(0), 100, true, &[5, 10, 0, 0]), Some('5'));
        // Its marker is lost too, but time has passed.
        assert_eq!(receiver.receive(at(210), 1780, false, &[5, 10, 1, 0]), Some('5'));
        // With marker it need not have.
        assert_eq!(receiver.receive(at(260), 2180, true, &[5, 10, 0, 0]), Some('5'));
    }

    #[test]
    fn stragglers_segments_and_wandering_stamps_are_no_new_keys() {
        let mut receiver = DtmfReceiver::default();
        assert_eq!(receiver.receive(at(0), 1000, true, &[1, 10, 0, 0]), Some('1'));
        assert_eq!(receiver.receive(at(100), 1800, true, &[2, 10, 0, 0]), Some('2'));
        assert_eq!(receiver.receive(at(110), 1000, false, &[1, 0x8a, 3, 0]), None);
        // RFC 4733 section 2.5.1.3: the next segment of a long key.
        assert_eq!(receiver.receive(at(1400), 1800, false, &[2, 10, 0xff, 0xff]), None);
        assert_eq!(receiver.receive(at(1700), 1800 + 0xffff, false, &[2, 10, 0, 40]), None);
        // Senders that move the stamp with each packet.
        assert_eq!(receiver.receive(at(1720), 1960 + 0xffff, false, &[2, 10, 0, 200]), None);
    }

    #[test]
    fn a_key_is_new_though_the_senders_clock_stood_still() {
        let mut receiver = DtmfReceiver::default();
        assert_eq!(receiver.receive(at(0), 100, true, &[5, 10, 0, 0]), Some('5'));
        assert_eq!(receiver.receive(at(100), 100, false, &[5, 0x8a, 3, 0x20]), None);
        assert_eq!(receiver.receive(at(150), 100, true, &[5, 10, 0, 0]), None, "a straggler");
        assert_eq!(receiver.receive(at(350), 100, true, &[5, 10, 0, 0]), Some('5'));
    }

    #[test]
    fn what_is_no_key_is_passed_over() {
        let mut receiver = DtmfReceiver::default();
        assert_eq!(receiver.receive(at(0), 0, true, &[16, 10, 0, 0]), None);
        assert_eq!(receiver.receive(at(0), 0, true, &[1, 10, 0]), None);
        assert_eq!(receiver.receive(at(0), 0, true, &[]), None);
        for (event, key) in (0u8..).zip("0123456789*#ABCD".chars()) {
            assert_eq!((event_of(key), key_of(event)), (Some(event), Some(key)));
        }
        assert_eq!((event_of('d'), event_of('E'), key_of(16)), (Some(15), None, None));
    }

    #[test]
    fn bodies_of_info() {
        let relay = |body: &str| DtmfInfo::parse("application/dtmf-relay", body.as_bytes());
        let key = |key, millis| Some(DtmfInfo { key, duration: Some(Duration::from_millis(millis)) });
        assert_eq!(relay("Signal=5\r\nDuration=160\r\n"), key('5', 160));
        assert_eq!(relay("signal= *\nduration = 250"), key('*', 250));
        assert_eq!(relay("Signal=11"), Some(DtmfInfo { key: '#', duration: None }));
        assert_eq!(relay("Signal=a\r\nDuration=x"), Some(DtmfInfo { key: 'A', duration: None }));
        assert_eq!((relay("Signal=\r\n"), relay("Signal=55"), relay("Duration=160")), (None, None, None));
        let plain = |body: &[u8]| DtmfInfo::parse("Application/DTMF; charset=utf-8", body);
        assert_eq!(plain(b" 7\r\n"), Some(DtmfInfo { key: '7', duration: None }));
        assert_eq!((plain(b""), plain(b"hello"), plain(&[0xff])), (None, None, None));
        assert_eq!(DtmfInfo::parse("text/plain", b"5"), None);
    }

    proptest! {
        #[test]
        fn a_body_reads_as_it_was_written(event in 0u8..16, millis in 1u64..5000) {
            let info = DtmfInfo { key: key_of(event).unwrap(), duration: Some(Duration::from_millis(millis)) };
            prop_assert_eq!(DtmfInfo::parse(DtmfInfo::RELAY_TYPE, info.body().as_bytes()), Some(info));
        }

        #[test]
        fn no_bytes_panic(kind in "[ -~]{0,30}", body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = DtmfInfo::parse(&kind, &body);
            let _ = DtmfInfo::parse(DtmfInfo::RELAY_TYPE, &body);
            let _ = DtmfReceiver::default().receive(Instant::ZERO, 0, false, &body);
        }
    }
}
