//! The grammar of `hosts.toml` (containerd's docs/hosts.md), without I/O.

use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What one `hosts.toml` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct HostsFile {
    /// `server`: the registry itself, asked last. None: as without a file.
    pub(super) server: Option<String>,
    /// The keys beside `server`, which are about it.
    pub(super) server_settings: HostSettings,
    /// `[host."URL"]`, in the file's order.
    pub(super) hosts: Vec<(String, HostSettings)>,
}

/// The keys of one host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct HostSettings {
    /// None means all.
    pub(super) capabilities: Option<Capabilities>,
    pub(super) ca: Vec<String>,
    /// Certificate and, unless it is in the same file, key.
    pub(super) client: Vec<(String, Option<String>)>,
    pub(super) skip_verify: bool,
    pub(super) override_path: bool,
    pub(super) header: Vec<(String, Vec<String>)>,
    pub(super) dial_timeout: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Capabilities {
    pub(super) pull: bool,
    pub(super) resolve: bool,
}

const HOST_KEYS: [&str; 7] = [
    "capabilities",
    "ca",
    "client",
    "skip_verify",
    "override_path",
    "header",
    "dial_timeout",
];

/// Reads a file's text. The error names the line.
pub(super) fn parse(text: &str) -> Result<HostsFile, String> {
    let root = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        format!("line {}: {}", line(text, at), error.message())
    })?;
    let reader = Reader { text };
    let mut file = HostsFile::default();
    for (key, value) in root.get_ref() {
        match key.get_ref().as_ref() {
            "server" => file.server = Some(reader.string("server", value)?),
            "host" => {
                for (url, table) in ordered(reader.table("host", value)?) {
                    let mut settings = HostSettings::default();
                    for (key, value) in reader.table("host", table)? {
                        if !reader.setting(key.get_ref(), value, &mut settings)? {
                            return Err(reader.unknown(
                                key.span().start,
                                key.get_ref(),
                                &HOST_KEYS,
                            ));
                        }
                    }
                    file.hosts.push((url.to_owned(), settings));
                }
            }
            name => {
                if !reader.setting(name, value, &mut file.server_settings)? {
                    let known: Vec<&str> =
                        ["server", "host"].into_iter().chain(HOST_KEYS).collect();
                    return Err(reader.unknown(key.span().start, name, &known));
                }
            }
        }
    }
    Ok(file)
}

type Value<'a> = Spanned<DeValue<'a>>;

struct Reader<'t> {
    text: &'t str,
}

