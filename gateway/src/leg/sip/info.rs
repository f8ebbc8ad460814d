//! Bodies of INFO: keys, and requests for a keyframe (RFC 5168).

use std::time::Duration;

use bytes::Bytes;
use crosspoint_proto::rtp::dtmf::DtmfInfo;
use crosspoint_proto::sip::Body;

const MEDIA_CONTROL: &str = "application/media_control+xml";

/// The one request of RFC 5168 that anybody sends.
const FAST_UPDATE: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\r\n\
    <media_control><vc_primitive><to_encoder><picture_fast_update/></to_encoder></vc_primitive></media_control>\r\n";

/// What an INFO says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A key.
    Dtmf(char),
    /// The peer needs a keyframe.
    FastUpdate,
}

/// A key as phones and gateways send it in INFO.
pub(super) fn dtmf(key: char, length: Duration) -> Body {
    let text = DtmfInfo { key, duration: Some(length) }.body();
    Body { content_type: DtmfInfo::RELAY_TYPE.to_owned(), data: Bytes::from(text) }
}

/// A request for a keyframe.
pub(super) fn fast_update() -> Body {
    Body { content_type: MEDIA_CONTROL.to_owned(), data: Bytes::from_static(FAST_UPDATE.as_bytes()) }
}

/// What the body of an INFO means to us; `None` for everything else.
pub(super) fn parse(body: &Body) -> Option<Meaning> {
    if let Some(key) = DtmfInfo::parse(&body.content_type, &body.data) {
        return Some(Meaning::Dtmf(key.key));
    }
    let kind = body.content_type.split(';').next()?.trim();
    let asks = kind.eq_ignore_ascii_case(MEDIA_CONTROL)
        && std::str::from_utf8(&body.data).is_ok_and(|text| text.contains("picture_fast_update"));
    asks.then_some(Meaning::FastUpdate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_send_is_what_we_read() {
        for digit in "0123456789*#ABCD".chars() {
            assert_eq!(parse(&dtmf(digit, Duration::from_millis(160))), Some(Meaning::Dtmf(digit)));
        }
        assert_eq!(parse(&fast_update()), Some(Meaning::FastUpdate));
        let other = Body { content_type: "text/plain".to_owned(), data: Bytes::from_static(b"5") };
        assert_eq!(parse(&other), None);
    }
}
