//! Mixing: what many say, summed, and for each of them without what he says himself.
//!
//! The sum is exact: 32 bits hold that of [`MAX_INPUTS`] samples at the rails, and saturation
//! happens once, on the way out. So a voice is taken out of the mix without a rest, however loud
//! the others are; a sum that saturates on the way (as most mixers have it) leaves one.
//!
//! Two shapes of the same arithmetic. [`minus_one`] and [`talkers`] read all inputs in one pass
//! with the sum in registers. A [`Bus`] takes inputs as they come, each with its gain.

mod bus;
mod gain;

use fearless_simd::{Simd, SimdBase, SimdNarrow, SimdWiden, dispatch};

pub use bus::Bus;
pub use gain::{Fade, Gain};

use super::cpu::Cpu;
use crate::audio::saturate;
use crate::codec::CodecError;

/// Samples in the longest block: 20 ms at 48 kHz.
pub const BLOCK: usize = 960;

/// Most inputs of one mix. So many samples of -32768 sum to -2^31, the last number of 32 bits.
pub const MAX_INPUTS: usize = 1 << 16;

/// Vectors of samples whose sums stay in registers while the inputs go by. Six need twelve
/// registers of sums, of sixteen that AVX2 and SSE have; three are no faster with few inputs, and
/// slower with many. 960 samples are a whole number of such tiles at every level.
const TILE: usize = 6;

/// From more inputs on, they and the outputs no longer fit a cache of 1 MiB. Then a walk across
/// them, tile by tile, waits for memory more than the sums in registers save.
const MANY: usize = 256;

const TOO_MANY: CodecError = CodecError::Unsupported("a mix of more than 65536 inputs");
const UNEQUAL: CodecError = CodecError::Unsupported("the blocks of a mix differ in number or length");

/// `outputs[i]` becomes the sum of all `inputs` but the `i`th, saturated once. All blocks are of
/// one length, and there are as many outputs as inputs; otherwise nothing is written.
///
/// Arrays are faster than slices (a quarter at AVX2): their length is known to the compiler.
pub fn minus_one<I, O>(cpu: Cpu, inputs: &[I], outputs: &mut [O]) -> Result<(), CodecError>
where
    I: AsRef<[i16]>,
    O: AsMut<[i16]>,
{
    if inputs.len() != outputs.len() {
        return Err(UNEQUAL);
    }
    let len = common_length(inputs, outputs)?;
    dispatch!(cpu.0, simd => minus_one_body(simd, len, inputs, outputs));
    Ok(())
}

/// A mix for each of some talkers, and one for everybody else: `outputs[k]` becomes the sum of
/// all `inputs` but `inputs[talkers[k]]`, and `shared` the sum of all. What is not to be heard at
/// all is not among the inputs. Blocks are of one length; otherwise nothing is written.
pub fn talkers<I, O>(
    cpu: Cpu,
    inputs: &[I],
    talkers: &[usize],
    outputs: &mut [O],
    shared: &mut [i16],
) -> Result<(), CodecError>
where
    I: AsRef<[i16]>,
    O: AsMut<[i16]>,
{
    if talkers.len() != outputs.len() || talkers.iter().any(|talker| *talker >= inputs.len()) {
        return Err(UNEQUAL);
    }
    let len = common_length(inputs, outputs)?;
    if shared.len() != len && !inputs.is_empty() {
        return Err(UNEQUAL);
    }
    dispatch!(cpu.0, simd => talkers_body(simd, inputs, talkers, outputs, shared));
    Ok(())
}

fn common_length<I, O>(inputs: &[I], outputs: &mut [O]) -> Result<usize, CodecError>
where
    I: AsRef<[i16]>,
    O: AsMut<[i16]>,
{
    if inputs.len() > MAX_INPUTS {
        return Err(TOO_MANY);
    }
    let len = inputs.first().map_or(0, |input| input.as_ref().len());
    let alike = inputs.iter().all(|input| input.as_ref().len() == len)
        && outputs.iter_mut().all(|output| output.as_mut().len() == len);
    if alike { Ok(len) } else { Err(UNEQUAL) }
}

#[inline(always)]
fn minus_one_body<S, I, O>(simd: S, len: usize, inputs: &[I], outputs: &mut [O])
where
    S: Simd,
    I: AsRef<[i16]>,
    O: AsMut<[i16]>,
{
    if inputs.len() > MANY {
        return minus_one_of_many(simd, len, inputs, outputs);
    }
    let lanes = S::i16s::LEN;
    let mut at = 0;
    while at + TILE * lanes <= len {
        minus_one_tile::<S, I, O, TILE>(simd, at, inputs, outputs);
        at += TILE * lanes;
    }
    while at + lanes <= len {
        minus_one_tile::<S, I, O, 1>(simd, at, inputs, outputs);
        at += lanes;
    }
    for at in at..len {
        let sum = plain_sum(inputs, at);
        for (input, output) in inputs.iter().zip(outputs.iter_mut()) {
            output.as_mut()[at] = plain_minus(sum, input.as_ref()[at]);
        }
    }
}

