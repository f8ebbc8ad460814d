//! Who shows slides: one at a time (S42). Pure: who may is asked of the policy before.

use super::policy::PartyId;

/// The floor of one conference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    holder: Option<PartyId>,
}

/// What has become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing.
    Same,
    /// Somebody has it now. `from`: who has lost it to him.
    Taken {
        /// Who had it.
        from: Option<PartyId>,
    },
    /// Nobody has it any more.
    Free,
}

impl Floor {
    /// Who has it.
    pub const fn holder(&self) -> Option<PartyId> {
        self.holder
    }

    /// Somebody takes it, from whoever has it. Who has it already keeps it.
    pub fn take(&mut self, by: PartyId) -> Turn {
        match self.holder.replace(by) {
            Some(before) if before == by => Turn::Same,
            from => Turn::Taken { from },
        }
    }

    /// Somebody gives it back, or is gone, or may not have it any more. Who has lost it already gives
    /// nothing back: another has it.
    pub fn release(&mut self, by: PartyId) -> Turn {
        if self.holder != Some(by) {
            return Turn::Same;
        }
        self.holder = None;
        Turn::Free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s42_one_presents_at_a_time_and_who_has_lost_the_floor_gives_nothing_back() {
        let (one, two) = (PartyId(1), PartyId(2));
        let mut floor = Floor::default();
        assert_eq!((floor.release(one), floor.holder()), (Turn::Same, None));
        assert_eq!((floor.take(one), floor.holder()), (Turn::Taken { from: None }, Some(one)));
        assert_eq!((floor.take(one), floor.holder()), (Turn::Same, Some(one)));
        assert_eq!((floor.take(two), floor.holder()), (Turn::Taken { from: Some(one) }, Some(two)));
        assert_eq!((floor.release(one), floor.holder()), (Turn::Same, Some(two)), "clients answer so");
        assert_eq!((floor.release(two), floor.holder()), (Turn::Free, None));
    }
}
