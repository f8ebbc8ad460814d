//! One event is one line, whatever peers have written into it. No text of theirs reaches the log by another
//! way, so that nobody who logs something has to think of it (reliability: threat 21).
//!
//! What could drive a terminal, end a line or turn the direction of writing is spelled out, and a field
//! has an end.

use std::fmt::{self, Debug, Write};

use crosspoint_gateway::ladder::drives;
use tracing::field::{Field, Visit};
use tracing::span::Record;
use tracing::{Event, Subscriber};
use tracing_subscriber::field::{MakeExt as _, RecordFields};
use tracing_subscriber::fmt::format::{self, Writer};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Longest field, in octets, before what must be spelled out is.
const FIELD: usize = 256;

/// The same of what we say ourselves, peers quoted: the message, and why a call went where it went, a
/// sentence for each rule.
const OURS: usize = 4096;

/// Behind what was cut.
const CUT: &str = "...";

/// Fields for people: `name=value`.
pub(super) fn fields() -> impl for<'w> FormatFields<'w> + 'static {
    format::debug_fn(|writer: &mut Writer<'_>, field: &Field, value: &dyn Debug| {
        let name = field.name();
        let text = Text::of(name, format_args!("{value:?}"));
        match (name, writer.has_ansi_escapes()) {
            ("message", _) => {}
            (_, false) => write!(writer, "{name}=")?,
            (_, true) => write!(writer, "\u{1b}[3m{name}\u{1b}[0m\u{1b}[2m=\u{1b}[0m")?,
        }
        spell(writer, &text.0, |out, sign| write!(out, "{}", sign.escape_unicode()))
    })
    .delimited(" ")
}

/// Lines of JSON: time, level, the fields of the event, target, and the spans that it is in, the
/// innermost also for itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'l> LookupSpan<'l>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let about = event.metadata();
        write!(writer, "{{\"timestamp\":\"")?;
        SystemTime.format_time(&mut writer)?;
        write!(writer, "\",\"level\":\"{}\"", about.level())?;
        let mut pairs = Pairs { out: &mut writer, first: false, result: Ok(()) };
        event.record(&mut pairs);
        pairs.result?;
        write!(writer, ",\"target\":\"{}\"", about.target())?;
        if let Some(scope) = context.event_scope() {
            let spans: Vec<String> = scope
                .from_root()
                .map(|span| {
                    let extensions = span.extensions();
                    let fields = extensions.get::<FormattedFields<N>>().map(|it| it.fields.as_str());
                    let fields = fields.filter(|it| !it.is_empty());
                    let comma = if fields.is_some() { "," } else { "" };
                    format!("{{{}{comma}\"name\":\"{}\"}}", fields.unwrap_or_default(), span.name())
                })
                .collect();
            let innermost = spans.last().map_or("{}", String::as_str);
            write!(writer, ",\"span\":{innermost},\"spans\":[{}]", spans.join(","))?;
        }
        writer.write_str("}\n")
    }
}

impl<'w> FormatFields<'w> for Json {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut pairs = Pairs { out: &mut writer, first: true, result: Ok(()) };
        fields.record(&mut pairs);
        pairs.result
    }

    fn add_fields(&self, current: &'w mut FormattedFields<Self>, fields: &Record<'_>) -> fmt::Result {
        let first = current.fields.is_empty();
        let mut pairs = Pairs { out: &mut current.as_writer(), first, result: Ok(()) };
        fields.record(&mut pairs);
        pairs.result
    }
}

/// Writes members of an object.
struct Pairs<'a, 'w> {
    out: &'a mut Writer<'w>,
    /// No comma comes before the next one.
    first: bool,
    result: fmt::Result,
}

impl Pairs<'_, '_> {
    fn pair(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let comma = if std::mem::take(&mut self.first) { "" } else { "," };
        self.result = self.result.and_then(|()| write!(self.out, "{comma}\"{}\":{value}", field.name()));
    }

    fn text(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let text = Text::of(field.name(), value);
        let quoted = serde_json::Value::String(text.0).to_string();
        self.pair(field, format_args!("{}", InJson(&quoted)));
    }
}

impl Visit for Pairs<'_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.text(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.text(field, format_args!("{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.pair(field, format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.pair(field, format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.pair(field, format_args!("{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no word for what is no number.
        match value.is_finite() {
            true => self.pair(field, format_args!("{value}")),
            false => self.pair(field, format_args!("null")),
        }
    }
}

/// What a field says, as far as there is room for it.
struct Text(String);

