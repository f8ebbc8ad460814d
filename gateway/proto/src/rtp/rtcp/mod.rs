//! RTCP: compound packets read into small events, written into the caller's buffer, and when to
//! send them (RFC 3550 section 6, RFC 4585, RFC 5104).

mod ntp;
mod read;
mod schedule;
mod write;

pub use ntp::{LastSenderReport, NtpTime, round_trip};
pub use read::{MAX_NACKED, MAX_PACKETS, read};
pub use schedule::RtcpSchedule;
pub use write::RtcpWriter;

/// One thing that a compound packet says. Lists come as one event an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RtcpEvent<'a> {
    /// SR (RFC 3550 section 6.4.1); its report blocks follow as [`Self::Report`].
    SenderReport {
        /// The sender.
        ssrc: u32,
        /// What it says of itself.
        info: SenderInfo,
    },
    /// RR (section 6.4.2); its report blocks follow as [`Self::Report`].
    ReceiverReport {
        /// The receiver.
        ssrc: u32,
    },
    /// A report block of the SR or RR before it.
    Report {
        /// Who reports.
        from: u32,
        /// What it says.
        block: ReportBlock,
    },
    /// The name that binds a participant's sources (SDES, section 6.5.1), as it came: any bytes.
    Cname {
        /// The source.
        ssrc: u32,
        /// At most 255 bytes.
        name: &'a [u8],
    },
    /// A source leaves (section 6.6).
    Bye {
        /// Which one.
        ssrc: u32,
    },
    /// A packet is missing (RFC 4585 section 6.2.1).
    Nack {
        /// The source whose packet it is.
        media: u32,
        /// Its sequence number.
        sequence: u16,
    },
    /// A picture was lost (RFC 4585 section 6.3.1), or the request of RFC 2032 for an intra frame.
    Pli {
        /// The source of the pictures.
        media: u32,
    },
    /// A keyframe is needed (RFC 5104 section 4.3.1).
    Fir {
        /// Who asks: numbers are counted for each.
        from: u32,
        /// The source of the pictures.
        media: u32,
        /// The same for repetitions of one request.
        number: u8,
    },
    /// No more than this rate, please (RFC 5104 section 4.2.1).
    Tmmbr {
        /// Who asks.
        from: u32,
        /// Of what.
        limit: RateLimit,
    },
    /// The answer to TMMBR (RFC 5104 section 4.2.2).
    Tmmbn {
        /// Who obeys.
        from: u32,
        /// What it obeys.
        limit: RateLimit,
    },
    /// The receiver's estimate of what it can take (draft-alvestrand-rmcat-remb-03), for one of the
    /// sources that it names.
    Remb {
        /// The source.
        media: u32,
        /// In bit/s.
        bitrate: u64,
    },
}

/// What a sender says of itself in an SR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderInfo {
    /// Wall time at the moment of the report.
    pub ntp: NtpTime,
    /// The same moment on the clock of its RTP time stamps.
    pub rtp_timestamp: u32,
    /// Packets sent so far.
    pub packets: u32,
    /// Payload bytes sent so far.
    pub octets: u32,
}

/// A report block (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// The source that it is about.
    pub ssrc: u32,
    /// Loss since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Packets lost so far, 24 bits with sign.
    pub cumulative_lost: i32,
    /// Highest sequence number, cycles in the upper half.
    pub highest: u32,
    /// Interarrival jitter in ticks.
    pub jitter: u32,
    /// Middle of the NTP stamp of the last SR, zero without one.
    pub last_sender_report: u32,
    /// Time since that SR in 65536ths of a second, zero without one.
    pub delay: u32,
}

/// What TMMBR and TMMBN carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The source that it is about.
    pub media: u32,
    /// In bit/s, with all that lies below RTP counted as `overhead` a packet.
    pub bitrate: u64,
    /// Bytes a packet below RTP, 9 bits.
    pub overhead: u16,
}

/// Why bytes are not RTCP, or do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RtcpError {
    /// A packet in the compound does not hold together. What was told before it stands.
    #[error("the RTCP packet is malformed")]
    Malformed,
    /// More packets or entries than we take from one datagram. What was told before stands.
    #[error("the RTCP packet says too much")]
    TooMany,
    /// The caller's buffer is too small; nothing was added.
    #[error("the buffer is too small")]
    Room,
    /// A value does not fit its field.
    #[error("a value does not fit its field")]
    Value,
}
