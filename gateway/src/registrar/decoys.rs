//! Names that nobody has are challenged as devices are, some of which have two hashes of their password and
//! some three: which, is no sign of whether there is such a device.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::Device;
use crate::alias::Alias;

/// Which names look as if their password had been set long ago: as large a part of all names as it is of the
/// devices, and the same ones after a restart.
#[derive(Debug, Default)]
pub(super) struct Decoys {
    key: Vec<u8>,
    /// Names whose number is below.
    below: u64,
}

impl Decoys {
    pub(super) fn new(key: Vec<u8>, devices: &HashMap<Alias, Arc<Device>>) -> Self {
        let old = devices.values().filter(|it| it.sha512_256.is_none()).count();
        let share = u128::from(u64::MAX) * old as u128 / devices.len().max(1) as u128;
        Self { key, below: u64::try_from(share).unwrap_or(u64::MAX) }
    }

    /// Whether that name is one of them.
    pub(super) fn is_old(&self, name: &str) -> bool {
        let mut hash = Sha256::new_with_prefix(&self.key);
        hash.update(name.as_bytes());
        let number = hash.finalize().first_chunk().map_or(0, |it| u64::from_be_bytes(*it));
        number < self.below
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Redacted;
    use crate::registrar::Origin;

    fn devices(old: usize, new: usize) -> HashMap<Alias, Arc<Device>> {
        let device = |n: usize| {
            let alias = Alias::from_canonical(&format!("device{n}"));
            let made = Device::new(alias.clone(), "x", "y", &Redacted::new("z"), Origin::Store);
            let sha512_256 = made.sha512_256.clone().filter(|_| n >= old);
            (alias, Arc::new(Device { sha512_256, ..made }))
        };
        (0..old + new).map(device).collect()
    }

    #[test]
    fn promise_30_as_many_names_look_old_as_devices_are_and_always_the_same() {
        for (old, new, share) in [(0, 0, 0..=0), (0, 3, 0..=0), (3, 0, 1000..=1000), (1, 3, 200..=300)] {
            let decoys = Decoys::new(vec![7; 32], &devices(old, new));
            let names: Vec<_> = (0..1000).map(|n| format!("nobody{n}")).collect();
            let looks: Vec<_> = names.iter().map(|name| decoys.is_old(name)).collect();
            assert!(share.contains(&looks.iter().filter(|old| **old).count()), "{old} of {}", old + new);
            let again = Decoys::new(vec![7; 32], &devices(old, new));
            assert!(names.iter().zip(&looks).all(|(name, look)| again.is_old(name) == *look));
        }
        // Who is no longer old makes few others look otherwise: those below the line alone.
        let (before, after) =
            (Decoys::new(vec![7; 32], &devices(2, 2)), Decoys::new(vec![7; 32], &devices(1, 3)));
        assert!((0..1000).map(|n| format!("nobody{n}")).all(|it| before.is_old(&it) || !after.is_old(&it)));
    }
}