/// The sums go to memory, so that inputs and outputs are each walked through once, from end to end.
#[inline(always)]
fn minus_one_of_many<S, I, O>(simd: S, len: usize, inputs: &[I], outputs: &mut [O])
where
    S: Simd,
    I: AsRef<[i16]>,
    O: AsMut<[i16]>,
{
    for at in (0..len).step_by(BLOCK) {
        let part = at..len.min(at + BLOCK);
        let mut sum = [0; BLOCK];
        let sum = &mut sum[..part.len()];
        for input in inputs {
            bus::add_body(simd, sum, &input.as_ref()[part.clone()], Fade::NONE);
        }
        for (input, output) in inputs.iter().zip(outputs.iter_mut()) {
            let (own, out) = (&input.as_ref()[part.clone()], &mut output.as_mut()[part.clone()]);
            bus::minus_body(simd, sum, own, Fade::NONE, out);
        }
    }
}

#[inline(always)]
fn minus_one_tile<S, I, O, const K: usize>(simd: S, at: usize, inputs: &[I], outputs: &mut [O])
where
    S: Simd,
    I: AsRef<[i16]>,
    O: AsMut<[i16]>,
{
    let sums = sums::<S, I, K>(simd, at, inputs);
    for (input, output) in inputs.iter().zip(outputs.iter_mut()) {
        minus(simd, &sums, at, input.as_ref(), output.as_mut());
    }
}

#[inline(always)]
fn talkers_body<S, I, O>(simd: S, inputs: &[I], talkers: &[usize], outputs: &mut [O], shared: &mut [i16])
where
    S: Simd,
    I: AsRef<[i16]>,
    O: AsMut<[i16]>,
{
    let lanes = S::i16s::LEN;
    let mut at = 0;
    while at + TILE * lanes <= shared.len() {
        talkers_tile::<S, I, O, TILE>(simd, at, inputs, talkers, outputs, shared);
        at += TILE * lanes;
    }
    while at + lanes <= shared.len() {
        talkers_tile::<S, I, O, 1>(simd, at, inputs, talkers, outputs, shared);
        at += lanes;
    }
    for (at, shared) in shared.iter_mut().enumerate().skip(at) {
        let sum = plain_sum(inputs, at);
        for (talker, output) in talkers.iter().zip(outputs.iter_mut()) {
            output.as_mut()[at] = plain_minus(sum, inputs[*talker].as_ref()[at]);
        }
        *shared = saturate(sum);
    }
}

#[inline(always)]
fn talkers_tile<S, I, O, const K: usize>(
    simd: S,
    at: usize,
    inputs: &[I],
    talkers: &[usize],
    outputs: &mut [O],
    shared: &mut [i16],
) where
    S: Simd,
    I: AsRef<[i16]>,
    O: AsMut<[i16]>,
{
    let sums = sums::<S, I, K>(simd, at, inputs);
    for (talker, output) in talkers.iter().zip(outputs.iter_mut()) {
        minus(simd, &sums, at, inputs[*talker].as_ref(), output.as_mut());
    }
    let lanes = S::i16s::LEN;
    for (sum, shared) in sums.iter().zip(shared[at..at + K * lanes].chunks_exact_mut(lanes)) {
        sum.0.saturating_narrow(sum.1).store_slice(shared);
    }
}

/// The sums of `K` vectors of samples from `at` on.
#[inline(always)]
fn sums<S, I, const K: usize>(simd: S, at: usize, inputs: &[I]) -> [(S::i32s, S::i32s); K]
where
    S: Simd,
    I: AsRef<[i16]>,
{
    let lanes = S::i16s::LEN;
    let zero = S::i32s::splat(simd, 0);
    let mut sums = [(zero, zero); K];
    for input in inputs {
        let tile = &input.as_ref()[at..at + K * lanes];
        for (sum, part) in sums.iter_mut().zip(tile.chunks_exact(lanes)) {
            let (low, high) = S::i16s::from_slice(simd, part).widen();
            *sum = (sum.0 + low, sum.1 + high);
        }
    }
    sums
}

/// `sums` without `own`, saturated, to `out`.
#[inline(always)]
fn minus<S, const K: usize>(simd: S, sums: &[(S::i32s, S::i32s); K], at: usize, own: &[i16], out: &mut [i16])
where
    S: Simd,
{
    let lanes = S::i16s::LEN;
    let own = own[at..at + K * lanes].chunks_exact(lanes);
    let out = out[at..at + K * lanes].chunks_exact_mut(lanes);
    for ((sum, own), out) in sums.iter().zip(own).zip(out) {
        let (low, high) = S::i16s::from_slice(simd, own).widen();
        (sum.0 - low).saturating_narrow(sum.1 - high).store_slice(out);
    }
}

/// The specification of a sum. It cannot wrap: the number of inputs is bounded.
#[inline(always)]
fn plain_sum<I: AsRef<[i16]>>(inputs: &[I], at: usize) -> i32 {
    let mut sum = 0i32;
    for input in inputs {
        sum = sum.wrapping_add(i32::from(input.as_ref()[at]));
    }
    sum
}

/// The specification of a mix without one.
#[inline(always)]
const fn plain_minus(sum: i32, own: i16) -> i16 {
    saturate(sum.wrapping_sub(own as i32))
}

#[cfg(test)]
mod tests;
