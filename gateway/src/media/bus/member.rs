//! A source in a bus.

use std::sync::Arc;

use crosspoint_codecs::kernels::level::SILENCE;
use crosspoint_codecs::kernels::mix::{Fade, Gain};

use super::super::activity::ActivityCounters;
use super::super::agc::Agc;
use super::super::audio::LONGEST_TICK;
use super::super::fit::Fit;
use super::super::hear::AudioSource;
use super::super::port::StreamId;

/// A source in a bus.
pub(in crate::media) struct Member {
    pub(super) id: StreamId,
    /// Where the lane has it.
    pub(super) source: Option<usize>,
    pub(super) fit: Box<Fit>,
    /// What the caller wants, and what brings it to the level of the others.
    pub(super) gain: Gain,
    pub(super) agc: Agc,
    pub(super) activity: Arc<ActivityCounters>,
    pub(super) leaving: bool,
    /// Of this tick, -dBov, before the gain.
    pub(super) level: u8,
    /// It is in this tick's sum: with this, at that gain.
    pub(super) mixed: bool,
    pub(super) block: [i16; LONGEST_TICK],
    pub(super) fade: Fade,
}

pub(in crate::media) fn member(
    id: StreamId,
    gain: Gain,
    fit: Fit,
    activity: Arc<ActivityCounters>,
) -> Box<Member> {
    Box::new(Member {
        id,
        source: None,
        fit: Box::new(fit),
        gain,
        agc: Agc::NEW,
        activity,
        leaving: false,
        level: SILENCE,
        mixed: false,
        block: [0; LONGEST_TICK],
        fade: Fade::steady(Gain::ZERO),
    })
}

impl Member {
    /// Neither muted nor about to go.
    pub(super) fn open(&self) -> bool {
        self.gain != Gain::ZERO && !self.leaving
    }

    /// It was in the last tick's sum, and fades out in this one if it does not stay.
    pub(super) fn heard(&self) -> bool {
        self.fade.to != Gain::ZERO
    }

    /// The gain that it is mixed with.
    pub(super) fn loudness(&self) -> Gain {
        self.gain.times(self.agc.gain())
    }

    /// Makes its part of this tick's sum, from the gain that stood to `gain`.
    pub(super) fn render(&mut self, source: Option<&AudioSource>, gain: Gain, tick: usize) {
        let from = self.fade.to;
        self.mixed = false;
        self.fade = Fade::steady(Gain::ZERO);
        let Some(source) = source.filter(|_| from != Gain::ZERO || gain != Gain::ZERO) else { return };
        if from == Gain::ZERO {
            self.fit.reset();
        }
        let (heard, rate) = source.block();
        if self.fit.render(heard, rate, &mut self.block[..tick]) {
            (self.mixed, self.fade) = (true, Fade { from, to: gain });
        }
    }
}
