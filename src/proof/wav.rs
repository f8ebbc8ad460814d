//! 16-bit PCM in RIFF: what the demo writes and what softphones record.

use std::path::Path;
use std::{fs, io};

/// Samples of one file, the first channel only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wav {
    /// Samples a second.
    pub rate: u32,
    /// The first channel.
    pub samples: Vec<i16>,
}

/// Why a file could not be read as sound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WavError {
    /// The file could not be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Not RIFF, not PCM, or not 16 bits.
    #[error("not a WAV file of 16-bit PCM: {0}")]
    Format(&'static str),
}

impl Wav {
    /// Reads a file. A length of zero in the header (a recorder that was killed) means all that
    /// follows.
    pub fn read(path: &Path) -> Result<Self, WavError> {
        Self::parse(&fs::read(path)?)
    }

    /// Reads a file that is in memory already.
    pub fn parse(bytes: &[u8]) -> Result<Self, WavError> {
        if bytes.get(..4) != Some(b"RIFF") || bytes.get(8..12) != Some(b"WAVE") {
            return Err(WavError::Format("no RIFF header"));
        }
        let (mut rate, mut channels) = (0, 0);
        let mut rest = &bytes[12..];
        while let (Some(name), Some(length)) = (rest.get(..4), rest.get(4..8)) {
            let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
            let body = &rest[8..];
            match name {
                b"fmt " if body.len() >= 16 => {
                    if body[..2] != [1, 0] || body[14..16] != [16, 0] {
                        return Err(WavError::Format("not 16-bit PCM"));
                    }
                    channels = usize::from(u16::from_le_bytes([body[2], body[3]]));
                    rate = u32::from_le_bytes([body[4], body[5], body[6], body[7]]);
                }
                b"data" if channels > 0 => {
                    let length = if length == 0 { body.len() } else { length.min(body.len()) };
                    let samples = body[..length]
                        .chunks_exact(2 * channels)
                        .map(|frame| i16::from_le_bytes([frame[0], frame[1]]))
                        .collect();
                    return Ok(Self { rate, samples });
                }
                _ => {}
            }
            rest = body.get(length + length % 2..).unwrap_or(&[]);
        }
        Err(WavError::Format("no data"))
    }

    /// Writes a mono file.
    pub fn write(&self, path: &Path) -> Result<(), WavError> {
        let length =
            u32::try_from(self.samples.len() * 2).map_err(|_| WavError::Format("longer than 4 GiB"))?;
        let mut bytes = Vec::with_capacity(44 + self.samples.len() * 2);
        bytes.extend_from_slice(b"RIFF");
        bytes.extend_from_slice(&(36 + length).to_le_bytes());
        bytes.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
        bytes.extend_from_slice(&self.rate.to_le_bytes());
        bytes.extend_from_slice(&(self.rate * 2).to_le_bytes());
        bytes.extend_from_slice(b"\x02\0\x10\0data");
        bytes.extend_from_slice(&length.to_le_bytes());
        for sample in &self.samples {
            bytes.extend_from_slice(&sample.to_le_bytes());
        }
        fs::write(path, bytes)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_rubbish_is_refused() {
        let path = std::env::temp_dir().join(format!("crosspoint-wav-{}.wav", std::process::id()));
        let wav = Wav { rate: 16000, samples: vec![0, 1, -1, i16::MAX, i16::MIN] };
        wav.write(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(Wav::parse(&bytes).unwrap(), wav);
        for cut in 0..40 {
            assert!(Wav::parse(&bytes[..cut]).is_err());
        }
    }
}
