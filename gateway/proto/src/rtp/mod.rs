//! RTP, RTCP and SRTP: the building blocks of a media session, without sockets or clocks.
//!
//! What comes in passes [`srtp`], [`packet`], [`reception`] (RFC 3550 appendix A), [`reorder`] and
//! [`payload`], and [`timeline`] says when it is to be heard or seen; what goes out takes the same
//! road back and is kept in [`history`]. [`rtcp`] reports on both, [`dtmf`] carries keys.
//! [`session`] puts them together: the RTP of one m-line.

pub mod dtmf;
pub mod history;
pub mod packet;
pub mod payload;
pub mod reception;
pub mod reorder;
pub mod rtcp;
#[cfg(feature = "srtp")]
pub mod session;
pub mod srtp;
pub mod timeline;
