//! What others call themselves, made fit to be drawn in one line.

/// Characters of a line: what no tile has room for is not shaped.
pub const MAX_CHARS: usize = 96;

/// Marks on one letter. Vietnamese and pointed Arabic take two; piles of them are mischief.
const MAX_MARKS: usize = 2;

/// `text` with single spaces, without what must not or cannot be drawn; `drawn` says what a font has.
pub(super) fn tidy(text: &str, mut drawn: impl FnMut(char) -> bool) -> String {
    let mut line = String::new();
    let (mut count, mut marks, mut space) = (0, 0, false);
    // What is left out counts too: a name of a million nothings ends as well.
    for letter in text.chars().take(MAX_CHARS * 8) {
        if letter.is_whitespace() {
            space = !line.is_empty();
            continue;
        }
        if is_mark(letter) {
            marks += 1;
            if marks > MAX_MARKS || line.is_empty() || space {
                continue;
            }
        } else if !joins(letter, &line) && is_hidden(letter) {
            continue;
        } else {
            marks = 0;
        }
        if !drawn(letter) {
            continue;
        }
        if count + usize::from(space) >= MAX_CHARS {
            line.push('…');
            break;
        }
        if std::mem::take(&mut space) {
            line.push(' ');
            count += 1;
        }
        line.push(letter);
        count += 1;
    }
    line
}

/// Characters without a shape of their own: controls, those that turn the direction (they can make
/// one name look like another), joiners, variation selectors, tags, private use.
fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{e000}'..='\u{f8ff}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{ffff}'
                | '\u{e0000}'..='\u{10ffff}'
        )
}

/// Persian writes a mark between letters that must not join; after an Arabic letter it has a meaning.
fn joins(letter: char, before: &str) -> bool {
    letter == '\u{200c}' && before.chars().next_back().is_some_and(|it| matches!(it, '\u{620}'..='\u{6ff}'))
}

/// Marks that stand on, under or around the letter before.
const fn is_mark(letter: char) -> bool {
    matches!(
        letter,
        '\u{300}'..='\u{36f}'
            | '\u{483}'..='\u{489}'
            | '\u{591}'..='\u{5c7}'
            | '\u{610}'..='\u{61a}'
            | '\u{64b}'..='\u{65f}'
            | '\u{670}'
            | '\u{6d6}'..='\u{6dc}'
            | '\u{6df}'..='\u{6e4}'
            | '\u{6e7}'..='\u{6e8}'
            | '\u{6ea}'..='\u{6ed}'
            | '\u{1ab0}'..='\u{1aff}'
            | '\u{1dc0}'..='\u{1dff}'
            | '\u{20d0}'..='\u{20ff}'
            | '\u{fe20}'..='\u{fe2f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> String {
        tidy(text, |_| true)
    }

    #[test]
    fn space_is_single_and_controls_are_gone() {
        assert_eq!(all("  Ada\t\r\n Lovelace \u{0} "), "Ada Lovelace");
        assert_eq!(all("a\u{202e}b\u{2066}c\u{feff}d\u{e0041}"), "abcd");
        assert_eq!(all("\u{7}\u{200b}\u{1b}"), "");
    }

    #[test]
    fn marks_do_not_pile_up_or_stand_alone() {
        assert_eq!(all("Z\u{30d}\u{311}\u{352}\u{357}a"), "Z\u{30d}\u{311}a");
        assert_eq!(all("\u{301}a \u{301}b"), "a b");
    }

    #[test]
    fn a_persian_name_keeps_what_parts_its_letters() {
        assert_eq!(all("علی\u{200c}رضا"), "علی\u{200c}رضا");
        assert_eq!(all("x\u{200c}y"), "xy");
    }

    #[test]
    fn what_no_font_has_leaves_no_trace() {
        let ascii = |text: &str| tidy(text, |it| it.is_ascii());
        assert_eq!(ascii("Tom 🚀 Smith"), "Tom Smith");
        assert_eq!(ascii("李小龙"), "");
    }

    #[test]
    fn length_is_bounded_whatever_comes() {
        let long = all(&"x".repeat(100_000));
        assert_eq!(long.chars().count(), MAX_CHARS + 1);
        assert!(long.ends_with('…'));
        assert_eq!(all(&"\u{200b}".repeat(1_000_000)), "");
    }
}