impl Text {
    fn of(name: &str, value: fmt::Arguments<'_>) -> Self {
        let most = if matches!(name, "message" | "why") { OURS } else { FIELD };
        let mut bounded = Bounded { out: String::new(), most };
        if bounded.write_fmt(value).is_err() {
            bounded.out.push_str(CUT);
        }
        Self(bounded.out)
    }
}

/// Takes so many octets, then nothing more: what is not written is not made either.
struct Bounded {
    out: String,
    most: usize,
}

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let left = self.most.saturating_sub(self.out.len());
        if text.len() <= left {
            self.out.push_str(text);
            return Ok(());
        }
        let fits = text.floor_char_boundary(left.saturating_sub(CUT.len()));
        self.out.push_str(text.get(..fits).unwrap_or_default());
        Err(fmt::Error)
    }
}

/// JSON within which what drives a terminal is spelled as JSON spells it.
struct InJson<'a>(&'a str);

impl fmt::Display for InJson<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        spell(f, self.0, |out, sign| write!(out, "\\u{:04x}", u32::from(sign)))
    }
}

/// Writes text, with `spelled` for every sign that must not be written as it is.
fn spell<W: Write>(out: &mut W, text: &str, spelled: impl Fn(&mut W, char) -> fmt::Result) -> fmt::Result {
    let mut rest = text;
    while let Some(at) = rest.find(drives) {
        let (plain, from) = rest.split_at(at);
        out.write_str(plain)?;
        let mut signs = from.chars();
        if let Some(sign) = signs.next() {
            spelled(out, sign)?;
        }
        rest = signs.as_str();
    }
    out.write_str(rest)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use serde_json::Value;
    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(data);
            Ok(data.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Kept {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    const HOSTILE: &str = "a\r\n\u{1b}[2J\u{9b}31m\u{202e}\u{2028}b\u{0}";

    fn says(subscriber: impl Subscriber + Send + Sync, kept: &Kept) -> String {
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("call", call = 7, who = HOSTILE);
            let _within = span.enter();
            let long = "\u{202e}ä".repeat(10_000);
            tracing::info!(quoted = HOSTILE, raw = %HOSTILE, long, more = %long, why = "w".repeat(300), n = -3, x = 0.5, "told {HOSTILE}");
        });
        String::from_utf8(std::mem::take(&mut *kept.0.lock().unwrap())).unwrap()
    }

    #[test]
    fn promise_45_a_line_for_people_is_one_line_of_text() {
        let kept = Kept::default();
        let layer =
            tracing_subscriber::fmt::layer().with_writer(kept.clone()).with_ansi(false).fmt_fields(fields());
        let told = says(tracing_subscriber::registry().with(layer), &kept);
        let line = told.strip_suffix('\n').unwrap();
        assert!(!line.contains(drives), "{line:?}");
        assert!(line.contains("told a\\u{d}\\u{a}\\u{1b}[2J\\u{9b}31m\\u{202e}\\u{2028}b\\u{0}"), "{line}");
        assert!(
            line.contains("raw=a\\u{d}") && line.contains("quoted=\"a\\r\\n") && line.contains(" n=-3"),
            "{line}"
        );
        assert!(line.len() < 4 * FIELD * 8 && line.contains(&"w".repeat(300)), "{}", line.len());
    }

    #[test]
    fn promise_45_a_line_of_json_is_one_object_and_its_fields_have_an_end() {
        let kept = Kept::default();
        let layer =
            tracing_subscriber::fmt::layer().with_writer(kept.clone()).event_format(Json).fmt_fields(Json);
        let told = says(tracing_subscriber::registry().with(layer), &kept);
        let line = told.strip_suffix('\n').unwrap();
        assert!(!line.contains(drives), "{line:?}");
        let object: Value = serde_json::from_str(line).unwrap();
        assert_eq!(object["message"], format!("told {HOSTILE}"), "nothing is lost, it is spelled out");
        assert_eq!((&object["quoted"], &object["raw"]), (&HOSTILE.into(), &HOSTILE.into()));
        assert_eq!((object["n"].as_i64(), object["x"].as_f64()), (Some(-3), Some(0.5)));
        assert_eq!((&object["level"], &object["span"]["call"]), (&"INFO".into(), &7.into()));
        assert_eq!((&object["span"]["name"], &object["spans"][0]), (&"call".into(), &object["span"]));
        for long in ["long", "more"].map(|it| object[it].as_str().unwrap()) {
            assert!(long.len() <= FIELD && long.ends_with(CUT), "{}", long.len());
        }
        assert_eq!(object["why"].as_str().unwrap().len(), 300);
    }
}
