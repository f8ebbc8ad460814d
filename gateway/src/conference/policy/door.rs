//! The door: what role a PIN, or the lack of one, gives (S17 to S19, S22).

use std::fmt;

/// Shortest and longest PIN, in digits.
const DIGITS: std::ops::RangeInclusive<usize> = 4..=20;

/// What somebody may do in a conference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Everything.
    Host,
    /// See, hear, talk, write and show.
    Guest,
}

impl Role {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Host, Self::Guest];

    /// Its word in the store and on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Guest => "guest",
        }
    }
}

/// Digits that open a door. Printed as dots.
#[derive(Clone)]
pub struct Pin(String);

/// Why something is no PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// Too short, too long, or not of digits.
    #[error("a PIN has 4 to 20 digits; it may end with #")]
    Digits,
    /// A guest who enters it would be a host.
    #[error("the guest PIN must differ from the host PIN")]
    Same,
    /// Everybody is a host where there is no host PIN.
    #[error("a guest PIN needs a host PIN beside it: without one everybody is a host")]
    NoHost,
}

impl Pin {
    /// The PIN that `text` spells; a `#` at its end is how a telephone ends it.
    pub fn parse(text: &str) -> Result<Self, PinError> {
        let digits = text.strip_suffix('#').unwrap_or(text);
        let good = DIGITS.contains(&digits.len()) && digits.bytes().all(|it| it.is_ascii_digit());
        if good { Ok(Self(digits.to_owned())) } else { Err(PinError::Digits) }
    }

    /// Whether `entered` is this PIN. Takes as long whatever was entered and whatever the PIN is, their
    /// lengths too.
    pub fn opens(&self, entered: &str) -> bool {
        let entered = entered.strip_suffix('#').unwrap_or(entered).as_bytes();
        let own = self.0.as_bytes();
        let at = |of: &[u8], place: usize| of.get(place).copied().unwrap_or(0);
        let differs = (0..*DIGITS.end())
            .fold(0, |sum, place| std::hint::black_box(sum | (at(own, place) ^ at(entered, place))));
        (differs == 0) & (entered.len() == own.len())
    }

    /// Its digits, to be stored.
    pub fn digits(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("....")
    }
}

/// The PINs of a service.
#[derive(Clone, Debug)]
pub struct Door {
    host: Option<Pin>,
    guest: Option<Pin>,
    guests: bool,
}

/// Who stands at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knock<'a> {
    /// Has said nothing of a PIN yet.
    Silent,
    /// Has none, and would come in as a guest.
    NoPin,
    /// Has entered this.
    Pin(&'a str),
}

/// What is said at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Come in, with this role.
    Enter(Role),
    /// A PIN is wanted; guests may come without one if `guests_without`.
    AskPin {
        /// Guests need none.
        guests_without: bool,
    },
    /// That was none of them.
    Wrong,
}

impl Door {
    /// A door without a PIN: whoever comes is a host (S18).
    pub const OPEN: Self = Self { host: None, guest: None, guests: true };

    /// A door that wants a PIN and that none opens: of a room that does not exist.
    pub fn shut() -> Self {
        // No key and no header spells it; it is compared as any other.
        let nothing = || Some(Pin("\0".repeat(6)));
        Self { host: nothing(), guest: nothing(), guests: false }
    }

    /// `guests`: with a host PIN and no guest PIN, guests come in without one (S19).
    pub fn new(host: Option<Pin>, guest: Option<Pin>, guests: bool) -> Result<Self, PinError> {
        match (&host, &guest) {
            (None, Some(_)) => Err(PinError::NoHost),
            (Some(host), Some(guest)) if host.opens(guest.digits()) => Err(PinError::Same),
            _ => Ok(Self { host, guest, guests }),
        }
    }

    /// Whether there is a host PIN: then hosts and guests are told apart.
    pub const fn tells_hosts(&self) -> bool {
        self.host.is_some()
    }

    /// The PIN that makes a host.
    pub const fn host_pin(&self) -> Option<&Pin> {
        self.host.as_ref()
    }

    /// The PIN that makes a guest.
    pub const fn guest_pin(&self) -> Option<&Pin> {
        self.guest.as_ref()
    }

    /// Digits of the shortest PIN: how long it takes to guess one. `None`: there is none.
    pub fn shortest(&self) -> Option<usize> {
        self.host.iter().chain(&self.guest).map(|pin| pin.0.len()).min()
    }