impl Reader<'_> {
    fn setting(
        &self,
        key: &str,
        value: &Value<'_>,
        into: &mut HostSettings,
    ) -> Result<bool, String> {
        match key {
            "capabilities" => into.capabilities = Some(self.capabilities(value)?),
            "ca" => into.ca = self.strings(key, value)?,
            "client" => into.client = self.client(value)?,
            "skip_verify" => into.skip_verify = self.boolean(key, value)?,
            "override_path" => into.override_path = self.boolean(key, value)?,
            "dial_timeout" => {
                let duration = parse_duration(&self.string(key, value)?);
                into.dial_timeout = Some(duration.ok_or_else(|| {
                    self.error(
                        value,
                        "dial_timeout must be a time such as \"3s\" or \"500ms\"",
                    )
                })?);
            }
            "header" => {
                for (name, value) in ordered(self.table(key, value)?) {
                    into.header
                        .push((name.to_owned(), self.strings(name, value)?));
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn capabilities(&self, value: &Value<'_>) -> Result<Capabilities, String> {
        let mut capabilities = Capabilities::default();
        for name in self.strings("capabilities", value)? {
            match name.as_str() {
                "pull" => capabilities.pull = true,
                "resolve" => capabilities.resolve = true,
                "push" | "referrers" => {}
                _ => return Err(self.error(value, "capabilities are pull, resolve and push")),
            }
        }
        Ok(capabilities)
    }

    /// A string, a list of strings, or a list of [certificate, key].
    fn client(&self, value: &Value<'_>) -> Result<Vec<(String, Option<String>)>, String> {
        const WANT: &str =
            "client must be a file, a list of files, or a list of [certificate, key]";
        if let Some(one) = value.get_ref().as_str() {
            return Ok(vec![(one.to_owned(), None)]);
        }
        let Some(list) = value.get_ref().as_array() else {
            return Err(self.error(value, WANT));
        };
        let entry = |item: &Value<'_>| match item.get_ref() {
            DeValue::String(one) => Ok((one.to_string(), None)),
            DeValue::Array(pair) => {
                let parts: Option<Vec<&str>> =
                    pair.iter().map(|part| part.get_ref().as_str()).collect();
                match parts.as_deref() {
                    Some([certificate]) => Ok(((*certificate).to_owned(), None)),
                    Some([certificate, key]) => {
                        let key = Some((*key).to_owned()).filter(|key| !key.is_empty());
                        Ok(((*certificate).to_owned(), key))
                    }
                    _ => Err(self.error(item, WANT)),
                }
            }
            _ => Err(self.error(item, WANT)),
        };
        list.iter().map(entry).collect()
    }

    fn string(&self, key: &str, value: &Value<'_>) -> Result<String, String> {
        let text = value.get_ref().as_str();
        text.map(str::to_owned)
            .ok_or_else(|| self.error(value, &format!("{key} must be a string")))
    }

    fn strings(&self, key: &str, value: &Value<'_>) -> Result<Vec<String>, String> {
        let wrong = || {
            self.error(
                value,
                &format!("{key} must be a string or a list of strings"),
            )
        };
        match value.get_ref() {
            DeValue::String(one) => Ok(vec![one.to_string()]),
            DeValue::Array(list) => {
                let text = |item: &Value<'_>| item.get_ref().as_str().map(str::to_owned);
                list.iter()
                    .map(|item| text(item).ok_or_else(wrong))
                    .collect()
            }
            _ => Err(wrong()),
        }
    }

    fn boolean(&self, key: &str, value: &Value<'_>) -> Result<bool, String> {
        let wrong = || self.error(value, &format!("{key} must be true or false"));
        value.get_ref().as_bool().ok_or_else(wrong)
    }

    fn table<'v, 'a>(&self, key: &str, value: &'v Value<'a>) -> Result<&'v DeTable<'a>, String> {
        value
            .get_ref()
            .as_table()
            .ok_or_else(|| self.error(value, &format!("{key} must be a table")))
    }

    fn error(&self, value: &Value<'_>, reason: &str) -> String {
        format!("line {}: {reason}", line(self.text, value.span().start))
    }

    fn unknown(&self, at: usize, key: &str, known: &[&str]) -> String {
        let nearest = known
            .iter()
            .max_by(|a, b| strsim::jaro_winkler(key, a).total_cmp(&strsim::jaro_winkler(key, b)));
        let hint = nearest
            .map(|name| format!("; did you mean {name:?}?"))
            .unwrap_or_default();
        let shown: String = key.chars().take(80).collect();
        format!("line {}: unknown key {shown:?}{hint}", line(self.text, at))
    }
}

/// The entries of a table in the order of the file: mirrors are tried in that order.
fn ordered<'v, 'a>(table: &'v DeTable<'a>) -> Vec<(&'v str, &'v Value<'a>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
        .into_iter()
        .map(|(key, value)| (key.get_ref().as_ref(), value))
        .collect()
}

fn line(text: &str, at: usize) -> usize {
    text.get(..at)
        .map_or(1, |before| before.split('\n').count())
}

/// A Go duration: decimal numbers with units, such as `1m30s` or `1.5s`.
fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        seconds += number
            * match &rest[..end] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[end..];
    }
    if text.is_empty() {
        None
    } else {
        Duration::try_from_secs_f64(seconds).ok()
    }
}

#[cfg(test)]
mod tests;
