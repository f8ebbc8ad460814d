//! The colours of everything that is drawn: calm, dark, one accent.

use crate::kernels::fill::Colour;

/// Behind and between tiles.
pub const CANVAS: Rgb = Rgb(0x10, 0x13, 0x18);
/// A tile without a picture, and beside one that does not fill it.
pub const GROUND: Rgb = Rgb(0x1e, 0x23, 0x2b);
/// Behind a name or a banner.
pub const PLATE: Rgb = Rgb(0x0a, 0x0d, 0x12);
/// Share of [`PLATE`] over the picture under it: a white wall behind still leaves the text a contrast
/// of 4.5 (see the test).
pub const PLATE_OPACITY: f32 = 0.66;
/// Text.
pub const TEXT: Rgb = Rgb(0xf4, 0xf6, 0xf9);
/// Text that matters less.
pub const QUIET: Rgb = Rgb(0xa7, 0xb1, 0xbf);
/// Around the one who speaks.
pub const ACCENT: Rgb = Rgb(0x35, 0xc4, 0x9a);

/// Behind the initials of those without a camera.
const PEOPLE: [Rgb; 10] = [
    Rgb(0x3b, 0x5b, 0x84),
    Rgb(0x5f, 0x4f, 0x86),
    Rgb(0x82, 0x4a, 0x66),
    Rgb(0x8a, 0x4b, 0x3f),
    Rgb(0x7c, 0x5a, 0x2c),
    Rgb(0x5a, 0x67, 0x33),
    Rgb(0x37, 0x6b, 0x4c),
    Rgb(0x2a, 0x69, 0x6e),
    Rgb(0x2f, 0x64, 0x82),
    Rgb(0x4c, 0x57, 0x69),
];

/// Red, green and blue, as in sRGB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rgb(pub u8, pub u8, pub u8);

impl Rgb {
    /// As luma and colour differences (ITU-R BT.601, limited range: what receivers take a picture
    /// for that does not say otherwise).
    pub const fn yuv(self) -> Colour {
        let (y, u, v) = yuv([self.0 as i32, self.1 as i32, self.2 as i32]);
        Colour { y, u, v }
    }

    /// The colour of a person: always the same for the same name, one of ten.
    pub fn of_person(name: &str) -> Self {
        // FNV-1a needs no state; its low bits are mixed once more, as short names differ little.
        let hash = name
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        PEOPLE[(hash ^ (hash >> 15)).wrapping_mul(0x2c1b_3c6d) as usize / 7 % PEOPLE.len()]
    }

    /// Contrast to another colour, 1 to 21 (WCAG 2.2, "contrast ratio"); text wants 4.5.
    pub fn contrast(self, other: Self) -> f32 {
        let (a, b) = (self.luminance(), other.luminance());
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    /// `share` of this colour over another.
    #[must_use]
    pub fn over(self, below: Self, share: f32) -> Self {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between two octets")]
        let mix = |a: u8, b: u8| (f32::from(a) * share + f32::from(b) * (1.0 - share)).round() as u8;
        Self(mix(self.0, below.0), mix(self.1, below.1), mix(self.2, below.2))
    }

    fn luminance(self) -> f32 {
        let linear = |value: u8| {
            let value = f32::from(value) / 255.0;
            if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(self.0) + 0.7152 * linear(self.1) + 0.0722 * linear(self.2)
    }
}

/// BT.601 in limited range, with 16 bits after the point.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "16 to 240 by definition")]
const fn yuv([r, g, b]: [i32; 3]) -> (u8, u8, u8) {
    const HALF: i32 = 1 << 15;
    let y = 16 + ((16_829 * r + 33_039 * g + 6_416 * b + HALF) >> 16);
    let u = 128 + ((-9_714 * r - 19_070 * g + 28_784 * b + HALF) >> 16);
    let v = 128 + ((28_784 * r - 24_103 * g - 4_681 * b + HALF) >> 16);
    (y as u8, u as u8, v as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_become_those_of_the_recommendation() {
        assert_eq!(Rgb(0, 0, 0).yuv(), Colour::BLACK);
        assert_eq!(Rgb(255, 255, 255).yuv(), Colour::WHITE);
        assert_eq!(Rgb(255, 0, 0).yuv(), Colour { y: 81, u: 90, v: 240 });
        assert_eq!(Rgb(0, 0, 255).yuv(), Colour { y: 41, u: 240, v: 110 });
    }

    #[test]
    fn text_can_be_read_wherever_it_stands() {
        for person in PEOPLE {
            assert!(TEXT.contrast(person) >= 4.5, "{person:?}: {}", TEXT.contrast(person));
        }
        let on_white = PLATE.over(Rgb(255, 255, 255), PLATE_OPACITY);
        assert!(TEXT.contrast(on_white) >= 4.5, "{}", TEXT.contrast(on_white));
        assert!(TEXT.contrast(GROUND) >= 7.0);
        assert!(QUIET.contrast(CANVAS) >= 4.5);
        assert!(ACCENT.contrast(CANVAS) >= 3.0);
    }

    #[test]
    fn a_person_keeps_his_colour_and_people_differ() {
        assert_eq!(Rgb::of_person("Ada"), Rgb::of_person("Ada"));
        let names = ["Ada", "Bo", "Cem", "Dana", "Eve", "Finn", "Gül", "Hal", "Ida", "Jo", "Kim", "Lev"];
        let mut colours: Vec<_> = names.map(Rgb::of_person).to_vec();
        colours.sort_by_key(|it| (it.0, it.1, it.2));
        colours.dedup();
        assert!(colours.len() >= 6, "{}", colours.len());
    }
}
