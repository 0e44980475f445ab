//! Which hosts to ask for a registry's images: `hosts.toml`, as containerd reads it.
//!
//! For `registry.example:5000` the directories `registry.example_5000_`, `registry.example:5000`
//! and `_default` are looked for, in this order, in each configured directory; the first that
//! exists decides. Files are read at each pull, so that a change needs no restart.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{HeaderName, HeaderValue, Uri};

use super::hosts_toml::{self, Capabilities, HostSettings};
use crate::error::{Error, IoContext as _, Result};

/// Upper bound of a `hosts.toml`, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// One host that serves a registry's API.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
    /// The API's root: `/v2`, unless overridden. Without a slash at its end.
    path: String,
    pub(super) capabilities: Capabilities,
    pub(super) tls: TlsFiles,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) dial_timeout: Option<Duration>,
    /// The registry that this host mirrors, told to it as `?ns=`.
    namespace: Option<String>,
}

/// Where a host's TLS settings lie.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TlsFiles {
    pub(super) ca: Vec<PathBuf>,
    pub(super) client: Vec<(PathBuf, Option<PathBuf>)>,
    pub(super) skip_verify: bool,
}

// === impl Host ===

impl Host {
    /// Whether this is the same place as the other, and is asked for everything.
    fn answers_for(&self, other: &Self) -> bool {
        self.scheme == other.scheme
            && self.authority == other.authority
            && self.path == other.path
            && self.capabilities.pull
            && self.capabilities.resolve
    }

    /// The URL of a manifest or blob: `kind` is `manifests` or `blobs`.
    pub(super) fn url(&self, repository: &str, kind: &str, object: &str) -> Result<Uri> {
        let mut path = format!("{}/{repository}/{kind}/{object}", self.path);
        if let Some(namespace) = &self.namespace {
            path.push_str("?ns=");
            path.push_str(
                &namespace
                    .replace(':', "%3A")
                    .replace('[', "%5B")
                    .replace(']', "%5D"),
            );
        }
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
            .map_err(|error| {
                Error::Unsupported(format!("cannot form a URL for {}: {error}", self.authority))
            })
    }

    /// Scheme, host and port.
    pub(super) fn origin(&self) -> Option<Uri> {
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone());
        uri.path_and_query("/").build().ok()
    }

    /// `host[:port]`.
    pub(super) fn name(&self) -> &str {
        self.authority.as_str()
    }
}

/// The hosts to ask for images of `domain`, mirrors first.
///
/// # Errors
/// [`Error::Configuration`] if a `hosts.toml` cannot be read.
pub(crate) fn hosts_for(domain: &str, config_paths: &[PathBuf]) -> Result<Vec<Host>> {
    for root in config_paths {
        for name in directory_names(domain) {
            let directory = root.join(name);
            if directory.is_dir() {
                return from_directory(domain, &directory);
            }
        }
    }
    Ok(vec![default_host(
        domain,
        HostSettings::default(),
        Path::new("/"),
    )?])
}

fn directory_names(domain: &str) -> Vec<String> {
    let mut names = Vec::with_capacity(3);
    if let Some((host, port)) = domain.rsplit_once(':')
        && !port.contains(']')
    {
        names.push(format!("{host}_{port}_"));
    }
    names.push(domain.to_owned());
    names.push("_default".to_owned());
    names
}

fn from_directory(domain: &str, directory: &Path) -> Result<Vec<Host>> {
    let path = directory.join("hosts.toml");
    let text = match read_bounded(&path) {
        Ok(Some(text)) => text,
        Ok(None) => {
            return Ok(vec![default_host(
                domain,
                docker_certificates(directory)?,
                directory,
            )?]);
        }
        Err(error) => return Err(error),
    };
    let wrong = |reason: String| Error::Configuration {
        file: path.clone(),
        reason,
    };
    let file = hosts_toml::parse(&text).map_err(wrong)?;
    let mut hosts = Vec::with_capacity(file.hosts.len() + 1);
    for (url, settings) in file.hosts {
        hosts.push(host(domain, &url, settings, directory).map_err(wrong)?);
    }
    let server = match file.server {
        Some(url) => host(domain, &url, file.server_settings, directory).map_err(wrong)?,
        None => default_host(domain, file.server_settings, directory)?,
    };
    // Asked once more it would only fail the same way, after the same wait, and
    // without the certificates that the file gives for it as a mirror.
    if !hosts.iter().any(|mirror| mirror.answers_for(&server)) {
        hosts.push(server);
    }
    Ok(hosts)
}

