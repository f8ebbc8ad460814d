//! Who of a room is mixed: the loudest few, chosen so that nobody comes and goes within a word.
//!
//! Levels are smoothed (fast up, slow down). Whoever makes a sound takes a free place at once;
//! where none is free, he has to be clearly louder than the weakest who has one, and that one must
//! have had it for a while. Whoever is silent for long enough gives his place back.

use crosspoint_codecs::kernels::level::SILENCE;

/// A sound: louder than this (-dBov). Comfort noise and the hiss of a line lie below.
const SOUND: u8 = 60;
/// Ticks without a sound until a place is given back: a pause between two words is shorter.
const HANGOVER: u16 = 25;
/// Ticks that a place is kept at least, once taken: a syllable.
const KEEP: u16 = 10;
/// How much louder than the weakest a challenger has to be, in 1/256 dB.
const LOUDER: i32 = 3 * 256;
/// Smoothing a tick, as shifts: up within two ticks, down within some 300 ms.
const UP: u32 = 1;
const DOWN: u32 = 4;

/// One member's part in the choice.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Presence {
    /// Smoothed loudness, 1/256 dB above the level of silence.
    loudness: i32,
    /// Ticks since the last sound.
    quiet: u16,
    /// Ticks since the place was taken.
    since: u16,
    talking: bool,
}

impl Presence {
    /// Somebody who has not been heard yet.
    pub(super) const NEW: Self = Self { loudness: 0, quiet: HANGOVER, since: 0, talking: false };

    /// This tick's level in -dBov.
    pub(super) fn hear(&mut self, level: u8) {
        let loudness = i32::from(SILENCE.saturating_sub(level)) * 256;
        let step = loudness - self.loudness;
        self.loudness += if step > 0 { step >> UP } else { step >> DOWN };
        self.quiet = if level < SOUND { 0 } else { self.quiet.saturating_add(1) };
        self.since = self.since.saturating_add(1);
    }

    /// Whether it is mixed.
    pub(super) const fn talks(&self) -> bool {
        self.talking
    }

    /// Whether it makes a sound, or did so just now.
    pub(super) const fn sounds(&self) -> bool {
        self.quiet < HANGOVER
    }

    const fn take(&mut self, talking: bool) {
        self.talking = talking;
        self.since = 0;
    }
}

/// Chooses at most `most` of `members` to be mixed in this tick.
pub(super) fn choose(members: &mut [Presence], most: usize) {
    let (mut talking, mut waiting) = (0, 0);
    for member in &mut *members {
        if member.talking && !member.sounds() {
            member.take(false);
        }
        talking += usize::from(member.talking);
        waiting += usize::from(member.sounds() && !member.talking);
    }
    if talking + waiting <= most {
        members.iter_mut().filter(|it| it.sounds() && !it.talking).for_each(|it| it.take(true));
        return;
    }
    while talking < most
        && let Some(strongest) = strongest(members)
    {
        members[strongest].take(true);
        talking += 1;
    }
    if let (Some(challenger), Some(weakest)) = (strongest(members), weakest(members))
        && members[challenger].loudness > members[weakest].loudness + LOUDER
    {
        members[challenger].take(true);
        members[weakest].take(false);
    }
}

fn strongest(members: &[Presence]) -> Option<usize> {
    let waiting = |it: &(usize, &Presence)| it.1.sounds() && !it.1.talking;
    members.iter().enumerate().filter(waiting).max_by_key(|(_, it)| it.loudness).map(|(at, _)| at)
}

/// The weakest of those who may lose their place.
fn weakest(members: &[Presence]) -> Option<usize> {
    let loses = |it: &(usize, &Presence)| it.1.talking && it.1.since >= KEEP;
    members.iter().enumerate().filter(loses).min_by_key(|(_, it)| it.loudness).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(members: &mut [Presence], levels: &[u8], most: usize) -> Vec<usize> {
        for (member, level) in members.iter_mut().zip(levels) {
            member.hear(*level);
        }
        choose(members, most);
        members.iter().enumerate().filter(|(_, it)| it.talks()).map(|(at, _)| at).collect()
    }

    #[test]
    fn everybody_with_a_sound_talks_while_there_is_room() {
        let mut members = [Presence::NEW; 4];
        assert_eq!(tick(&mut members, &[20, 127, 59, 61], 4), [0, 2]);
        assert_eq!(tick(&mut members, &[127, 20, 127, 127], 4), [0, 1, 2]);
    }

    #[test]
    fn a_place_is_given_back_after_the_hangover_and_not_before() {
        let mut members = [Presence::NEW; 2];
        tick(&mut members, &[20, 30], 2);
        for _ in 1..HANGOVER {
            assert_eq!(tick(&mut members, &[20, 127], 2), [0, 1]);
        }
        assert_eq!(tick(&mut members, &[20, 127], 2), [0]);
    }

    #[test]
    fn exactly_the_loudest_are_heard_whatever_the_order_they_came_in() {
        let mut members = [Presence::NEW; 6];
        // The soft ones come first and take all places; the loud ones push them out one by one.
        tick(&mut members, &[40, 46, 52, 127, 127, 127], 3);
        let mut talking = Vec::new();
        for _ in 0..100 {
            talking = tick(&mut members, &[40, 46, 52, 34, 28, 22], 3);
            assert_eq!(talking.len(), 3);
        }
        assert_eq!(talking, [3, 4, 5]);
    }

    #[test]
    fn about_as_loud_is_not_enough_and_nobody_is_cut_off_within_a_syllable() {
        let mut members = [Presence::NEW; 2];
        assert_eq!(tick(&mut members, &[30, 127], 1), [0]);
        for _ in 0..200 {
            assert_eq!(tick(&mut members, &[30, 28], 1), [0]);
        }
        let mut members = [Presence::NEW; 2];
        tick(&mut members, &[40, 127], 1);
        let kept = (1..).take_while(|_| tick(&mut members, &[40, 10], 1) == [0]).count();
        assert_eq!(kept, usize::from(KEEP) - 1);
    }

    #[test]
    fn nobody_is_chosen_where_nobody_may_be() {
        let mut members = [Presence::NEW; 3];
        assert!(tick(&mut members, &[0, 0, 0], 0).is_empty());
        assert!(tick(&mut [], &[], 3).is_empty());
    }
}
