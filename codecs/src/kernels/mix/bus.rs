//! The mix that is filled input by input.

use fearless_simd::{Simd, SimdBase, SimdNarrow, dispatch};

use super::gain::{Amplifier, Fade};
use super::{BLOCK, MAX_INPUTS, TOO_MANY, UNEQUAL};
use crate::audio::saturate;
use crate::codec::CodecError;
use crate::kernels::cpu::Cpu;

/// One mix in the making, owned by whoever mixes; no call allocates. In a tick: [`Bus::begin`],
/// [`Bus::add`] each input, then take out as many mixes as are needed.
#[derive(Clone, Debug)]
pub struct Bus {
    sum: [i32; BLOCK],
    len: usize,
    /// Plain inputs at the rails that the sum could be made of.
    weight: usize,
    cpu: Cpu,
}

impl Bus {
    /// An empty bus of empty blocks.
    pub const fn new(cpu: Cpu) -> Self {
        Self { sum: [0; BLOCK], len: 0, weight: 0, cpu }
    }

    /// Begins a mix of blocks of `len` samples, at most [`BLOCK`].
    pub fn begin(&mut self, len: usize) -> Result<(), CodecError> {
        if len > BLOCK {
            return Err(CodecError::Unsupported("a block of more than 960 samples"));
        }
        self.sum[..len].fill(0);
        (self.len, self.weight) = (len, 0);
        Ok(())
    }

    /// Adds one input. Refused, and nothing added, when its length is another or when the sum
    /// could leave 32 bits: after [`MAX_INPUTS`], where an input louder than it came counts for
    /// as many as its gain, rounded up.
    pub fn add(&mut self, block: &[i16], fade: Fade) -> Result<(), CodecError> {
        if block.len() != self.len {
            return Err(UNEQUAL);
        }
        let weight = self.weight + fade.weight();
        if weight > MAX_INPUTS {
            return Err(TOO_MANY);
        }
        self.weight = weight;
        let sum = &mut self.sum[..self.len];
        dispatch!(self.cpu.0, simd => add_body(simd, sum, block, fade));
        Ok(())
    }

    /// The mix without one input, which was added with the same `fade`, saturated once.
    pub fn minus(&self, own: &[i16], fade: Fade, out: &mut [i16]) -> Result<(), CodecError> {
        if own.len() != self.len || out.len() != self.len {
            return Err(UNEQUAL);
        }
        dispatch!(self.cpu.0, simd => minus_body(simd, self.sum(), own, fade, out));
        Ok(())
    }

    /// The mix without one input, not saturated: for a limiter.
    pub fn minus_wide(&self, own: &[i16], fade: Fade, out: &mut [i32]) -> Result<(), CodecError> {
        if own.len() != self.len || out.len() != self.len {
            return Err(UNEQUAL);
        }
        dispatch!(self.cpu.0, simd => minus_wide_body(simd, self.sum(), own, fade, out));
        Ok(())
    }

    /// The mix of all, saturated once.
    pub fn all(&self, out: &mut [i16]) -> Result<(), CodecError> {
        if out.len() != self.len {
            return Err(UNEQUAL);
        }
        dispatch!(self.cpu.0, simd => all_body(simd, self.sum(), out));
        Ok(())
    }

    /// The mix of all, not saturated: for a limiter.
    pub fn sum(&self) -> &[i32] {
        &self.sum[..self.len]
    }
}

#[inline(always)]
pub(super) fn add_body<S: Simd>(simd: S, sum: &mut [i32], block: &[i16], fade: Fade) {
    let lanes = S::i16s::LEN;
    let mut amplifier = Amplifier::new(simd, fade, block.len());
    let whole = block.len() / lanes * lanes;
    let (block, block_rest) = block.split_at(whole);
    let (sum, sum_rest) = sum.split_at_mut(whole);
    for (sum, block) in sum.chunks_exact_mut(lanes).zip(block.chunks_exact(lanes)) {
        let (low, high) = amplifier.next(block);
        let (sum_low, sum_high) = sum.split_at_mut(lanes / 2);
        (S::i32s::from_slice(simd, sum_low) + low).store_slice(sum_low);
        (S::i32s::from_slice(simd, sum_high) + high).store_slice(sum_high);
    }
    for (sum, sample) in sum_rest.iter_mut().zip(block_rest) {
        *sum = sum.wrapping_add(amplifier.one(*sample));
    }
}

#[inline(always)]
pub(super) fn minus_body<S: Simd>(simd: S, sum: &[i32], own: &[i16], fade: Fade, out: &mut [i16]) {
    let lanes = S::i16s::LEN;
    let mut amplifier = Amplifier::new(simd, fade, own.len());
    let whole = own.len() / lanes * lanes;
    let (own, own_rest) = own.split_at(whole);
    let (sum, sum_rest) = sum.split_at(whole);
    let (out, out_rest) = out.split_at_mut(whole);
    let blocks = sum.chunks_exact(lanes).zip(own.chunks_exact(lanes)).zip(out.chunks_exact_mut(lanes));
    for ((sum, own), out) in blocks {
        let (low, high) = amplifier.next(own);
        let (sum_low, sum_high) = sum.split_at(lanes / 2);
        let (sum_low, sum_high) = (S::i32s::from_slice(simd, sum_low), S::i32s::from_slice(simd, sum_high));
        (sum_low - low).saturating_narrow(sum_high - high).store_slice(out);
    }
    for ((sum, own), out) in sum_rest.iter().zip(own_rest).zip(out_rest) {
        *out = saturate(sum.wrapping_sub(amplifier.one(*own)));
    }
}

#[inline(always)]
fn minus_wide_body<S: Simd>(simd: S, sum: &[i32], own: &[i16], fade: Fade, out: &mut [i32]) {
    let lanes = S::i16s::LEN;
    let mut amplifier = Amplifier::new(simd, fade, own.len());
    let whole = own.len() / lanes * lanes;
    let (own, own_rest) = own.split_at(whole);
    let (sum, sum_rest) = sum.split_at(whole);
    let (out, out_rest) = out.split_at_mut(whole);
    let blocks = sum.chunks_exact(lanes).zip(own.chunks_exact(lanes)).zip(out.chunks_exact_mut(lanes));
    for ((sum, own), out) in blocks {
        let (low, high) = amplifier.next(own);
        let (sum_low, sum_high) = sum.split_at(lanes / 2);
        let (out_low, out_high) = out.split_at_mut(lanes / 2);
        (S::i32s::from_slice(simd, sum_low) - low).store_slice(out_low);
        (S::i32s::from_slice(simd, sum_high) - high).store_slice(out_high);
    }
    for ((sum, own), out) in sum_rest.iter().zip(own_rest).zip(out_rest) {
        *out = sum.wrapping_sub(amplifier.one(*own));
    }
}

#[inline(always)]
fn all_body<S: Simd>(simd: S, sum: &[i32], out: &mut [i16]) {
    let lanes = S::i16s::LEN;
    let whole = out.len() / lanes * lanes;
    let (sum, sum_rest) = sum.split_at(whole);
    let (out, out_rest) = out.split_at_mut(whole);
    for (sum, out) in sum.chunks_exact(lanes).zip(out.chunks_exact_mut(lanes)) {
        let (low, high) = sum.split_at(lanes / 2);
        S::i32s::from_slice(simd, low).saturating_narrow(S::i32s::from_slice(simd, high)).store_slice(out);
    }
    for (sum, out) in sum_rest.iter().zip(out_rest) {
        *out = saturate(*sum);
    }
}
