//! A client that is registered by HTTP: it is called, and takes calls or does not.

use serde_json::{Value, json};

use super::gateway::Gateway;
use super::web::{Answer, Client, Events, Web};

/// A registration.
#[derive(Clone, Debug)]
pub struct Registered {
    pub web: Web,
    pub alias: String,
    pub token: String,
}

/// The head and the headers of a registration.
pub fn registration(alias: &str, user: &str, password: &str) -> (String, String) {
    let head = format!("POST /api/client/v2/registrations/{alias}/request_token");
    let credentials = base64(&format!("{user}:{password}"));
    // The desktop client sends both: proxies keep the first.
    let value = format!("x-pexip-basic {credentials}\r\n");
    (head, format!("Authorization: {value}X-Pexip-Authorization: {value}"))
}

/// RFC 4648 section 4.
fn base64(text: &str) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | usize::from(*chunk.get(at).unwrap_or(&0)));
        for at in 0..4 {
            let letter = LETTERS[bits >> (18 - 6 * at) & 63];
            encoded.push(if at <= chunk.len() { letter.into() } else { '=' });
        }
    }
    encoded
}

impl Registered {
    /// Registers the device `name`, which must succeed.
    pub fn start(gateway: &Gateway, name: &str) -> Self {
        let web = Web::of(gateway);
        let (head, headers) = registration(name, name, &format!("{name}-secret"));
        let answer = web.request(&head, &headers, "{}").unwrap();
        assert_eq!(answer.code, 200, "{name}: {}", answer.json());
        let token = answer.result()["token"].as_str().unwrap().to_owned();
        Self { web, alias: name.into(), token }
    }

    /// Its event stream, which must be answered with 200 at once.
    pub fn events(&self) -> Events {
        let path = format!("/api/client/v2/registrations/{}/events", self.alias);
        let (code, events) = self.web.events(&path, &self.token).unwrap();
        assert_eq!(code, 200);
        events
    }

    /// Asks for a token by the one-time token of what rings.
    pub fn try_take(&self, incoming: &Value) -> Answer {
        self.request(incoming["conference_alias"].as_str().unwrap(), json!({ "token": incoming["token"] }))
    }

    /// Takes the call, which must succeed.
    pub fn take(&self, incoming: &Value) -> Client {
        let alias = incoming["conference_alias"].as_str().unwrap();
        self.client(alias, &self.try_take(incoming))
    }

    /// Rejects it.
    pub fn reject(&self, incoming: &Value) {
        let text = |key: &str| incoming[key].as_str().unwrap();
        let (alias, token) = (text("conference_alias"), text("token"));
        let head = format!("POST /api/client/v2/conferences/{alias}/release_token?token={token}");
        assert_eq!(self.web.request(&head, "", "").unwrap().code, 200);
    }

    /// Calls `alias` as the registered device.
    pub fn call(&self, alias: &str) -> Client {
        let answer = self.request(alias, json!({ "registration_token": self.token }));
        self.client(alias, &answer)
    }

    fn request(&self, alias: &str, mut body: Value) -> Answer {
        body["display_name"] = "Bob B.".into();
        let head = format!("POST /api/client/v2/conferences/{alias}/request_token");
        self.web.request(&head, "Content-Type: application/json\r\n", body.to_string()).unwrap()
    }

    fn client(&self, alias: &str, answer: &Answer) -> Client {
        assert_eq!(answer.code, 200, "{}", answer.json());
        let granted = answer.result();
        let text = |key: &str| granted[key].as_str().unwrap().to_owned();
        let (token, uuid) = (text("token"), text("participant_uuid"));
        Client { web: self.web.clone(), alias: alias.into(), token, uuid, granted }
    }
}
