//! Walks a parsed TOML document field by field and collects every fault instead of stopping at the
//! first one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::parse::Fault;
use super::types::{self, Choice, Redacted};

/// Where faults are collected.
pub(super) struct Faults<'t> {
    text: &'t str,
    list: RefCell<Vec<Fault>>,
}

impl<'t> Faults<'t> {
    pub(super) const fn new(text: &'t str) -> Self {
        Self { text, list: RefCell::new(Vec::new()) }
    }

    /// Notes a fault at a place in the text.
    pub(super) fn add(&self, span: &Range<usize>, field: impl Into<String>, message: impl Into<String>) {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        self.list.borrow_mut().push(Fault { line, field: field.into(), message: message.into() });
    }

    /// All of them, from the top of the file down.
    pub(super) fn into_list(self) -> Vec<Fault> {
        let mut list = self.list.into_inner();
        list.sort_by_key(|fault| fault.line);
        list
    }
}

/// A table of the document, from which fields are taken one by one. What was not taken when it is
/// dropped is unknown, which is a fault.
pub(super) struct Section<'f, 't> {
    faults: &'f Faults<'t>,
    /// "sip", "rules[2]"; empty for the document itself.
    path: String,
    span: Range<usize>,
    table: DeTable<'t>,
    taken: HashMap<&'static str, Range<usize>>,
    /// Every field that was asked for, there or not.
    known: Vec<&'static str>,
}

impl<'f, 't> Section<'f, 't> {
    pub(super) fn new(faults: &'f Faults<'t>, path: String, span: Range<usize>, table: DeTable<'t>) -> Self {
        Self { faults, path, span, table, taken: HashMap::new(), known: Vec::new() }
    }

    /// A table below this one; an empty one when it is absent.
    pub(super) fn section(&mut self, key: &'static str) -> Self {
        self.maybe_section(key)
            .unwrap_or_else(|| Self::new(self.faults, self.name(key), self.span.clone(), DeTable::new()))
    }

    /// A table below this one, if it is there.
    pub(super) fn maybe_section(&mut self, key: &'static str) -> Option<Self> {
        let (span, value) = self.take(key)?;
        match value {
            DeValue::Table(table) => Some(Self::new(self.faults, self.name(key), span, table)),
            _ => {
                self.faults.add(
                    &span,
                    self.name(key),
                    format!("must be a table: write [{}]", self.name(key)),
                );
                None
            }
        }
    }

    /// The tables of `[[key]]`.
    pub(super) fn sections(&mut self, key: &'static str) -> Vec<Self> {
        let Some((span, value)) = self.take(key) else { return Vec::new() };
        let wrong = |span: &Range<usize>| {
            self.faults.add(span, self.name(key), format!("must be a list of tables: write [[{key}]]"));
        };
        let DeValue::Array(items) = value else {
            wrong(&span);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let span = item.span();
            match item.into_inner() {
                DeValue::Table(table) => {
                    let path = format!("{}[{}]", self.name(key), index + 1);
                    sections.push(Self::new(self.faults, path, span, table));
                }
                _ => wrong(&span),
            }
        }
        sections
    }

    /// A string that says what it is: an address, a range, an expression.
    pub(super) fn text<T: FromStr>(&mut self, key: &'static str) -> Option<T>
    where
        T::Err: Remedy,
    {
        self.string(key).and_then(|(span, text)| self.read(key, &span, &text))
    }

    /// A list of such strings.
    pub(super) fn texts<T: FromStr>(&mut self, key: &'static str) -> Option<Vec<T>>
    where
        T::Err: Remedy,
    {
        let (span, value) = self.take(key)?;
        let DeValue::Array(items) = value else {
            self.faults.add(&span, self.name(key), "must be a list: put [ ] around it");
            return None;
        };
        let given = !items.is_empty();
        let mut list = Vec::new();
        for item in items {
            let span = item.span();
            match item.into_inner() {
                DeValue::String(text) => list.extend(self.read(key, &span, &text)),
                other => self.wrong_type(key, &span, "a list of strings", &other),
            }
        }
        // One of which nothing is left has been told of, and is no empty one.
        (!given || !list.is_empty()).then_some(list)
    }

    /// One of a few words.
    pub(super) fn choice<T: Choice>(&mut self, key: &'static str) -> Option<T> {
        let (span, text) = self.string(key)?;
        self.word(key, &span, &text)
    }

    /// A list of such words.
    pub(super) fn choices<T: Choice>(&mut self, key: &'static str) -> Option<Vec<T>> {
        let words = self.texts::<String>(key)?;
        let span = self.span_of(key);
        Some(words.iter().filter_map(|word| self.word(key, &span, word)).collect())
    }

    /// "30s".
    pub(super) fn duration(&mut self, key: &'static str) -> Option<Duration> {
        let (span, value) = self.take(key)?;
        let read = match &value {
            DeValue::String(text) => types::duration(text),
            DeValue::Integer(number) => Err(format!("has no unit: write \"{number}s\" for seconds")),
            _ => Err("must be a duration: write \"30s\"".into()),
        };
        read.map_err(|message| self.faults.add(&span, self.name(key), message)).ok()
    }

    /// A whole number within bounds.
    pub(super) fn number(&mut self, key: &'static str, least: u64, most: u64) -> Option<u64> {
        let (span, value) = self.take(key)?;
        let DeValue::Integer(number) = &value else {
            self.wrong_type(key, &span, "a whole number", &value);
            return None;
        };
        let parsed = i128::from_str_radix(number.as_str(), number.radix()).ok();
        let fits =
            parsed.and_then(|number| u64::try_from(number).ok()).filter(|it| (least..=most).contains(it));
        if fits.is_none() {
            self.faults.add(&span, self.name(key), format!("{number} is out of range: {least} to {most}"));
        }
        fits
    }

    /// true or false.
    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        let (span, value) = self.take(key)?;
        let DeValue::Boolean(flag) = value else {
            self.wrong_type(key, &span, "true or false, without quotes", &value);
            return None;
        };
        Some(flag)
    }

    /// A path; relative ones are taken from the working directory.
    pub(super) fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let (span, text) = self.string(key)?;
        if text.is_empty() {
            self.faults.add(&span, self.name(key), "is empty: name a file or leave the line out");
            return None;
        }
        Some(PathBuf::from(text))
    }

