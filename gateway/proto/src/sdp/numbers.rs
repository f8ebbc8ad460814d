//! Payload type numbers of one m-line, as we write them. A number never changes its meaning for
//! the life of the session (RFC 3264 section 8.3.2), so that packets under way stay readable.

use super::format::FormatKey;

/// Dynamic numbers, the usual ones first. 64 to 95 would be mistaken for RTCP where it shares
/// the port (RFC 5761 section 4).
const DYNAMIC: [std::ops::RangeInclusive<u8>; 2] = [96..=127, 35..=63];

/// The number that most programs give to telephone-event.
const USUAL_EVENTS: u8 = 101;

/// What our numbers mean; the latest binding of a format stands last.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers(Vec<(u8, FormatKey)>);

impl Numbers {
    /// What a number means.
    pub(super) fn meaning(&self, number: u8) -> Option<FormatKey> {
        self.0.iter().find(|(bound, _)| *bound == number).map(|(_, key)| *key)
    }

    /// The number to offer a format under: the one that it had, its static one, else a free one
    /// that is not `taken` elsewhere. `None` when all are used up.
    pub(super) fn for_offer(&mut self, key: FormatKey, taken: impl Fn(u8) -> bool) -> Option<u8> {
        if let Some((number, _)) = self.0.iter().rfind(|(_, bound)| *bound == key) {
            return Some(*number);
        }
        let usual = match key {
            FormatKey::Events(8000) => Some(USUAL_EVENTS),
            _ => key.static_number(),
        };
        let usual = usual.filter(|number| {
            self.meaning(*number).is_none() && (key.static_number().is_some() || !taken(*number))
        });
        let number = usual.or_else(|| self.free(&taken)).or_else(|| self.free(&|_| false))?;
        self.bind(number, key);
        Some(number)
    }

    /// The number to answer a format under: the offerer's, unless we gave that another meaning.
    pub(super) fn for_answer(
        &mut self,
        key: FormatKey,
        offered: u8,
        taken: impl Fn(u8) -> bool,
    ) -> Option<u8> {
        match self.meaning(offered) {
            None => {
                self.bind(offered, key);
                Some(offered)
            }
            Some(bound) if bound == key => {
                self.bind(offered, key);
                Some(offered)
            }
            Some(_) => self.for_offer(key, taken),
        }
    }

    fn free(&self, taken: &impl Fn(u8) -> bool) -> Option<u8> {
        DYNAMIC
            .into_iter()
            .flatten()
            .find(|number| *number != USUAL_EVENTS && self.meaning(*number).is_none() && !taken(*number))
    }

    fn bind(&mut self, number: u8, key: FormatKey) {
        self.0.retain(|(bound, _)| *bound != number);
        self.0.push((number, key));
    }
}

#[cfg(test)]
mod tests {
    use crosspoint_codecs::format::Codec;

    use super::*;

    const OPUS: FormatKey = FormatKey::Audio(Codec::Opus);
    const PCMU: FormatKey = FormatKey::Audio(Codec::Pcmu);

    #[test]
    fn a_format_keeps_its_number_and_a_number_its_meaning() {
        let mut numbers = Numbers::default();
        assert_eq!(numbers.for_offer(PCMU, |_| false), Some(0));
        assert_eq!(numbers.for_offer(OPUS, |number| number == 96), Some(97));
        assert_eq!(numbers.for_offer(FormatKey::Events(8000), |_| false), Some(101));
        assert_eq!(numbers.for_offer(FormatKey::Events(48_000), |_| false), Some(96));
        assert_eq!(numbers.for_offer(OPUS, |_| false), Some(97));
        // The peer calls Opus 111: so do we from now on, and 97 is still Opus.
        assert_eq!(numbers.for_answer(OPUS, 111, |_| false), Some(111));
        assert_eq!(numbers.for_offer(OPUS, |_| false), Some(111));
        assert_eq!(numbers.meaning(97), Some(OPUS));
        // The peer calls PCMU 97, which means Opus here: asymmetric numbers.
        assert_eq!(numbers.for_answer(PCMU, 97, |_| false), Some(0));
    }

    #[test]
    fn numbers_run_out_without_harm() {
        let mut numbers = Numbers::default();
        let given: Vec<u8> =
            (0..70).filter_map(|clock| numbers.for_offer(FormatKey::Events(clock), |_| true)).collect();
        // 32 and 29 dynamic ones, less the one kept for events of 8000 Hz.
        assert_eq!(given.len(), 60);
        assert!(given.iter().all(|number| !(64..96).contains(number)));
        assert_eq!(numbers.for_offer(OPUS, |_| false), None);
    }
}
