//! The numbers of the Recommendation, section 6, and what is made of them here.

/// Coefficients of the quadrature mirror filters, one phase; the other is its mirror (Table 11).
pub(super) const QMF: [i16; 12] = [3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];

/// Decision levels of the 60 level quantizer, Q12 of the scale factor (Table 14). The first
/// entry of the Recommendation's table, zero, is implied.
pub(super) const LOW_LEVELS: [u16; 29] = [
    35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1023, 1121, 1219,
    1339, 1458, 1612, 1765, 1980, 2195, 2557, 2919,
];
/// Values of the low band's 4 bit codes, Q15 of the scale factor: all that adaptation sees, so
/// that a receiver of fewer bits stays in step.
pub(super) const LOW_4: [i16; 16] =
    [0, -20456, -12896, -8968, -6288, -4240, -2584, -1200, 20456, 12896, 8968, 6288, 4240, 2584, 1200, 0];
/// Values of the low band's 6 bit codes.
pub(super) const LOW_6: [i16; 64] = [
    -136, -136, -136, -136, -24808, -21904, -19008, -16704, -14984, -13512, -12280, -11192, -10232, -9360,
    -8576, -7856, -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776, -2400, -2032, -1688,
    -1360, -1040, -728, 24808, 21904, 19008, 16704, 14984, 13512, 12280, 11192, 10232, 9360, 8576, 7856,
    7192, 6576, 6000, 5456, 4944, 4464, 4008, 3576, 3168, 2776, 2400, 2032, 1688, 1360, 1040, 728, 432, 136,
    -432, -136,
];
/// How each 4 bit code moves the low band's logarithmic scale factor.
pub(super) const LOW_STEPS: [i16; 16] =
    [-60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60];
/// The highest that it becomes.
pub(super) const LOW_HIGHEST: i32 = 18_432;
/// Values of the high band's 2 bit codes.
pub(super) const HIGH_2: [i16; 4] = [-7408, -1616, 7408, 1616];
/// How they move its logarithmic scale factor.
pub(super) const HIGH_STEPS: [i16; 4] = [798, -214, 798, -214];
/// The highest that it becomes.
pub(super) const HIGH_HIGHEST: i32 = 22_528;
/// The high band's one decision level.
pub(super) const HIGH_LEVEL: i32 = 564;
/// 2^(n/32), Q11.
pub(super) const EXP2: [i16; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834, 2896,
    2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];

/// The linear scale factor of the high band for each 64 of its logarithmic one: 8 to 16384.
/// That of the low band is the same four octaves, [`LOW_SCALES`] entries, further on.
pub(super) const SCALES: [i16; 353] = {
    let mut scales = [0; 353];
    let mut n = 0;
    while n < scales.len() {
        // The mantissa has twice its bits here, so that the last octave, too, shifts to the right.
        scales[n] = (EXP2[n % 32] << 1 >> (11 - n / 32)) << 2;
        n += 1;
    }
    scales
};
pub(super) const LOW_SCALES: usize = 64;

/// The quantizer's decision levels, Q16, after three that every magnitude reaches: the product of 1
/// and the largest scale factor is below 2^16. So they fill vectors.
pub(super) const THRESHOLDS: [u16; 32] = {
    let mut thresholds = [1; 32];
    let mut n = 0;
    while n < LOW_LEVELS.len() {
        thresholds[n + 3] = LOW_LEVELS[n] << 4;
        n += 1;
    }
    thresholds
};

/// What a quantizer chose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    /// What goes on the wire.
    pub(super) code: u8,
    /// What adaptation makes of it: its value, and the move of the logarithmic scale factor.
    pub(super) value: i16,
    pub(super) step: i16,
}

const NONE: Choice = Choice { code: 0, value: 0, step: 0 };

/// What a code of the low band means to adaptation.
pub(super) const fn low(code: u8) -> Choice {
    let index = ((code >> 2) & 0x0f) as usize;
    Choice { code, value: LOW_4[index], step: LOW_STEPS[index] }
}

/// The same of the high band.
pub(super) const fn high(code: u8) -> Choice {
    let index = (code & 3) as usize;
    Choice { code, value: HIGH_2[index], step: HIGH_STEPS[index] }
}

/// The low band by how many of [`THRESHOLDS`] are reached, less one; from 32 on for negative differences.
pub(super) const LOW_CHOICES: [Choice; 64] = {
    let mut choices = [NONE; 64];
    let mut n = 0;
    while n < 64u8 {
        let (negative, reached) = (n >= 32, n % 32);
        let level: u8 = reached.saturating_sub(2);
        choices[n as usize] = low(match (negative, level) {
            (false, _) => 61 - level,
            (true, 0 | 1) => 63 - level,
            (true, _) => 33 - level,
        });
        n += 1;
    }
    choices
};

/// The high band: one for a difference above its level, and two more for a negative one.
pub(super) const HIGH_CHOICES: [Choice; 4] = [high(3), high(2), high(1), high(0)];
