//! What a conference says to people who hear it by telephone.

use std::sync::Arc;
use std::time::Duration;

use crate::media::{ClipId, EngineError, EngineHandle};

/// Something that is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Prompt {
    /// A PIN is wanted.
    EnterPin,
    /// A PIN is wanted of hosts; guests press the hash key.
    EnterPinOrHash,
    /// Wrong; once more.
    WrongPin,
    /// Wrong for the last time.
    TooManyPins,
    /// Come in.
    Welcome,
    /// No host is there yet.
    Waiting,
    /// The conference is locked.
    Locked,
    /// Nobody else is there.
    Alone,
    /// It was locked by keypad.
    NowLocked,
    /// It was unlocked by keypad.
    NowUnlocked,
    /// Guests were muted by keypad.
    GuestsMuted,
    /// They were unmuted.
    GuestsUnmuted,
    /// The one who hears it is muted.
    Muted,
    /// And is not any more.
    Unmuted,
    /// Nobody let him in.
    Waited,
    /// It is over.
    Ended,
}

/// Each with its file.
const FILES: [(Prompt, &str, &[u8]); 16] = [
    (Prompt::EnterPin, "enter-pin", include_bytes!("../../prompts/en/enter-pin.wav")),
    (Prompt::EnterPinOrHash, "enter-pin-or-hash", include_bytes!("../../prompts/en/enter-pin-or-hash.wav")),
    (Prompt::WrongPin, "wrong-pin", include_bytes!("../../prompts/en/wrong-pin.wav")),
    (Prompt::TooManyPins, "too-many-pins", include_bytes!("../../prompts/en/too-many-pins.wav")),
    (Prompt::Welcome, "welcome", include_bytes!("../../prompts/en/welcome.wav")),
    (Prompt::Waiting, "waiting", include_bytes!("../../prompts/en/waiting.wav")),
    (Prompt::Locked, "locked", include_bytes!("../../prompts/en/locked.wav")),
    (Prompt::Alone, "alone", include_bytes!("../../prompts/en/alone.wav")),
    (Prompt::NowLocked, "now-locked", include_bytes!("../../prompts/en/now-locked.wav")),
    (Prompt::NowUnlocked, "now-unlocked", include_bytes!("../../prompts/en/now-unlocked.wav")),
    (Prompt::GuestsMuted, "guests-muted", include_bytes!("../../prompts/en/guests-muted.wav")),
    (Prompt::GuestsUnmuted, "guests-unmuted", include_bytes!("../../prompts/en/guests-unmuted.wav")),
    (Prompt::Muted, "muted", include_bytes!("../../prompts/en/muted.wav")),
    (Prompt::Unmuted, "unmuted", include_bytes!("../../prompts/en/unmuted.wav")),
    (Prompt::Waited, "waited", include_bytes!("../../prompts/en/waited.wav")),
    (Prompt::Ended, "ended", include_bytes!("../../prompts/en/ended.wav")),
];

/// Bytes before the sound in a file of ours, and its samples a second.
const HEADER: usize = 44;
const RATE: u32 = 16_000;

impl Prompt {
    /// Its clip in every engine that [`install`] was called with.
    pub const fn clip(self) -> ClipId {
        ClipId(self as u64)
    }

    /// How long it takes.
    pub fn length(self) -> Duration {
        let bytes = FILES.iter().find(|(prompt, ..)| *prompt == self).map_or(0, |(_, _, file)| file.len());
        let samples = bytes.saturating_sub(HEADER) / 2;
        Duration::from_secs_f64(u32::try_from(samples).map_or(0.0, f64::from) / f64::from(RATE))
    }
}

/// Gives `engine` all prompts.
pub fn install(engine: &EngineHandle) -> Result<(), EngineError> {
    for (prompt, _, file) in &FILES {
        engine.add_clip(prompt.clip(), samples(file), RATE)?;
    }
    Ok(())
}

fn samples(file: &[u8]) -> Arc<[i16]> {
    let sound = file.get(HEADER..).unwrap_or(&[]);
    sound.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_prompt_is_speech_at_the_rate_that_is_said() {
        for (at, (prompt, name, file)) in FILES.iter().enumerate() {
            assert_eq!(prompt.clip(), ClipId(at as u64), "{name} stands in its place");
            assert_eq!(
                (&file[..4], &file[8..16], &file[36..40]),
                (&b"RIFF"[..], &b"WAVEfmt "[..], &b"data"[..])
            );
            let word = |at: usize| u16::from_le_bytes([file[at], file[at + 1]]);
            assert_eq!((word(20), word(22), u32::from(word(24)), word(34)), (1, 1, RATE, 16), "{name}");
            let samples = samples(file);
            let loud = samples.iter().filter(|sample| sample.unsigned_abs() > 1_000).count();
            assert!(loud * 10 > samples.len(), "{name} is silent");
            let length = prompt.length();
            assert!(
                length > Duration::from_secs(1) && length < Duration::from_secs(10),
                "{name}: {length:?}"
            );
        }
    }
}
