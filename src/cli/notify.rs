//! What the service manager is told (sd_notify(3)): one datagram of lines to the socket that it names.
//! Without a service manager nobody is told anything.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Everything listens: what depends on the gateway may start.
pub(super) const READY: &str = "READY=1";

/// It ends, which may take until the calls are over.
pub(super) const STOPPING: &str = "STOPPING=1";

/// The variable that names where the service manager listens.
pub(crate) const SOCKET: &str = "NOTIFY_SOCKET";

/// Tells it, if there is one. It is no matter of the gateway's whether that arrives.
pub(super) fn tell(socket: Option<&OsStr>, state: &str) {
    let Some(socket) = socket else { return };
    if let Err(error) = send(socket, state) {
        tracing::warn!(%error, state, "the service manager cannot be told");
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes().split_first() {
        // A name without a file.
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let len = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    }

    #[test]
    fn it_is_told_by_name_and_by_path() {
        let name = format!("crosspoint-notify-{}", std::process::id());
        let hidden =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name.as_bytes()).unwrap()).unwrap();
        send(OsStr::new(&format!("@{name}")), READY).unwrap();
        assert_eq!(told(&hidden), "READY=1");
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_file(&path);
        let seen = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), STOPPING).unwrap();
        assert_eq!(told(&seen), "STOPPING=1");
        std::fs::remove_file(path).unwrap();
        assert!(send(OsStr::new("/nowhere/notify"), READY).is_err());
    }
}
