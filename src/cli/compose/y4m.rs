//! YUV4MPEG2: a line that says size and rate, then pictures, each after a line of its own
//! (mjpegtools, yuv4mpeg(5)). Of its kinds 8-bit 4:2:0 without interlacing.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Write};
use std::path::Path;

use crosspoint_codecs::frame::{MAX_SIDE, Pool, VideoFrame};

/// The longest line that is read: programs write less than a hundred octets.
const MAX_LINE: u64 = 1_024;

/// Smallest side of a picture: less cannot be scaled to anything sensible.
const MIN_SIDE: usize = 2;

/// Pictures of a file that are alive at a time: the reader's, the composer's, one that is being read
/// and one to spare.
const PICTURES: usize = 4;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Y4mError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is no YUV4MPEG2 file; make one with \"ffmpeg -i FILE -pix_fmt yuv420p FILE.y4m\"")]
    Foreign,
    #[error("it is YUV4MPEG2, but {0}")]
    Unsupported(&'static str),
    #[error("it ends within picture {0}")]
    CutOff(u64),
    #[error("picture {0} does not begin where it should")]
    Lost(u64),
}

/// Pictures in a second, as a fraction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    pictures: u32,
    seconds: u32,
}

impl Rate {
    /// What a file without a rate is taken for.
    pub(super) const DEFAULT: Self = Self { pictures: 25, seconds: 1 };

    fn parse(text: &str) -> Option<Self> {
        let (pictures, seconds) = text.split_once(':')?;
        let rate = Self { pictures: pictures.parse().ok()?, seconds: seconds.parse().ok()? };
        (rate.pictures > 0 && rate.seconds > 0).then_some(rate)
    }

    /// The picture of this rate that is seen when picture `number` of another rate is.
    pub(super) fn picture_at(self, number: u64, of: Self) -> u64 {
        let part = u128::from(number) * u128::from(of.seconds) * u128::from(self.pictures);
        let whole = u128::from(of.pictures) * u128::from(self.seconds);
        u64::try_from(part / whole).unwrap_or(u64::MAX)
    }

    /// Pictures in so many seconds.
    pub(super) fn pictures_in(self, seconds: u64) -> u64 {
        (seconds * u64::from(self.pictures)).div_ceil(u64::from(self.seconds))
    }

    /// How long so many pictures last, in tenths of a second.
    pub(super) fn tenths(self, pictures: u64) -> u64 {
        pictures.saturating_mul(10 * u64::from(self.seconds)) / u64::from(self.pictures)
    }
}

impl Ord for Rate {
    fn cmp(&self, other: &Self) -> Ordering {
        let cross = |a: &Self, b: &Self| u64::from(a.pictures) * u64::from(b.seconds);
        cross(self, other).cmp(&cross(other, self))
    }
}

impl PartialOrd for Rate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Rate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Rate {}

/// Reads a file, a picture at a time.
pub(super) struct Reader {
    file: BufReader<File>,
    size: (usize, usize),
    rate: Rate,
    pool: Pool,
    read: u64,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, Y4mError> {
        let mut file = BufReader::new(File::open(path)?);
        let head = line(&mut file)?.ok_or(Y4mError::Foreign)?;
        let (size, rate) = head_of(&head)?;
        let pool = Pool::on_huge_pages(PICTURES, VideoFrame::bytes(size.0, size.1));
        Ok(Self { file, size, rate, pool, read: 0 })
    }

    pub(super) const fn size(&self) -> (usize, usize) {
        self.size
    }

    pub(super) const fn rate(&self) -> Rate {
        self.rate
    }

    /// The next picture; `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<VideoFrame>, Y4mError> {
        let number = self.read + 1;
        let Some(head) = line(&mut self.file)? else { return Ok(None) };
        if !head.starts_with("FRAME") {
            return Err(Y4mError::Lost(number));
        }
        let mut read = Ok(());
        let file = &mut self.file;
        let picture = VideoFrame::new(&self.pool, self.size.0, self.size.1, |planes| {
            let mut planes = [planes.y, planes.u, planes.v].into_iter();
            read = planes.try_for_each(|plane| file.read_exact(plane));
        });
        match read {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Y4mError::CutOff(number)),
            Err(error) => Err(error.into()),
            Ok(()) => {
                self.read = number;
                Ok(Some(picture.ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?))
            }
        }
    }
}

