//! Which packets of a source were seen (RFC 3711 section 3.3.2).

use super::SrtpError;

/// Packets that the window remembers: twice the 64 that section 3.3.2 asks for, since at 1000
/// packets a second of video a retransmission comes more than 64 packets late.
pub(super) const WINDOW: u64 = 128;

/// A window behind the highest index so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReplayWindow {
    highest: u64,
    /// Bit `n` stands for `highest - n`.
    seen: u128,
}

impl ReplayWindow {
    /// A window that has seen `index` only.
    pub(super) const fn starting_with(index: u64) -> Self {
        Self { highest: index, seen: 1 }
    }

    /// The highest index so far.
    pub(super) const fn highest(&self) -> u64 {
        self.highest
    }

    /// Whether `index` may be taken. Ask before, [`Self::accept`] after authentication.
    pub(super) fn check(&self, index: u64) -> Result<(), SrtpError> {
        let Some(behind) = self.highest.checked_sub(index) else { return Ok(()) };
        if behind >= WINDOW {
            return Err(SrtpError::TooOld);
        }
        let bit =
            u32::try_from(behind).ok().and_then(|behind| self.seen.checked_shr(behind)).unwrap_or(1) & 1;
        if bit == 1 { Err(SrtpError::Replayed) } else { Ok(()) }
    }

    /// An authentic packet with this index was taken.
    pub(super) fn accept(&mut self, index: u64) {
        if let Some(behind) = self.highest.checked_sub(index) {
            let bit = u32::try_from(behind).ok().and_then(|behind| 1u128.checked_shl(behind));
            self.seen |= bit.unwrap_or(0);
        } else {
            let ahead = u32::try_from(index.saturating_sub(self.highest)).unwrap_or(u32::MAX);
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = index;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_window_ends_where_it_says() {
        let mut window = ReplayWindow::starting_with(1000);
        assert_eq!(window.check(1000), Err(SrtpError::Replayed));
        assert_eq!(window.check(1000 - WINDOW + 1), Ok(()));
        assert_eq!(window.check(1000 - WINDOW), Err(SrtpError::TooOld));
        window.accept(1000 - WINDOW + 1);
        assert_eq!(window.check(1000 - WINDOW + 1), Err(SrtpError::Replayed));
        window.accept(1000 + WINDOW);
        assert_eq!(window.check(1000), Err(SrtpError::TooOld));
        assert_eq!(window.check(1001), Ok(()));
    }

    proptest! {
        #[test]
        fn no_index_is_taken_twice(steps in proptest::collection::vec(0u64..600, 1..300)) {
            let mut window = ReplayWindow::starting_with(300);
            let mut taken = BTreeSet::from([300]);
            for index in steps {
                let fresh = taken.last().is_none_or(|highest| index + WINDOW > *highest) && !taken.contains(&index);
                prop_assert_eq!(window.check(index).is_ok(), fresh);
                if fresh {
                    window.accept(index);
                    taken.insert(index);
                }
            }
        }
    }
}
