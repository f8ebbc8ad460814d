//! Our types as those of `rsip`, for a host program that already speaks its model.
//!
//! Only this direction exists: octets of a peer are read by our own parser, because `rsip` refuses
//! valid messages (folding and extension methods, RFC 3261 sections 7.3.1 and 7.1; other schemes, section
//! 25.1) and ignores Content-Length (section 18.3).

use super::message::{Method, Token};
use super::uri::{Host, SipUri, Uri};

/// `rsip` has no form for this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rsip model has no form for {0}")]
pub struct NotModelled(String);

impl TryFrom<&Uri> for rsip::Uri {
    type Error = NotModelled;

    fn try_from(uri: &Uri) -> Result<Self, NotModelled> {
        uri.as_sip().map(Self::from).ok_or_else(|| NotModelled(uri.scheme().to_owned()))
    }
}

impl From<&SipUri> for rsip::Uri {
    /// Without the URI's headers (RFC 3261 section 19.1.1), which the model cannot hold.
    fn from(uri: &SipUri) -> Self {
        let host: rsip::Host = match &uri.host {
            Host::Name(name) => rsip::Host::Domain(name.clone().into()),
            Host::V4(address) => rsip::Host::IpAddr((*address).into()),
            Host::V6(address) => rsip::Host::IpAddr((*address).into()),
        };
        let params = uri
            .params
            .iter()
            .map(|(name, value)| rsip::Param::Other(name.into(), value.map(|value| value.to_owned().into())));
        Self {
            scheme: Some(if uri.secure { rsip::Scheme::Sips } else { rsip::Scheme::Sip }),
            auth: uri.user.clone().map(|user| (user, uri.password.clone()).into()),
            host_with_port: rsip::HostWithPort { host, port: uri.port.map(Into::into) },
            params: params.collect(),
            headers: Vec::new(),
        }
    }
}

impl TryFrom<&Method> for rsip::Method {
    type Error = NotModelled;

    fn try_from(method: &Method) -> Result<Self, NotModelled> {
        method.as_str().parse().map_err(|_| NotModelled(method.to_string()))
    }
}

impl From<Method> for Token {
    fn from(method: Method) -> Self {
        match method {
            Method::Other(token) => token,
            known => Self::parse(known.as_str()).unwrap_or_else(|| Self::fixed("OPTIONS")),
        }
    }
}
