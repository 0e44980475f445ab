//! Network namespaces that stand for a host, its pods, and somebody outside.

use insula_sys::namespace::{Kind, join};
use std::fs::File;
use std::process::Command;

/// The host's address on the link to the outside, and the outside's own.
pub const HOST: &str = "192.0.2.1";
pub const HOST6: &str = "2001:db8::1";
pub const OUTSIDE: &str = "192.0.2.2";
pub const OUTSIDE6: &str = "2001:db8::2";
/// A second address of the host.
pub const HOST_OTHER: &str = "192.0.2.7";

/// A network namespace with a name; it ends with the value.
#[derive(Debug)]
pub struct Namespace {
    pub name: String,
}

// === impl Namespace ===

impl Namespace {
    pub fn new(name: &str) -> Result<Self, String> {
        let made = Self {
            name: name.to_owned(),
        };
        output("ip", &["netns", "add", name])?;
        made.command("ip", &["link", "set", "lo", "up"])?;
        Ok(made)
    }

    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// Runs a program in it and gives what it writes.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Result<String, String> {
        let net = format!("--net={}", self.path());
        let mut all = vec![net.as_str(), program];
        all.extend(arguments);
        output("nsenter", &all)
    }

    /// Runs work on a thread of its own that is in the namespace, and so are programs that it
    /// starts.
    pub fn within<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, String> + Send,
    ) -> Result<T, String> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter()?;
                work()
            });
            thread.join().map_err(|_| "a thread panicked".to_owned())?
        })
    }

    /// Moves the calling thread there for good.
    pub fn enter(&self) -> Result<(), String> {
        let file = File::open(self.path()).map_err(|error| error.to_string())?;
        join(&file, Kind::Network).map_err(|error| error.to_string())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .output();
    }
}

/// A host with a link to the outside, whose default route leads there.
pub fn pair() -> Result<(Namespace, Namespace), String> {
    let (host, outside) = (Namespace::new("host")?, Namespace::new("outside")?);
    host.command(
        "ip",
        &[
            "link", "add", "up0", "type", "veth", "peer", "name", "down0", "netns", "outside",
        ],
    )?;
    for (namespace, link, addresses) in [
        (
            &host,
            "up0",
            [
                &format!("{HOST}/24"),
                &format!("{HOST_OTHER}/24"),
                &format!("{HOST6}/64"),
            ],
        ),
        (
            &outside,
            "down0",
            [
                &format!("{OUTSIDE}/24"),
                &"198.51.100.1/32".to_owned(),
                &format!("{OUTSIDE6}/64"),
            ],
        ),
    ] {
        for address in addresses {
            let mut words = vec!["address", "add", address, "dev", link];
            if address.contains(':') {
                words.push("nodad");
            }
            namespace.command("ip", &words)?;
        }
        namespace.command("ip", &["link", "set", link, "up"])?;
    }
    for (namespace, to, by) in [
        (&host, "default", OUTSIDE),
        (&host, "::/0", OUTSIDE6),
        (&outside, "10.0.0.0/8", HOST),
        (&outside, "fd00::/8", HOST6),
    ] {
        namespace.command("ip", &["route", "add", to, "via", by])?;
    }
    Ok((host, outside))
}

/// What a program writes; an error if it fails.
pub fn output(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(format!(
        "{program} {arguments:?}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    ))
}
