//! Which vector instructions the kernels may use: chosen once, at the start of the process, and
//! passed down.

use std::fmt;
use std::sync::OnceLock;

use fearless_simd::Level;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
use fearless_simd::Simd;

/// The words of [`Cpu::cap`] and [`Cpu::capped`], best first.
pub const LEVELS: [&str; 4] = ["avx512", "avx2", "sse4.2", "scalar"];

/// What this process works with. Set once, by [`Cpu::cap`] or by the first [`Cpu::detect`], so that
/// no two kernels of a process ever choose differently.
static CHOSEN: OnceLock<Level> = OnceLock::new();

/// A proof that the processor has certain instructions.
#[derive(Clone, Copy)]
pub struct Cpu(pub(crate) Level);

/// A word that is none of [`LEVELS`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no level of instructions is called \"{0}\"; there are: avx512, avx2, sse4.2, scalar")]
pub struct UnknownLevel(pub String);

/// Why [`Cpu::cap`] changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CapError {
    /// A word that is none of [`LEVELS`].
    #[error(transparent)]
    Unknown(#[from] UnknownLevel),
    /// The process has chosen already, and otherwise.
    #[error(
        "this process works with {chosen} already and cannot change to {wanted}: cap it before anything else"
    )]
    Late {
        /// What it works with.
        chosen: &'static str,
        /// What it would have worked with.
        wanted: &'static str,
    },
}

impl Cpu {
    /// What this process works with: the best that the machine has, or that [`Cpu::cap`] left of
    /// it. The first call chooses for good.
    pub fn detect() -> Self {
        Self(*CHOSEN.get_or_init(Level::new))
    }

    /// Caps the whole process at `word`, as [`Cpu::capped`] understands it, and returns what
    /// [`Cpu::detect`] gives from now on.
    ///
    /// Call it at the start. Kernels keep what they were made with, so a cap that comes after the
    /// first `detect`, or after another cap, would leave two levels at work: it is refused with
    /// [`CapError::Late`]. One that asks for what is chosen already is not late.
    pub fn cap(word: &str) -> Result<Self, CapError> {
        let wanted = Self::capped(word)?;
        let chosen = Self(*CHOSEN.get_or_init(|| wanted.0));
        if chosen.name() == wanted.name() {
            Ok(chosen)
        } else {
            Err(CapError::Late { chosen: chosen.name(), wanted: wanted.name() })
        }
    }

    /// The best that this machine has, but nothing above `word`, one of [`LEVELS`]. A machine
    /// that lacks that level takes the next lower one that it has. Heeds no [`Cpu::cap`], nor does
    /// it make one.
    ///
    /// `scalar` is what plain code is compiled to: SSE2 on x86-64, NEON on 64-bit ARM, where the
    /// other words cap nothing.
    pub fn capped(word: &str) -> Result<Self, UnknownLevel> {
        let unknown = || UnknownLevel(word.to_owned());
        let rank = LEVELS.iter().position(|level| *level == word).ok_or_else(unknown)?;
        let best = Level::new();
        Ok(Self(LEVELS[rank..].iter().find_map(|word| lowered(best, word)).unwrap_or(best)))
    }

    /// All that this machine can run, best first, each once, whatever the cap: for tests that hold
    /// them against each other and for benches.
    pub fn available() -> Vec<Self> {
        let best = Level::new();
        LEVELS.iter().filter_map(|word| lowered(best, word)).map(Self).collect()
    }

    /// Whether it shuffles bytes in one instruction. SSE2 does not.
    pub(crate) fn shuffles(self) -> bool {
        cfg!(target_arch = "aarch64") || self.name() != "scalar"
    }

    /// Its word, one of [`LEVELS`].
    pub fn name(self) -> &'static str {
        LEVELS.into_iter().find(|word| lowered(self.0, word).is_some()).unwrap_or("scalar")
    }
}

/// `level` brought down to what `word` names, if it reaches that.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn lowered(level: Level, word: &str) -> Option<Level> {
    match word {
        "avx512" => level.as_avx512().map(Simd::level),
        "avx2" => level.as_avx2().map(Simd::level),
        "sse4.2" => level.as_sse4_2().map(Simd::level),
        _ => Some(Level::baseline()),
    }
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
fn lowered(_: Level, word: &str) -> Option<Level> {
    (word == "scalar").then(Level::baseline)
}

impl Default for Cpu {
    fn default() -> Self {
        Self::detect()
    }
}

impl fmt::Debug for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cpu({})", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prints what the tests of the kernels cover on this machine; `--nocapture` shows it.
    #[test]
    fn levels_are_those_of_this_machine_best_first() {
        let run: Vec<&str> = Cpu::available().into_iter().map(Cpu::name).collect();
        let lacking: Vec<&str> = LEVELS.into_iter().filter(|word| !run.contains(word)).collect();
        println!("kernels are tested by {run:?}; this machine cannot run {lacking:?}");
        assert_eq!(run.first(), Some(&Cpu::detect().name()));
        assert_eq!(run.last(), Some(&"scalar"));
        let rank = |word: &&str| LEVELS.iter().position(|level| level == word);
        assert!(run.is_sorted_by_key(rank));
    }

    #[test]
    fn a_cap_is_never_exceeded_and_a_wrong_word_is_named() {
        for (rank, word) in LEVELS.into_iter().enumerate() {
            let got = Cpu::capped(word).unwrap().name();
            assert!(LEVELS[rank..].contains(&got), "{word} gave {got}");
        }
        let wrong = Cpu::capped("AVX9").unwrap_err();
        assert_eq!(
            wrong.to_string(),
            "no level of instructions is called \"AVX9\"; there are: avx512, avx2, sse4.2, scalar"
        );
    }
}