    /// Whether guests come in without a PIN where there is a host PIN alone.
    pub const fn guests(&self) -> bool {
        self.guests
    }

    /// What is said to `knock`.
    pub fn answer(&self, knock: Knock<'_>) -> Answer {
        let Some(host) = &self.host else { return Answer::Enter(Role::Host) };
        let guests_without = self.guest.is_none() && self.guests;
        match knock {
            Knock::Silent => Answer::AskPin { guests_without },
            Knock::NoPin if guests_without => Answer::Enter(Role::Guest),
            Knock::NoPin => Answer::Wrong,
            Knock::Pin(entered) => {
                // Both are looked at, so that the time tells nothing.
                let guest = self.guest.as_ref().is_some_and(|guest| guest.opens(entered));
                match (host.opens(entered), guest) {
                    (true, _) => Answer::Enter(Role::Host),
                    (false, true) => Answer::Enter(Role::Guest),
                    (false, false) => Answer::Wrong,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(text: &str) -> Option<Pin> {
        Some(Pin::parse(text).unwrap())
    }

    #[test]
    fn a_pin_is_of_digits_and_prints_as_dots() {
        for good in ["1234", "1234#", "01234567890123456789"] {
            assert!(Pin::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "123", "123#", "12a4", "012345678901234567890", "1234##", "١٢٣٤"] {
            assert_eq!(Pin::parse(bad).err(), Some(PinError::Digits), "{bad}");
        }
        assert_eq!(format!("{:?}", pin("4321")), "Some(....)");
        let pin = Pin::parse("1234#").unwrap();
        for (entered, opens) in
            [("1234", true), ("1234#", true), ("123", false), ("12345", false), ("", false), ("1235", false)]
        {
            assert_eq!(pin.opens(entered), opens, "{entered}");
        }
    }

    #[test]
    fn without_a_host_pin_everybody_is_a_host() {
        for knock in [Knock::Silent, Knock::NoPin, Knock::Pin("99")] {
            assert_eq!(Door::OPEN.answer(knock), Answer::Enter(Role::Host));
        }
        assert_eq!(Door::new(None, pin("1234"), true).unwrap_err(), PinError::NoHost);
    }

    #[test]
    fn with_a_host_pin_alone_guests_may_come_without() {
        let door = Door::new(pin("1234"), None, true).unwrap();
        assert_eq!(door.answer(Knock::Silent), Answer::AskPin { guests_without: true });
        assert_eq!(door.answer(Knock::NoPin), Answer::Enter(Role::Guest));
        assert_eq!(door.answer(Knock::Pin("1234#")), Answer::Enter(Role::Host));
        assert_eq!(door.answer(Knock::Pin("4321")), Answer::Wrong);
        let hosts_only = Door::new(pin("1234"), None, false).unwrap();
        assert_eq!(hosts_only.answer(Knock::Silent), Answer::AskPin { guests_without: false });
        assert_eq!(hosts_only.answer(Knock::NoPin), Answer::Wrong);
    }

    #[test]
    fn nothing_opens_a_door_that_is_shut() {
        let door = Door::shut();
        assert_eq!(door.answer(Knock::Silent), Answer::AskPin { guests_without: false });
        for knock in ["", "#", "000000", "123456", "99999999999999999999"].map(Knock::Pin) {
            assert_eq!(door.answer(knock), Answer::Wrong);
        }
        assert_eq!(door.answer(Knock::NoPin), Answer::Wrong);
    }

    #[test]
    fn the_shortest_pin_tells_how_safe_a_door_is() {
        let shortest = |host, guest| Door::new(host, guest, true).unwrap().shortest();
        assert_eq!(shortest(None, None), None);
        assert_eq!(shortest(pin("123456"), None), Some(6));
        assert_eq!(shortest(pin("1234567"), pin("1234")), Some(4));
    }

    #[test]
    fn with_both_each_gives_its_role() {
        let door = Door::new(pin("1234"), pin("5678"), true).unwrap();
        assert_eq!(door.answer(Knock::Silent), Answer::AskPin { guests_without: false });
        assert_eq!(door.answer(Knock::NoPin), Answer::Wrong);
        assert_eq!(door.answer(Knock::Pin("1234")), Answer::Enter(Role::Host));
        assert_eq!(door.answer(Knock::Pin("5678")), Answer::Enter(Role::Guest));
        assert_eq!(Door::new(pin("1234"), pin("1234"), true).unwrap_err(), PinError::Same);
    }
}
