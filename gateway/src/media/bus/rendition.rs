//! A mix in one form, encoded once for all who take it.

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::format::AudioFormat;
use crosspoint_codecs::frame::EncodedFrame;

use super::super::audio::LONGEST_TICK;
use super::super::fit::Fit;
use super::super::handle::EngineError;
use super::super::packets::{Encoding, PACKETS_A_TICK, Packet, shared_encoding};
use super::super::parts::Codecs;
use super::super::stats::{BusCounters, count};

/// One form in which a mix is encoded for many. Never used twice in one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::media) struct RenditionId(pub(in crate::media) u64);

/// The mix in one form, encoded once.
pub(in crate::media) struct Rendition {
    pub(super) id: RenditionId,
    pub(super) fit: Box<Fit>,
    pub(super) encoding: Box<Encoding>,
    /// Somebody takes it in this tick; somebody took it in the last.
    pub(super) wanted: bool,
    pub(super) runs: bool,
    pub(super) packets: [Option<EncodedFrame>; PACKETS_A_TICK],
}

pub(in crate::media) fn rendition(
    codecs: &dyn Codecs,
    id: RenditionId,
    format: &AudioFormat,
    rate: u32,
) -> Result<Box<Rendition>, EngineError> {
    let encoding = shared_encoding(codecs, format)?;
    let fit = Box::new(Fit::new(rate, encoding.rate)?);
    Ok(Box::new(Rendition { id, fit, encoding, wanted: false, runs: false, packets: [const { None }; 2] }))
}

impl Rendition {
    /// Lets go of the packets of the tick before.
    pub(super) fn clear(&mut self) {
        self.packets = [const { None }; PACKETS_A_TICK];
    }

    /// Takes the mix of this tick: the first part of it. The others are [`Self::pack`], which somebody
    /// of the crew may do, and [`Self::finish`].
    pub(super) fn hear(&mut self, now: Instant, all: &[i16], rate: u32) {
        let mut room = [0; LONGEST_TICK];
        let tick = usize::try_from(self.encoding.rate / 50).unwrap_or(0).min(LONGEST_TICK);
        let block = &mut room[..tick];
        self.fit.render(all, rate, block);
        self.encoding.append(now, block);
    }

    pub(in crate::media) fn pack(&mut self) {
        self.encoding.pack();
    }

    /// About how long that takes, in microseconds.
    pub(in crate::media) const fn effort(&self) -> u32 {
        self.encoding.effort()
    }

    pub(super) fn finish(&mut self, counters: &BusCounters) {
        for (place, packet) in self.packets.iter_mut().zip(self.encoding.made()) {
            match packet {
                Some(Packet::Frame(frame)) => *place = Some(frame),
                Some(Packet::Silent) | None => {}
                Some(Packet::Refused) => count(&counters.errors),
                Some(Packet::NoRoom) => count(&counters.overflow),
            }
        }
    }
}
