//! Session timers (RFC 4028 sections 7 to 10): a call whose far end is gone ends, whatever its media does.
//!
//! One side refreshes the session at half of its interval by a request within the dialog. Both end
//! it by BYE when that time runs out.

use std::fmt;
use std::time::Duration;

use super::config::SessionTimer;
use super::params::{LWS, Params, saturating_number};
use super::{Headers, Name};
use crate::Instant;

/// The option tag.
pub(super) const TIMER: &str = "timer";

/// The BYE goes out so long before the end, or a third of the interval when that is less, so that
/// it is there in time (section 10).
const MARGIN: Duration = Duration::from_secs(32);

/// Intervals that one request asks for: each hop of the way may find it too small (section 7.3).
const TRIES: u8 = 5;

/// Who refreshes, as a side of the request that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refresher {
    Uac,
    Uas,
}

/// Session-Expires (section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SessionExpires {
    /// In seconds.
    pub(super) interval: u32,
    pub(super) refresher: Option<Refresher>,
}

impl fmt::Display for SessionExpires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.interval)?;
        match self.refresher {
            Some(Refresher::Uac) => f.write_str(";refresher=uac"),
            Some(Refresher::Uas) => f.write_str(";refresher=uas"),
            None => Ok(()),
        }
    }
}

impl Headers {
    /// Session-Expires; what does not read counts as absent.
    pub(super) fn session_expires(&self) -> Option<SessionExpires> {
        let value = self.get(&Name::SessionExpires)?;
        let (seconds, params) = number_and_params(value)?;
        let params = Params::parse(params).ok()?;
        let refresher = match params.get("refresher") {
            Some(role) if role.eq_ignore_ascii_case("uac") => Some(Refresher::Uac),
            Some(role) if role.eq_ignore_ascii_case("uas") => Some(Refresher::Uas),
            _ => None,
        };
        Some(SessionExpires { interval: seconds, refresher })
    }

    /// Min-SE in seconds (section 5).
    pub(super) fn min_se(&self) -> Option<u32> {
        Some(number_and_params(self.get(&Name::MinSe)?)?.0)
    }
}

fn number_and_params(value: &str) -> Option<(u32, &str)> {
    let (number, params) = value.split_at_checked(value.find(';').unwrap_or(value.len()))?;
    Some((saturating_number(number.trim_matches(LWS))?, params))
}

/// A request asks for refreshes more often than we make them; the answer is 422 with our least
/// (section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooBrief;

/// What our 2xx to a request of theirs says of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    interval: u32,
    refresher: Refresher,
}

impl Terms {
    /// Puts them into the 2xx. Who must refresh must also know how (section 9).
    pub(super) fn fill(self, headers: &mut Headers) {
        let expires = SessionExpires { interval: self.interval, refresher: Some(self.refresher) };
        headers.push(Name::SessionExpires, expires);
        if self.refresher == Refresher::Uac {
            headers.push(Name::Require, TIMER);
        }
    }
}

/// What falls due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Refresh,
    /// Nobody refreshed it.
    Bye,
}

/// The timer of one call.
#[derive(Debug)]
pub(super) struct Session {
    config: SessionTimer,
    /// What our requests ask for: the configured interval, or more where somebody wants more.
    interval: u32,
    /// The largest of our least and of those that 422 told.
    least: u32,
    tries: u8,
    clock: Option<Clock>,
    /// It is our turn, and no request of ours says so yet.
    wanted: bool,
}

#[derive(Clone, Copy, Debug)]
struct Clock {
    ours: bool,
    refresh: Option<Instant>,
    bye: Instant,
}

impl Session {
    pub(super) fn new(config: SessionTimer) -> Self {
        let least = seconds(config.min_expires);
        Self {
            config,
            interval: seconds(config.expires).max(least),
            least,
            tries: 0,
            clock: None,
            wanted: false,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.clock.and_then(|clock| clock.refresh.into_iter().chain([clock.bye]).min())
    }

    /// Takes what is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<Due> {
        let clock = self.clock.as_mut()?;
        if clock.bye <= now {
            self.clock = None;
            return Some(Due::Bye);
        }
        clock.refresh.take_if(|at| *at <= now)?;
        self.wanted = true;
        Some(Due::Refresh)
    }

    /// Whether a refresh of ours shall go out as soon as nothing else is under way.
    pub(super) const fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// It goes out, or has to come again after another request.
    pub(super) const fn want(&mut self, wanted: bool) {
        self.wanted = wanted;
    }

