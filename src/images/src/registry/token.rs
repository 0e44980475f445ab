//! Answers to challenges: basic credentials, or a token from the token server that the registry
//! names (distribution project, docs/spec/auth/token.md and oauth.md).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::uri::Scheme;
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use hyper::body::Incoming;
use serde::Deserialize;

use super::auth::Credentials;
use super::challenge::Challenge;
use super::transport::{Transport, authorization};
use super::{host_of, redacted};
use crate::error::{Error, Result};
use crate::secret::Secret;

/// Upper bound of a token server's answer, in bytes.
const MAX_TOKEN: u64 = 1024 * 1024;

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

/// The `Authorization` header that answers a challenge of the registry at `registry`.
pub(super) async fn answer(
    transport: &Transport,
    registry: &Uri,
    repository: &str,
    challenge: &Challenge,
    credentials: Option<&Credentials>,
) -> Result<HeaderValue> {
    let refused = |reason: String| Error::Unauthorized {
        host: host_of(registry),
        what: repository.to_owned(),
        reason,
    };
    match (challenge, credentials) {
        (_, Some(Credentials::Bearer(token))) => bearer(token.expose()).map_err(refused),
        (Challenge::Basic, Some(Credentials::Basic { username, password })) => {
            basic(username, password).map_err(refused)
        }
        (Challenge::Basic, Some(Credentials::Refresh(_))) => Err(refused(
            "it wants a user name and password, but an identity token was given".into(),
        )),
        (Challenge::Basic, None) => Err(refused(
            "it wants a user name and password, and none were given for this host".into(),
        )),
        (
            Challenge::Bearer {
                realm,
                service,
                scope,
            },
            credentials,
        ) => {
            let realm: Uri = realm
                .parse()
                .ok()
                .filter(|uri: &Uri| {
                    matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
                })
                .ok_or_else(|| refused("it names a token server that is no HTTP URL".into()))?;
            if credentials.is_some()
                && registry.scheme() == Some(&Scheme::HTTPS)
                && realm.scheme() == Some(&Scheme::HTTP)
            {
                return Err(refused(
                    "its token server would see the credentials in clear text".into(),
                ));
            }
            let scope = match scope {
                Some(scope) if pull_only(scope) => scope.clone(),
                _ => format!("repository:{repository}:pull"),
            };
            let request = TokenRequest {
                realm,
                service: service.as_deref(),
                scope: &scope,
            };
            let token = request.send(transport, credentials, &refused).await?;
            bearer(token.expose()).map_err(refused)
        }
    }
}

struct TokenRequest<'a> {
    realm: Uri,
    service: Option<&'a str>,
    scope: &'a str,
}

impl TokenRequest<'_> {
    /// Asks for a token. An error says what the token server did; the caller knows for whom.
    async fn send(
        &self,
        transport: &Transport,
        credentials: Option<&Credentials>,
        refused: &(dyn Fn(String) -> Error + Sync),
    ) -> Result<Secret> {
        let response = match credentials {
            Some(Credentials::Refresh(token)) => self.post(transport, token).await?,
            _ => self.get(transport, credentials, refused).await?,
        };
        let server = redacted(&self.realm);
        let status = response.status();
        if status != StatusCode::OK {
            let reason = format!("its token server {server} answered {status}");
            return Err(match status.as_u16() {
                429 | 500.. => Error::Unavailable(refused(reason).to_string()),
                _ => refused(reason),
            });
        }
        let body = transport.read_all(response, &self.realm, MAX_TOKEN).await?;
        let answer: TokenAnswer = serde_json::from_slice(&body)
            .map_err(|_| refused(format!("its token server {server} sent no token document")))?;
        let present = |token: &String| !token.is_empty();
        let token = answer
            .token
            .filter(present)
            .or(answer.access_token)
            .filter(present);
        let missing = || refused(format!("its token server {server} sent no token"));
        token.map(Secret::new).ok_or_else(missing)
    }

    async fn post(&self, transport: &Transport, token: &Secret) -> Result<Response<Incoming>> {
        let mut headers = HeaderMap::new();
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, form_type);
        let form = format!(
            "grant_type=refresh_token&client_id=insula&refresh_token={}&{}",
            escape(token.expose()),
            self.parameters()
        );
        transport.post(&self.realm, headers, form).await
    }

    async fn get(
        &self,
        transport: &Transport,
        credentials: Option<&Credentials>,
        refused: &(dyn Fn(String) -> Error + Sync),
    ) -> Result<Response<Incoming>> {
        let own = self
            .realm
            .query()
            .map(|query| format!("{query}&"))
            .unwrap_or_default();
        let mut parts = self.realm.clone().into_parts();
        parts.path_and_query = format!("{}?{own}{}", self.realm.path(), self.parameters())
            .parse()
            .ok();
        let url = Uri::from_parts(parts)
            .map_err(|_| refused("its token server's URL is not valid".into()))?;
        let auth = match credentials {
            Some(Credentials::Basic { username, password }) => {
                Some(basic(username, password).map_err(refused)?)
            }
            _ => None,
        };
        let private = authorization(auth, &[]);
        transport
            .get(Method::GET, &url, &HeaderMap::new(), &private)
            .await
    }

    fn parameters(&self) -> String {
        let service = self
            .service
            .map(|service| format!("&service={}", escape(service)));
        format!(
            "scope={}{}",
            escape(self.scope),
            service.unwrap_or_default()
        )
    }
}

/// Every part of a scope is about pulling a repository.
fn pull_only(scope: &str) -> bool {
    scope.len() <= 1024
        && scope
            .split(' ')
            .all(|part| part.starts_with("repository:") && part.ends_with(":pull"))
}

fn bearer(token: &str) -> Result<HeaderValue, String> {
    sensitive(&format!("Bearer {token}"))
}

fn basic(username: &str, password: &Secret) -> Result<HeaderValue, String> {
    sensitive(&format!(
        "Basic {}",
        STANDARD.encode(format!("{username}:{}", password.expose()))
    ))
}

fn sensitive(text: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| "the credentials hold control characters".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// Percent-encoding of everything but RFC 3986 unreserved characters.
fn escape(text: &str) -> String {
    use std::fmt::Write as _;
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_scopes() {
        assert_eq!(
            escape("repository:a/b:pull &"),
            "repository%3Aa%2Fb%3Apull%20%26"
        );
        assert!(pull_only("repository:a/b:pull repository:c:pull"));
        assert!(!pull_only("repository:a:pull,push"));
        assert!(!pull_only("registry:catalog:*"));
        assert!(!pull_only(""));
    }
}