    /// A string without control characters and not empty.
    pub(super) fn label(&mut self, key: &'static str) -> Option<String> {
        let (span, text) = self.string(key)?;
        if text.trim().is_empty() || text.chars().any(char::is_control) || text.len() > 255 {
            let message = "must have 1 to 255 bytes and no control characters";
            self.faults.add(&span, self.name(key), message);
            return None;
        }
        Some(text)
    }

    /// A password.
    pub(super) fn secret(&mut self, key: &'static str) -> Option<Redacted> {
        let (span, text) = self.string(key)?;
        if text.is_empty() || text == Redacted::SHOWN {
            self.faults.add(
                &span,
                self.name(key),
                "must be the real password, not empty and not a placeholder",
            );
            return None;
        }
        Some(Redacted::new(text))
    }

    /// Whether a field is there and a string. It is not taken.
    pub(super) fn is_string(&self, key: &'static str) -> bool {
        matches!(self.table.get(key).map(|value| value.get_ref()), Some(DeValue::String(_)))
    }

    /// What is required here and was not there. A field that was there but wrong is told already.
    pub(super) fn require<T>(&self, key: &'static str, value: Option<T>, example: &str) -> Option<T> {
        if value.is_none() && !self.taken.contains_key(key) {
            self.faults.add(&self.span, self.name(key), format!("is missing: write {key} = {example}"));
        }
        value
    }

    /// A fault of a field that was taken, or of the section when it was not.
    pub(super) fn fault(&self, key: &'static str, message: impl Into<String>) {
        self.faults.add(&self.span_of(key), self.name(key), message);
    }

    /// Whether the field is in the file.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.taken.contains_key(key)
    }

    fn read<T: FromStr>(&self, key: &'static str, span: &Range<usize>, text: &str) -> Option<T>
    where
        T::Err: Remedy,
    {
        text.parse().map_err(|error: T::Err| self.faults.add(span, self.name(key), error.remedy(text))).ok()
    }

    fn word<T: Choice>(&self, key: &'static str, span: &Range<usize>, text: &str) -> Option<T> {
        let found = T::WORDS.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let words: Vec<_> = T::WORDS.iter().map(|(word, _)| *word).collect();
            let message = format!("\"{text}\" is not known: use one of {}", words.join(", "));
            self.faults.add(span, self.name(key), message);
        }
        found.map(|(_, value)| *value)
    }

    fn string(&mut self, key: &'static str) -> Option<(Range<usize>, String)> {
        let (span, value) = self.take(key)?;
        match value {
            DeValue::String(text) => Some((span, text.into_owned())),
            other => {
                self.wrong_type(key, &span, "a string: put it in quotes", &other);
                None
            }
        }
    }

    fn take(&mut self, key: &'static str) -> Option<(Range<usize>, DeValue<'t>)> {
        self.known.push(key);
        let value = self.table.remove(key)?;
        let span = value.span();
        self.taken.insert(key, span.clone());
        Some((span, value.into_inner()))
    }

    fn span_of(&self, key: &'static str) -> Range<usize> {
        self.taken.get(key).unwrap_or(&self.span).clone()
    }

    fn wrong_type(&self, key: &'static str, span: &Range<usize>, wanted: &str, found: &DeValue<'_>) {
        let found = match found {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) | DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.faults.add(span, self.name(key), format!("is {found} but must be {wanted}"));
    }

    fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.into() } else { format!("{}.{key}", self.path) }
    }
}

impl Drop for Section<'_, '_> {
    fn drop(&mut self) {
        for (key, _) in &self.table {
            let near = self.known.iter().map(|known| (distance(key.get_ref(), known), *known)).min();
            let message = match near {
                Some((distance, known)) if distance <= 3 && distance < known.len() => {
                    format!("is not known: did you mean {known}?")
                }
                _ => format!("is not known: use one of {}", self.known.join(", ")),
            };
            self.faults.add(&key.span(), self.name(key.get_ref()), message);
        }
    }
}

/// How a parse error tells what to do.
pub(super) trait Remedy {
    /// A sentence that ends with the remedy.
    fn remedy(self, text: &str) -> String;
}

impl Remedy for String {
    fn remedy(self, _: &str) -> String {
        self
    }
}

impl Remedy for std::convert::Infallible {
    fn remedy(self, _: &str) -> String {
        match self {}
    }
}

impl Remedy for std::net::AddrParseError {
    fn remedy(self, text: &str) -> String {
        if self.to_string().contains("socket") {
            format!("\"{text}\" is not an address with port: write \"127.0.0.1:9060\" or \"[::1]:9060\"")
        } else {
            format!("\"{text}\" is not an IP address: write \"192.0.2.1\" or \"2001:db8::1\"")
        }
    }
}

/// Levenshtein distance of two short words.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substitute = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, edits) in [
            ("", "", 0),
            ("listen", "listen", 0),
            ("lsiten", "listen", 2),
            ("", "abc", 3),
            ("port", "ports", 1),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }
}
