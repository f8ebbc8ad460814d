//! What a request says: its body, its query and its path, each with a limit and read field by field.
//! What is not known is refused by name, so that a misspelt field is not lost in silence.

use std::ops::RangeInclusive;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use serde_json::{Map, Value};

use super::answer::Refused;
use crate::api::body::{DEPTH, JSON as BODY, is_flat};

/// The object in a body.
#[derive(Debug)]
pub(super) struct Document(pub(super) Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for Document {
    type Rejection = Refused;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refused> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
        let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !["application/json", "application/merge-patch+json"]
            .iter()
            .any(|it| it.eq_ignore_ascii_case(kind))
        {
            let told = "the body must be JSON: send Content-Type: application/json";
            return Err(Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, told));
        }
        read(request.into_body()).await.map(Self)
    }
}

async fn read(body: Body) -> Result<Map<String, Value>, Refused> {
    let bytes = to_bytes(body, BODY).await.map_err(|_| {
        let told = format!("the body has more than {BODY} bytes, or did not come whole: send less");
        Refused::new(StatusCode::PAYLOAD_TOO_LARGE, told)
    })?;
    let wrong = |told: String| Refused::new(StatusCode::BAD_REQUEST, told);
    if !is_flat(&bytes) {
        return Err(wrong(format!("the body is nested deeper than {DEPTH}: make it flatter")));
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(wrong("the body must be a JSON object: put { } around it".into())),
        Err(error) => Err(wrong(format!("the body is not JSON: {error}"))),
    }
}

/// The last part of a path, or its two variable ones.
#[derive(Debug)]
pub(super) struct Named<T>(pub(super) T);

impl<S: Send + Sync, T: serde::de::DeserializeOwned + Send> FromRequestParts<S> for Named<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        let wrong = |_| Refused::not_found("the path is not UTF-8 when its escapes are resolved");
        path.map(|Path(name)| Self(name)).map_err(wrong)
    }
}

/// The query, as members whose values are text.
#[derive(Debug)]
pub(super) struct Asked(pub(super) Members);

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let wrong = |_| Refused::new(StatusCode::BAD_REQUEST, "the query cannot be read: mend its escapes");
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri).map_err(wrong)?;
        let mut members = Map::new();
        for (name, text) in pairs {
            if members.contains_key(&name) {
                return Err(Refused::field(name, "is there twice: leave one out"));
            }
            // A number is written as it is read, so that "007" is text.
            let number = text.parse::<u64>().ok().filter(|number| number.to_string() == text);
            members.insert(name, number.map_or(Value::String(text), Into::into));
        }
        Ok(Self(Members::new(members)))
    }
}

/// Members of an object, taken one by one; [`Self::end`] refuses what nobody has taken.
#[derive(Debug)]
pub(super) struct Members {
    left: Map<String, Value>,
    known: Vec<&'static str>,
}

impl Members {
    pub(super) const fn new(members: Map<String, Value>) -> Self {
        Self { left: members, known: Vec::new() }
    }

    /// Takes one as it is.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.left.remove(name)
    }

    /// Passes over a text that only we write and that may be sent back as it was read.
    pub(super) fn pass_over(&mut self, name: &'static str) -> Result<(), Refused> {
        match self.take(name) {
            None | Some(Value::String(_)) => Ok(()),
            Some(other) => Err(wrong_kind(name, "text, or nothing: it is not changed here", &other)),
        }
    }

    pub(super) fn flag(&mut self, name: &'static str) -> Result<Option<bool>, Refused> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong_kind(name, "true or false", &other)),
        }
    }

    pub(super) fn number(
        &mut self,
        name: &'static str,
        within: RangeInclusive<u64>,
    ) -> Result<Option<u64>, Refused> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let told = || format!("a whole number from {} to {}", within.start(), within.end());
        // 5.0 is 5 (RFC 8259 has one kind of number).
        let whole = value.as_u64().or_else(|| value.as_f64().and_then(whole));
        let number = whole.ok_or_else(|| wrong_kind(name, &told(), &value))?;
        if within.contains(&number) {
            return Ok(Some(number));
        }
        Err(Refused::field(name, format!("{number} is out of range: write {}", told())))
    }

    /// Text of 1 to `most` characters.
    pub(super) fn text(&mut self, name: &'static str, most: usize) -> Result<Option<String>, Refused> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let told = format!("a text of 1 to {most} characters");
        let Value::String(text) = value else { return Err(wrong_kind(name, &told, &value)) };
        if text.is_empty() || text.chars().count() > most {
            return Err(Refused::field(
                name,
                format!("has {} characters: write {told}", text.chars().count()),
            ));
        }
        Ok(Some(text))
    }

    /// A text of a query, which may look like a number.
    pub(super) fn named(&mut self, name: &'static str) -> Result<Option<String>, Refused> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if text.is_empty() {
            return Err(Refused::field(name, "is empty: leave it out, or say after which"));
        }
        Ok(Some(text))
    }

    /// The same, where null says something too.
    pub(super) fn text_or_null(
        &mut self,
        name: &'static str,
        most: usize,
    ) -> Result<Option<Option<String>>, Refused> {
        if self.left.get(name).is_some_and(Value::is_null) {
            self.take(name);
            return Ok(Some(None));
        }
        self.text(name, most).map(|text| text.map(Some))
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, name: &'static str) -> Result<Option<Vec<String>>, Refused> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let told = "a list of texts";
        let Value::Array(items) = value else { return Err(wrong_kind(name, told, &value)) };
        let texts = items.into_iter().map(|item| match item {
            Value::String(text) => Ok(text),
            other => Err(wrong_kind(name, told, &other)),
        });
        texts.collect::<Result<_, _>>().map(Some)
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Result<(), Refused> {
        match self.left.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => {
                let known = self.known.join(", ");
                let known =
                    if known.is_empty() { "none is".to_owned() } else { format!("known are {known}") };
                Err(Refused::field(name, format!("is not known: leave it out, or mend its name; {known}")))
            }
        }
    }
}