fn read_bounded(path: &Path) -> Result<Option<String>> {
    use std::io::Read as _;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(format!("open {}", path.display()), error)),
    };
    let mut text = String::new();
    file.take(MAX_FILE + 1)
        .read_to_string(&mut text)
        .context(|| format!("read {}", path.display()))?;
    if text.len() as u64 > MAX_FILE {
        return Err(Error::Configuration {
            file: path.to_owned(),
            reason: "larger than 1 MiB".into(),
        });
    }
    Ok(Some(text))
}

/// Docker's layout of a directory without `hosts.toml`: `*.crt` are roots, `*.cert` and `*.key`
/// of one name are a client certificate.
fn docker_certificates(directory: &Path) -> Result<HostSettings> {
    let mut settings = HostSettings::default();
    let entries =
        std::fs::read_dir(directory).context(|| format!("read {}", directory.display()))?;
    for entry in entries {
        let path = entry
            .context(|| format!("read {}", directory.display()))?
            .path();
        let text = path.to_string_lossy().into_owned();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => settings.ca.push(text),
            Some("cert") => {
                let key = path.with_extension("key").to_string_lossy().into_owned();
                settings.client.push((text, Some(key)));
            }
            _ => {}
        }
    }
    Ok(settings)
}

/// The registry itself: HTTPS, but plain HTTP for one on this machine with a port of its own.
fn default_host(domain: &str, mut settings: HostSettings, directory: &Path) -> Result<Host> {
    let name = if domain == crate::reference::DEFAULT_DOMAIN {
        "registry-1.docker.io"
    } else {
        domain
    };
    let plain = is_local(domain) && !matches!(port_of(domain), None | Some("443"));
    // As containerd: TLS on this machine needs no certificate that anybody knows.
    settings.skip_verify |= is_local(domain);
    let scheme = if plain { "http" } else { "https" };
    host(domain, &format!("{scheme}://{name}"), settings, directory).map_err(|reason| {
        Error::InvalidReference {
            reference: domain.to_owned(),
            reason,
        }
    })
}

fn port_of(domain: &str) -> Option<&str> {
    domain
        .rsplit_once(':')
        .map(|(_, port)| port)
        .filter(|port| !port.contains(']'))
}

