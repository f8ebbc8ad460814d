//! What a conference says to people who hear it by telephone.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::media::{ClipId, EngineError, EngineHandle, LONGEST_CLIP};

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
const FILES: [(Prompt, &str, &[u8]); COUNT] = [
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

const COUNT: usize = 16;

/// The language of the prompts that are built in.
pub const BUILT_IN: &str = "en";

/// Bytes of one file at most: a minute of 48 kHz.
const LARGEST: u64 = 6 * 1024 * 1024;

impl Prompt {
    /// Its clip in every engine that [`Voice::install`] was called with.
    pub const fn clip(self) -> ClipId {
        ClipId(self as u64)
    }
}

/// Why the prompts of a language cannot be had. Each says which file and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromptError {
    /// Nothing was recorded for it.
    #[error(
        "there are no prompts in \"{language}\": put them into {folder}, or leave conference.language out",
        folder = folder.display()
    )]
    NoLanguage {
        /// Which.
        language: String,
        /// Where they were looked for.
        folder: PathBuf,
    },
    /// A file cannot be read.
    #[error("{file}: {error}", file = file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file is not what can be played.
    #[error("{file} {reason}: a prompt is a WAV file of 16 bit, mono, 8000 to 48000 Hz, a minute at most", file = file.display())]
    Sound {
        /// Which.
        file: PathBuf,
        /// What it is instead.
        reason: &'static str,
    },
    /// Some have been replaced, in a language that has no others.
    #[error("{file} is missing: prompts in another language than {BUILT_IN} need all of them", file = file.display())]
    Missing {
        /// Which.
        file: PathBuf,
    },
}

/// All prompts in one language.
#[derive(Clone, Debug)]
pub struct Voice(Arc<[Sound; COUNT]>);

#[derive(Clone, Debug)]
struct Sound {
    samples: Arc<[i16]>,
    rate: u32,
}

impl Default for Voice {
    /// The ones that are built in.
    fn default() -> Self {
        static VOICE: OnceLock<Voice> = OnceLock::new();
        // Their form is proved by a test.
        let sound = |file| wave(file).unwrap_or_else(|_| Sound { samples: Arc::default(), rate: 16_000 });
        VOICE.get_or_init(|| Self(Arc::new(FILES.map(|(_, _, file)| sound(file))))).clone()
    }
}

