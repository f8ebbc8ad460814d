//! Who may register (S49 to S55): an alias with a user name and a password that is kept only as
//! what digest needs of it.

use md5::{Digest as _, Md5};
use sha2::Sha256;

use crate::alias::Alias;
use crate::config::{DeviceEntry, Redacted};

/// Where a device is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the configuration file. It wins over the store.
    Config,
    /// In the store, by `crosspoint device add`.
    Store,
}

/// A device that may register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What it registers as and is called by.
    pub alias: Alias,
    /// What it authenticates as.
    pub username: String,
    /// The realm that its hashes are bound to.
    pub realm: String,
    /// H(A1) for SHA-256 (RFC 7616 section 3.4.2), 64 lower-case hexadecimal digits. Whoever has
    /// it can register as the device, so it is a secret too.
    pub sha256: Redacted,
    /// H(A1) for MD5, 32 digits.
    pub md5: Redacted,
    /// Where it is written down.
    pub origin: Origin,
}

impl Device {
    /// A device with a password, which is not kept.
    pub fn new(alias: Alias, username: &str, realm: &str, password: &Redacted, origin: Origin) -> Self {
        let a1 = format!("{username}:{realm}:{}", password.expose());
        Self {
            alias,
            username: username.into(),
            realm: realm.into(),
            sha256: Redacted::new(hex(&Sha256::digest(&a1))),
            md5: Redacted::new(hex(&Md5::digest(&a1))),
            origin,
        }
    }

    /// A device of the configuration file.
    pub fn from_config(entry: &DeviceEntry, realm: &str) -> Self {
        Self::new(entry.alias.clone(), &entry.username, realm, &entry.password, Origin::Config)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alias::Domains;

    #[test]
    fn hashes_are_those_of_rfc_7616_section_3_9_1() {
        let alias = Alias::parse("mufasa", &Domains::default()).unwrap();
        let password = Redacted::new("Circle of Life");
        let device = Device::new(alias, "Mufasa", "http-auth@example.org", &password, Origin::Store);
        assert_eq!(device.md5.expose(), "3d78807defe7de2157e2b0b6573a855f");
        assert_eq!(
            device.sha256.expose(),
            "7987c64c30e25f1b74be53f966b49b90f2808aa92faf9a00262392d7b4794232"
        );
        assert!(!format!("{device:?}").contains("3d78807d"), "never shown");
    }
}
