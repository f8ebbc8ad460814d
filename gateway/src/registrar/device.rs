//! Who may register (S49 to S55): an alias with a user name and a password that is kept only as
//! what digest needs of it.

use md5::{Digest as _, Md5};
use sha2::{Sha256, Sha512_256};

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
    /// H(A1) for SHA-512-256 (RFC 8760), 64 digits. `None`: its password was set before that was kept.
    pub sha512_256: Option<Redacted>,
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
            sha512_256: Some(Redacted::new(hex(&Sha512_256::digest(&a1)))),
            origin,
        }
    }

    /// Whether these are the user name and the password of `device`. The same work is done whether it
    /// exists or not, and whatever is wrong.
    pub fn is_proved(device: Option<&Self>, realm: &str, username: &str, password: &str) -> bool {
        // Nothing hashes to this.
        let nobody = "-".repeat(64);
        let known = device.map_or(nobody.as_str(), |device| device.sha256.expose());
        let own_realm = device.map_or(realm, |device| &device.realm);
        let claimed = hex(&Sha256::digest(format!("{username}:{own_realm}:{password}")));
        let differs =
            known.bytes().zip(claimed.bytes()).fold(0, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
        let named = device.is_some_and(|device| device.username == username);
        (differs == 0) & (known.len() == claimed.len()) & named
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

    #[test]
    fn s50_a_device_is_proved_by_its_own_user_name_and_password() {
        let alias = Alias::parse("bob", &Domains::default()).unwrap();
        let device = Device::new(alias, "bob.b", "example", &Redacted::new("secret"), Origin::Store);
        let proves = |username, password| Device::is_proved(Some(&device), "example", username, password);
        assert!(proves("bob.b", "secret"));
        for (username, password) in
            [("bob.b", "Secret"), ("bob", "secret"), ("", ""), ("bob.b", ""), ("bob.b:example", "secret")]
        {
            assert!(!proves(username, password), "{username}:{password}");
        }
        assert!(!Device::is_proved(None, "example", "bob.b", "secret"));
    }
}
