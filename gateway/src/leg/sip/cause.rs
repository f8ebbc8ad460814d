//! SIP's words for why a leg ended, both ways.

use crosspoint_proto::sip::{By, CallId, Command, Ending, How, Reason as ReasonHeader};

use crate::cause::{Cause, Reason, Side};
use crate::leg::Referral;

/// The cause of a call that the machine says has ended.
pub(super) fn of_ending(ending: &Ending) -> Cause {
    let side = match ending.by {
        By::Us => Side::Local,
        By::Peer => Side::Remote,
        By::Network => Side::Local,
    };
    let reason = match ending.how {
        How::Hangup => Reason::Hangup,
        How::Cancelled if answered_elsewhere(ending.reason.as_ref()) => Reason::AnsweredElsewhere,
        How::Cancelled => Reason::Cancelled,
        How::Refused => of_status(ending.status.unwrap_or(500)),
        How::NoResponse | How::Unreachable | How::NoAck | How::Gone | How::Expired => Reason::Unreachable,
        How::FlowFailed => Reason::FlowFailed,
        How::Protocol => Reason::ProtocolError,
    };
    Cause { reason, side }
}

/// Where the called party may be instead, the best place first (RFC 3261 sections 8.1.3.4 and 21.3).
/// A proxy to go by (305) and another service (380) are no such places.
pub(super) fn elsewhere(ending: &Ending) -> Vec<String> {
    if !matches!(ending.status, Some(300..=302)) {
        return Vec::new();
    }
    let mut contacts: Vec<_> = ending.contacts.iter().collect();
    contacts.sort_by_key(|contact| std::cmp::Reverse(contact.q()));
    contacts.into_iter().map(|contact| contact.uri.to_string()).collect()
}

/// What who sent a REFER is answered and told (RFC 3515).
pub(super) const fn of_referral(call: CallId, referral: Referral) -> Command {
    match referral {
        Referral::Refused(reason) => Command::AnswerRefer { call, status: to_status(reason) },
        Referral::Accepted => Command::AnswerRefer { call, status: 202 },
        Referral::Rings => Command::ReferProgress { call, status: 180 },
        Referral::Answered => Command::ReferProgress { call, status: 200 },
        Referral::NoSuchCall => Command::ReferProgress { call, status: 481 },
        Referral::Failed(reason) => Command::ReferProgress { call, status: to_status(reason) },
    }
}

/// What a final response says (RFC 3261 section 21).
pub(super) const fn of_status(status: u16) -> Reason {
    match status {
        401 | 402 | 403 | 407 | 423 | 493 => Reason::Forbidden,
        404 | 410 | 484 | 485 | 604 => Reason::NotFound,
        408 => Reason::NoAnswer,
        430 => Reason::FlowFailed,
        480 => Reason::Unavailable,
        481 | 482 | 483 | 502 | 504 => Reason::Unreachable,
        486 | 600 => Reason::Busy,
        487 => Reason::Cancelled,
        406 | 415 | 488 | 606 => Reason::NotAcceptable,
        503 => Reason::Congestion,
        603 | 607 | 608 => Reason::Rejected,
        // Where it leads is another matter: nobody is here.
        300..=399 => Reason::Unavailable,
        400 | 405 | 413 | 414 | 416 | 420 | 421 | 422 | 489 | 491 | 494 | 501 | 505 | 513 => {
            Reason::ProtocolError
        }
        600..=699 => Reason::Rejected,
        400..=499 => Reason::Unavailable,
        _ => Reason::Unreachable,
    }
}

/// The final response to a caller whose call ends for that reason before it is answered.
pub(super) const fn to_status(reason: Reason) -> u16 {
    match reason {
        Reason::Busy => 486,
        // Whoever called knows nothing of our flows: 430 is for who has made their tokens.
        Reason::NoAnswer | Reason::Unavailable | Reason::FlowFailed => 480,
        Reason::Rejected => 603,
        Reason::NotFound => 404,
        Reason::Forbidden => 403,
        Reason::NotAcceptable => 488,
        Reason::Congestion | Reason::Shutdown => 503,
        Reason::Cancelled | Reason::AnsweredElsewhere => 487,
        Reason::Unreachable | Reason::MediaTimeout => 504,
        Reason::ProtocolError => 502,
        Reason::Hangup => 480,
        Reason::Internal => 500,
    }
}

/// The Reason header of a CANCEL or BYE of ours (RFC 3326; causes of Q.850 are what other gateways
/// read, and 200 is what phones look for when another one answered, RFC 3326 section 3.1).
pub(super) fn to_header(reason: Reason) -> ReasonHeader {
    let cause = match reason {
        Reason::AnsweredElsewhere => return ReasonHeader::sip(200, "Call completed elsewhere"),
        Reason::Cancelled => return ReasonHeader::sip(487, "Request Terminated"),
        Reason::NotFound => 1,
        Reason::Hangup => 16,
        Reason::Busy => 17,
        Reason::NoAnswer => 19,
        Reason::Unavailable | Reason::FlowFailed => 20,
        Reason::Rejected => 21,
        Reason::Unreachable => 27,
        Reason::MediaTimeout | Reason::Shutdown | Reason::Internal => 41,
        Reason::Congestion => 42,
        Reason::Forbidden => 57,
        Reason::NotAcceptable => 88,
        Reason::ProtocolError => 111,
    };
    ReasonHeader::q850(cause)
}

fn answered_elsewhere(reason: Option<&ReasonHeader>) -> bool {
    reason.is_some_and(|reason| {
        reason.protocol.as_str().eq_ignore_ascii_case("SIP") && reason.cause == Some(200)
            || reason.protocol.as_str().eq_ignore_ascii_case("Q.850") && reason.cause == Some(26)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_needs_to_know_survives_the_way_through_both_tables() {
        for reason in [
            Reason::Busy,
            Reason::Rejected,
            Reason::NotFound,
            Reason::Unavailable,
            Reason::Forbidden,
            Reason::NotAcceptable,
            Reason::Congestion,
            Reason::Unreachable,
            Reason::Cancelled,
        ] {
            assert_eq!(of_status(to_status(reason)), reason, "{reason:?}");
        }
    }

    #[test]
    fn every_final_status_means_something() {
        for status in 300..700 {
            let reason = of_status(status);
            assert_ne!(reason, Reason::Hangup, "{status}");
            assert_ne!(reason, Reason::Internal, "{status}");
        }
    }
}
