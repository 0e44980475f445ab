use super::runtimes::{Kind, conflict};
use super::{Address, Config, Format, KEYS, Level, Sources, apply, load};
use std::fs;
use std::path::{Path, PathBuf};

fn read(text: &str) -> Result<Config, String> {
    let mut config = Config::default();
    apply(&mut config, Path::new("c.toml"), text)
        .map(|()| config)
        .map_err(|error| error.to_string())
}

/// Another value than the default, for each key.
const EVERY_KEY: &str = r#"
listen = "unix:///tmp/i.sock"
root = "/srv/insula"
state = "/tmp/state"
[cni]
conf_dir = "/etc/net"
bin_dirs = ["/a", "/b"]
plugin_timeout = 10
conf_template = "/etc/net.template"
default_network = false
default_bridge = "br0"
default_subnets = ["10.1.0.0/16"]
[registry]
config_path = ["/certs"]
connect_timeout = 5
progress_timeout = 3600
[cgroup]
driver = "cgroupfs"
parent = "/kube/insula/"
[security]
device_ownership_from_security_context = true
seccomp_default = "runtime-default"
[cdi]
spec_dirs = ["/srv/cdi"]
[streaming]
address = "[::1]:4000"
tls = true
certificate = "/tls.crt"
key = "/tls.key"
client_ca = "/ca.crt"
idle_timeout = 60
creation_timeout = 0x10
[metrics]
address = "127.0.0.1:9090"
[log]
level = "debug"
format = "json"
"#;

#[test]
fn every_key_is_read() {
    let config = read(EVERY_KEY).unwrap();
    assert_eq!(config.listen, Address::Unix("/tmp/i.sock".into()));
    assert_eq!(config.cni.bin_dirs, [PathBuf::from("/a"), "/b".into()]);
    assert_eq!(config.cgroup.parent, "kube/insula");
    assert_eq!(config.log.level, Level::Debug);
    assert_eq!(config.log.format, Format::Json);
    // A key that is known but goes nowhere would leave its default in place.
    let leaves = |config: &Config| {
        let mut leaves = Vec::new();
        for (name, value) in serde_json::to_value(config).unwrap().as_object().unwrap() {
            match value.as_object() {
                Some(section) => leaves.extend(
                    section
                        .iter()
                        .map(|(key, v)| (format!("{name}.{key}"), v.clone())),
                ),
                None => leaves.push((name.clone(), value.clone())),
            }
        }
        leaves
    };
    let (changed, default) = (leaves(&config), leaves(&Config::default()));
    assert_eq!(changed.len(), KEYS.len());
    for ((name, value), (_, before)) in changed.iter().zip(&default) {
        assert!(KEYS.contains(&name.as_str()), "{name}");
        assert_ne!(value, before, "{name}");
    }
}

#[test]
fn what_is_printed_can_be_read() {
    for config in [Config::default(), read(EVERY_KEY).unwrap()] {
        let text = toml::to_string(&config).unwrap();
        assert_eq!(read(&text).unwrap(), config, "{text}");
    }
}

#[test]
fn the_example_shows_every_key_with_its_default() {
    let example = include_str!("../../../../../deploy/config.toml");
    assert_eq!(read(example).unwrap(), Config::default());
    // A comment has a space after its sign, a key has none.
    let keys: Vec<_> = example
        .lines()
        .filter(|line| line.starts_with('#') && !line.starts_with("# ") && line.len() > 1)
        .collect();
    assert_eq!(keys.len(), KEYS.len(), "{keys:?}");
    let all: String = example
        .lines()
        .map(|line| {
            if keys.contains(&line) {
                &line[1..]
            } else {
                line
            }
        })
        .fold(String::new(), |text, line| text + line + "\n");
    assert_eq!(read(&all).unwrap(), Config::default());
}

