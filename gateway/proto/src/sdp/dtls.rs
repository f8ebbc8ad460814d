//! DTLS-SRTP in session descriptions (RFC 5763): `a=setup` and `a=fingerprint`.

use super::agree::Side;
use super::description::{Attribute, MediaLine, Sdp};
use crate::dtls::{Agreed, Fingerprint, Role};

/// Fingerprints of a line that count: one for each algorithm, and some more for a peer that changes
/// its certificate.
const MAX_FINGERPRINTS: usize = 8;

/// `a=setup` (RFC 4145 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setup {
    Active,
    Passive,
    ActPass,
}

impl Setup {
    const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Passive => "passive",
            Self::ActPass => "actpass",
        }
    }

    /// `holdconn` has no meaning here, and reads as not there.
    fn parse(text: &str) -> Option<Self> {
        let all = [Self::Active, Self::Passive, Self::ActPass];
        all.into_iter().find(|setup| setup.name().eq_ignore_ascii_case(text.trim()))
    }
}

/// Says on a line of ours what we would do. Our certificate stands once, in the session
/// ([`certify`]): offers of three lines come close to what a datagram carries.
pub(super) fn describe(line: &mut MediaLine, setup: Setup) {
    line.attributes.push(Attribute::new("setup", setup.name()));
}

/// Names our certificate where a line of ours needs it.
pub(super) fn certify(sdp: &mut Sdp, own: Option<&Fingerprint>) {
    let needed = sdp.media.iter().any(|line| line.attribute("setup").is_some());
    if let Some(own) = own.filter(|_| needed) {
        sdp.attributes.push(Attribute::new("fingerprint", own.to_string()));
    }
}

/// Whether a line could have its keys by DTLS.
pub(super) fn is_possible(side: Side<'_>) -> bool {
    setup_of(side).is_some() && !fingerprints_of(side).is_empty()
}

/// Our side in the answer to `offer`. We are the client where we may choose: then the handshake
/// begins when the answer is on its way (RFC 5763 section 5). A re-offer keeps what stands, so that
/// the association goes on (RFC 8842 section 5.3).
pub(super) fn answer(offer: Side<'_>, stands: Option<Role>) -> Option<Setup> {
    if !is_possible(offer) {
        return None;
    }
    Some(match (setup_of(offer)?, stands) {
        (Setup::Active, _) | (Setup::ActPass, Some(Role::Server)) => Setup::Passive,
        (Setup::Passive | Setup::ActPass, _) => Setup::Active,
    })
}

/// What two lines agree on, seen from `local`; whose offer it was does not matter, for only an
/// answer may choose.
pub(super) fn agree(local: Side<'_>, remote: Side<'_>) -> Option<Agreed> {
    let fingerprints = fingerprints_of(remote);
    if fingerprints.is_empty() || fingerprints_of(local).is_empty() {
        return None;
    }
    let role = match (setup_of(local)?, setup_of(remote)?) {
        (Setup::Active, Setup::Passive | Setup::ActPass) | (Setup::ActPass, Setup::Passive) => Role::Client,
        (Setup::Passive, Setup::Active | Setup::ActPass) | (Setup::ActPass, Setup::Active) => Role::Server,
        _ => return None,
    };
    Some(Agreed { role, fingerprints })
}

/// The line's own, else the session's.
fn setup_of(side: Side<'_>) -> Option<Setup> {
    Setup::parse(side.line.attribute("setup").or_else(|| side.sdp.attribute("setup"))?)
}

/// Those of the line, else those of the session (RFC 8122 section 5).
fn fingerprints_of(side: Side<'_>) -> Vec<Fingerprint> {
    let of = |attributes: &[Attribute]| -> Vec<Fingerprint> {
        let named = attributes.iter().filter(|attribute| attribute.name.eq_ignore_ascii_case("fingerprint"));
        named
            .filter_map(|attribute| Fingerprint::parse(attribute.value.as_deref()?))
            .take(MAX_FINGERPRINTS)
            .collect()
    };
    if side.line.attribute("fingerprint").is_some() {
        of(&side.line.attributes)
    } else {
        of(&side.sdp.attributes)
    }
}
