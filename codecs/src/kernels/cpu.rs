//! Which vector instructions the kernels may use: found once, passed down, lowered by tests.

use std::fmt;

use fearless_simd::{Level, Simd};

/// A proof that the processor has certain instructions.
#[derive(Clone, Copy)]
pub struct Cpu(pub(crate) Level);

impl Cpu {
    /// The best that this machine has.
    pub fn detect() -> Self {
        Self(Level::new())
    }

    /// All that this machine can run, best first: for tests that hold them against each other
    /// and for benches.
    pub fn available() -> Vec<Self> {
        let mut levels = vec![Level::new()];
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        {
            let best = Level::new();
            levels.extend(best.as_avx2().map(Simd::level));
            levels.extend(best.as_sse4_2().map(Simd::level));
            levels.extend(best.as_sse2().map(Simd::level));
        }
        levels.push(Level::baseline());
        levels.into_iter().map(Self).collect()
    }
}

impl Default for Cpu {
    fn default() -> Self {
        Self::detect()
    }
}

impl fmt::Debug for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cpu({:?})", self.0)
    }
}
