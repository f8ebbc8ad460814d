//! What each fuzz target does with its input: read it, and check what must hold for all inputs.
//!
//! Nothing here knows the fuzzer, so that seeds and minimised crashes replay as plain tests.

mod dtls;
mod endpoint;
mod media;
mod negotiation;
mod playout;
mod sip;
mod srtp;

/// Every target by its name: of its file in `targets/` and of its folders in `seeds/` and
/// `regressions/`.
#[allow(clippy::type_complexity, reason = "a name and a function, in one table")]
pub const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("sip_message", sip::message),
    ("sip_stream", sip::stream),
    ("sip_uri", sip::uri),
    ("sip_auth", sip::auth),
    ("sip_multipart", sip::multipart),
    ("sip_endpoint", endpoint::history),
    ("sdp", media::sdp),
    ("negotiation", negotiation::negotiation),
    ("rtp", media::rtp),
    ("rtp_order", media::rtp_order),
    ("playout", playout::history),
    ("srtp", srtp::history),
    ("rtcp", media::rtcp),
    ("h264_depack", media::h264_depack),
    ("dtls_flights", dtls::flights),
];

/// Runs one target on one input; panics when something does not hold.
pub fn run(target: &str, data: &[u8]) {
    let Some((_, check)) = TARGETS.iter().find(|(name, _)| *name == target) else {
        panic!("no target {target}")
    };
    check(data);
}
