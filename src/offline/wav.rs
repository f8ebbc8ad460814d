//! 16-bit PCM in RIFF, block by block: a file of any length takes the same memory.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// `WAVE_FORMAT_PCM`.
const PCM: u16 = 1;
/// `WAVE_FORMAT_EXTENSIBLE`: what it is stands in the first two bytes of the sub-format.
const EXTENSIBLE: u16 = 0xfffe;
/// `WAVE_FORMAT_IEEE_FLOAT`.
const FLOAT: u16 = 3;
/// Bytes of a header as we write it, and those of them that the RIFF length counts.
const HEADER: u32 = 44;
const COUNTED: u32 = HEADER - 8;
/// Bytes that are read at once: 20 ms of stereo at 48 kHz.
const ROOM: usize = 960 * 2 * 2;

/// What a header says of the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WavShape {
    format: u16,
    bits: u16,
    /// Channels of a frame.
    pub channels: u16,
    /// Frames a second.
    pub rate: u32,
}

impl WavShape {
    /// Whether [`WavReader`] can read it: 16-bit PCM, mono or stereo.
    pub const fn is_read(self) -> bool {
        self.format == PCM && self.bits == 16 && (self.channels == 1 || self.channels == 2)
    }

    fn parse(body: &[u8; 26]) -> Self {
        let word = |at: usize| u16::from_le_bytes([body[at], body[at + 1]]);
        let format = if word(0) == EXTENSIBLE { word(24) } else { word(0) };
        let rate = u32::from_le_bytes([body[4], body[5], body[6], body[7]]);
        Self { format, bits: word(14), channels: word(2), rate }
    }
}

/// As a person would say it: `24-bit PCM, 44100 Hz, stereo`.
impl fmt::Display for WavShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.format {
            PCM => write!(f, "{}-bit PCM", self.bits)?,
            FLOAT => write!(f, "{}-bit floating point", self.bits)?,
            other => write!(f, "WAVE format {other:#06x}")?,
        }
        write!(f, ", {} Hz, ", self.rate)?;
        match self.channels {
            1 => f.write_str("mono"),
            2 => f.write_str("stereo"),
            channels => write!(f, "{channels} channels"),
        }
    }
}

/// Reads a file from its front. Give it something buffered.
#[derive(Debug)]
pub struct WavReader<R> {
    from: R,
    shape: WavShape,
    /// Bytes of sound that are still to come at most.
    left: u64,
}

impl<R: Read> WavReader<R> {
    /// Reads up to the sound. `None`: it is no WAV file, or one without sound.
    pub fn new(mut from: R) -> io::Result<Option<Self>> {
        let mut start = [0; 12];
        if !filled(&mut from, &mut start)? || start[..4] != *b"RIFF" || start[8..] != *b"WAVE" {
            return Ok(None);
        }
        let whole = u64::from(u32::from_le_bytes([start[4], start[5], start[6], start[7]]));
        // As RIFF counts: all that comes after its own length.
        let mut read = 4;
        let mut shape = None;
        loop {
            let mut chunk = [0; 8];
            if !filled(&mut from, &mut chunk)? {
                return Ok(None);
            }
            read += 8;
            let length = u32::from_le_bytes([chunk[4], chunk[5], chunk[6], chunk[7]]);
            // A chunk of odd length has a byte behind it.
            let mut rest = u64::from(length) + u64::from(length % 2);
            match (&chunk[..4], shape) {
                (b"fmt ", _) if length >= 16 => {
                    let mut body = [0; 26];
                    let taken = body.len().min(usize::try_from(length).unwrap_or(usize::MAX));
                    if !filled(&mut from, &mut body[..taken])? {
                        return Ok(None);
                    }
                    shape = Some(WavShape::parse(&body));
                    rest -= u64::try_from(taken).unwrap_or(0);
                }
                (b"data", Some(shape)) => {
                    // A recorder that was killed or wrote to a pipe leaves no lengths, or the
                    // largest there are: all that follows is sound.
                    let unknown = length == 0 && whole <= read || length == u32::MAX;
                    return Ok(Some(Self {
                        from,
                        shape,
                        left: if unknown { u64::MAX } else { length.into() },
                    }));
                }
                _ => {}
            }
            io::copy(&mut (&mut from).take(rest), &mut io::sink())?;
            read += u64::from(length) + u64::from(length % 2);
        }
    }

    /// What the file is.
    pub const fn shape(&self) -> WavShape {
        self.shape
    }

    /// Fills `samples` from the front and returns how many there were; fewer than asked for is the
    /// end. Stereo is mixed down: the mean of both, halves towards zero. Only for a shape that
    /// [`WavShape::is_read`].
    pub fn read(&mut self, samples: &mut [i16]) -> io::Result<usize> {
        let frame = 2 * usize::from(self.shape.channels.clamp(1, 2));
        let mut room = [0; ROOM];
        let mut done = 0;
        while done < samples.len() {
            let wanted = (ROOM / frame).min(samples.len() - done) * frame;
            let wanted = wanted.min(usize::try_from(self.left).unwrap_or(usize::MAX));
            let got = read_up_to(&mut self.from, &mut room[..wanted])?;
            self.left -= u64::try_from(got).unwrap_or(0);
            for (bytes, sample) in room[..got].chunks_exact(frame).zip(&mut samples[done..]) {
                *sample = sample_of(bytes);
            }
            done += got / frame;
            if got < wanted || wanted < frame {
                break;
            }
        }
        Ok(done)
    }
}

