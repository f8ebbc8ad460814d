//! The samples of a tick at one rate, as those of another.

use crosspoint_codecs::kernels::cpu::Cpu;
use crosspoint_codecs::kernels::limit::Limiter;
use crosspoint_codecs::kernels::mix::BLOCK;
use crosspoint_codecs::kernels::resample::Resampler;

use super::handle::EngineError;

/// One road from a rate to a rate; equal rates are copied. Allocates when made, never afterwards.
#[derive(Debug)]
pub(super) struct Fit {
    from: u32,
    resampler: Option<Resampler>,
    /// For sums, which may be beyond a sample's range.
    limiter: Option<Limiter>,
}

impl Fit {
    pub(super) fn new(from: u32, to: u32) -> Result<Self, EngineError> {
        let resampler = if from == to { None } else { Some(Resampler::new(from, to)?) };
        Ok(Self { from, resampler, limiter: None })
    }

    /// The same for sums of many; with `limit` they are limited first, else cut.
    pub(super) fn of_sums(from: u32, to: u32, limit: bool) -> Result<Self, EngineError> {
        let limiter = limit.then(|| Limiter::new(Cpu::detect(), from)).transpose()?;
        Ok(Self { limiter, ..Self::new(from, to)? })
    }

    /// Fills `block`, which holds silence, with `heard` at `rate`; false, and nothing is written,
    /// where that is not the rate which it was made for.
    pub(super) fn render(&mut self, heard: &[i16], rate: u32, block: &mut [i16]) -> bool {
        if rate != self.from {
            return false;
        }
        match &mut self.resampler {
            // It gives 20 ms for 20 ms; what it could not give stays silence.
            Some(resampler) => resampler.process(heard, block).is_ok(),
            None if heard.len() == block.len() => {
                block.copy_from_slice(heard);
                true
            }
            None => false,
        }
    }

    /// The same for sums.
    pub(super) fn render_sums(&mut self, sums: &[i32], rate: u32, block: &mut [i16]) -> bool {
        let mut room = [0; BLOCK];
        let Some(samples) = room.get_mut(..sums.len()).filter(|_| rate == self.from) else { return false };
        saturate(self.limiter.as_mut(), sums, samples);
        self.render(samples, rate, block)
    }

    /// Goes on as `other` would, whose sums `limiter` limited.
    pub(super) fn adopt(&mut self, other: &Self, limiter: Option<&Limiter>) {
        if let (Some(own), Some(other)) = (&mut self.resampler, &other.resampler) {
            own.adopt(other);
        }
        if let (Some(own), Some(other)) = (&mut self.limiter, limiter) {
            own.clone_from(other);
        }
    }

    /// Forgets the past.
    pub(super) fn reset(&mut self) {
        if let Some(resampler) = &mut self.resampler {
            resampler.reset();
        }
        if let Some(limiter) = &mut self.limiter {
            limiter.reset();
        }
    }
}

/// Sums as samples: limited where there is a limiter, else cut where they leave 16 bits.
pub(super) fn saturate(limiter: Option<&mut Limiter>, sums: &[i32], samples: &mut [i16]) {
    if limiter.is_some_and(|limiter| limiter.process(sums, samples).is_ok()) {
        return;
    }
    for (sample, sum) in samples.iter_mut().zip(sums) {
        #[allow(clippy::cast_possible_truncation, reason = "clamped to the range")]
        let cut = (*sum).clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        *sample = cut;
    }
}
