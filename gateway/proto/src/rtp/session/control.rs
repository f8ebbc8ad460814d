//! RTCP of a session: reports on schedule, feedback at once, and what the peer's say.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use crosspoint_codecs::format::MediaKind;
use rand_core::Rng;

use super::keyframe::Request;
use super::source::Verdict;
use super::{Channel, Event, Session, TRAILER, Wire};
use crate::Instant;
use crate::rtp::rtcp::{
    LastSenderReport, NtpTime, RateLimit, ReportBlock, RtcpError, RtcpEvent, RtcpSchedule, RtcpWriter,
    SenderInfo, read, round_trip,
};
use crate::rtp::timeline::LegClock;

/// Largest compound that we send.
const COMPOUND: usize = 1200;

/// Between two requests for another rate: an encoder needs that long to show what it does.
const LIMIT_INTERVAL: Duration = Duration::from_secs(1);

/// One that is not answered (TMMBN) is repeated so often: RTCP is lost as media is, and many peers that obey
/// never answer.
const LIMIT_TRIES: u8 = 3;

/// What a peer is asked for that was limited before and is not any more: more than anybody sends.
const NO_LIMIT: u32 = u32::MAX;

/// Lower limits of peers count as this, in bit/s: less is no picture and no sound, and zero is not "none".
const LEAST_LIMIT: u32 = 16_000;

/// An estimate that grows by less than one in so many is what it was.
const RISE: u32 = 20;

/// Bytes below RTP that a TMMBR of ours counts a packet: IPv4, UDP, RTP.
const OVERHEAD: u16 = 40;

/// The RTCP side of a session.
#[derive(Debug, Default)]
pub(super) struct Control {
    schedule: Option<RtcpSchedule>,
    /// RTP packets sent when the last report went, and the one before: a sender is who has sent
    /// since (RFC 3550 section 6.4).
    reported: [u64; 2],
    /// Bytes of both ways at the last report, for the rate of the session.
    counted: (Instant, u64),
    fir: u8,
    /// The number of the last FIR of the peer: repetitions are one request.
    fir_seen: Option<(u32, u8)>,
    /// What the peer was asked for last.
    asked_limit: Option<AskedLimit>,
    /// What the peer asked for by TMMBR or REMB.
    pub(super) peer_limit: Option<u32>,
    /// A report was sent.
    spoken: bool,
}

/// A rate that the peer is asked to keep to (RFC 5104 section 4.2).
#[derive(Clone, Copy, Debug)]
struct AskedLimit {
    bits: u32,
    /// When the last request went or was tried, for whatever rate.
    at: Option<Instant>,
    /// Requests for this one that are left.
    tries: u8,
    /// One for this rate has gone since it was another: only then can an answer be about it.
    sent: bool,
}

/// What a stream is taken to have in bit/s while it has less: RTCP's share of a stream that has not
/// begun or that pauses would be nothing.
const fn nominal(kind: MediaKind) -> u32 {
    if kind.is_video() { 512_000 } else { 64_000 }
}

/// Feedback that goes with a report.
#[derive(Clone, Copy, Debug)]
enum Feedback<'a> {
    None,
    Nack(&'a [u16]),
    Pli,
    Fir(u8),
    Tmmbr(u64),
    Tmmbn(RateLimit),
    Remb(u64),
    Bye,
}

impl Control {
    pub(super) fn start(&mut self, now: Instant, kind: MediaKind, random: u32) {
        if self.schedule.is_none() {
            let mut schedule = RtcpSchedule::new(now, random);
            schedule.set_bitrate(nominal(kind));
            self.schedule = Some(schedule);
            self.counted = (now, 0);
        }
    }

    /// The peer has said what it obeys: no more requests if that is what it was asked for last. What was asked
    /// for before is answered late where the rate changes twice within a round trip, or within the pause between
    /// two requests (RFC 5104 section 4.2.2).
    fn limit_is_answered(&mut self, bitrate: u64) {
        if let Some(asked) = &mut self.asked_limit
            && asked.sent
            && RateLimit::rounded(u64::from(asked.bits)) == bitrate
        {
            asked.tries = 0;
        }
    }

