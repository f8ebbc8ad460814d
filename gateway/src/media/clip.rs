//! Recorded sound that the engine plays: prompts. Made for a rate once, where a route is made, never in
//! the tick.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crosspoint_codecs::kernels::resample::Resampler;

use super::handle::EngineError;

/// Longest clip. A minute of 48 kHz is 6 MB.
pub const LONGEST_CLIP: Duration = Duration::from_secs(60);
/// Clips of one engine.
pub const MOST_CLIPS: usize = 256;

/// A clip. Never used twice in one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClipId(pub u64);

/// The clips of an engine, and what was made of them.
#[derive(Debug, Default)]
pub(super) struct Clips {
    originals: HashMap<ClipId, (Arc<[i16]>, u32)>,
    made: HashMap<(ClipId, u32), Arc<[i16]>>,
}

impl Clips {
    pub(super) fn add(&mut self, id: ClipId, samples: Arc<[i16]>, rate: u32) -> Result<(), EngineError> {
        let long = samples.len() as u64 > u64::from(rate) * LONGEST_CLIP.as_secs();
        if long || !self.originals.contains_key(&id) && self.originals.len() >= MOST_CLIPS {
            return Err(EngineError::Full);
        }
        self.made.retain(|(made, _), _| *made != id);
        self.originals.insert(id, (samples, rate));
        Ok(())
    }

    /// The clip at `rate`; nothing where there is none.
    pub(super) fn at(&mut self, id: ClipId, rate: u32) -> Result<Arc<[i16]>, EngineError> {
        if let Some(made) = self.made.get(&(id, rate)) {
            return Ok(made.clone());
        }
        let Some((samples, from)) = self.originals.get(&id) else { return Ok(Arc::default()) };
        let made = if *from == rate { samples.clone() } else { converted(samples, *from, rate)? };
        self.made.insert((id, rate), made.clone());
        Ok(made)
    }
}

fn converted(samples: &[i16], from: u32, to: u32) -> Result<Arc<[i16]>, EngineError> {
    let mut resampler = Resampler::new(from, to)?;
    let tick = |rate: u32| usize::try_from(rate / 50).unwrap_or(0);
    let (mut taken, mut given) = (vec![0; tick(from)], vec![0; tick(to)]);
    let mut out = Vec::new();
    for block in samples.chunks(tick(from).max(1)) {
        taken.fill(0);
        taken[..block.len()].copy_from_slice(block);
        resampler.process(&taken, &mut given).map_err(EngineError::from)?;
        out.extend_from_slice(&given);
    }
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clip_is_made_once_for_each_rate() {
        let mut clips = Clips::default();
        let samples: Arc<[i16]> = vec![1_000; 16_000].into();
        clips.add(ClipId(1), samples.clone(), 16_000).unwrap();
        assert!(Arc::ptr_eq(&clips.at(ClipId(1), 16_000).unwrap(), &samples));
        let made = clips.at(ClipId(1), 48_000).unwrap();
        assert_eq!(made.len(), 48_000);
        assert!(made[2_000..46_000].iter().all(|sample| sample.abs_diff(1_000) < 10));
        assert!(Arc::ptr_eq(&made, &clips.at(ClipId(1), 48_000).unwrap()));
        // A new one of that number replaces what was made.
        clips.add(ClipId(1), vec![7; 320].into(), 16_000).unwrap();
        assert_eq!(clips.at(ClipId(1), 48_000).unwrap().len(), 960);
        assert!(clips.at(ClipId(2), 8_000).unwrap().is_empty());
        let long = vec![0; 61 * 8_000];
        assert!(matches!(clips.add(ClipId(3), long.into(), 8_000), Err(EngineError::Full)));
    }
}