impl Voice {
    /// The prompts of `folder/language/enter-pin.wav` and so on. Of [`BUILT_IN`] each file replaces one
    /// prompt; of another language all must be there.
    pub fn load(folder: &Path, language: &str) -> Result<Self, PromptError> {
        let folder = folder.join(language);
        if language != BUILT_IN && !folder.is_dir() {
            return Err(PromptError::NoLanguage { language: language.to_owned(), folder });
        }
        let mut sounds = (*Self::default().0).clone();
        for (sound, (_, name, _)) in sounds.iter_mut().zip(FILES) {
            let file = folder.join(name).with_extension("wav");
            match read(&file) {
                Ok(bytes) => *sound = wave(&bytes).map_err(|reason| PromptError::Sound { file, reason })?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if language != BUILT_IN {
                        return Err(PromptError::Missing { file });
                    }
                }
                Err(error) => return Err(PromptError::Read { file, error }),
            }
        }
        Ok(Self(Arc::new(sounds)))
    }

    /// How long `prompt` takes.
    pub fn length(&self, prompt: Prompt) -> Duration {
        let Some(sound) = self.0.get(prompt as usize) else { return Duration::ZERO };
        let samples = u32::try_from(sound.samples.len()).unwrap_or(u32::MAX);
        Duration::from_secs_f64(f64::from(samples) / f64::from(sound.rate))
    }

    /// Gives `engine` all of them.
    pub fn install(&self, engine: &EngineHandle) -> Result<(), EngineError> {
        for ((prompt, ..), sound) in FILES.iter().zip(self.0.iter()) {
            engine.add_clip(prompt.clip(), sound.samples.clone(), sound.rate)?;
        }
        Ok(())
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One more than is allowed, so that what is too long is seen as such.
    fs::File::open(file)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The sound of a WAV file: RIFF chunks, of which `fmt ` and `data` matter.
fn wave(file: &[u8]) -> Result<Sound, &'static str> {
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0_u32, |all, byte| all << 8 | u32::from(*byte));
    let Some((b"RIFF", rest)) = file.split_at_checked(4) else { return Err("is no WAV file") };
    let Some((b"WAVE", mut rest)) = rest.get(4..).and_then(|it| it.split_at_checked(4)) else {
        return Err("is no WAV file");
    };
    let mut rate = None;
    while let Some((head, body)) = rest.split_at_checked(8) {
        let length = usize::try_from(number(&head[4..])).map_err(|_| "is damaged")?;
        // Programs that write to a pipe leave the length of the sound open.
        let (chunk, after) = body.split_at_checked(length).unwrap_or((body, &[]));
        match (&head[..4], rate) {
            (b"fmt ", _) => {
                let [form, channels, bits] = [0..2, 2..4, 14..16].map(|at| chunk.get(at).map_or(0, number));
                rate = chunk.get(4..8).map(number).filter(|rate| (8_000..=48_000).contains(rate));
                match (form, channels, bits, rate) {
                    (1 | 0xFFFE, 1, 16, Some(_)) => {}
                    (1 | 0xFFFE, 2.., ..) => return Err("has more than one channel"),
                    (1 | 0xFFFE, _, 16, None) => return Err("has another rate"),
                    _ => return Err("is not of 16 bit"),
                }
            }
            (b"data", Some(rate)) => {
                let samples: Arc<[i16]> =
                    chunk.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
                let most = u64::from(rate) * LONGEST_CLIP.as_secs();
                if samples.is_empty() || samples.len() as u64 > most {
                    return Err(if samples.is_empty() { "is empty" } else { "is too long" });
                }
                return Ok(Sound { samples, rate });
            }
            _ => {}
        }
        // Chunks begin at even places.
        rest = after.get(length % 2..).unwrap_or(&[]);
    }
    Err("has no sound in it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_prompt_is_speech() {
        let voice = Voice::default();
        for (at, (prompt, name, file)) in FILES.iter().enumerate() {
            assert_eq!(prompt.clip(), ClipId(at as u64), "{name} stands in its place");
            let sound = wave(file).unwrap();
            assert_eq!(sound.rate, 16_000, "{name}");
            let loud = sound.samples.iter().filter(|sample| sample.unsigned_abs() > 1_000).count();
            assert!(loud * 10 > sound.samples.len(), "{name} is silent");
            let length = voice.length(*prompt);
            assert!(
                length > Duration::from_secs(1) && length < Duration::from_secs(10),
                "{name}: {length:?}"
            );
        }
    }

    fn wav(rate: u32, channels: u16, bits: u16, samples: u32) -> Vec<u8> {
        let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0".to_vec();
        file.extend(channels.to_le_bytes());
        file.extend(rate.to_le_bytes());
        file.extend((rate * u32::from(channels) * 2).to_le_bytes());
        file.extend([2, 0]);
        file.extend(bits.to_le_bytes());
        // A chunk of odd length between, as some programs write.
        file.extend(b"LIST\x03\0\0\0abc\0data");
        file.extend((samples * 2).to_le_bytes());
        file.extend((0..samples).flat_map(|n| i16::try_from(n % 30_000).unwrap().to_le_bytes()));
        file
    }

    #[test]
    fn what_cannot_be_played_is_told() {
        let good = wav(8_000, 1, 16, 800);
        assert_eq!(wave(&good).unwrap().samples.len(), 800);
        let open = [&good[..good.len() - 1_604], &[0xFF; 4][..], &good[good.len() - 1_600..]].concat();
        assert_eq!(wave(&open).unwrap().samples[799], 799, "a length that was left open");
        for (file, reason) in [
            (b"ID3".to_vec(), "is no WAV file"),
            (wav(8_000, 2, 16, 8), "has more than one channel"),
            (wav(96_000, 1, 16, 8), "has another rate"),
            (wav(8_000, 1, 8, 8), "is not of 16 bit"),
            (wav(8_000, 1, 16, 0), "is empty"),
            (wav(8_000, 1, 16, 480_001), "is too long"),
            (good[..40].to_vec(), "has no sound in it"),
        ] {
            assert_eq!(wave(&file).err(), Some(reason));
        }
        for end in 0..good.len() {
            let _ = wave(&good[..end]);
        }
    }

    #[test]
    fn files_replace_prompts_and_another_language_needs_all() {
        let folder = std::env::temp_dir().join(format!("crosspoint-prompts-{}", std::process::id()));
        let load = |language: &str| Voice::load(&folder, language);
        let told = |language: &str| load(language).unwrap_err().to_string();
        fs::create_dir_all(folder.join("en")).unwrap();
        assert_eq!(load("en").unwrap().length(Prompt::Welcome), Voice::default().length(Prompt::Welcome));
        fs::write(folder.join("en/welcome.wav"), wav(48_000, 1, 16, 24_000)).unwrap();
        let voice = load("en").unwrap();
        assert_eq!(voice.length(Prompt::Welcome), Duration::from_millis(500));
        assert_eq!(voice.length(Prompt::Ended), Voice::default().length(Prompt::Ended));
        assert!(told("fr").contains("no prompts in \"fr\""), "{}", told("fr"));
        fs::create_dir_all(folder.join("fr")).unwrap();
        assert!(told("fr").contains("enter-pin.wav is missing"), "{}", told("fr"));
        for (_, name, _) in FILES {
            fs::write(folder.join("fr").join(name).with_extension("wav"), wav(8_000, 1, 16, 8_000)).unwrap();
        }
        assert_eq!(load("fr").unwrap().length(Prompt::Locked), Duration::from_secs(1));
        fs::write(folder.join("fr/locked.wav"), "not sound").unwrap();
        assert!(told("fr").contains("locked.wav is no WAV file"), "{}", told("fr"));
        fs::remove_dir_all(folder).unwrap();
    }
}