#[test]
fn an_empty_file_changes_nothing() {
    for text in [
        "",
        "# only a comment\n",
        "[cni]\n[log]\n",
        "[metrics]\naddress = \"\"\n",
    ] {
        assert_eq!(read(text).unwrap(), Config::default());
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn mistakes_are_named_with_file_line_and_remedy() {
    let cases = [
        (
            "\n[cni]\nbin_dir = []\n",
            "c.toml:3: unknown key `cni.bin_dir`, did you mean `cni.bin_dirs`?",
        ),
        (
            "[cin]\nconf_dir = \"/x\"\n",
            "c.toml:1: unknown key `cin`, did you mean `cni`?",
        ),
        (
            "lisen = \"unix:///x\"\n",
            "c.toml:1: unknown key `lisen`, did you mean `listen`?",
        ),
        (
            "# a\n# b\nconf_dir = \"/x\"\n",
            "c.toml:3: unknown key `conf_dir`, did you mean `cni.conf_dir`?",
        ),
        (
            "[log]\nfile = \"/x\"\nlevel = \"info\"\n",
            "c.toml:2: unknown key `log.file`, there are listen, root, state, cni.conf_dir, \
             cni.conf_template, cni.bin_dirs, cni.plugin_timeout, cni.default_network, cni.default_bridge, \
             cni.default_subnets, registry.config_path, registry.connect_timeout, \
             registry.progress_timeout, cgroup.driver, cgroup.parent, \
             security.device_ownership_from_security_context, security.seccomp_default, \
             cdi.spec_dirs, streaming.address, \
             streaming.tls, streaming.certificate, streaming.key, streaming.client_ca, \
             streaming.idle_timeout, streaming.creation_timeout, \
             metrics.address, log.level, log.format",
        ),
        (
            "snapshotter = \"overlayfs\"\n",
            "c.toml:1: unknown key `snapshotter`, there are listen, root, state, cni.conf_dir, \
             cni.conf_template, cni.bin_dirs, cni.plugin_timeout, cni.default_network, cni.default_bridge, \
             cni.default_subnets, registry.config_path, registry.connect_timeout, \
             registry.progress_timeout, cgroup.driver, cgroup.parent, \
             security.device_ownership_from_security_context, security.seccomp_default, \
             cdi.spec_dirs, streaming.address, \
             streaming.tls, streaming.certificate, streaming.key, streaming.client_ca, \
             streaming.idle_timeout, streaming.creation_timeout, \
             metrics.address, log.level, log.format",
        ),
        (
            "[security]\ndevice_ownership_from_security_context = \"yes\"\n",
            "c.toml:2: `security.device_ownership_from_security_context`: expected true or false, \
             found a string",
        ),
        (
            "root = 7\n",
            "c.toml:1: `root`: expected a string, found an integer",
        ),
        (
            "root = \"var\"\n",
            "c.toml:1: `root`: expected an absolute path, found \"var\"",
        ),
        (
            "[registry]\nconfig_path = \"/a:/b\"\n",
            "c.toml:2: `registry.config_path`: expected a list of absolute paths, found a string",
        ),
        (
            "[cni]\nbin_dirs = [\"/a\",\n  3]\n",
            "c.toml:2: `cni.bin_dirs`: expected a string, found an integer",
        ),
        (
            "[cni]\nplugin_timeout = \"1m\"\n",
            "c.toml:2: `cni.plugin_timeout`: expected a number of seconds, found a string",
        ),
        (
            "[registry]\nprogress_timeout = 0\n",
            "c.toml:2: `registry.progress_timeout`: 0 is not between 1 and 3600 seconds",
        ),
        (
            "[cni]\ndefault_subnets = [\"10.1.0.1/16\"]\n",
            "c.toml:2: `cni.default_subnets`: \"10.1.0.1/16\" has bits of a host behind the prefix",
        ),
        (
            "[cni]\ndefault_subnets = []\n",
            "c.toml:2: `cni.default_subnets`: there must be one; default_network = false switches \
             it off",
        ),
        (
            "[cni]\ndefault_bridge = \"a/b\"\n",
            "c.toml:2: `cni.default_bridge`: \"a/b\" is no name for a bridge: up to 15 letters, \
             digits, _ . and -",
        ),
        (
            "cni = \"x\"\n",
            "c.toml:1: `cni`: expected a section [cni], found a string",
        ),
        (
            "listen = \"/run/x.sock\"\n",
            "c.toml:1: `listen`: \"/run/x.sock\" is not \"unix:///path\"",
        ),
        (
            "listen = \"unix://x.sock\"\n",
            "c.toml:1: `listen`: \"unix://x.sock\" has no absolute path after \"unix://\"",
        ),
        (
            "[metrics]\naddress = \"0.0.0.0:1338\"\n",
            "c.toml:2: `metrics.address`: \"0.0.0.0:1338\" is not \"unix:///path\" or a loopback \
             address such as \"127.0.0.1:9090\"",
        ),
        (
            "[streaming]\naddress = \"0.0.0.0:0\"\n",
            "c.toml:2: `streaming.address`: \"0.0.0.0:0\" is not an address and a port such as \
             \"127.0.0.1:0\"",
        ),
        (
            "[streaming]\ntls = 1\n",
            "c.toml:2: `streaming.tls`: expected true or false, found an integer",
        ),
        (
            "[streaming]\nidle_timeout = 0\n",
            "c.toml:2: `streaming.idle_timeout`: 0 is not between 1 and 604800 seconds",
        ),
        (
            "[streaming]\nidle_timeout = \"4h\"\n",
            "c.toml:2: `streaming.idle_timeout`: expected a number of seconds, found a string",
        ),
        (
            "[streaming]\nkey = \"tls.key\"\n",
            "c.toml:2: `streaming.key`: expected an absolute path, found \"tls.key\"",
        ),
        (
            "[cgroup]\ndriver = \"cgroup\"\n",
            "c.toml:2: `cgroup.driver`: \"cgroup\" is not one of \"auto\", \"cgroupfs\", \
             \"systemd\"",
        ),
        (
            "[cgroup]\nparent = \"a/../b\"\n",
            "c.toml:2: `cgroup.parent`: \"a/../b\" is not the path of a cgroup such as \"insula\"",
        ),
        (
            "[log]\nlevel = \"loud\"\n",
            "c.toml:2: `log.level`: \"loud\" is not one of \"error\", \"warn\", \"info\", \
             \"debug\", \"trace\"",
        ),
    ];
    for (text, want) in cases {
        assert_eq!(read(text).unwrap_err(), want, "{text}");
    }
}

#[test]
fn broken_toml_is_told_with_its_line() {
    for (text, start) in [
        (
            "root = \"/a\"\nroot = \"/b\"\n",
            "c.toml:2: not valid TOML: duplicate key",
        ),
        ("root = \"/a\"\n[cni\n", "c.toml:2: not valid TOML: "),
        ("root = \n", "c.toml:1: not valid TOML: "),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.starts_with(start), "{error}");
    }
}

#[test]
fn drop_ins_are_merged_by_key_in_the_order_of_their_names() {
    let directory = tempfile::tempdir().unwrap();
    let main = directory.path().join("config.toml");
    let drop_ins = directory.path().join("conf.d");
    fs::create_dir(&drop_ins).unwrap();
    fs::write(
        &main,
        "root = \"/one\"\n[log]\nlevel = \"warn\"\nformat = \"json\"\n",
    )
    .unwrap();
    fs::write(drop_ins.join("20-b.toml"), "[log]\nlevel = \"trace\"\n").unwrap();
    fs::write(
        drop_ins.join("10-a.toml"),
        "root = \"/two\"\n[log]\nlevel = \"debug\"\n",
    )
    .unwrap();
    fs::write(drop_ins.join(".hidden.toml"), "root = \"/three\"\n").unwrap();
    fs::write(drop_ins.join("30-c.toml.orig"), "root = \"/four\"\n").unwrap();

    let loaded = load(&Sources {
        named: Some(main.clone()),
    })
    .unwrap();
    assert_eq!(loaded.config.root, Path::new("/two"));
    assert_eq!(loaded.config.log.level, Level::Trace);
    assert_eq!(loaded.config.log.format, Format::Json);
    assert_eq!(
        loaded.files,
        [main, drop_ins.join("10-a.toml"), drop_ins.join("20-b.toml")]
    );

    fs::write(drop_ins.join("20-b.toml"), "\n[log]\nlevle = \"trace\"\n").unwrap();
    let error = load(&Sources {
        named: Some(directory.path().join("config.toml")),
    })
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{}:3: unknown key `log.levle`, did you mean `log.level`?",
            drop_ins.join("20-b.toml").display()
        )
    );
}

