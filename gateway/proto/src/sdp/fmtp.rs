//! Format parameters (`a=fmtp`) of the formats that we know: Opus (RFC 7587), H.264 (RFC 6184),
//! telephone-event (RFC 4733). What is missing or malformed takes its default.

use std::fmt::Write as _;
use std::str::FromStr;

use crosspoint_codecs::format::{H264Profile, LEVEL_1B};

/// The values of `name=value; name=value`.
#[derive(Clone, Copy)]
struct Parameters<'a>(&'a str);

impl<'a> Parameters<'a> {
    fn text(self, name: &str) -> Option<&'a str> {
        self.0
            .split(';')
            .filter_map(|parameter| parameter.split_once('='))
            .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }

    fn number<T: FromStr>(self, name: &str) -> Option<T> {
        self.text(name)?.parse().ok()
    }

    fn flag(self, name: &str) -> bool {
        self.text(name) == Some("1")
    }
}

/// Parameters of Opus. All say how their sender likes to receive, but the two `sprop_`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpusParameters {
    /// Highest sample rate in Hz that is of use.
    pub max_playback_rate: Option<u32>,
    /// Highest sample rate in Hz that will be sent.
    pub sprop_max_capture_rate: Option<u32>,
    /// Upper limit in bit/s, 6000 to 510000.
    pub max_average_bitrate: Option<u32>,
    /// Stereo is of use.
    pub stereo: bool,
    /// Stereo may be sent.
    pub sprop_stereo: bool,
    /// Forward error correction is of use.
    pub use_inband_fec: bool,
    /// Discontinuous transmission is welcome.
    pub use_dtx: bool,
    /// Constant bit rate is wanted.
    pub cbr: bool,
    /// Shortest packet in ms that is welcome.
    pub min_ptime: Option<u32>,
}

impl OpusParameters {
    /// Reads the value of `a=fmtp` behind the payload type.
    pub fn parse(text: &str) -> Self {
        let parameters = Parameters(text);
        Self {
            max_playback_rate: parameters.number("maxplaybackrate"),
            sprop_max_capture_rate: parameters.number("sprop-maxcapturerate"),
            // RFC 7587 section 6.1 names the range; values outside it are brought inside.
            max_average_bitrate: parameters
                .number("maxaveragebitrate")
                .map(|bits: u32| bits.clamp(6_000, 510_000)),
            stereo: parameters.flag("stereo"),
            sprop_stereo: parameters.flag("sprop-stereo"),
            use_inband_fec: parameters.flag("useinbandfec"),
            use_dtx: parameters.flag("usedtx"),
            cbr: parameters.flag("cbr"),
            min_ptime: parameters.number("minptime"),
        }
    }

    /// As text; empty when everything is at its default.
    pub fn text(&self) -> String {
        let mut text = Text::default();
        text.number("maxplaybackrate", self.max_playback_rate);
        text.number("sprop-maxcapturerate", self.sprop_max_capture_rate);
        text.number("maxaveragebitrate", self.max_average_bitrate);
        text.number("minptime", self.min_ptime);
        text.flag("stereo", self.stereo);
        text.flag("sprop-stereo", self.sprop_stereo);
        text.flag("useinbandfec", self.use_inband_fec);
        text.flag("usedtx", self.use_dtx);
        text.flag("cbr", self.cbr);
        text.0
    }
}

/// Parameters of H.264.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct H264Parameters {
    /// profile_idc, the constraint flags and level_idc as written.
    pub profile_level_id: [u8; 3],
    /// How NAL units travel: 0, 1 or 2.
    pub packetization_mode: u8,
    /// Each direction may have a level of its own.
    pub level_asymmetry_allowed: bool,
    /// Macroblocks a second, where more than the level's.
    pub max_mbps: Option<u32>,
    /// Macroblocks a picture, where more than the level's.
    pub max_fs: Option<u32>,
    /// Units of 1000 bit/s, where more than the level's.
    pub max_br: Option<u32>,
    /// Parameter sets in base64, comma separated, as written.
    pub sprop_parameter_sets: Option<String>,
}