fn whole(number: f64) -> Option<u64> {
    // Below 2^53 every whole number is exact.
    let fits = number.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&number);
    fits.then(|| format!("{number:.0}").parse().ok()).flatten()
}

fn wrong_kind(name: &str, wanted: &str, found: &Value) -> Refused {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "another number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    Refused::field(name, format!("is {found}: write {wanted}"))
}

/// Where nothing is there yet to be taken away, null is no value; `within`: the member that has these.
pub(super) fn refuse_nulls(document: &Map<String, Value>, within: &str) -> Result<(), Refused> {
    for (name, value) in document {
        let path = if within.is_empty() { name.clone() } else { format!("{within}.{name}") };
        match value {
            Value::Null => return Err(wrong_kind(&path, "a value, or leave it out", value)),
            // As deep as a body may be.
            Value::Object(inner) => refuse_nulls(inner, &path)?,
            _ => {}
        }
    }
    Ok(())
}

/// Puts `patch` over `document` (RFC 7396): null takes a member away.
pub(super) fn merge(document: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (name, value) in patch {
        match value {
            Value::Null => drop(document.remove(&name)),
            Value::Object(patch) => {
                let slot = document.entry(name).or_insert_with(|| Value::Object(Map::new()));
                if !slot.is_object() {
                    *slot = Value::Object(Map::new());
                }
                if let Value::Object(inner) = slot {
                    merge(inner, patch);
                }
            }
            value => drop(document.insert(name, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;
    use serde_json::json;

    use super::*;

    fn members(value: Value) -> Members {
        Members::new(value.as_object().unwrap().clone())
    }

    async fn said(refused: Refused) -> (u16, Value) {
        let response = refused.into_response();
        let status = response.status().as_u16();
        let bytes = to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, serde_json::from_slice::<Value>(&bytes).unwrap()["error"].clone())
    }

    #[tokio::test]
    async fn what_is_wrong_is_named_with_its_remedy() {
        let mut it = members(json!({ "a": 5.0, "b": "x", "c": null, "d": [1], "e": "", "f": 1 }));
        assert_eq!(it.number("a", 1..=9).unwrap(), Some(5));
        assert_eq!(it.text_or_null("c", 9).unwrap(), Some(None));
        assert_eq!(it.text_or_null("nothing", 9).unwrap(), None);
        for (refused, told) in [
            (it.flag("b").unwrap_err(), "is a text: write true or false"),
            (it.texts("d").unwrap_err(), "is another number: write a list of texts"),
            (it.text("e", 9).unwrap_err(), "has 0 characters: write a text of 1 to 9 characters"),
            (it.number("f", 2..=3).unwrap_err(), "1 is out of range: write a whole number from 2 to 3"),
        ] {
            assert_eq!(said(refused).await.1["message"], told);
        }
        it.end().unwrap();
        let (status, error) = said(members(json!({ "nmae": 1 })).end().unwrap_err()).await;
        assert_eq!((status, &error["field"]), (400, &json!("nmae")));
        for wrong in [json!(-1), json!(1.5), json!(1e300), json!("1")] {
            assert!(members(json!({ "a": wrong })).number("a", 0..=9).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_body_has_a_size_a_depth_and_a_kind() {
        let refused = |body: String| async move { said(read(Body::from(body)).await.unwrap_err()).await };
        assert_eq!(refused(format!("{{\"a\":\"{}\"}}", "x".repeat(BODY))).await.0, 413);
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(Body::from(nested(DEPTH - 1))).await.is_ok());
        assert_eq!(refused(nested(DEPTH)).await.0, 400);
        assert_eq!(refused("[".repeat(50_000)).await.0, 400);
        assert_eq!(refused("[]".into()).await.0, 400);
        assert!(read(Body::from(format!("{{\"a\":\"\\\"{}\"}}", "[".repeat(100)))).await.is_ok(), "a string");
        let request = Request::builder().header("content-type", "text/plain").body(Body::from("{}")).unwrap();
        assert_eq!(said(Document::from_request(request, &()).await.unwrap_err()).await.0, 415);
    }

    #[test]
    fn merging_is_that_of_rfc_7396() {
        // Some of its appendix A.
        for (document, patch, result) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":"foo"}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            let mut merged = document.as_object().unwrap().clone();
            merge(&mut merged, patch.as_object().unwrap().clone());
            assert_eq!(Value::Object(merged), result);
        }
    }
}
