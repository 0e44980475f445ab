//! Credentials as the CRI hands them over, and which host may see them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::{Error, Result};
use crate::secret::Secret;

/// The CRI's `AuthConfig`. Empty fields are absent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct RegistryAuth {
    /// The user's name.
    pub username: String,
    /// The password that goes with it.
    pub password: Secret,
    /// `username:password` in base64, as in Docker's config.json; used if `username` is empty.
    pub auth: Secret,
    /// The registry these are for, a host or URL. If set, no other host sees them.
    pub server_address: String,
    /// An `OAuth2` refresh token, exchanged at the registry's token server.
    pub identity_token: Secret,
    /// A bearer token, sent as it is.
    pub registry_token: Secret,
}

/// What to answer a challenge with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    Basic { username: String, password: Secret },
    Refresh(Secret),
    Bearer(Secret),
}

// === impl RegistryAuth ===

impl RegistryAuth {
    /// A user's name and password for any host of the pull.
    pub fn basic(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            username: username.into(),
            password: Secret::new(password),
            ..Self::default()
        }
    }

    /// The credentials for one host (`host[:port]`), or None if these are for another one.
    pub(super) fn for_host(&self, host: &str) -> Result<Option<Credentials>> {
        if !self.server_address.is_empty() && !same_registry(&self.server_address, host) {
            return Ok(None);
        }
        if !self.registry_token.is_empty() {
            return Ok(Some(Credentials::Bearer(self.registry_token.clone())));
        }
        if !self.identity_token.is_empty() {
            return Ok(Some(Credentials::Refresh(self.identity_token.clone())));
        }
        if !self.username.is_empty() {
            return Ok(Some(Credentials::Basic {
                username: self.username.clone(),
                password: self.password.clone(),
            }));
        }
        if self.auth.is_empty() {
            return Ok(None);
        }
        let bad = |reason: &str| Error::Unauthorized {
            host: host.to_owned(),
            what: "the registry".into(),
            reason: format!("the given auth field {reason}"),
        };
        // Docker pads with NUL bytes.
        let decoded = STANDARD
            .decode(self.auth.expose())
            .map_err(|_| bad("is not base64"))?;
        let text = String::from_utf8(decoded).map_err(|_| bad("is not text"))?;
        let (username, password) = text
            .split_once(':')
            .ok_or_else(|| bad("is not base64 of username:password"))?;
        Ok(Some(Credentials::Basic {
            username: username.to_owned(),
            password: Secret::new(password.trim_end_matches('\0')),
        }))
    }
}

/// Whether an address (`https://index.docker.io/v1/`, `registry.example:5000`) names this host.
fn same_registry(address: &str, host: &str) -> bool {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let named = rest.split(['/', '?', '#']).next().unwrap_or_default();
    canonical(named) == canonical(host)
}

/// Docker's registry has several names, of which the first stands for all.
fn canonical(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".into(),
        _ => host.strip_suffix(":443").map(str::to_owned).unwrap_or(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_host_gets_credentials() {
        let cases = [
            ("", "any.example", true),
            ("r.example", "r.example", true),
            ("https://r.example", "r.example", true),
            ("https://r.example/v2/", "r.example:443", true),
            ("r.example:5000", "r.example:5000", true),
            ("r.example", "r.example:5000", false),
            ("r.example", "evil.example", false),
            ("r.example", "r.example.evil.example", false),
            ("https://r.example@evil.example/", "r.example", false),
            ("https://index.docker.io/v1/", "registry-1.docker.io", true),
        ];
        for (address, host, given) in cases {
            let auth = RegistryAuth {
                server_address: address.into(),
                ..RegistryAuth::basic("u", "p")
            };
            assert_eq!(
                auth.for_host(host).unwrap().is_some(),
                given,
                "{address} {host}"
            );
        }
    }

    #[test]
    fn auth_field() {
        let auth = |text: &str| RegistryAuth {
            auth: Secret::new(text),
            ..RegistryAuth::default()
        };
        let good = auth("dXNlcjpwYXNz").for_host("h").unwrap().unwrap();
        assert_eq!(
            good,
            Credentials::Basic {
                username: "user".into(),
                password: Secret::new("pass")
            }
        );
        for bad in ["!", "dXNlcg=="] {
            let error = auth(bad).for_host("h").unwrap_err().to_string();
            assert!(!error.contains(bad), "{error}");
        }
    }
}
