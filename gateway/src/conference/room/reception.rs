//! The door by telephone keypad: asks for a PIN, up to three times (S22). Pure: digits and time in,
//! what to say and what comes of it out.

use std::time::Duration;

use crosspoint_codecs::clock::Instant;

use crate::conference::policy::{Answer, Knock, Role};
use crate::conference::prompts::Prompt;

use super::sight::Slate;

/// Wrong PINs until the call ends.
pub(super) const TRIES: u8 = 3;
/// Nobody needs longer to find a PIN.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// Who has entered enough digits and presses no hash key for so long means what he has entered.
pub(super) const PAUSE: Duration = Duration::from_secs(5);
/// Who says nothing hears the question again.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(20);
/// Digits of a PIN at least and at most.
const SHORTEST: usize = 4;
const LONGEST: usize = 20;

/// Answers who knocks.
pub(super) type Door<'a> = dyn FnMut(Knock<'_>) -> Answer + 'a;

/// Somebody at the door.
#[derive(Clone, Debug)]
pub(super) struct Reception {
    guests_without: bool,
    entered: String,
    wrong: u8,
    since: Instant,
    /// Of the last digit.
    pressed: Instant,
    ask_at: Instant,
}

/// What comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing yet.
    Wait,
    /// Say that; whatever is being said stops.
    Say(Prompt),
    /// Whatever is being said stops.
    Hush,
    /// He comes in.
    Enter(Role),
    /// Say that, then end the call.
    Refuse {
        /// What is said.
        say: Prompt,
    },
}

impl Reception {
    /// Somebody comes at `now`; the door asks for a PIN.
    pub(super) const fn new(now: Instant, guests_without: bool) -> Self {
        Self { guests_without, entered: String::new(), wrong: 0, since: now, pressed: now, ask_at: now }
    }

    /// What he sees meanwhile.
    pub(super) const fn slate(&self) -> Slate {
        match (self.wrong, self.guests_without) {
            (1.., _) => Slate::WrongPin,
            (0, true) => Slate::EnterPinOrHash,
            (0, false) => Slate::EnterPin,
        }
    }

    /// A key.
    pub(super) fn press(&mut self, now: Instant, key: char, door: &mut Door<'_>) -> Step {
        (self.pressed, self.ask_at) = (now, now + ASK_AGAIN);
        match key {
            '0'..='9' => {
                self.entered.push(key);
                if self.entered.len() >= LONGEST { self.judge(now, door) } else { Step::Hush }
            }
            '#' => self.judge(now, door),
            // Begin anew.
            '*' => {
                self.entered.clear();
                Step::Hush
            }
            _ => Step::Wait,
        }
    }

    /// When [`Self::timeout`] has something to do.
    pub(super) fn next_timeout(&self) -> Instant {
        let end = self.since + PATIENCE;
        let judged = self.pressed + PAUSE;
        let next = if self.entered.len() >= SHORTEST { judged.min(self.ask_at) } else { self.ask_at };
        next.min(end)
    }

    /// Time has passed.
    pub(super) fn timeout(&mut self, now: Instant, door: &mut Door<'_>) -> Step {
        if now >= self.since + PATIENCE {
            return Step::Refuse { say: Prompt::TooManyPins };
        }
        if self.entered.len() >= SHORTEST && now >= self.pressed + PAUSE {
            return self.judge(now, door);
        }
        if now >= self.ask_at {
            self.ask_at = now + ASK_AGAIN;
            return Step::Say(self.question());
        }
        Step::Wait
    }

    const fn question(&self) -> Prompt {
        if self.guests_without { Prompt::EnterPinOrHash } else { Prompt::EnterPin }
    }