    /// From now on it is asked in another way, of which it has heard nothing.
    pub(super) const fn ask_limit_anew(&mut self) {
        if let Some(asked) = &mut self.asked_limit {
            (asked.tries, asked.sent) = (LIMIT_TRIES, false);
        }
    }

    /// The peer takes no such requests any more.
    pub(super) const fn forget_limit(&mut self) {
        self.asked_limit = None;
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.schedule.as_ref().map(RtcpSchedule::due)
    }
}

impl Session {
    pub(super) fn receive_rtcp(
        &mut self,
        now: Instant,
        leg: &mut LegClock,
        from: SocketAddr,
        data: &mut [u8],
        wire: &mut dyn Wire,
    ) {
        let verdict = self.gate.rtcp_from(from);
        let locked = self.is_locked(Channel::Rtcp);
        let len = match (verdict, self.srtcp.as_mut().or(self.srtp.as_mut())) {
            _ if locked => None,
            (Verdict::Refuse, _) => None,
            (_, Some(srtp)) => srtp.receive.unprotect_rtcp(data).ok(),
            (_, None) => Some(data.len()),
        };
        let Some(data) = len.and_then(|len| data.get(..len)) else {
            self.drop_one();
            return;
        };
        if verdict == Verdict::Probe {
            let theirs = self.receiver.source.as_ref().map(|source| source.ssrc);
            let mut proven = false;
            let _ = read(data, &mut |event| {
                if let RtcpEvent::SenderReport { ssrc, .. } | RtcpEvent::ReceiverReport { ssrc } = event {
                    proven |= Some(ssrc) == theirs;
                }
            });
            if !proven {
                self.drop_one();
                return;
            }
            self.gate.rtcp_probe(from);
        }
        if let Some(schedule) = &mut self.control.schedule {
            schedule.observe(data.len());
        }
        let mut told = false;
        let result = read(data, &mut |event| {
            told = true;
            self.heed(now, leg, event, wire);
        });
        if told {
            self.gate.rtcp_accepted();
            // A phone that is muted, or that leaves silence out, is there all the same.
            self.receiver.hear(now);
        }
        if result.is_err() {
            self.drop_one();
        }
    }

    fn heed(&mut self, now: Instant, leg: &mut LegClock, event: RtcpEvent<'_>, wire: &mut dyn Wire) {
        let ours = self.config.ssrc;
        match event {
            RtcpEvent::SenderReport { ssrc, info } => {
                if let Some(source) = self.receiver.source.as_mut().filter(|source| source.ssrc == ssrc) {
                    source.last_report = Some(LastSenderReport { ntp: info.ntp, at: now });
                    source.timeline.sender_report(now, leg, info.ntp, info.rtp_timestamp);
                }
            }
            RtcpEvent::Report { block, .. } if block.ssrc == ours => {
                self.stats.remote_loss = f32::from(block.fraction_lost) / 256.0;
                let trip = round_trip(self.ntp(now), block.last_sender_report, block.delay);
                if let Some(trip) = trip {
                    self.stats.round_trip = Some(trip);
                    self.frames.set_round_trip(trip);
                }
            }
            RtcpEvent::Bye { ssrc } => {
                if let Some(source) = self.receiver.source.as_mut().filter(|source| source.ssrc == ssrc) {
                    source.left = true;
                }
            }
            RtcpEvent::Nack { media, sequence } if media == ours => self.repeat(now, sequence, wire),
            // Some endpoints leave the media source of a PLI at zero.
            RtcpEvent::Pli { media } if media == ours || media == 0 => {
                self.stats.keyframes_asked = self.stats.keyframes_asked.saturating_add(1);
                self.asked.want_unnumbered(now);
            }
            RtcpEvent::Fir { from, media, number }
                if media == ours && self.control.fir_seen.replace((from, number)) != Some((from, number)) =>
            {
                self.keyframe_asked();
            }
            RtcpEvent::Tmmbr { from, limit } if limit.media == ours => {
                self.peer_limits(limit.bitrate);
                // Whose limit it is that we obey (RFC 5104 section 4.2.2).
                self.send_compound(now, true, Feedback::Tmmbn(RateLimit { media: from, ..limit }), wire);
            }
            RtcpEvent::Tmmbn { limit, .. } => self.control.limit_is_answered(limit.bitrate),
            RtcpEvent::Remb { media, bitrate } if media == ours => self.peer_estimates(bitrate),
            _ => {}
        }
        self.answer_keyframe_asked(now);
    }

