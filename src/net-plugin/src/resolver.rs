//! Resolver settings out of a file, resolv.conf(5).

use crate::error::Failure;
use crate::result::Dns;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The bound on what is read of the file.
const MAX_FILE: u64 = 64 << 10;

/// The settings in the file.
pub(crate) fn read(path: &Path) -> Result<Dns, Failure> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_string(&mut text))
        .map_err(|error| Failure::io(format!("cannot read {}", path.display()), &error))?;
    Ok(parse(&text))
}

fn parse(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines().filter(|line| !line.starts_with(['#', ';'])) {
        let mut words = line.split_whitespace();
        let keyword = words.next();
        let words: Vec<String> = words.map(str::to_owned).collect();
        match keyword {
            Some("nameserver") => dns.nameservers.extend(words.into_iter().next()),
            Some("domain") => dns.domain = words.into_iter().next().unwrap_or_default(),
            // The last one counts, and options add up.
            Some("search") => dns.search = words,
            Some("options") => dns.options.extend(words),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_resolver_file_is_read_by_its_keywords() {
        let dns = parse(
            "# c\nnameserver 10.0.0.1\nnameserver fd00::1 x\ndomain a.b\nsearch one\nsearch two three\n\
             options ndots:5\noptions edns0\nnameserver\nother x\n",
        );
        assert_eq!(dns.nameservers, ["10.0.0.1", "fd00::1"]);
        assert_eq!(dns.domain, "a.b");
        assert_eq!(dns.search, ["two", "three"]);
        assert_eq!(dns.options, ["ndots:5", "edns0"]);
    }
}
