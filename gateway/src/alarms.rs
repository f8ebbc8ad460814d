//! What an operator must see at once (promise 50): each fault is one event when it begins, one when it is
//! over, and a gauge meanwhile. They are looked at once a second, so that no fault tells more often.

use std::collections::BTreeSet;

/// Something that is wrong with the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    /// What should be stored is not.
    Disk,
    /// All media ports are in use.
    Ports,
    /// Nothing more can be mixed or transcoded.
    Engine,
    /// The system gives no more descriptors for connections.
    Descriptors,
}

impl Alarm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Disk, Self::Ports, Self::Engine, Self::Descriptors];

    /// Its word in events and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Ports => "ports",
            Self::Engine => "engine",
            Self::Descriptors => "descriptors",
        }
    }

    /// What it is, and what to do.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Disk => {
                "registrations or call records cannot be written: free space in the data folder, and see the log"
            }
            Self::Ports => "all media ports are in use, further calls fail: widen media.ports",
            Self::Engine => {
                "the engine is full, further calls are refused: take another machine for some of them"
            }
            Self::Descriptors => {
                "the system gives no more descriptors, connections are refused: raise its limit (LimitNOFILE)"
            }
        }
    }
}

/// Those that stand.
#[derive(Clone, Debug, Default)]
pub struct Alarms(BTreeSet<Alarm>);

impl Alarms {
    /// What stands now; what has begun (true) and what is over since the last look.
    pub fn look(&mut self, now: impl IntoIterator<Item = Alarm>) -> Vec<(Alarm, bool)> {
        let now: BTreeSet<Alarm> = now.into_iter().collect();
        let changed = now.symmetric_difference(&self.0).map(|it| (*it, now.contains(it))).collect();
        self.0 = now;
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promise_50_an_alarm_is_told_when_it_begins_and_when_it_is_over_and_not_meanwhile() {
        let mut alarms = Alarms::default();
        assert_eq!(alarms.look([]), []);
        assert_eq!(alarms.look([Alarm::Ports, Alarm::Disk]), [(Alarm::Disk, true), (Alarm::Ports, true)]);
        assert_eq!(alarms.look([Alarm::Ports, Alarm::Disk]), []);
        assert_eq!(alarms.look([Alarm::Disk, Alarm::Engine]), [(Alarm::Ports, false), (Alarm::Engine, true)]);
        assert_eq!(alarms.look([]), [(Alarm::Disk, false), (Alarm::Engine, false)]);
    }
}
