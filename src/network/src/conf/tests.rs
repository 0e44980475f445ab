use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::{NetworkConf, PluginType, load};
use crate::error::Error;

const GOOD: &str = r#"{"cniVersion":"1.0.0","name":"good","plugins":[{"type":"bridge"}]}"#;

#[expect(
    clippy::unnecessary_wraps,
    reason = "a list with no plugins in files of their own"
)]
fn none(_: &str) -> Result<Vec<crate::json::Object>, String> {
    Ok(Vec::new())
}

fn parse(text: &str) -> Result<NetworkConf, String> {
    NetworkConf::parse_list(text.as_bytes(), none)
}

#[test]
fn plugin_types_are_bare_file_names() {
    for good in ["bridge", "host-local", "a.b", "..a", "Ω"] {
        assert!(PluginType::parse(good).is_ok(), "{good:?}");
    }
    let long = "a".repeat(256);
    for bad in [
        "",
        ".",
        "..",
        "/bin/sh",
        "../../../bin/x",
        "a/b",
        "a/",
        "a\\b",
        "a\0b",
        "a\nb",
        &long,
    ] {
        assert!(PluginType::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn lists_that_are_refused_say_why() {
    for (text, why) in [
        ("", "not a JSON object"),
        ("[]", "not a JSON object"),
        (
            r#"{"cniVersion":"1.0.0","plugins":[{"type":"a"}]}"#,
            "no \"name\"",
        ),
        (
            r#"{"cniVersion":"1.0.0","name":"../x","plugins":[{"type":"a"}]}"#,
            "name \"../x\"",
        ),
        (
            r#"{"cniVersion":"1.0.0","name":"","plugins":[{"type":"a"}]}"#,
            "name \"\"",
        ),
        (
            r#"{"cniVersion":"1.0.0","name":7,"plugins":[{"type":"a"}]}"#,
            "key \"name\"",
        ),
        (
            r#"{"name":"n","plugins":[{"type":"a"}]}"#,
            "no \"cniVersion\"",
        ),
        (
            r#"{"cniVersion":"0.2.0","name":"n","plugins":[{"type":"a"}]}"#,
            "\"0.2.0\" is not supported; use one of 0.3.0",
        ),
        (r#"{"cniVersion":"1.0.0","name":"n"}"#, "no plugins"),
        (
            r#"{"cniVersion":"1.0.0","name":"n","plugins":[]}"#,
            "no plugins",
        ),
        (
            r#"{"cniVersion":"1.0.0","name":"n","plugins":{}}"#,
            "key \"plugins\"",
        ),
        (
            r#"{"cniVersion":"1.0.0","name":"n","plugins":[{}]}"#,
            "no \"type\"",
        ),
        (
            r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"../../../bin/x"}]}"#,
            "not a bare file name",
        ),
        (
            r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"a","ipam":{"type":"/x"}}]}"#,
            "not a bare file name",
        ),
        (
            r#"{"cniVersion":"1.0.0","name":"n","disableCheck":"maybe","plugins":[{"type":"a"}]}"#,
            "not true or false",
        ),
        (
            r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"a","capabilities":["x"]}]}"#,
            "plugin a: key \"capabilities\"",
        ),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
    }
    let many = vec![r#"{"type":"a"}"#; 65].join(",");
    let error = parse(&format!(
        r#"{{"cniVersion":"1.0.0","name":"n","plugins":[{many}]}}"#
    ))
    .unwrap_err();
    assert!(error.contains("more than 64"), "{error}");
}

#[test]
fn the_newest_version_that_we_speak_is_chosen() {
    for (keys, expected) in [
        (r#""cniVersion":"0.3.1""#, "0.3.1"),
        (
            r#""cniVersion":"1.0.0","cniVersions":["0.4.0","1.1.0","7.0.0"]"#,
            "1.1.0",
        ),
        (r#""cniVersions":["0.3.1","0.4.0"]"#, "0.4.0"),
        (r#""cniVersion":"0.4.0","cniVersions":[]"#, "0.4.0"),
    ] {
        let conf = parse(&format!(
            r#"{{{keys},"name":"n","plugins":[{{"type":"a"}}]}}"#
        ))
        .unwrap();
        assert_eq!(conf.version.as_str(), expected, "{keys}");
    }
}

#[test]
fn flags_may_be_strings() {
    for (value, expected) in [
        ("true", true),
        ("\"true\"", true),
        ("\"True\"", true),
        ("false", false),
        ("\"false\"", false),
        ("null", false),
    ] {
        let conf = parse(&format!(
            r#"{{"cniVersion":"1.1.0","name":"n","disableCheck":{value},"disableGC":{value},"plugins":[{{"type":"a"}}]}}"#
        ))
        .unwrap();
        assert_eq!(
            (conf.disable_check, conf.disable_gc),
            (expected, expected),
            "{value}"
        );
    }
}

#[test]
fn what_plugins_declare_is_read() {
    let conf = parse(
        r#"{"cniVersion":"1.0.0","name":"n","plugins":[
            {"type":"a","ipam":{"type":"host-local"},"capabilities":{"portMappings":true,"dns":false}},
            {"type":"b","ipam":{}}, {"type":"c","ipam":"odd"}]}"#,
    )
    .unwrap();
    assert!(conf.declares("portMappings"));
    assert!(!conf.declares("dns"));
    let ipam: Vec<_> = conf
        .plugins
        .iter()
        .map(|plugin| plugin.ipam.as_ref().map(PluginType::as_str))
        .collect();
    assert_eq!(ipam, [Some("host-local"), None, None]);
}

#[test]
fn a_recorded_network_is_the_same_network() {
    let text = r#"{"cniVersion":"1.1.0","name":"n","disableGC":true,"plugins":[{"type":"a","big":12345678901234567890123,"f":1.0}]}"#;
    let conf = parse(text).unwrap();
    let stored = serde_json::to_string(&conf).unwrap();
    assert!(
        stored.contains(r#"{"type":"a","big":12345678901234567890123,"f":1.0}"#),
        "{stored}"
    );
    let again: NetworkConf = serde_json::from_str(&stored).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), stored);
    // A record is hostile, too.
    let bent = stored.replace(r#""type":"a""#, r#""type":"../a""#);
    assert!(serde_json::from_str::<NetworkConf>(&bent).is_err());
}

/// Files of a directory, and the network and file that win, or the error.
fn loaded(files: &[(&str, &str)]) -> Result<(String, String, usize), Error> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    load(dir.path()).map(|loaded| {
        let file = loaded
            .file
            .unwrap()
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        (loaded.conf.name, file, loaded.skipped.len())
    })
}