    /// A refresh of ours was refused: once more at half of what is left, while that is worth it
    /// (section 10 lets the session run on; the same question again at once would be no use).
    pub(super) fn refused(&mut self, now: Instant) {
        if let Some(clock) = &mut self.clock {
            let left = clock.bye.saturating_since(now);
            clock.refresh = (clock.ours && left > MARGIN).then(|| now + part(left, 2));
        }
    }

    pub(super) const fn stop(&mut self) {
        self.clock = None;
        self.wanted = false;
    }

    /// Says in a request of ours what we want (sections 7.1 and 7.4). Who refreshes stays so.
    pub(super) fn ask(&self, headers: &mut Headers) {
        let refresher = self.clock.map(|clock| if clock.ours { Refresher::Uac } else { Refresher::Uas });
        headers.set(Name::SessionExpires, SessionExpires { interval: self.interval, refresher });
        headers.set(Name::MinSe, self.least);
    }

    /// A 2xx to a request of ours (section 7.2). Without a header the session has no end.
    pub(super) fn answered(&mut self, now: Instant, headers: &Headers) {
        self.tries = 0;
        match headers.session_expires() {
            // Less than we said is no interval to work by.
            Some(SessionExpires { interval, refresher }) => {
                self.start(now, interval.max(self.least), refresher != Some(Refresher::Uas));
            }
            None => self.stop(),
        }
    }

    /// A 422 to a request of ours: whether to ask again, for more (section 7.3).
    pub(super) fn too_brief(&mut self, headers: &Headers) -> bool {
        self.tries = self.tries.saturating_add(1);
        match headers.min_se() {
            Some(least) if least > self.interval && self.tries <= TRIES => {
                self.least = least;
                self.interval = least;
                true
            }
            _ => false,
        }
    }

    /// What our 2xx to their request will say (section 9, table 2).
    pub(super) fn terms(&self, headers: &Headers) -> Result<Option<Terms>, TooBrief> {
        let least = seconds(self.config.min_expires);
        let knows = headers.has_token(&Name::Supported, TIMER) || headers.has_token(&Name::Require, TIMER);
        match headers.session_expires() {
            // Who knows nothing of timers would only see re-INVITEs that he did not ask for.
            None if !knows => Ok(None),
            None => Ok(Some(Terms { interval: self.interval, refresher: self.standing() })),
            Some(asked) if asked.interval < least && knows => Err(TooBrief),
            // A proxy wants it, of somebody who could not ask again: no refresh is fast enough.
            Some(asked) if asked.interval < least => Ok(None),
            Some(asked) => {
                // It may be made shorter, down to what either side calls its least.
                let floor = least.max(headers.min_se().unwrap_or_default());
                let interval = asked.interval.min(seconds(self.config.expires).max(floor));
                let refresher = if knows { asked.refresher } else { Some(Refresher::Uas) };
                Ok(Some(Terms { interval, refresher: refresher.unwrap_or_else(|| self.standing()) }))
            }
        }
    }

    /// Our 2xx went out with these terms.
    pub(super) fn agreed(&mut self, now: Instant, terms: Option<Terms>) {
        match terms {
            Some(terms) => self.start(now, terms.interval, terms.refresher == Refresher::Uas),
            None => self.stop(),
        }
    }

    /// Who refreshes when they leave it to us, as a side of their request. Ours finds out at half
    /// time that nobody is there, theirs only at the end.
    fn standing(&self) -> Refresher {
        match self.clock {
            Some(clock) if !clock.ours => Refresher::Uac,
            _ => Refresher::Uas,
        }
    }

