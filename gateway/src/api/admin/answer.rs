//! Answers of the management API: documents with an entity tag, and refusals that name the field and
//! the remedy.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::registrar::StoreError;
use crate::rules::RuleError;
use crate::services::ServiceError;
use crate::settings::SettingsError;

/// When somebody may try again whose change could not be stored, in seconds.
const RETRY_AFTER: &str = "5";

/// A refusal: `{"error": {"field", "message"}}`. The field is null where it is not about one.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    field: Option<String>,
    message: String,
}

impl Refused {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, field: None, message: message.into() }
    }

    /// 400, for what is wrong with one field.
    pub(super) fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..Self::new(StatusCode::BAD_REQUEST, message) }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// 412: somebody else was faster.
    pub(super) fn changed(what: &str) -> Self {
        let message = format!("{what} is not what you have read any more: read it again, then change it");
        Self::new(StatusCode::PRECONDITION_FAILED, message)
    }

    /// 503, for a conference that does not answer.
    pub(super) fn busy() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the conference does not keep up: try again")
    }

    /// What a store says as "field: message".
    pub(super) fn told(status: StatusCode, text: &str) -> Self {
        match text.split_once(": ") {
            Some((field, message)) if !field.is_empty() && !field.contains(' ') => {
                Self { status, field: Some(api_word(field).to_owned()), message: message.to_owned() }
            }
            _ => Self::new(status, text),
        }
    }
}

/// The command line says some fields in other words.
fn api_word(field: &str) -> &str {
    match field {
        "alias" => "aliases",
        "dial" => "dials",
        "dtmf_sequence" => "keys",
        "wait" => "wait_seconds",
        "guests-alone" => "guests_alone_seconds",
        "last-one" => "last_one_seconds",
        other => other,
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Exists(alias) => Self {
                field: Some("alias".into()),
                ..Self::new(
                    StatusCode::CONFLICT,
                    format!("there is a device {alias} already: change that one"),
                )
            },
            StoreError::OfService { .. } => {
                Self { field: Some("alias".into()), ..Self::new(StatusCode::CONFLICT, error.to_string()) }
            }
            other => Self::new(StatusCode::SERVICE_UNAVAILABLE, other.to_string()),
        }
    }
}

impl From<ServiceError> for Refused {
    fn from(error: ServiceError) -> Self {
        let status = match error {
            ServiceError::Store(error) => return error.into(),
            ServiceError::Changed(name) => return Self::changed(&format!("the service \"{name}\"")),
            ServiceError::NameTaken(_) | ServiceError::AliasTaken { .. } | ServiceError::TooMany => {
                StatusCode::CONFLICT
            }
            ServiceError::Unknown(name) => {
                return Self::not_found(format!("there is no service \"{name}\": see GET /services"));
            }
            _ => StatusCode::BAD_REQUEST,
        };
        Self::told(status, &error.to_string())
    }
}

impl From<RuleError> for Refused {
    fn from(error: RuleError) -> Self {
        let status = match error {
            RuleError::Store(error) => return error.into(),
            RuleError::Changed(name) => return Self::changed(&format!("the rule \"{name}\"")),
            RuleError::Wrong { field, message } if field.is_empty() => {
                return Self::new(StatusCode::BAD_REQUEST, message);
            }
            RuleError::Wrong { field, message } => return Self::field(field, message),
            RuleError::NameTaken(_) | RuleError::PriorityTaken { .. } => StatusCode::CONFLICT,
            RuleError::Unknown(name) => {
                return Self::not_found(format!("there is no rule \"{name}\": see GET /rules"));
            }
        };
        Self::told(status, &error.to_string())
    }
}

impl From<SettingsError> for Refused {
    fn from(error: SettingsError) -> Self {
        match error {
            SettingsError::Store(error) => error.into(),
            SettingsError::Changed => Self::changed("one of the settings"),
            SettingsError::Text => Self::told(StatusCode::BAD_REQUEST, &error.to_string()),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = json!({ "error": { "field": self.field, "message": self.message } });
        let mut response = (self.status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE || self.status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        response
    }
}

/// A document that several may edit: with its entity tag.
pub(super) struct Tagged {
    pub(super) status: StatusCode,
    pub(super) tag: String,
    pub(super) document: Value,
}

impl IntoResponse for Tagged {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.document)).into_response();
        if let Ok(tag) = HeaderValue::from_str(&self.tag) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}

/// Makes entity tags. The key is of this process alone: a tag is of everything that is stored, PINs
/// too, and must not be a means to guess them.
#[derive(Clone, Copy)]
pub(super) struct Tags(pub(super) [u8; 32]);

impl Tags {
    /// The tag of something that is spelled so.
    pub(super) fn of(&self, spelled: &str) -> String {
        let hash = Sha256::new().chain_update(self.0).chain_update(spelled).finalize();
        format!("\"{}\"", URL_SAFE_NO_PAD.encode(hash.get(..16).unwrap_or_default()))
    }

    /// Whether `If-Match` allows a change of what is spelled so (RFC 9110 section 13.1.1).
    pub(super) fn allow(&self, headers: &HeaderMap, spelled: &str) -> bool {
        let mut wanted = headers.get_all(header::IF_MATCH).iter().peekable();
        if wanted.peek().is_none() {
            return true;
        }
        let own = self.of(spelled);
        let named = |value: &HeaderValue| {
            let mut tags = value.to_str().unwrap_or_default().split(',').map(str::trim);
            tags.any(|tag| tag == "*" || tag == own)
        };
        wanted.any(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_allowed_by_the_tag_of_what_stands() {
        let tags = Tags([7; 32]);
        let own = tags.of("a");
        assert!(own.len() == 24 && own != tags.of("b") && own != Tags([8; 32]).of("a"));
        let with = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::IF_MATCH, value.parse().unwrap());
            }
            tags.allow(&headers, "a")
        };
        assert!(with(&[]) && with(&["*"]) && with(&[&own]) && with(&["\"x\"", &format!("\"y\", {own}")]));
        assert!(!with(&["\"x\""]) && !with(&[""]) && !with(&[&format!("W/{own}")]), "weak ones never match");
    }
}
