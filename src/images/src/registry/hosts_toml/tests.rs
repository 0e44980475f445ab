use proptest::prelude::*;

use super::*;

#[test]
fn reads_everything_containerd_documents() {
    let file = parse(
        r#"
server = "https://registry.example"
ca = "server.crt"

[host."http://z.example:5000"]
  capabilities = ["pull", "resolve"]
  ca = ["a.crt", "/b.crt"]
  client = [["c.cert", "c.key"], ["d.pem", ""]]
  skip_verify = true
  override_path = true
  dial_timeout = "1m30.5s"
  [host."http://z.example:5000".header]
    x-one = "1"
    x-many = ["2", "3"]

[host."https://a.example"]
  capabilities = ["pull"]
  client = "all.pem"
"#,
    )
    .unwrap();
    assert_eq!(file.server.as_deref(), Some("https://registry.example"));
    assert_eq!(file.server_settings.ca, ["server.crt"]);
    let urls: Vec<&str> = file.hosts.iter().map(|(url, _)| url.as_str()).collect();
    assert_eq!(
        urls,
        ["http://z.example:5000", "https://a.example"],
        "the file's order, not the alphabet's"
    );
    let z = &file.hosts[0].1;
    assert_eq!(
        z.capabilities,
        Some(Capabilities {
            pull: true,
            resolve: true
        })
    );
    assert_eq!(z.ca, ["a.crt", "/b.crt"]);
    assert_eq!(
        z.client,
        [
            ("c.cert".into(), Some("c.key".into())),
            ("d.pem".into(), None)
        ]
    );
    assert!(z.skip_verify && z.override_path);
    assert_eq!(z.dial_timeout, Some(Duration::from_millis(90_500)));
    assert_eq!(
        z.header,
        [
            ("x-one".into(), vec!["1".into()]),
            ("x-many".into(), vec!["2".into(), "3".into()])
        ]
    );
    let a = &file.hosts[1].1;
    assert_eq!(
        a.capabilities,
        Some(Capabilities {
            pull: true,
            resolve: false
        })
    );
    assert_eq!(a.client, [("all.pem".into(), None)]);
}

#[test]
fn errors_name_the_line_and_the_nearest_key() {
    let cases = [
        (
            "serve = \"x\"",
            "line 1: unknown key \"serve\"; did you mean \"server\"?",
        ),
        (
            "\n[host.\"http://x\"]\nskip_verfy = true",
            "line 3: unknown key \"skip_verfy\"; did you mean \"skip_verify\"?",
        ),
        (
            "skip_verify = \"yes\"",
            "line 1: skip_verify must be true or false",
        ),
        (
            "[host.\"x\"]\ncapabilities = [\"fly\"]",
            "line 2: capabilities are pull, resolve and push",
        ),
        (
            "dial_timeout = \"3\"",
            "line 1: dial_timeout must be a time",
        ),
        ("host = 1", "line 1: host must be a table"),
        ("server = ", "line 1: "),
        ("client = [[\"a\", \"b\", \"c\"]]", "line 1: client must be"),
    ];
    for (text, expected) in cases {
        let error = parse(text).unwrap_err();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
}

#[test]
fn durations() {
    let cases = [
        ("3s", Some(3000)),
        ("1h1m", Some(3_660_000)),
        ("500ms", Some(500)),
        ("", None),
        ("s", None),
        ("1x", None),
        ("-1s", None),
    ];
    for (text, millis) in cases {
        assert_eq!(
            parse_duration(text),
            millis.map(Duration::from_millis),
            "{text}"
        );
    }
}

proptest! {
    #[test]
    fn never_panics(text in "\\PC{0,120}") {
        let _ = parse(&text);
        let _ = parse_duration(&text);
    }
}
