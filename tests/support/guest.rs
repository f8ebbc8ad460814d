//! Guests of a hall that anybody may enter, who write SIP by hand.

use crosspoint_proto::sip::Response;

use super::gateway::Gateway;
use super::stranger::Stranger;

/// A number from the environment, for the release gate.
pub fn load(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// A gateway with a hall that anybody may enter, and its configuration changed.
pub fn hall(change: impl FnOnce(String) -> String) -> Gateway {
    hall_with(&["alice"], change)
}

/// The same, with these devices.
pub fn hall_with(devices: &[&str], change: impl FnOnce(String) -> String) -> Gateway {
    let mut gateway = Gateway::with_conferences(devices, "", &[&["Hall", "--alias", "hall"]]);
    gateway.set_config(&change(gateway.config()));
    gateway.kill_and_restart();
    gateway
}

/// A guest in the hall.
pub struct Guest {
    pub sip: Stranger,
    pub invite: String,
    pub ok: Response,
}

/// Calls the hall; the status if it is not let in.
pub fn enter(gateway: &Gateway, at: [u8; 4], rtp: u16) -> Result<Guest, u16> {
    enter_with(gateway, at, &format!("m=audio {rtp} RTP/AVP 0\r\n"))
}

/// The same with such a line of sound.
pub fn enter_with(gateway: &Gateway, at: [u8; 4], line: &str) -> Result<Guest, u16> {
    let mut sip = Stranger::at(at, gateway);
    let invite = sip.request("INVITE", "guest", "hall", "");
    let (head, body) = invite.split_once("\r\n\r\n").unwrap();
    let (was, body) = (body.len(), body.replace("m=audio 29000 RTP/AVP 0\r\n", line));
    let head = head.replace(&format!("Content-Length: {was}"), &format!("Content-Length: {}", body.len()));
    let invite = format!("{head}\r\n\r\n{body}");
    sip.send(&invite);
    let ok = sip.hear().expect("an answer");
    let guest = Guest { sip, invite, ok };
    guest.say("ACK", 1);
    if guest.ok.is_success() { Ok(guest) } else { Err(guest.ok.status) }
}

impl Guest {
    /// A request within the call, whatever is answered.
    pub fn say(&self, method: &str, cseq: u32) {
        let to = self.ok.headers.get(&crosspoint_proto::sip::Name::To).unwrap();
        let branch = if method == "ACK" && self.ok.is_success() { "z9hG4bKack" } else { "z9hG4bK" };
        let lines = self.invite.split("\r\n\r\n").next().unwrap().lines().filter_map(|line| {
            if line.starts_with("INVITE ") {
                return Some(line.replacen("INVITE", method, 1));
            }
            let (name, _) = line.split_once(':')?;
            match name {
                "Via" if method == "ACK" => Some(line.replacen("z9hG4bK", branch, 1)),
                "Via" => Some(line.replacen("z9hG4bK", &format!("z9hG4bK{method}"), 1)),
                "To" => Some(format!("To: {to}")),
                "CSeq" => Some(format!("CSeq: {cseq} {method}")),
                "Content-Type" | "Content-Length" => None,
                _ => Some(line.to_owned()),
            }
        });
        let text: Vec<_> = lines.collect();
        self.sip.send(format!("{}\r\nContent-Length: 0\r\n\r\n", text.join("\r\n")));
    }

    pub fn ask(&self, method: &str, cseq: u32) -> u16 {
        self.say(method, cseq);
        self.sip.hear().map_or(0, |response| response.status)
    }

    /// Where it hears us.
    pub fn media(&self) -> u16 {
        let body = String::from_utf8_lossy(&self.ok.body).into_owned();
        let line = body.lines().find(|line| line.starts_with("m=audio ")).unwrap();
        line.split(' ').nth(1).unwrap().parse().unwrap()
    }
}