fn is_local(domain: &str) -> bool {
    let host = match port_of(domain) {
        Some(port) => &domain[..domain.len() - port.len() - 1],
        None => domain,
    };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

fn host(domain: &str, url: &str, settings: HostSettings, directory: &Path) -> Result<Host, String> {
    let url = if url.contains("://") {
        url.to_owned()
    } else {
        format!("https://{url}")
    };
    let shown = || {
        url.split_once('@')
            .map_or(url.as_str(), |(_, rest)| rest)
            .to_owned()
    };
    let uri: Uri = url
        .parse()
        .map_err(|error| format!("host {:?} is no URL: {error}", shown()))?;
    let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
        return Err(format!("host {:?} is no URL", shown()));
    };
    if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS {
        return Err(format!("host {:?} is neither http nor https", shown()));
    }
    if authority.as_str().contains('@') {
        return Err(format!("host {:?} must not hold credentials", shown()));
    }
    let mut path = uri.path().trim_end_matches('/').to_owned();
    if !settings.override_path && !path.ends_with("/v2") {
        path.push_str("/v2");
    }
    let mut headers = Vec::new();
    for (name, values) in settings.header {
        let parsed: HeaderName = name
            .parse()
            .map_err(|_| format!("{name:?} is no header name"))?;
        for value in values {
            let mut value: HeaderValue = value
                .parse()
                .map_err(|_| format!("the value of header {name:?} is not valid"))?;
            value.set_sensitive(true);
            headers.push((parsed.clone(), value));
        }
    }
    let mirror = authority != domain
        && !(domain == crate::reference::DEFAULT_DOMAIN && authority == "registry-1.docker.io");
    let absolute = |file: String| directory.join(file);
    Ok(Host {
        scheme: scheme.clone(),
        authority: authority.clone(),
        path,
        capabilities: settings.capabilities.unwrap_or(Capabilities {
            pull: true,
            resolve: true,
        }),
        tls: TlsFiles {
            ca: settings.ca.into_iter().map(absolute).collect(),
            client: settings
                .client
                .into_iter()
                .map(|(c, k)| (absolute(c), k.map(absolute)))
                .collect(),
            skip_verify: settings.skip_verify,
        },
        headers,
        dial_timeout: settings.dial_timeout,
        namespace: mirror.then(|| domain.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(domain: &str, roots: &[PathBuf]) -> Vec<String> {
        let hosts = hosts_for(domain, roots).unwrap();
        hosts
            .iter()
            .map(|h| h.url("a/b", "manifests", "t").unwrap().to_string())
            .collect()
    }

    #[test]
    fn without_configuration() {
        let cases = [
            (
                "docker.io",
                "https://registry-1.docker.io/v2/a/b/manifests/t",
            ),
            ("r.example", "https://r.example/v2/a/b/manifests/t"),
            ("localhost:5000", "http://localhost:5000/v2/a/b/manifests/t"),
            ("127.0.0.1:80", "http://127.0.0.1:80/v2/a/b/manifests/t"),
            ("[::1]:5000", "http://[::1]:5000/v2/a/b/manifests/t"),
            ("localhost", "https://localhost/v2/a/b/manifests/t"),
            ("127.0.0.1:443", "https://127.0.0.1:443/v2/a/b/manifests/t"),
            (
                "127.0.0.1.evil.example:5000",
                "https://127.0.0.1.evil.example:5000/v2/a/b/manifests/t",
            ),
        ];
        for (domain, url) in cases {
            assert_eq!(urls(domain, &[]), [url]);
        }
    }

    #[test]
    fn directories_and_mirrors() {
        let root = tempfile::tempdir().unwrap();
        let (first, second) = (root.path().join("one"), root.path().join("two"));
        let write = |root: &Path, name: &str, text: &str| {
            std::fs::create_dir_all(root.join(name)).unwrap();
            std::fs::write(root.join(name).join("hosts.toml"), text).unwrap();
        };
        write(
            &second,
            "docker.io",
            "[host.\"http://m:5000/mirror\"]\n[host.\"https://n/p\"]\noverride_path = true",
        );
        write(
            &second,
            "r.example_5000_",
            "server = \"http://up.example/v2\"",
        );
        write(&second, "_default", "[host.\"http://d:1\"]");
        let roots = [first, second];
        assert_eq!(
            urls("docker.io", &roots),
            [
                "http://m:5000/mirror/v2/a/b/manifests/t?ns=docker.io",
                "https://n/p/a/b/manifests/t?ns=docker.io",
                "https://registry-1.docker.io/v2/a/b/manifests/t",
            ]
        );
        assert_eq!(
            urls("r.example:5000", &roots),
            ["http://up.example/v2/a/b/manifests/t?ns=r.example%3A5000"]
        );
        assert_eq!(
            urls("gcr.io", &roots),
            [
                "http://d:1/v2/a/b/manifests/t?ns=gcr.io",
                "https://gcr.io/v2/a/b/manifests/t"
            ]
        );
    }

    #[test]
    fn an_unknown_key_names_file_and_line() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("r.example")).unwrap();
        std::fs::write(root.path().join("r.example/hosts.toml"), "\nservr = \"x\"").unwrap();
        let error = hosts_for("r.example", &[root.path().to_owned()])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(
                "r.example/hosts.toml: line 2: unknown key \"servr\"; did you mean \"server\"?"
            ),
            "{error}"
        );
    }
}
