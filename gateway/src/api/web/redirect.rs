//! From `http://` to `https://` (S69).

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};

/// HTTPS where no port is named.
const HTTPS: u16 = 443;

/// Answers everything with the way to the port where HTTPS is; with none, to that of a proxy.
pub(super) fn router(https: Option<u16>) -> Router {
    let port = https.filter(|port| *port != HTTPS);
    Router::new().fallback(move |headers: HeaderMap, uri: Uri| async move {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        answer(host, port, &uri)
    })
}

fn answer(host: Option<&str>, port: Option<u16>, uri: &Uri) -> Response {
    let Some(location) = host.and_then(|host| location(host, port, uri)) else {
        return (StatusCode::BAD_REQUEST, "use https://\n").into_response();
    };
    // 308 keeps the method, unlike 301.
    let headers = [(header::LOCATION, location), (header::CONNECTION, HeaderValue::from_static("close"))];
    (StatusCode::PERMANENT_REDIRECT, headers).into_response()
}

fn location(host: &str, port: Option<u16>, uri: &Uri) -> Option<HeaderValue> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|it| it.is_ascii_digit()) => name,
        _ => host,
    };
    // What is no name could lead anywhere.
    let plain = |it: u8| it.is_ascii_alphanumeric() || b".-_:[]".contains(&it);
    if name.is_empty() || !name.bytes().all(plain) {
        return None;
    }
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    let path = uri.path_and_query().map_or("/", |it| it.as_str());
    HeaderValue::from_str(&format!("https://{name}{port}{path}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_leads_to_the_same_page_over_https() {
        let to = |host, port, uri: &str| {
            let location = location(host, port, &uri.parse().unwrap())?;
            Some(location.to_str().unwrap().to_owned())
        };
        assert_eq!(to("meet.example", Some(8443), "/a?b=c").unwrap(), "https://meet.example:8443/a?b=c");
        assert_eq!(to("meet.example:80", None, "/").unwrap(), "https://meet.example/");
        assert_eq!(to("[2001:db8::1]:80", Some(8443), "/").unwrap(), "https://[2001:db8::1]:8443/");
        assert_eq!(to("meet.example/@other.example", None, "/"), None);
        assert_eq!(to("", None, "/"), None);
    }
}