    /// The peer asked for a keyframe by signalling: merged with what it asks in RTCP.
    pub fn note_keyframe_asked(&mut self, now: Instant) {
        self.keyframe_asked();
        self.answer_keyframe_asked(now);
    }

    fn keyframe_asked(&mut self) {
        self.stats.keyframes_asked = self.stats.keyframes_asked.saturating_add(1);
        self.asked.want();
    }

    pub(super) fn answer_keyframe_asked(&mut self, now: Instant) {
        if self.asked.take(now).is_some() {
            self.tell(Event::KeyframeAsked);
        }
    }

    /// What a receiver estimates changes all the time: a fall counts at once, a rise when it is one.
    fn peer_estimates(&mut self, bitrate: u64) {
        let least = |limit: u32| u64::from(limit).saturating_add(u64::from(limit / RISE));
        if self.control.peer_limit.is_none_or(|limit| bitrate < u64::from(limit) || bitrate >= least(limit)) {
            self.peer_limits(bitrate);
        }
    }

    fn peer_limits(&mut self, bitrate: u64) {
        let bits = u32::try_from(bitrate).unwrap_or(u32::MAX).max(LEAST_LIMIT);
        if self.control.peer_limit.replace(bits) != Some(bits)
            && let Some(limit) = self.send_limit()
        {
            self.tell(Event::PeerLimit(limit));
        }
    }

    /// Asks the peer for a keyframe: at once, or when the last request is
    /// [`KEYFRAME_INTERVAL`](super::KEYFRAME_INTERVAL) ago, and again until one comes. Where packets are lost, each
    /// request is two datagrams.
    pub fn request_keyframe(&mut self, now: Instant, wire: &mut dyn Wire) {
        self.wanted.want();
        self.ask_keyframe(now, wire);
    }

    /// When the next request may go. While the peer sends nothing there is nobody to ask; what it
    /// begins with is a keyframe.
    pub(super) fn keyframe_due(&self) -> Option<Instant> {
        let receives = self.config.direction.receives() && self.receiver.source.is_some();
        self.wanted.due().filter(|_| receives)
    }

    pub(super) fn ask_keyframe(&mut self, now: Instant, wire: &mut dyn Wire) {
        if self.keyframe_due().is_none() {
            return;
        }
        let Some(request) = self.wanted.take(now) else { return };
        if request == Request::New {
            self.stats.keyframes_requested = self.stats.keyframes_requested.saturating_add(1);
            self.control.fir = self.control.fir.wrapping_add(1);
        }
        if self.config.feedback.pli {
            self.send_compound(now, true, Feedback::Pli, wire);
        } else if self.config.feedback.fir {
            // A repetition has the number that it had (RFC 5104 section 4.3.1.1).
            self.send_compound(now, true, Feedback::Fir(self.control.fir), wire);
        } else if request == Request::New {
            // Signalling repeats what is lost itself.
            self.tell(Event::KeyframeNeeded);
        }
    }

