//! RTP, RTCP and SRTP: the building blocks of a media session, without sockets or clocks.
//!
//! [`packet`] reads and rewrites packets, [`srtp`] protects them in place, [`reception`] counts
//! what came (RFC 3550 appendix A).

pub mod packet;
pub mod payload;
pub mod reception;
pub mod rtcp;
pub mod srtp;
