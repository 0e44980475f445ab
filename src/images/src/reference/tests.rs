use proptest::prelude::*;

use super::*;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn normalises_like_docker() {
    let by_digest = format!("redis@sha256:{HEX}");
    let both = format!("redis:7@sha256:{HEX}");
    let cases = [
        ("redis", "docker.io/library/redis:latest"),
        ("redis:7", "docker.io/library/redis:7"),
        ("bitnami/redis", "docker.io/bitnami/redis:latest"),
        ("index.docker.io/redis", "docker.io/library/redis:latest"),
        ("docker.io/redis", "docker.io/library/redis:latest"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x:1", "localhost:5000/x:1"),
        ("[::1]:5000/x/y", "[::1]:5000/x/y:latest"),
        ("[::1]/x", "[::1]/x:latest"),
        ("127.0.0.1:5000/x", "127.0.0.1:5000/x:latest"),
        (
            "registry.k8s.io/e2e-test-images/busybox:1.29-2",
            "registry.k8s.io/e2e-test-images/busybox:1.29-2",
        ),
        ("a.b/c__d/e--f.g_h:T_.-1", "a.b/c__d/e--f.g_h:T_.-1"),
        ("FOO/bar", "FOO/bar:latest"),
        (
            by_digest.as_str(),
            &format!("docker.io/library/redis@sha256:{HEX}"),
        ),
        (
            both.as_str(),
            &format!("docker.io/library/redis:7@sha256:{HEX}"),
        ),
    ];
    for (text, canonical) in cases {
        assert_eq!(
            text.parse::<Reference>().unwrap().to_string(),
            canonical,
            "{text}"
        );
    }
}

#[test]
fn refuses_what_is_no_reference() {
    let long_tag = format!("redis:{}", "a".repeat(129));
    let long_name = format!("redis/{}", "a".repeat(256));
    let upper = format!("redis@sha256:{}", HEX.to_uppercase());
    let cases = [
        "",
        "/",
        "redis/",
        "/redis",
        "Redis",
        "redis:",
        "redis:-x",
        "redis:a b",
        "re dis",
        "re..dis",
        "re._dis",
        "re___dis",
        "-redis",
        "redis-",
        "a//b",
        "a.b:99999/x",
        "a.b:/x",
        "a.b:x/y",
        "-a.b/c",
        "[::g]/x",
        "redis@",
        "redis@sha256:abc",
        "redis@md5:d41d8cd98f00b204e9800998ecf8427e",
        "redis@sha256:../../x",
        "https://docker.io/redis",
        "redis\n",
        "redis?x=1",
        "../x",
        HEX,
        &long_tag,
        &long_name,
        &upper,
    ];
    for text in cases {
        assert!(text.parse::<Reference>().is_err(), "{text}");
    }
}

#[test]
fn a_digest_gives_no_tag() {
    let both: Reference = format!("redis:7@sha256:{HEX}").parse().unwrap();
    assert_eq!(both.repo_tag(), None);
    assert_eq!(both.object(), format!("sha256:{HEX}"));
    let tagged: Reference = "redis".parse().unwrap();
    assert_eq!(
        tagged.repo_tag().as_deref(),
        Some("docker.io/library/redis:latest")
    );
}

proptest! {
    /// The canonical form parses to itself.
    #[test]
    fn canonical_form_is_stable(text in "([a-zA-Z0-9.-]{1,12}(:[0-9]{1,5})?/)?[a-z0-9._-]{1,12}(/[a-z0-9._-]{1,9})?(:[A-Za-z0-9._-]{1,9})?") {
        if let Ok(reference) = text.parse::<Reference>() {
            let canonical = reference.to_string();
            prop_assert_eq!(canonical.parse::<Reference>().unwrap(), reference);
        }
    }

    /// No input panics, and nothing that is accepted can leave a URL path.
    #[test]
    fn never_panics(text in "\\PC{0,80}") {
        if let Ok(reference) = text.parse::<Reference>() {
            let repository = reference.repository();
            prop_assert!(!repository.contains("..") && !repository.contains(['?', '#', '%', ' ', '\\']));
        }
    }
}