#[test]
fn a_file_that_was_named_must_exist() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("none.toml");
    let error = load(&Sources {
        named: Some(missing.clone()),
    })
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{}: No such file or directory (os error 2)",
            missing.display()
        )
    );
}

#[test]
fn keys_of_the_streaming_server_go_together() {
    let files = "certificate = \"/a\"\nkey = \"/b\"\n";
    for (text, want) in [
        ("", None),
        ("tls = true\n", None),
        ("tls = true\naddress = \"10.0.0.1:0\"\n", None),
        (&format!("tls = true\n{files}"), None),
        (files, Some("are for TLS")),
        ("client_ca = \"/a\"\n", Some("are for TLS")),
        ("tls = true\nkey = \"/b\"\n", Some("go together")),
        (
            "address = \"10.0.0.1:0\"\n",
            Some("is reachable from other nodes"),
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.toml");
        fs::write(&file, format!("[streaming]\n{text}")).unwrap();
        let loaded = load(&Sources { named: Some(file) });
        match want {
            None => assert!(loaded.is_ok(), "{text}"),
            Some(want) => {
                let error = loaded.unwrap_err().to_string();
                assert!(error.contains(want), "{text}: {error}");
            }
        }
    }
}

#[test]
fn handlers_are_sections_of_their_own() {
    let text = "[runtimes.crun]\ntype = \"oci\"\npath = \"/usr/bin/crun\"\nargs = [\"--debug\"]\n\
                timeout = 5\n[runtimes.test-handler]\ntype = \"native\"\n";
    let config = read(text).unwrap();
    let crun = &config.runtimes["crun"];
    assert_eq!(crun.kind, Some(Kind::Oci));
    assert_eq!(crun.path.as_deref(), Some(Path::new("/usr/bin/crun")));
    assert_eq!(
        (&crun.args[..], crun.seconds()),
        (&["--debug".to_owned()][..], 5)
    );
    let other = &config.runtimes["test-handler"];
    assert_eq!((other.kind, other.seconds()), (Some(Kind::Native), 30));
    assert_eq!(conflict(&config.runtimes), None);
    let printed = toml::to_string(&config).unwrap();
    assert_eq!(read(&printed).unwrap(), config, "{printed}");
    // A later file replaces single keys.
    let mut later = config.clone();
    apply(&mut later, Path::new("d.toml"), "runtimes.crun.timeout = 7").unwrap();
    assert_eq!(later.runtimes["crun"].seconds(), 7);
    assert_eq!(later.runtimes["crun"].path, crun.path);
}

#[test]
fn wrong_handlers_are_named() {
    for (text, words) in [
        (
            "[runtimes.Crun]\n",
            "c.toml:1: \"Crun\" is no name of a handler",
        ),
        ("[runtimes.\"\"]\n", "\"\" is no name of a handler"),
        ("[runtimes.-a]\n", "\"-a\" is no name"),
        (
            "[runtimes.native]\n",
            "\"native\" is the handler that every node has",
        ),
        (
            "[runtimes]\ncrun = 1\n",
            "`runtimes.crun`: expected a section [runtimes.crun], found an integer",
        ),
        (
            "[runtimes.a]\npaht = \"/a\"\n",
            "c.toml:2: unknown key `runtimes.a.paht`, did you mean `runtimes.a.path`?",
        ),
        (
            "[runtimes.a]\nsnapshotter = \"x\"\n",
            "there are type, path, args, timeout",
        ),
        (
            "[runtimes.a]\npath = \"a\"\n",
            "`runtimes.a.path`: expected an absolute path",
        ),
        (
            "[runtimes.a]\ntype = \"vm\"\n",
            "\"vm\" is not one of \"native\", \"oci\"",
        ),
        (
            "[runtimes.a]\nargs = [1]\n",
            "expected a string, found an integer",
        ),
        (
            "[runtimes.a]\ntimeout = 0\n",
            "not between 1 and 3600 seconds",
        ),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    for (text, words) in [
        ("[runtimes.a]\n", Some("[runtimes.a] has no `type`")),
        ("[runtimes.a]\ntype = \"oci\"\n", Some("has no `path`")),
        (
            "[runtimes.a]\ntype = \"native\"\ntimeout = 3\n",
            Some("is native and has no program"),
        ),
        ("[runtimes.a]\ntype = \"native\"\n", None),
    ] {
        let found = conflict(&read(text).unwrap().runtimes);
        match words {
            Some(words) => assert!(
                found.as_ref().is_some_and(|it| it.contains(words)),
                "{found:?}"
            ),
            None => assert_eq!(found, None),
        }
    }
}
