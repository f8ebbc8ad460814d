//! PINs as they are given, asked for or made. They are shown as dots, but for those that were just made.

use std::fmt::Write as _;

use crosspoint_gateway::conference::policy::{Door, Pin};
use crosspoint_gateway::guard::SAFE_DIGITS;

use crate::cli::Failure;
use crate::cli::device::asked;

/// In place of a PIN: one is made.
const NEW: &str = "new";

/// What the arguments say of PINs.
#[derive(Debug, clap::Args)]
pub(super) struct Pins {
    /// Who enters it is a host: 4 to 20 digits; "new" makes one and shows it once; "-" asks for it or
    /// reads a line of standard input, so that it does not stand in the list of processes; "none" takes
    /// it away.
    #[arg(long, value_name = "PIN")]
    host_pin: Option<String>,
    /// Who enters it is a guest; as --host-pin.
    #[arg(long, value_name = "PIN")]
    guest_pin: Option<String>,
    /// Digits of a PIN that is made: 6, unless said otherwise.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(4..=20))]
    pin_digits: Option<u8>,
}

impl Pins {
    /// The PINs that there are to be, after those that were there `before`.
    pub(super) fn after(&self, before: &Door) -> Result<(Option<Pin>, Option<Pin>), Failure> {
        if self.pin_digits.is_some() && ![&self.host_pin, &self.guest_pin].into_iter().any(is_new) {
            return Err(Failure::Arguments(
                "pin-digits: no PIN is made: write --host-pin new or --guest-pin new, or leave it out".into(),
            ));
        }
        let host = self.one("host-pin", self.host_pin.as_deref(), before.host_pin(), before.guest_pin())?;
        let guest = self.one("guest-pin", self.guest_pin.as_deref(), before.guest_pin(), host.as_ref())?;
        Ok((host, guest))
    }

    /// What the argument makes of the PIN that was there `before`. One that is made differs from the
    /// `other`.
    fn one(
        &self,
        field: &str,
        argument: Option<&str>,
        before: Option<&Pin>,
        other: Option<&Pin>,
    ) -> Result<Option<Pin>, Failure> {
        let parsed = |field: &str, text: &str| {
            Pin::parse(text).map(Some).map_err(|error| Failure::Arguments(format!("{field}: {error}")))
        };
        match argument {
            None => Ok(before.cloned()),
            Some("none") => Ok(None),
            Some("-") => parsed(field, &asked(field)?),
            Some(NEW) => loop {
                let text = digits(self.pin_digits.map_or(SAFE_DIGITS, usize::from), |bytes| {
                    getrandom::fill(bytes)
                        .map_err(|error| Failure::Told(format!("the system gives no randomness: {error}")))
                })?;
                if !other.is_some_and(|it| it.opens(&text)) {
                    return parsed("pin-digits", &text);
                }
            },
            Some(text) => parsed(field, text),
        }
    }

    /// Those of `door` that were made, which nobody knows yet.
    pub(super) fn made(&self, door: &Door) -> String {
        let mut text = String::new();
        for (word, argument, pin) in
            [("host", &self.host_pin, door.host_pin()), ("guest", &self.guest_pin, door.guest_pin())]
        {
            if let Some(pin) = pin.filter(|_| is_new(argument)) {
                let _ = writeln!(text, "{word} PIN {}", pin.digits());
            }
        }
        if !text.is_empty() {
            text.push_str("It is not shown again.\n");
        }
        text
    }
}

fn is_new(argument: &Option<String>) -> bool {
    argument.as_deref() == Some(NEW)
}

/// Random digits. Each is as likely as any other: a byte beyond 249 would favour the low ones.
fn digits(count: usize, mut fill: impl FnMut(&mut [u8]) -> Result<(), Failure>) -> Result<String, Failure> {
    let mut text = String::new();
    while text.len() < count {
        let mut byte = [0];
        fill(&mut byte)?;
        if byte[0] < 250 {
            text.push(char::from(b'0' + byte[0] % 10));
        }
    }
    Ok(text)
}

/// As many dots whatever the PIN, so that its length is not told.
pub(super) fn dots(door: &Door) -> &'static str {
    match (door.host_pin(), door.guest_pin()) {
        (None, _) => "open",
        (Some(_), None) => "host ....",
        (Some(_), Some(_)) => "host .... guest ....",
    }
}

/// What to think of where a PIN is short.
pub(super) fn hint(door: &Door) -> String {
    match door.shortest() {
        Some(digits) if digits < SAFE_DIGITS => format!(
            "hint: a PIN of {digits} digits is guessed soon, so few wrong ones a day are taken before newcomers \
             have to wait: better take {SAFE_DIGITS} digits or more\n"
        ),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_even_and_as_many_as_asked_for() {
        let mut bytes = [0, 255, 9, 250, 10, 249, 123].into_iter();
        let made = digits(5, |to| {
            to.copy_from_slice(&[bytes.next().unwrap()]);
            Ok(())
        });
        assert_eq!(made.unwrap(), "09093");
        let mut counts = [0; 10];
        for byte in 0..250_u8 {
            let made = digits(1, |to| {
                to.copy_from_slice(&[byte]);
                Ok(())
            });
            counts[made.unwrap().parse::<usize>().unwrap()] += 1;
        }
        assert_eq!(counts, [25; 10]);
    }
}