    fn start(&mut self, now: Instant, interval: u32, ours: bool) {
        self.interval = interval;
        let interval = Duration::from_secs(u64::from(interval));
        let bye = now + interval.saturating_sub(MARGIN.min(part(interval, 3)));
        self.wanted = false;
        self.clock = Some(Clock { ours, refresh: ours.then(|| now + part(interval, 2)), bye });
    }
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

fn part(time: Duration, of: u32) -> Duration {
    time.checked_div(of).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(Name, &str)]) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in lines {
            headers.push(name.clone(), value);
        }
        headers
    }

    fn session() -> Session {
        Session::new(SessionTimer::default())
    }

    #[test]
    fn values_read_as_they_are_written_and_others_do_not_count() {
        for text in ["1800", "90;refresher=uac", "4294967295;refresher=uas"] {
            let read = headers(&[(Name::SessionExpires, text)]).session_expires().unwrap();
            assert_eq!(read.to_string(), text);
        }
        let odd = headers(&[(Name::SessionExpires, " 120 ; x=y;Refresher=UAS"), (Name::MinSe, "100;x")]);
        let expected = SessionExpires { interval: 120, refresher: Some(Refresher::Uas) };
        assert_eq!((odd.session_expires(), odd.min_se()), (Some(expected), Some(100)));
        for text in ["", "x", "-1", ";refresher=uac", "90;;"] {
            assert_eq!(headers(&[(Name::SessionExpires, text)]).session_expires(), None, "{text}");
        }
        let huge = headers(&[(Name::MinSe, "99999999999999999999")]);
        assert_eq!(huge.min_se(), Some(u32::MAX));
    }

    #[test]
    fn the_called_side_answers_by_table_2() {
        let session = session();
        let terms = |lines: &[(Name, &str)]| {
            session.terms(&headers(lines)).map(|terms| {
                terms.map(|terms| {
                    let mut said = Headers::new();
                    terms.fill(&mut said);
                    (said.get(&Name::SessionExpires).unwrap().to_owned(), said.has(&Name::Require))
                })
            })
        };
        let knows = (Name::Supported, "timer");
        let said = |text: &str, require| Ok(Some((text.to_owned(), require)));
        assert_eq!(terms(&[]), Ok(None));
        assert_eq!(terms(std::slice::from_ref(&knows)), said("1800;refresher=uas", false));
        let asks = |value| (Name::SessionExpires, value);
        assert_eq!(terms(&[asks("600")]), said("600;refresher=uas", false));
        assert_eq!(terms(&[asks("600"), knows.clone()]), said("600;refresher=uas", false));
        let theirs = "600;refresher=uac";
        assert_eq!(terms(&[asks(theirs), knows.clone()]), said(theirs, true));
        assert_eq!(terms(&[asks("600;refresher=uas"), knows.clone()]), said("600;refresher=uas", false));
        // Longer than ours is shortened, but not below what the other side can do.
        assert_eq!(terms(&[asks("7200"), knows.clone()]), said("1800;refresher=uas", false));
        let slow = [asks("7200"), knows.clone(), (Name::MinSe, "3600")];
        assert_eq!(terms(&slow), said("3600;refresher=uas", false));
        assert_eq!(terms(&[asks("89"), knows]), Err(TooBrief));
        assert_eq!(terms(&[asks("89")]), Ok(None), "no 422 for who cannot ask again");
    }

    #[test]
    fn a_422_is_answered_with_more_a_few_times_and_never_with_the_same() {
        let mut session = session();
        assert!(session.too_brief(&headers(&[(Name::MinSe, "2000")])));
        let mut asked = Headers::new();
        session.ask(&mut asked);
        assert_eq!((asked.get(&Name::SessionExpires), asked.get(&Name::MinSe)), (Some("2000"), Some("2000")));
        assert!(!session.too_brief(&headers(&[(Name::MinSe, "2000")])));
        assert!(!session.too_brief(&headers(&[])));
        let more = |n: u32| headers(&[(Name::MinSe, &(3000 + n).to_string())]);
        assert_eq!((0..9).filter(|n| session.too_brief(&more(*n))).count(), 2, "after three");
    }

    #[test]
    fn who_refreshes_does_so_at_half_time_and_both_end_it_a_little_early() {
        let now = Instant::from_millis(0);
        let at = |seconds: u64| Instant::from_millis(seconds * 1000);
        let mut ours = session();
        ours.answered(now, &headers(&[(Name::SessionExpires, "1800;refresher=uac")]));
        assert_eq!(ours.deadline(), Some(at(900)));
        assert_eq!(ours.due(at(899)), None);
        assert_eq!(ours.due(at(900)), Some(Due::Refresh));
        assert_eq!(ours.deadline(), Some(at(1768)), "32 s early");
        ours.refused(at(901));
        assert_eq!(ours.due(at(1340)), Some(Due::Refresh), "once more, later");
        assert_eq!(ours.due(at(1768)), Some(Due::Bye));
        assert_eq!((ours.due(at(1769)), ours.deadline()), (None, None));

        let mut theirs = session();
        // Below our least, which the request told them: ours counts.
        theirs.answered(now, &headers(&[(Name::SessionExpires, "9;refresher=uas")]));
        assert_eq!(theirs.deadline(), Some(at(60)), "a third early");
        theirs.refused(at(1));
        assert_eq!(theirs.deadline(), Some(at(60)));
        theirs.answered(at(50), &headers(&[]));
        assert_eq!(theirs.deadline(), None);
    }
}