    /// Asks the peer to send at most so many bit/s, once a second at most, where it takes TMMBR or REMB: what was
    /// asked for last counts, and is sent three times, or until the peer answers, as one does to TMMBR. Asked for
    /// the same again, it is told once more.
    pub fn limit_peer(&mut self, now: Instant, bits: u32, wire: &mut dyn Wire) {
        if !self.config.feedback.rates() {
            return;
        }
        self.control.asked_limit = Some(match self.control.asked_limit {
            Some(asked) if asked.bits == bits => AskedLimit { tries: asked.tries.max(1), ..asked },
            before => AskedLimit { bits, at: before.and_then(|it| it.at), tries: LIMIT_TRIES, sent: false },
        });
        self.ask_limit(now, wire);
    }

    /// Lets a peer that was limited send as it likes.
    pub fn free_peer(&mut self, now: Instant, wire: &mut dyn Wire) {
        if self.limits_peer() {
            self.limit_peer(now, NO_LIMIT, wire);
        }
    }

    /// Whether the peer was asked to keep to a rate.
    pub fn limits_peer(&self) -> bool {
        self.control.asked_limit.is_some_and(|asked| asked.bits != NO_LIMIT)
    }

    /// When the next request for a rate may go. Who sends nothing is not asked.
    pub(super) fn limit_due(&self) -> Option<Instant> {
        let asked = self.control.asked_limit.filter(|asked| asked.tries > 0)?;
        self.receiver.source.as_ref()?;
        Some(asked.at.map_or(Instant::ZERO, |at| at + LIMIT_INTERVAL))
    }

    pub(super) fn ask_limit(&mut self, now: Instant, wire: &mut dyn Wire) {
        if self.limit_due().is_none_or(|due| due > now) {
            return;
        }
        let Some(bits) = self.control.asked_limit.map(|asked| u64::from(asked.bits)) else { return };
        // The one that is answered, and that every RFC tells of, where there are both.
        let feedback = if self.config.feedback.tmmbr { Feedback::Tmmbr(bits) } else { Feedback::Remb(bits) };
        let sent = self.send_compound(now, true, feedback, wire);
        if let Some(asked) = &mut self.control.asked_limit {
            // What could not go is due again a second later, and not at once: no timer spins on it.
            asked.at = Some(now);
            if sent {
                (asked.tries, asked.sent) = (asked.tries.saturating_sub(1), true);
            }
        }
    }

    pub(super) fn send_nack(&mut self, now: Instant, lost: &[u16], wire: &mut dyn Wire) {
        self.send_compound(now, true, Feedback::Nack(lost), wire);
    }

    /// The regular report, when it is due.
    pub(super) fn report(&mut self, now: Instant, wire: &mut dyn Wire) {
        if self.control.due().is_none_or(|due| due > now) {
            return;
        }
        self.send_compound(now, false, Feedback::None, wire);
        let random = self.rng.next_u32();
        let bytes = self.stats.bytes_received.saturating_add(self.stats.bytes_sent);
        let (at, before) = std::mem::replace(&mut self.control.counted, (now, bytes));
        let bits = u128::from(bytes.saturating_sub(before)).saturating_mul(8_000_000_000);
        let rate = bits.checked_div(now.saturating_since(at).as_nanos()).unwrap_or(0);
        if let Some(schedule) = &mut self.control.schedule {
            let rate = u32::try_from(rate).unwrap_or(u32::MAX);
            schedule.set_bitrate(rate.max(nominal(self.config.kind)));
            schedule.sent(now, random);
        }
        self.control.reported = [self.sender.packets, self.control.reported[0]];
    }

    pub(super) fn say_goodbye(&mut self, now: Instant, wire: &mut dyn Wire) {
        // To whom nothing was ever sent nothing is to be said (RFC 3550 section 6.3.7).
        if self.control.spoken || self.sender.packets > 0 {
            self.send_compound(now, false, Feedback::Bye, wire);
        }
    }

