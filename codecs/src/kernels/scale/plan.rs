//! What each pixel of the output is made of.

/// Weights are fractions of this. The weights of a pixel sum to it, so that no sum here can leave
/// 32 bits: 255 x 2^8 x 2^14 is below 2^30. Sums wrap in the code, as a check in each would keep
/// the compiler from using vectors.
pub(super) const ONE: u32 = 1 << 14;

#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) across: Side,
    pub(super) upright: Side,
}

/// What each output pixel of one side is made of: `taps` pixels from `starts` on, by weight.
#[derive(Clone, Debug)]
pub(super) struct Side {
    /// Pixels of the input.
    pub(super) from: usize,
    pub(super) taps: usize,
    /// All pixels weigh alike and none is shared: the sides' ratio is whole.
    pub(super) whole: bool,
    pub(super) starts: Box<[usize]>,
    pub(super) weights: Box<[u32]>,
}

impl Side {
    pub(super) fn new(from: usize, to: usize) -> Self {
        let ratio = float(from) / float(to);
        let whole = from > to && from.is_multiple_of(to) && (from / to).is_power_of_two();
        let taps = match (whole, from > to) {
            (true, _) => from / to,
            (false, true) => (from.div_ceil(to) + 1).min(from),
            (false, false) => 2.min(from),
        };
        let (mut starts, mut weights) = (Vec::with_capacity(to), Vec::with_capacity(to * taps));
        for n in 0..to {
            let share = |pixel: usize| {
                let pixel = float(pixel);
                if from > to {
                    // How much of the pixel lies under the output pixel.
                    let (begin, end) = (float(n) * ratio, float(n + 1) * ratio);
                    ((pixel + 1.0).min(end) - pixel.max(begin)).max(0.0) / ratio
                } else {
                    let middle = ((float(n) + 0.5) * ratio - 0.5).clamp(0.0, float(from - 1));
                    (1.0 - (pixel - middle).abs()).max(0.0)
                }
            };
            let begin = if from > to { float(n) * ratio } else { ((float(n) + 0.5) * ratio - 0.5).max(0.0) };
            let start = floor(begin).min(from - taps);
            starts.push(start);
            let first = weights.len();
            weights.extend((start..start + taps).map(|pixel| weight(share(pixel))));
            // Rounding must not change a flat area: the largest takes the difference.
            let sum: u32 = weights[first..].iter().sum();
            if let Some(largest) = weights[first..].iter_mut().max() {
                *largest = (*largest + ONE).saturating_sub(sum);
            }
        }
        Self { from, taps, whole, starts: starts.into(), weights: weights.into() }
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (usize, &[u32])> {
        self.starts.iter().copied().zip(self.weights.chunks_exact(self.taps))
    }
}

#[allow(clippy::cast_precision_loss, reason = "sides of at most 4096 pixels")]
fn float(value: usize) -> f64 {
    value as f64
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positions within a picture")]
fn floor(value: f64) -> usize {
    value as usize
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "shares of 0 to 1")]
fn weight(share: f64) -> u32 {
    (share * f64::from(ONE)).round() as u32
}
