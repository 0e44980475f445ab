//! `WWW-Authenticate` (RFC 9110 §11.6.1; the bearer scheme is the distribution project's).

/// What a registry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A user's name and password.
    Basic,
    /// A token from a token server.
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

/// Upper bound of one header that is looked at.
const MAX_HEADER: usize = 16 * 1024;

impl Challenge {
    /// The best challenge of a header: bearer before basic. None if there is none we know.
    pub(super) fn parse(header: &str) -> Option<Self> {
        if header.len() > MAX_HEADER {
            return None;
        }
        let mut best = None;
        for (scheme, parameters) in challenges(header) {
            if scheme.eq_ignore_ascii_case("basic") {
                best = best.or(Some(Self::Basic));
            } else if scheme.eq_ignore_ascii_case("bearer") {
                let get = |name: &str| {
                    let found = parameters
                        .iter()
                        .find(|(key, _)| key.eq_ignore_ascii_case(name));
                    found
                        .map(|(_, value)| value.clone())
                        .filter(|value| !value.is_empty())
                };
                if let Some(realm) = get("realm") {
                    return Some(Self::Bearer {
                        realm,
                        service: get("service"),
                        scope: get("scope"),
                    });
                }
            }
        }
        best
    }
}

type Parameters = Vec<(String, String)>;

/// Splits a header into schemes and their parameters. Malformed rests are dropped.
fn challenges(header: &str) -> Vec<(String, Parameters)> {
    let mut found: Vec<(String, Parameters)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        if end == 0 {
            return found;
        }
        let (word, after) = rest.split_at(end);
        let value = after.trim_start_matches([' ', '\t']).strip_prefix('=');
        match (value, found.last_mut()) {
            (Some(value), Some((_, parameters))) => {
                let Some((text, after)) = parameter(value.trim_start_matches([' ', '\t'])) else {
                    return found;
                };
                parameters.push((word.to_owned(), text));
                rest = after;
            }
            (Some(_), None) => return found,
            (None, _) => {
                found.push((word.to_owned(), Vec::new()));
                rest = after;
            }
        }
    }
}

/// A token or quoted string, and what follows it.
fn parameter(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| !is_token(c)).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return Some((value, &quoted[at + 1..])),
            _ => value.push(c),
        }
    }
    None
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/:".contains(c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
        }
    }

    #[test]
    fn reads_real_headers() {
        let cases = [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/redis:pull""#,
                Some(bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:library/redis:pull"),
                )),
            ),
            (
                r#"bearer REALM="https://x/t" , service=y"#,
                Some(bearer("https://x/t", Some("y"), None)),
            ),
            (
                r#"Basic realm="x", Bearer realm="https://x/t""#,
                Some(bearer("https://x/t", None, None)),
            ),
            (
                r#"Basic realm="a, Bearer realm=\"b\"""#,
                Some(Challenge::Basic),
            ),
            ("Basic", Some(Challenge::Basic)),
            (r#"Bearer error="x""#, None),
            (r#"Bearer realm="unterminated"#, None),
            ("Negotiate", None),
            ("", None),
        ];
        for (header, expected) in cases {
            assert_eq!(Challenge::parse(header), expected, "{header}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(header in "\\PC{0,200}") {
            let _ = Challenge::parse(&header);
        }

        #[test]
        fn quoted_values_round_trip(realm in "[ -~]{1,40}") {
            let quoted = realm.replace('\\', "\\\\").replace('"', "\\\"");
            let header = format!("Bearer realm=\"{quoted}\"");
            prop_assert_eq!(Challenge::parse(&header), Some(bearer(&realm, None, None)));
        }
    }
}