    /// Sends a report with its SDES, and `feedback` behind it. `early`: between the regular ones,
    /// and so within a share of the rate. Whether it was sent.
    fn send_compound(
        &mut self,
        now: Instant,
        early: bool,
        feedback: Feedback<'_>,
        wire: &mut dyn Wire,
    ) -> bool {
        let Some(to) = self.gate.rtcp() else { return false };
        let len = self.write_compound(now, feedback).ok();
        let Some(len) = len.filter(|len| *len > 0) else { return false };
        let early_refused = |schedule: &mut RtcpSchedule| early && !schedule.take_early(now, len);
        if self.control.schedule.as_mut().is_some_and(early_refused) {
            return false;
        }
        if !self.gate.may_send(now) {
            self.stats.packets_withheld = self.stats.packets_withheld.saturating_add(1);
            return false;
        }
        let locked = self.is_locked(Channel::Rtcp);
        let end = match self.srtcp.as_mut().or(self.srtp.as_mut()) {
            _ if locked => None,
            Some(srtp) => srtp.send.protect_rtcp(&mut *self.scratch, len).ok(),
            None => Some(len),
        };
        let Some(datagram) = end.and_then(|end| self.scratch.get(..end)) else { return false };
        let channel = if self.config.rtcp_mux { Channel::Rtp } else { Channel::Rtcp };
        wire.send(channel, to, datagram);
        self.control.spoken = true;
        if let Some(schedule) = &mut self.control.schedule {
            schedule.observe(len);
        }
        true
    }

    fn write_compound(&mut self, now: Instant, feedback: Feedback<'_>) -> Result<usize, RtcpError> {
        let ntp = self.ntp(now);
        let ours = self.config.ssrc;
        let mut block = None;
        let mut theirs = 0;
        if let Some(source) = &mut self.receiver.source {
            theirs = source.ssrc;
            let (last_sender_report, delay) = LastSenderReport::echo(source.last_report, now);
            block = source.reception.report().map(|report| ReportBlock {
                ssrc: source.ssrc,
                fraction_lost: report.fraction_lost,
                cumulative_lost: report.cumulative_lost,
                highest: report.highest,
                jitter: report.jitter,
                last_sender_report,
                delay,
            });
        }
        let blocks = block.as_slice();
        let room = self.scratch.len().saturating_sub(TRAILER).min(COMPOUND);
        let mut writer = RtcpWriter::new(self.scratch.get_mut(..room).ok_or(RtcpError::Room)?);
        if self.sender.packets > self.control.reported[1] {
            let info = SenderInfo {
                ntp,
                rtp_timestamp: self.sender.stamp_now(now),
                packets: low(self.sender.packets),
                octets: low(self.sender.octets),
            };
            writer.sender_report(ours, &info, blocks)?;
        } else {
            writer.receiver_report(ours, blocks)?;
        }
        writer.cname(ours, &self.config.cname)?;
        match feedback {
            Feedback::None => {}
            Feedback::Nack(lost) => writer.nack(ours, theirs, lost)?,
            Feedback::Pli => writer.pli(ours, theirs)?,
            Feedback::Fir(number) => writer.fir(ours, theirs, number)?,
            Feedback::Tmmbr(bitrate) => {
                writer.tmmbr(ours, &RateLimit { media: theirs, bitrate, overhead: OVERHEAD })?;
            }
            Feedback::Tmmbn(limit) => writer.tmmbn(ours, &limit)?,
            Feedback::Remb(bitrate) => writer.remb(ours, theirs, bitrate)?,
            Feedback::Bye => writer.bye(ours)?,
        }
        Ok(writer.len())
    }

    /// What our reports say that it is now: the wall clock as it stood at the clock's zero, and
    /// what has passed since.
    fn ntp(&self, now: Instant) -> NtpTime {
        let passed = Duration::from_nanos(now.as_nanos());
        NtpTime::from_wall(self.epoch.checked_add(passed).unwrap_or(SystemTime::UNIX_EPOCH))
    }
}

/// The low 32 bits of a counter.
fn low(count: u64) -> u32 {
    u32::try_from(count & u64::from(u32::MAX)).unwrap_or(0)
}