/// A line without its end; `None` at the end of the file.
fn line(file: &mut impl BufRead) -> Result<Option<String>, Y4mError> {
    let mut bytes = Vec::new();
    file.take(MAX_LINE).read_until(b'\n', &mut bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.pop() != Some(b'\n') {
        return Err(Y4mError::Foreign);
    }
    String::from_utf8(bytes).map(Some).map_err(|_| Y4mError::Foreign)
}

fn head_of(head: &str) -> Result<((usize, usize), Rate), Y4mError> {
    let mut words = head.split(' ');
    if words.next() != Some("YUV4MPEG2") {
        return Err(Y4mError::Foreign);
    }
    let (mut width, mut height, mut rate) = (0, 0, Rate::DEFAULT);
    for word in words.filter_map(|word| word.split_at_checked(1)) {
        match word {
            ("W", side) => width = side.parse().map_err(|_| Y4mError::Foreign)?,
            ("H", side) => height = side.parse().map_err(|_| Y4mError::Foreign)?,
            // 0:0 is "unknown".
            ("F", "0:0") => {}
            ("F", text) => {
                rate = Rate::parse(text).ok_or(Y4mError::Unsupported("its rate makes no sense"))?;
            }
            ("I", "p" | "?") => {}
            ("I", _) => return Err(Y4mError::Unsupported("it is interlaced")),
            // Where chroma is sampled differs by a part of a pixel between these.
            ("C", "420" | "420jpeg" | "420mpeg2" | "420paldv") => {}
            ("C", _) => return Err(Y4mError::Unsupported("it is not 8-bit 4:2:0; convert it to yuv420p")),
            _ => {}
        }
    }
    if [width, height].iter().any(|side| !(MIN_SIDE..=MAX_SIDE).contains(side)) {
        return Err(Y4mError::Unsupported("its pictures are smaller or larger than 2 to 4096 pixels a side"));
    }
    Ok(((width, height), rate))
}

/// Writes a file.
pub(super) struct Writer<W: Write> {
    file: W,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(mut file: W, width: usize, height: usize, rate: Rate) -> io::Result<Self> {
        let Rate { pictures, seconds } = rate;
        writeln!(file, "YUV4MPEG2 W{width} H{height} F{pictures}:{seconds} Ip A1:1 C420jpeg")?;
        Ok(Self { file })
    }

    pub(super) fn write(&mut self, picture: &VideoFrame) -> io::Result<()> {
        self.file.write_all(b"FRAME\n")?;
        [picture.y(), picture.u(), picture.v()].iter().try_for_each(|plane| self.file.write_all(plane))
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_understood_or_refused_with_a_reason() {
        let (size, rate) = head_of("YUV4MPEG2 W640 H360 F30000:1001 Ip A1:1 C420jpeg XYSCSS=420").unwrap();
        assert_eq!((size, rate), ((640, 360), Rate { pictures: 30_000, seconds: 1_001 }));
        assert_eq!(head_of("YUV4MPEG2 W5 H3 F0:0").unwrap().1, Rate::DEFAULT);
        for (head, reason) in [
            ("RIFF", "no YUV4MPEG2"),
            ("YUV4MPEG2 Wx H4", "no YUV4MPEG2"),
            ("YUV4MPEG2 W64", "smaller or larger"),
            ("YUV4MPEG2 W64 H99999", "smaller or larger"),
            ("YUV4MPEG2 W64 H64 F25:0", "rate"),
            ("YUV4MPEG2 W64 H64 It", "interlaced"),
            ("YUV4MPEG2 W64 H64 C444", "4:2:0"),
            ("YUV4MPEG2 W64 H64 C420p10", "4:2:0"),
        ] {
            let told = head_of(head).unwrap_err().to_string();
            assert!(told.contains(reason), "{head}: {told}");
        }
    }

    #[test]
    fn pictures_of_another_rate_are_shown_when_they_are_due() {
        let [film, tv] = [Rate { pictures: 24, seconds: 1 }, Rate { pictures: 60, seconds: 1 }];
        let shown: Vec<u64> = (0..6).map(|number| film.picture_at(number, tv)).collect();
        assert_eq!(shown, [0, 0, 0, 1, 1, 2]);
        assert_eq!(tv.picture_at(24, film), 60);
        assert!(tv > film && tv.pictures_in(2) == 120 && film.tenths(36) == 15);
    }
}
