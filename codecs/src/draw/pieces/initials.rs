//! Who somebody is, in two letters.

/// The first letters of the first and the last word that begins with a letter, as capitals. One
/// letter alone in scripts without capitals: two of them would read as a syllable. Empty for numbers.
pub fn initials(name: &str) -> String {
    let begins = name.split_whitespace().filter_map(|word| word.chars().next());
    let mut letters = begins.filter(|it| it.is_alphabetic());
    let Some(first) = letters.next() else { return String::new() };
    let cased = |it: &char| it.is_lowercase() || it.is_uppercase();
    let last = letters.next_back().filter(|last| cased(&first) && cased(last));
    [Some(first), last].into_iter().flatten().filter_map(|it| it.to_uppercase().next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_those_of_first_and_last_name() {
        for (name, expected) in [
            ("Ada Lovelace", "AL"),
            ("ada", "A"),
            ("Анна-Мария де Ковальчук", "АК"),
            ("Ada Lovelace (guest)", "AL"),
            ("محمد علي", "م"),
            ("李 小龙", "李"),
            ("+49 30 1234", ""),
            ("", ""),
            ("ßeta", "S"),
            ("7 of Nine", "ON"),
        ] {
            assert_eq!(initials(name), expected, "{name}");
        }
    }
}
