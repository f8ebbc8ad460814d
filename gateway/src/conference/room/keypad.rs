//! Commands by telephone keypad: two keys each. Pure.

use std::time::Duration;

use crosspoint_codecs::clock::Instant;

/// The second key comes so soon after the first.
const WITHIN: Duration = Duration::from_secs(3);

/// What two keys mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// `*4`: slides in the main picture, or apart.
    SlidesInMix,
    /// `*5`: mutes all guests, or takes that back.
    MuteGuests,
    /// `*6`: mutes the one who presses, or takes that back.
    MuteMyself,
    /// `*7`: locks, or unlocks.
    Lock,
    /// `*8`: the next layout.
    NextLayout,
    /// `##`: ends the conference.
    End,
}

/// The keys of one party.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Keypad {
    first: Option<(char, Instant)>,
}

impl Keypad {
    /// A key at `now`; what the two mean, when it was the second.
    pub(super) fn press(&mut self, now: Instant, key: char) -> Option<Command> {
        let first = self.first.take().filter(|(_, at)| now.saturating_since(*at) <= WITHIN);
        let command = match (first.map(|(first, _)| first), key) {
            (Some('*'), '4') => Command::SlidesInMix,
            (Some('*'), '5') => Command::MuteGuests,
            (Some('*'), '6') => Command::MuteMyself,
            (Some('*'), '7') => Command::Lock,
            (Some('*'), '8') => Command::NextLayout,
            (Some('#'), '#') => Command::End,
            (_, '*' | '#') => {
                self.first = Some((key, now));
                return None;
            }
            _ => return None,
        };
        Some(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pressed(keys: &[(u64, char)]) -> Vec<Command> {
        let mut keypad = Keypad::default();
        keys.iter().filter_map(|(at, key)| keypad.press(Instant::from_millis(*at), *key)).collect()
    }

    #[test]
    fn two_keys_within_three_seconds_are_a_command() {
        assert_eq!(pressed(&[(0, '*'), (2_900, '7')]), [Command::Lock]);
        assert_eq!(pressed(&[(0, '*'), (3_100, '7')]), []);
        assert_eq!(pressed(&[(0, '*'), (1, '1'), (2, '7')]), []);
        assert_eq!(
            pressed(&[(0, '#'), (1, '*'), (2, '5'), (3, '#'), (4, '#')]),
            [Command::MuteGuests, Command::End]
        );
        assert_eq!(pressed(&[(0, '#'), (1, '#'), (2, '#')]), [Command::End]);
        let all = [('4', Command::SlidesInMix), ('6', Command::MuteMyself), ('8', Command::NextLayout)];
        for (key, command) in all {
            assert_eq!(pressed(&[(0, '*'), (1, key)]), [command]);
        }
    }
}