    fn judge(&mut self, now: Instant, door: &mut Door<'_>) -> Step {
        let entered = std::mem::take(&mut self.entered);
        let knock = match entered.as_str() {
            "" if self.guests_without => Knock::NoPin,
            // The hash key alone, where a PIN is wanted: he has not understood.
            "" => {
                self.ask_at = now + ASK_AGAIN;
                return Step::Say(self.question());
            }
            entered => Knock::Pin(entered),
        };
        match door(knock) {
            Answer::Enter(role) => Step::Enter(role),
            Answer::Wrong | Answer::AskPin { .. } => {
                self.wrong += 1;
                if self.wrong >= TRIES {
                    Step::Refuse { say: Prompt::TooManyPins }
                } else {
                    Step::Say(Prompt::WrongPin)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conference::policy::{Door, Pin};

    fn door(guest: Option<&str>) -> Door {
        let pin = |text| Pin::parse(text).unwrap();
        Door::new(Some(pin("1234")), guest.map(pin), true).unwrap()
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(50_000 + seconds * 1_000)
    }

    fn press(it: &mut Reception, keys: &str, door: &Door) -> Step {
        keys.chars().map(|key| it.press(at(1), key, &mut |knock| door.answer(knock))).last().unwrap()
    }

    #[test]
    fn s22_a_pin_opens_and_three_wrong_ones_end_the_call() {
        let door = door(Some("5678"));
        let new = || Reception::new(at(0), false);
        assert_eq!(new().timeout(at(0), &mut |knock| door.answer(knock)), Step::Say(Prompt::EnterPin));
        assert_eq!(press(&mut new(), "1234#", &door), Step::Enter(Role::Host));
        assert_eq!(press(&mut new(), "5678#", &door), Step::Enter(Role::Guest));
        assert_eq!(press(&mut new(), "99*5678#", &door), Step::Enter(Role::Guest), "* begins anew");
        assert_eq!(press(&mut new(), "#", &door), Step::Say(Prompt::EnterPin));
        assert_eq!(press(&mut new(), "A1234#", &door), Step::Enter(Role::Host), "other keys are none");
        let mut guess = new();
        assert_eq!(press(&mut guess, "1111#", &door), Step::Say(Prompt::WrongPin));
        assert_eq!(press(&mut guess, "00000000000000000000", &door), Step::Say(Prompt::WrongPin));
        assert_eq!(guess.wrong, 2);
        assert_eq!(press(&mut guess, "4321#", &door), Step::Refuse { say: Prompt::TooManyPins });
    }

    #[test]
    fn guests_press_the_hash_key_where_they_need_no_pin() {
        let door = door(None);
        let mut it = Reception::new(at(0), true);
        assert_eq!(it.timeout(at(0), &mut |knock| door.answer(knock)), Step::Say(Prompt::EnterPinOrHash));
        assert_eq!(press(&mut it, "#", &door), Step::Enter(Role::Guest));
    }

    #[test]
    fn who_forgets_the_hash_key_is_understood_and_who_says_nothing_is_asked_again() {
        let door = door(None);
        let mut it = Reception::new(at(0), true);
        it.timeout(at(0), &mut |knock| door.answer(knock));
        assert_eq!(it.next_timeout(), at(20));
        assert_eq!(it.timeout(at(20), &mut |knock| door.answer(knock)), Step::Say(Prompt::EnterPinOrHash));
        for key in "1234".chars() {
            it.press(at(30), key, &mut |knock| door.answer(knock));
        }
        assert_eq!(it.next_timeout(), at(35));
        assert_eq!(it.timeout(at(34), &mut |knock| door.answer(knock)), Step::Wait);
        assert_eq!(it.timeout(at(35), &mut |knock| door.answer(knock)), Step::Enter(Role::Host));
        let mut silent = Reception::new(at(0), true);
        assert_eq!(
            silent.timeout(at(120), &mut |knock| door.answer(knock)),
            Step::Refuse { say: Prompt::TooManyPins }
        );
        let mut few = Reception::new(at(0), true);
        few.press(at(1), '1', &mut |knock| door.answer(knock));
        assert_eq!(few.next_timeout(), at(21), "one digit is no PIN");
    }
}