#[test]
fn the_first_valid_file_in_lexical_order_wins() {
    let other = &GOOD.replace("good", "other");
    let single = r#"{"cniVersion":"0.3.1","name":"single","type":"ptp"}"#;
    for (files, network, file, skipped) in [
        (
            vec![("b.conflist", GOOD), ("a.conflist", other)],
            "other",
            "a.conflist",
            0,
        ),
        (
            vec![("10-x.conflist", GOOD), ("9-x.conflist", other)],
            "good",
            "10-x.conflist",
            0,
        ),
        (
            vec![("a.conflist", "{"), ("b.conflist", GOOD)],
            "good",
            "b.conflist",
            1,
        ),
        (
            vec![("a.conf", single), ("b.conflist", GOOD)],
            "single",
            "a.conf",
            0,
        ),
        (vec![("a.json", single)], "single", "a.json", 0),
        (
            vec![("a.conf", GOOD), ("b.conflist", GOOD)],
            "good",
            "b.conflist",
            1,
        ),
        (
            vec![
                ("a.conflist.bak", other),
                ("a.yaml", other),
                ("z.conflist", GOOD),
            ],
            "good",
            "z.conflist",
            0,
        ),
        (
            vec![("a.conflist/inner", other), ("b.conflist", GOOD)],
            "good",
            "b.conflist",
            0,
        ),
    ] {
        assert_eq!(
            loaded(&files).unwrap(),
            (network.to_owned(), file.to_owned(), skipped),
            "{files:?}"
        );
    }
}

#[test]
fn no_configuration_and_bad_configuration_are_told_apart() {
    assert!(matches!(
        load(Path::new("/nonexistent/cni")),
        Err(Error::NoConfiguration(_))
    ));
    assert!(matches!(
        loaded(&[("readme.txt", "")]),
        Err(Error::NoConfiguration(_))
    ));
    let Err(Error::BadConfiguration { file, why }) = loaded(&[
        (
            "a.conflist",
            r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"../../../bin/x"}]}"#,
        ),
        ("b.conflist", "{"),
    ]) else {
        panic!("expected a bad configuration");
    };
    assert!(
        file.ends_with("a.conflist") && why.contains("bare file name"),
        "{why}"
    );
    let big = format!("{}{GOOD}", " ".repeat(1 << 20));
    let Err(Error::BadConfiguration { why, .. }) = loaded(&[("a.conflist", &big)]) else {
        panic!("expected a bad configuration");
    };
    assert!(why.contains("larger than"), "{why}");
}

#[test]
fn a_fifo_or_a_dangling_link_among_the_files_does_not_hang() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("a.conflist");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    std::os::unix::fs::symlink("nowhere", dir.path().join("b.conflist")).unwrap();
    fs::write(dir.path().join("target"), GOOD).unwrap();
    std::os::unix::fs::symlink("target", dir.path().join("c.conflist")).unwrap();
    let loaded = load(dir.path()).unwrap();
    assert!(loaded.file.is_some_and(|file| file.ends_with("c.conflist")));
    assert_eq!(loaded.skipped.len(), 2);
}

#[test]
fn plugins_in_files_of_their_own_are_added() {
    let inline = r#"{"cniVersion":"1.1.0","name":"net","plugins":[{"type":"a"}]}"#;
    let only = inline.replace("\"name\"", "\"loadOnlyInlinedPlugins\":true,\"name\"");
    let bare = r#"{"cniVersion":"1.1.0","name":"net"}"#;
    for (list, expected) in [
        (inline, vec!["a", "b", "c"]),
        (&only, vec!["a"]),
        (bare, vec!["b", "c"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("x.conflist"), list).unwrap();
        fs::create_dir(dir.path().join("net")).unwrap();
        fs::write(dir.path().join("net/2.conf"), r#"{"type":"c"}"#).unwrap();
        fs::write(dir.path().join("net/1.conf"), r#"{"type":"b"}"#).unwrap();
        fs::write(dir.path().join("net/3.conflist"), "ignored").unwrap();
        let conf = load(dir.path()).unwrap().conf;
        let kinds: Vec<_> = conf
            .plugins
            .iter()
            .map(|plugin| plugin.kind.as_str())
            .collect();
        assert_eq!(kinds, expected, "{list}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = NetworkConf::parse_list(&bytes, none);
        let _ = NetworkConf::parse_single(&bytes);
    }

    #[test]
    fn accepted_types_stay_in_their_directory(text in "[./a\\\\\u{0}-]{0,6}") {
        if let Ok(kind) = PluginType::parse(&text) {
            let path = Path::new("/opt/cni/bin").join(kind.as_str());
            prop_assert_eq!(path.parent(), Some(Path::new("/opt/cni/bin")));
            prop_assert_eq!(path.file_name().and_then(|name| name.to_str()), Some(kind.as_str()));
        }
    }
}