impl Default for H264Parameters {
    /// What a missing `a=fmtp` means: Baseline at level 1, mode 0 (RFC 6184 section 8.1).
    fn default() -> Self {
        Self {
            profile_level_id: [66, 0, 10],
            packetization_mode: 0,
            level_asymmetry_allowed: false,
            max_mbps: None,
            max_fs: None,
            max_br: None,
            sprop_parameter_sets: None,
        }
    }
}

impl H264Parameters {
    /// Reads the value of `a=fmtp` behind the payload type.
    pub fn parse(text: &str) -> Self {
        let parameters = Parameters(text);
        let default = Self::default();
        Self {
            profile_level_id: parameters
                .text("profile-level-id")
                .and_then(parse_hex3)
                .unwrap_or(default.profile_level_id),
            packetization_mode: parameters.number("packetization-mode").unwrap_or(0),
            level_asymmetry_allowed: parameters.flag("level-asymmetry-allowed"),
            max_mbps: parameters.number("max-mbps"),
            max_fs: parameters.number("max-fs"),
            max_br: parameters.number("max-br"),
            sprop_parameter_sets: parameters.text("sprop-parameter-sets").map(str::to_owned),
        }
    }

    /// Profile and level (1b as [`LEVEL_1B`]); `None` for a profile that we do not name.
    pub const fn profile_and_level(&self) -> Option<(H264Profile, u8)> {
        H264Profile::from_id(self.profile_level_id)
    }

    /// The same with another level. The constraint flags stay as their owner wrote them, for an
    /// answer must repeat the profile of the offer (RFC 6184 section 8.2.2).
    #[must_use]
    pub fn with_level(mut self, level: u8) -> Self {
        const SET3: u8 = 0x10;
        let [profile, constraints, _] = self.profile_level_id;
        self.profile_level_id = match (profile, level) {
            (100, _) => [profile, constraints, level],
            (_, LEVEL_1B) => [profile, constraints | SET3, 11],
            (_, 11) => [profile, constraints & !SET3, 11],
            _ => [profile, constraints, level],
        };
        self
    }

    /// As text.
    pub fn text(&self) -> String {
        let [profile, constraints, level] = self.profile_level_id;
        let mut text = Text(format!("profile-level-id={profile:02x}{constraints:02x}{level:02x}"));
        text.number("packetization-mode", Some(self.packetization_mode));
        text.flag("level-asymmetry-allowed", self.level_asymmetry_allowed);
        text.number("max-mbps", self.max_mbps);
        text.number("max-fs", self.max_fs);
        text.number("max-br", self.max_br);
        text.number("sprop-parameter-sets", self.sprop_parameter_sets.as_ref());
        text.0
    }
}

fn parse_hex3(text: &str) -> Option<[u8; 3]> {
    let digits = text.len() == 6 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    let [_, bytes @ ..] = u32::from_str_radix(text, 16).ok().filter(|_| digits)?.to_be_bytes();
    Some(bytes)
}

/// The DTMF events that we send and take: digits, star, pound, A to D (RFC 4733 section 3.2).
pub const DTMF_EVENTS: &str = "0-15";

/// Whether a telephone-event format carries the digits 0 to 9, star and pound. A missing list
/// means 0 to 15 (RFC 4733 section 2.4.1).
pub fn carries_dtmf(parameters: Option<&str>) -> bool {
    let Some(text) = parameters.filter(|text| !text.trim().is_empty()) else { return true };
    // Some senders write `events=0-15`, others list every event.
    let list = text.trim().trim_start_matches("events=");
    let mut seen = 0_u16;
    for item in list.split(',') {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let (Ok(first), Ok(last)) = (first.trim().parse::<u8>(), last.trim().parse::<u8>()) else { continue };
        for event in first..=last.min(15) {
            seen |= 1_u16.checked_shl(event.into()).unwrap_or(0);
        }
    }
    seen & 0x0fff == 0x0fff
}

/// `name=value;name=value`.
#[derive(Default)]
struct Text(String);

impl Text {
    fn number(&mut self, name: &str, value: Option<impl std::fmt::Display>) {
        let Some(value) = value else { return };
        if !self.0.is_empty() {
            self.0.push(';');
        }
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{name}={value}");
    }

