//! The configuration that is made from a template.

use std::fs::{DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use insula_cni::Cidr;

use crate::conf::{NetworkConf, load, render};
use crate::error::{Error, Result};

/// The name of the file that is written to the directory of configurations.
const FILE: &str = "10-insula-net.conflist";

/// The bound on a template, in bytes.
const MAX_TEMPLATE: u64 = 1 << 20;

/// What became of a template.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Generated {
    /// It was written to this file.
    Written(PathBuf),
    /// This file says so already.
    Same(PathBuf),
    /// This file of somebody else's is in force, so nothing was written.
    Foreign(PathBuf),
}

/// Makes the configuration for these ranges, unless a usable one of somebody else's is in force,
/// as containerd does; unlike there, one that was made for other ranges is made again.
pub(super) fn generate(dir: &Path, template: &Path, ranges: &[Cidr]) -> Result<Generated> {
    let file = dir.join(FILE);
    let in_force = load(dir).ok().and_then(|loaded| loaded.file);
    if let Some(foreign) = in_force.filter(|known| *known != file) {
        return Ok(Generated::Foreign(foreign));
    }
    let wrong = |why: String| Error::Template {
        template: template.to_owned(),
        why,
    };
    let text = read(template).map_err(|error| wrong(error.to_string()))?;
    let rendered = render(&text, ranges).map_err(wrong)?;
    NetworkConf::parse_list(rendered.as_bytes(), |_| Ok(Vec::new())).map_err(|why| {
        wrong(format!(
            "what it becomes is no CNI configuration list: {why}"
        ))
    })?;
    if std::fs::read(&file).is_ok_and(|known| known == rendered.as_bytes()) {
        return Ok(Generated::Same(file));
    }
    write(dir, &file, rendered.as_bytes())
        .map_err(|source| Error::io("cannot write the CNI configuration", &file, source))?;
    Ok(Generated::Written(file))
}

fn read(template: &Path) -> io::Result<String> {
    let file = File::options()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(template)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = String::new();
    file.take(MAX_TEMPLATE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_TEMPLATE {
        return Err(io::Error::other(format!(
            "larger than {MAX_TEMPLATE} bytes"
        )));
    }
    Ok(text)
}

/// By way of a file that nobody takes for a configuration: readers see the old one or the new.
fn write(dir: &Path, file: &Path, content: &[u8]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    let temporary = dir.join(format!(".{FILE}.new"));
    let written = || -> io::Result<()> {
        let mut new = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .open(&temporary)?;
        new.write_all(content)?;
        new.sync_data()?;
        std::fs::rename(&temporary, file)?;
        File::open(dir)?.sync_all()
    };
    written().inspect_err(|_| {
        // The first error is the one that tells.
        let _left = std::fs::remove_file(&temporary);
    })
}

#[cfg(test)]
mod tests {
    use super::{FILE, Generated, generate};
    use crate::attachment::parse_cidrs;

    const TEMPLATE: &str = r#"{
        "cniVersion": "1.0.0", "name": "pods",
        "plugins": [{
            "type": "bridge",
            "ipam": {
                "type": "host-local",
                "ranges": [{{range $i, $range := .PodCIDRRanges}}{{if $i}}, {{end}}[{"subnet": "{{$range}}"}]{{end}}],
                "routes": [{{range $i, $route := .Routes}}{{if $i}}, {{end}}{"dst": "{{$route}}"}{{end}}]
            }
        }]
    }"#;

    #[test]
    fn it_is_written_once_for_each_set_of_ranges_and_never_beside_another() {
        let place = tempfile::tempdir().unwrap();
        let (dir, template) = (place.path().join("net.d"), place.path().join("template"));
        std::fs::write(&template, TEMPLATE).unwrap();
        let of = |ranges: &str| generate(&dir, &template, &parse_cidrs(ranges).unwrap()).unwrap();
        let (ours, read) = (dir.join(FILE), || {
            let text = std::fs::read(dir.join(FILE)).unwrap();
            serde_json::from_slice::<serde_json::Value>(&text).unwrap()
        });
        assert_eq!(of("10.1.0.0/24"), Generated::Written(ours.clone()));
        assert_eq!(of("10.1.0.0/24"), Generated::Same(ours.clone()));
        assert_eq!(
            of("10.2.0.0/24,fd00::/64"),
            Generated::Written(ours.clone())
        );
        let ipam = &read()["plugins"][0]["ipam"];
        let subnets = serde_json::json!([[{"subnet": "10.2.0.0/24"}], [{"subnet": "fd00::/64"}]]);
        assert_eq!(ipam["ranges"], subnets);
        let routes = serde_json::json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]);
        assert_eq!(ipam["routes"], routes);
        assert_eq!(
            std::fs::read_dir(&dir).unwrap().count(),
            1,
            "nothing else is left"
        );
        let foreign = dir.join("05-other.conflist");
        std::fs::write(&foreign, "{").unwrap();
        assert_eq!(
            of("10.3.0.0/24"),
            Generated::Written(ours.clone()),
            "a broken one"
        );
        let other = r#"{"cniVersion": "1.0.0", "name": "other", "plugins": [{"type": "bridge"}]}"#;
        std::fs::write(&foreign, other).unwrap();
        assert_eq!(of("10.4.0.0/24"), Generated::Foreign(foreign));
        assert_eq!(
            read()["plugins"][0]["ipam"]["ranges"][0][0]["subnet"],
            "10.3.0.0/24"
        );
    }

    #[test]
    fn a_bad_template_writes_nothing_and_is_named() {
        let place = tempfile::tempdir().unwrap();
        let (dir, template) = (place.path().join("net.d"), place.path().join("template"));
        let ranges = parse_cidrs("10.1.0.0/24").unwrap();
        for (text, want) in [
            (None, "No such file"),
            (Some("{{.Other}}"), "line 1: `{{.Other}}`"),
            (Some("{}"), "no CNI configuration list"),
            (Some("{{.PodCIDR}}"), "no CNI configuration list"),
        ] {
            if let Some(text) = text {
                std::fs::write(&template, text).unwrap();
            }
            let why = generate(&dir, &template, &ranges).unwrap_err().to_string();
            assert!(why.contains(want) && why.contains("template"), "{why}");
        }
        rustix::fs::mkfifoat(
            rustix::fs::CWD,
            place.path().join("pipe"),
            rustix::fs::Mode::RUSR,
        )
        .unwrap();
        let why = generate(&dir, &place.path().join("pipe"), &ranges).unwrap_err();
        assert!(why.to_string().contains("not a regular file"), "{why}");
        assert!(!dir.exists());
    }
}