fn sample_of(frame: &[u8]) -> i16 {
    let mut channels = frame.as_chunks().0.iter().map(|bytes| i16::from_le_bytes(*bytes));
    match (channels.next(), channels.next()) {
        // The mean of two samples is a sample.
        (Some(one), Some(other)) => i16::try_from((i32::from(one) + i32::from(other)) / 2).unwrap_or(0),
        (one, _) => one.unwrap_or(0),
    }
}

/// Fills all of `room`, or says that there was not enough.
fn filled(from: &mut impl Read, room: &mut [u8]) -> io::Result<bool> {
    Ok(read_up_to(from, room)? == room.len())
}

fn read_up_to(from: &mut impl Read, room: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < room.len() {
        match from.read(&mut room[done..]) {
            Ok(0) => break,
            Ok(got) => done += got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Writes a mono file. Its lengths are set by [`Self::finish`]. Give it something buffered.
#[derive(Debug)]
pub struct WavWriter<W> {
    to: W,
    bytes: u32,
}

impl<W: Write + Seek> WavWriter<W> {
    /// Begins a file of `rate` samples a second.
    pub fn new(mut to: W, rate: u32) -> io::Result<Self> {
        to.write_all(b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0")?;
        to.write_all(&rate.to_le_bytes())?;
        to.write_all(&rate.saturating_mul(2).to_le_bytes())?;
        to.write_all(b"\x02\0\x10\0data\0\0\0\0")?;
        Ok(Self { to, bytes: 0 })
    }

    /// Appends samples. A file of more than 4 GiB (12 hours at 48 kHz) is refused: RIFF has 32 bits
    /// for its length.
    pub fn write(&mut self, samples: &[i16]) -> io::Result<()> {
        let added = u32::try_from(samples.len() * 2).unwrap_or(u32::MAX);
        let bytes = self.bytes.checked_add(added).filter(|bytes| *bytes <= u32::MAX - COUNTED);
        self.bytes =
            bytes.ok_or_else(|| io::Error::other("it would be longer than 4 GiB, the most of a WAV file"))?;
        samples.iter().try_for_each(|sample| self.to.write_all(&sample.to_le_bytes()))
    }

    /// Writes the lengths and gives back what was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.to.seek(SeekFrom::Start(4))?;
        self.to.write_all(&(COUNTED + self.bytes).to_le_bytes())?;
        self.to.seek(SeekFrom::Start(u64::from(HEADER) - 4))?;
        self.to.write_all(&self.bytes.to_le_bytes())?;
        self.to.flush()?;
        Ok(self.to)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn file(samples: &[i16], rate: u32) -> Vec<u8> {
        let mut writer = WavWriter::new(Cursor::new(Vec::new()), rate).unwrap();
        samples.chunks(3).for_each(|chunk| writer.write(chunk).unwrap());
        writer.finish().unwrap().into_inner()
    }

    fn read(bytes: &[u8]) -> Vec<i16> {
        let mut reader = WavReader::new(bytes).unwrap().unwrap();
        let mut samples = vec![0; 100_000];
        let count = reader.read(&mut samples).unwrap();
        samples.truncate(count);
        samples
    }

    #[test]
    fn what_is_written_is_read_here_and_by_the_other_reader() {
        let samples: Vec<i16> = (0..10_000u16).map(|n| n.wrapping_mul(7_919).cast_signed()).collect();
        let bytes = file(&samples, 16_000);
        assert_eq!(read(&bytes), samples);
        let whole = crate::proof::Wav::parse(&bytes).unwrap();
        assert_eq!((whole.rate, whole.samples), (16_000, samples));
        assert_eq!(u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize, bytes.len() - 8);
    }

    #[test]
    fn a_cut_file_is_read_as_far_as_it_goes_and_a_cut_header_is_none() {
        let bytes = file(&[1, 2, 3], 8_000);
        for cut in 0..44 {
            assert!(WavReader::new(&bytes[..cut]).unwrap().is_none(), "{cut}");
        }
        assert_eq!(read(&bytes[..49]), [1, 2]);
        assert!(read(&file(&[], 8_000)).is_empty());
    }

    #[test]
    fn lengths_that_nobody_set_mean_all_that_follows_and_chunks_behind_the_sound_are_none() {
        for unset in [0u32, u32::MAX] {
            let mut bytes = file(&[1, 2, 3], 8_000);
            bytes[4..8].copy_from_slice(&unset.to_le_bytes());
            bytes[40..44].copy_from_slice(&unset.to_le_bytes());
            assert_eq!(read(&bytes), [1, 2, 3]);
        }
        // A recording of nothing with a comment.
        let mut bytes = file(&[], 8_000);
        bytes.extend(b"LIST\x04\0\0\0abcd");
        bytes[4] += 12;
        assert!(read(&bytes).is_empty());
    }

    #[test]
    fn stereo_is_mixed_down_and_unknown_chunks_are_passed_over() {
        let mut bytes = b"RIFF\0\0\0\0WAVELIST\x03\0\0\0abc\0fmt \x28\0\0\0\xfe\xff\x02\0".to_vec();
        bytes.extend(8_000u32.to_le_bytes());
        bytes.extend(
            b"\0\0\0\0\x04\0\x10\0\x16\0\x10\0\x03\0\0\0\x01\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71",
        );
        bytes.extend(b"data\x0c\0\0\0");
        for sample in [i16::MAX, i16::MAX, i16::MIN, i16::MIN, 3, -6] {
            bytes.extend(sample.to_le_bytes());
        }
        let reader = WavReader::new(&bytes[..]).unwrap().unwrap();
        assert!(reader.shape().is_read());
        assert_eq!(reader.shape().to_string(), "16-bit PCM, 8000 Hz, stereo");
        assert_eq!(read(&bytes), [i16::MAX, i16::MIN, -1]);
    }
}