    fn flag(&mut self, name: &str, value: bool) {
        self.number(name, value.then_some(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opus_as_real_programs_write_it() {
        // RFC 7587 section 7.1.
        let text = "maxplaybackrate=16000; sprop-maxcapturerate=16000; maxaveragebitrate=20000; stereo=1; \
                    useinbandfec=1; usedtx=0";
        let opus = OpusParameters::parse(text);
        assert_eq!(opus.max_playback_rate, Some(16_000));
        assert_eq!(opus.sprop_max_capture_rate, Some(16_000));
        assert_eq!(opus.max_average_bitrate, Some(20_000));
        assert!(opus.stereo && opus.use_inband_fec && !opus.use_dtx && !opus.cbr);
        assert_eq!(OpusParameters::parse(&opus.text()), opus);

        assert_eq!(OpusParameters::parse("minptime=10;useinbandfec=1").min_ptime, Some(10));
        assert_eq!(OpusParameters::parse("maxaveragebitrate=1").max_average_bitrate, Some(6_000));
        assert_eq!(OpusParameters::parse("maxaveragebitrate=99999999999"), OpusParameters::default());
        assert_eq!(OpusParameters::default().text(), "");
    }

    #[test]
    fn h264_examples_of_rfc_6184() {
        // Section 8.2.3 in its spelling, wrapped values joined.
        let text = "profile-level-id=42A01E; packetization-mode=1; \
                    sprop-parameter-sets=Z0IACpZTBYmI,aMljiA==";
        let parameters = H264Parameters::parse(text);
        assert_eq!(parameters.profile_level_id, [0x42, 0xa0, 0x1e]);
        assert_eq!(parameters.profile_and_level(), Some((H264Profile::Baseline, 30)));
        assert_eq!(parameters.packetization_mode, 1);
        assert_eq!(parameters.sprop_parameter_sets.as_deref(), Some("Z0IACpZTBYmI,aMljiA=="));
        assert_eq!(H264Parameters::parse(&parameters.text()), parameters);

        let limits = H264Parameters::parse("profile-level-id=42e00c; max-mbps=11880; max-fs=396;max-br=768");
        assert_eq!(
            (limits.max_mbps, limits.max_fs, limits.max_br, limits.packetization_mode),
            (Some(11_880), Some(396), Some(768), 0)
        );
        assert_eq!(H264Parameters::parse(&limits.text()), limits);
    }

    #[test]
    fn h264_defaults_and_nonsense() {
        assert_eq!(H264Parameters::parse(""), H264Parameters::default());
        for id in ["42e01", "42e01f0", "+2e01f", "xxxxxx", "", "42 01f"] {
            let text = format!("profile-level-id={id}");
            assert_eq!(H264Parameters::parse(&text).profile_level_id, [66, 0, 10], "{id}");
        }
        assert!(H264Parameters::parse("Level-Asymmetry-Allowed = 1").level_asymmetry_allowed);
    }

    #[test]
    fn another_level_keeps_the_spelling_of_the_profile() {
        let id = |text: &str, level| {
            let [a, b, c] =
                H264Parameters::parse(&format!("profile-level-id={text}")).with_level(level).profile_level_id;
            format!("{a:02x}{b:02x}{c:02x}")
        };
        assert_eq!(id("42801f", 22), "428016");
        assert_eq!(id("42e01f", LEVEL_1B), "42f00b");
        assert_eq!(id("42f00b", 11), "42e00b");
        assert_eq!(id("64000b", LEVEL_1B), "640009");
    }

    #[test]
    fn events() {
        assert!(carries_dtmf(None));
        for text in [
            "0-15",
            "0-16",
            "0-11",
            "0-15,66,70",
            " 0-9,10,11 ",
            "events=0-15",
            "",
            "0,1,2,3,4,5,6,7,8,9,10,11",
        ] {
            assert!(carries_dtmf(Some(text)), "{text}");
        }
        for text in ["16", "0-9", "32-255", "x", "15-0", "0-300"] {
            assert!(!carries_dtmf(Some(text)), "{text}");
        }
    }
}
