//! The pod's `hosts`, `hostname` and `resolv.conf`.

use crate::error::{Error, Result};
use crate::files;
use insula_isolators::spec::Dns;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

/// Most bytes that are taken from a file of the host's.
const LIMIT: u64 = 1 << 20;

/// Text of resolv.conf(5), line by line as clients compare it.
pub(crate) fn resolv_conf(dns: &Dns) -> Result<String> {
    let mut text = String::new();
    let words = dns.servers.iter().chain(&dns.searches).chain(&dns.options);
    for word in words {
        if word.is_empty() || word.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(Error::InvalidArgument(format!(
                "{word:?} in the pod's DNS configuration is not one word"
            )));
        }
    }
    for server in &dns.servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    for (keyword, words) in [("search", &dns.searches), ("options", &dns.options)] {
        if !words.is_empty() {
            let _ = writeln!(text, "{keyword} {}", words.join(" "));
        }
    }
    Ok(text)
}

/// Text of hosts(5) for a pod with a network of its own.
pub(crate) fn hosts(hostname: &str, ips: &[IpAddr]) -> String {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    for ip in ips {
        let _ = writeln!(text, "{ip}\t{hostname}");
    }
    text
}

/// Writes the three files, which belong to `owner`: root of the containers, by
/// the host's user and group. `ips` is `None` on the host's network, whose own
/// `hosts` is then copied.
pub(crate) fn write(
    directory: &Path,
    hostname: &str,
    dns: Option<&Dns>,
    ips: Option<&[IpAddr]>,
    owner: (u32, u32),
) -> Result<()> {
    files::make_directory(directory)?;
    let resolv_conf = match dns {
        Some(dns) => resolv_conf(dns)?.into_bytes(),
        None => of_host("/etc/resolv.conf")?,
    };
    let hosts = match ips {
        Some(ips) => hosts(hostname, ips).into_bytes(),
        None => of_host("/etc/hosts")?,
    };
    let hostname = format!("{hostname}\n").into_bytes();
    for (name, content) in [
        ("resolv.conf", resolv_conf),
        ("hosts", hosts),
        ("hostname", hostname),
    ] {
        let path = directory.join(name);
        files::write_atomically(&path, &content, 0o644)?;
        std::os::unix::fs::chown(&path, Some(owner.0), Some(owner.1))
            .map_err(|error| files::failed("give away", &path, &error))?;
    }
    Ok(())
}

/// A file of the host's; one that is not there is an empty one.
fn of_host(path: &str) -> Result<Vec<u8>> {
    let path = Path::new(path);
    match files::read_bounded(path, LIMIT) {
        Ok(content) => Ok(content),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(files::failed("read", path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::{hosts, resolv_conf, write};
    use insula_isolators::spec::Dns;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn resolv_conf_is_exact() {
        for (dns, text) in [
            (Dns::default(), Some("")),
            (
                Dns {
                    servers: words(&["10.0.0.1", "10.0.0.2"]),
                    searches: words(&["a", "b"]),
                    options: words(&["ndots:5", "d"]),
                },
                Some("nameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch a b\noptions ndots:5 d\n"),
            ),
            (
                Dns {
                    servers: words(&["10.0.0.1\nnameserver 6.6.6.6"]),
                    ..Dns::default()
                },
                None,
            ),
        ] {
            assert_eq!(resolv_conf(&dns).ok().as_deref(), text);
        }
    }

    #[test]
    fn hosts_names_the_pod() {
        let text = hosts(
            "web",
            &["10.1.2.3".parse().unwrap(), "fd00::1".parse().unwrap()],
        );
        assert!(text.contains("127.0.0.1\tlocalhost\n") && text.contains("\n::1\tlocalhost"));
        assert!(text.ends_with("10.1.2.3\tweb\nfd00::1\tweb\n"));
    }

    #[test]
    fn files_are_written_with_the_host_s_where_nothing_was_said() {
        let directory = tempfile::tempdir().unwrap();
        let me = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        write(directory.path(), "web", None, None, me).unwrap();
        let host = std::fs::read("/etc/hosts").unwrap_or_default();
        assert_eq!(std::fs::read(directory.path().join("hosts")).unwrap(), host);
        assert_eq!(
            std::fs::read(directory.path().join("hostname")).unwrap(),
            b"web\n"
        );
        write(
            directory.path(),
            "web",
            Some(&Dns::default()),
            Some(&[]),
            me,
        )
        .unwrap();
        assert_eq!(
            std::fs::read(directory.path().join("resolv.conf")).unwrap(),
            b""
        );
    }
}
