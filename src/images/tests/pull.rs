//! Pulls from a registry that this test plays, good and bad ones.

mod support;

use std::time::Duration;

use insula_images::{Error, Images, Platform, RegistryAuth, Rootfs, Secret, read_in_root};
use support::tar::Tar;
use support::{Registry, Route, store};

fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

fn layer(name: &str, content: &[u8]) -> Vec<u8> {
    Tar::new()
        .directory("etc/", 0o755)
        .file(name, 0o644, content)
        .finish()
}

fn random(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn entries(path: &std::path::Path) -> usize {
    std::fs::read_dir(path).unwrap().count()
}

async fn pull(images: &Images, reference: &str) -> Result<insula_images::ImageId, Error> {
    images.pull(reference, None, amd64()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_from_pull_to_removal() {
    let registry = Registry::start().await;
    let layers = [
        layer("etc/passwd", b"root:x:0:0::/:/bin/sh\n"),
        layer("etc/top", b"2"),
    ];
    let pushed = registry.image(
        "library/redis",
        "7",
        &layers,
        r#"{"User":"1002:5","Env":["A=b"]}"#,
    );
    let root = tempfile::tempdir().unwrap();
    let images = store(root.path());
    let name = format!("{}/library/redis:7", registry.host());
    let id = pull(&images, &name).await.unwrap();
    assert_eq!(id.digest(), &pushed.id);

    let listed = images.list().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].repo_tags, [name.as_str()]);
    let by_digest = format!("{}/library/redis@{}", registry.host(), pushed.digest);
    assert_eq!(listed[0].repo_digests, [by_digest.as_str()]);
    assert!(listed[0].size > 0);
    assert_eq!(
        (listed[0].config.uid(), listed[0].config.username()),
        (Some(1002), "")
    );
    let all = [
        id.as_str(),
        id.digest().hex(),
        &id.digest().hex()[..13],
        &name,
        &by_digest,
    ];
    for any in all {
        assert_eq!(images.status(any).await.unwrap().unwrap().id, id, "{any}");
    }
    for absent in ["nothere", "NOT a name", "sha256:00", &format!("{name}x")] {
        assert_eq!(images.status(absent).await.unwrap(), None, "{absent}");
    }
    assert!(images.fs_info().await.unwrap().bytes >= 8192);

    // Again: one HEAD, no transfer.
    let before = registry.seen().len();
    assert_eq!(pull(&images, &name).await.unwrap(), id);
    let again = registry.seen();
    assert_eq!(
        again[before..]
            .iter()
            .map(|s| s.method.as_str())
            .collect::<Vec<_>>(),
        ["HEAD"]
    );

    let rootfs = images.prepare_rootfs(&id, "c1", None, None).await.unwrap();
    let passwd = read_in_root(&rootfs, "/etc/passwd", 1 << 20)
        .unwrap()
        .unwrap();
    assert_eq!(passwd, b"root:x:0:0::/:/bin/sh\n");
    assert_eq!(read_in_root(&rootfs, "/etc/top", 1).unwrap().unwrap(), b"2");
    assert_eq!(read_in_root(&rootfs, "/etc/none", 1).unwrap(), None);
    assert!(matches!(
        read_in_root(&rootfs, "/etc", 1),
        Err(Error::Corrupt { .. })
    ));
    assert!(matches!(
        read_in_root(&rootfs, "/etc/passwd", 1),
        Err(Error::Corrupt { .. })
    ));
    assert!(images.rootfs_usage("c1").await.unwrap().inodes >= 1);
    assert!(
        images.prepare_rootfs(&id, "c1", None, None).await.is_err(),
        "taken"
    );
    assert!(
        images
            .prepare_rootfs(&id, "../x", None, None)
            .await
            .is_err()
    );

    remove_while_in_use(root.path(), images, rootfs, &all).await;
}

/// Removal of an image that container `c1` uses, and then of the container.
async fn remove_while_in_use(root: &std::path::Path, images: Images, rootfs: Rootfs, all: &[&str]) {
    let id = rootfs.image.clone();
    // Five at once, by any name; the container keeps its layers, also over a restart.
    let removed = futures_util::future::join_all(all.iter().map(|any| images.remove(any))).await;
    assert!(removed.iter().all(Result::is_ok), "{removed:?}");
    assert!(images.list().await.unwrap().is_empty());
    assert_eq!(images.status(id.as_str()).await.unwrap(), None);
    images.settle().await;
    drop(images);
    let images = store(root);
    assert_eq!(
        entries(&root.join("layers")),
        4,
        "two trees and two records"
    );
    assert_eq!(images.list_rootfs().await.unwrap()[0].container, "c1");
    assert_eq!(read_in_root(&rootfs, "/etc/top", 1).unwrap().unwrap(), b"2");
    drop(rootfs);
    images.remove_rootfs("c1").await.unwrap();
    images.remove_rootfs("c1").await.unwrap();
    images.settle().await;
    for empty in ["layers", "staging", "rw"] {
        assert_eq!(entries(&root.join(empty)), 0, "{empty}");
    }
}

/// Layers by tools that write no entries for directories above their files.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_without_an_entry_keeps_what_a_lower_layer_says() {
    let registry = Registry::start().await;
    let layers = [
        Tar::new()
            .directory("tmp/", 0o1777)
            .directory("opt/", 0o700)
            .directory("srv/", 0o700)
            .directory("var/", 0o711)
            .directory("var/lib/", 0o750)
            .directory("etc/", 0o700)
            .directory("etc/deep/", 0o705)
            .finish(),
        Tar::new()
            .file(".wh.srv", 0o644, b"")
            .file("opt/two", 0o644, b"2")
            .file("etc/.wh..wh..opq", 0o644, b"")
            .finish(),
        Tar::new()
            .file("tmp/x", 0o644, b"x")
            .file("var/lib/app/x", 0o644, b"x")
            .file("srv/x", 0o644, b"x")
            .directory("opt/", 0o701)
            .file("etc/deep/x", 0o644, b"x")
            .file("late/x", 0o644, b"x")
            .directory("late/", 0o710)
            .finish(),
    ];
    registry.image("implicit", "1", &layers, "{}");
    let root = tempfile::tempdir().unwrap();
    let images = store(root.path());
    let name = format!("{}/implicit:1", registry.host());
    let id = pull(&images, &name).await.unwrap();
    for container in ["c1", "c2"] {
        let rootfs = images
            .prepare_rootfs(&id, container, None, None)
            .await
            .unwrap();
        for (path, mode) in [
            ("tmp", 0o1777),
            ("var", 0o711),
            ("var/lib", 0o750),
            ("var/lib/app", 0o755),
            ("srv", 0o755),
            ("opt", 0o701),
            // Opaque: nothing below is seen, attributes neither.
            ("etc", 0o755),
            ("etc/deep", 0o755),
            ("late", 0o710),
        ] {
            let flags = rustix::fs::AtFlags::empty();
            let stat = rustix::fs::statat(rootfs.detached().unwrap(), path, flags).unwrap();
            assert_eq!(
                format!("{:o}", stat.st_mode & 0o7777),
                format!("{mode:o}"),
                "{path}"
            );
            if path == "tmp" {
                assert_eq!(stat.st_mtime, 1_000_000);
            }
        }
        for (path, content) in [
            ("/tmp/x", b"x"),
            ("/opt/two", b"2"),
            ("/var/lib/app/x", b"x"),
        ] {
            assert_eq!(
                read_in_root(&rootfs, path, 1).unwrap().unwrap(),
                content,
                "{path}"
            );
        }
        drop(rootfs);
        images.remove_rootfs(container).await.unwrap();
    }
    images.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_merge_and_move() {
    let registry = Registry::start().await;
    let root = tempfile::tempdir().unwrap();
    let images = store(root.path());
    let one = registry.image("a/one", "1", &[layer("etc/x", b"1")], "{}");
    registry.image("b/two", "1", &[layer("etc/x", b"1")], "{}");
    let host = registry.host();
    let id = pull(&images, &format!("{host}/a/one:1")).await.unwrap();
    assert_eq!(pull(&images, &format!("{host}/b/two:1")).await.unwrap(), id);
    let image = images.status(id.as_str()).await.unwrap().unwrap();
    assert_eq!(image.repo_tags.len(), 2);
    assert_eq!(image.repo_digests.len(), 2);
    // The tag moves to another image; the old one keeps its other names.
    registry.image("a/one", "1", &[layer("etc/x", b"new")], "{}");
    let new = pull(&images, &format!("{host}/a/one:1")).await.unwrap();
    assert_ne!(new, id);
    let old = images.status(id.as_str()).await.unwrap().unwrap();
    assert_eq!(old.repo_tags, [format!("{host}/b/two:1")]);
    // By digest: no tag.
    images.remove(id.as_str()).await.unwrap();
    let reference = format!("{host}/a/one:1@{}", one.digest);
    assert_eq!(pull(&images, &reference).await.unwrap(), id);
    let image = images.status(&reference).await.unwrap().unwrap();
    assert!(image.repo_tags.is_empty());
    assert_eq!(image.repo_digests, [format!("{host}/a/one@{}", one.digest)]);
    images.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_pulls_are_one_transfer_and_cancelled_ones_leave_nothing() {
    let registry = Registry::start().await;
    let pushed = registry.image("a/b", "1", &[layer("etc/x", &random(100_000))], "{}");
    let (digest, blob) = pushed.blobs[0].clone();
    let path = format!("/v2/a/b/blobs/{digest}");
    registry.route(&path, Route::Slow(Duration::from_millis(200), blob.clone()));
    let root = tempfile::tempdir().unwrap();
    let images = store(root.path());
    let name = format!("{}/a/b:1", registry.host());
    let pulls = (0..5).map(|_| pull(&images, &name));
    let all = futures_util::future::join_all(pulls).await;
    assert!(
        all.iter()
            .all(|one| one.as_ref().unwrap().digest() == &pushed.id)
    );
    assert_eq!(registry.count(&path), 1);
    assert_eq!(registry.count("/v2/a/b/manifests/1"), 1);
    images.remove(&name).await.unwrap();
    images.settle().await;

    registry.route(&path, Route::Hang);
    let handle = images.start_pull(&name, None, amd64()).unwrap();
    while registry.count(&path) < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(
        images
            .progress(&name.parse().unwrap())
            .unwrap()
            .layers
            .len(),
        1
    );
    drop(handle);
    while entries(&root.path().join("staging")) > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(images.progress(&name.parse().unwrap()), None);
    assert!(images.list().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_transfers_resume_and_bad_ones_fail() {
    let registry = Registry::start().await;
    let content = random(300_000);
    let pushed = registry.image("a/b", "1", &[layer("etc/x", &content)], "{}");
    let (digest, blob) = pushed.blobs[0].clone();
    let path = format!("/v2/a/b/blobs/{digest}");
    let root = tempfile::tempdir().unwrap();
    let images = store(root.path());
    let name = format!("{}/a/b:1", registry.host());

    registry.route(&path, Route::BreakAfter(120_000, blob.clone()));
    pull(&images, &name).await.unwrap();
    let ranges: Vec<_> = registry
        .seen()
        .iter()
        .filter(|s| s.path == path)
        .map(|s| s.header("range").map(str::to_owned))
        .collect();
    assert!(ranges.len() >= 3 && ranges[0].is_none(), "{ranges:?}");
    assert!(
        ranges[1..]
            .iter()
            .all(|range| range.as_deref().is_some_and(|r| r.starts_with("bytes="))),
        "{ranges:?}"
    );
    images.remove(&name).await.unwrap();

    let mut wrong = blob.clone();
    let middle = wrong.len() / 2;
    wrong[middle] ^= 1;
    registry.body(&path, &wrong);
    let error = pull(&images, &name).await.unwrap_err();
    assert!(
        matches!(error, Error::Corrupt { .. }) && error.to_string().contains(digest.as_str()),
        "{error}"
    );

    registry.route(&path, Route::Hang);
    let error = pull(&images, &name).await.unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded { .. }), "{error}");
    assert!(error.to_string().contains(&registry.host()), "{error}");

    registry.body(&path, b"not a layer");
    assert!(pull(&images, &name).await.is_err());
    images.settle().await;
    assert_eq!(entries(&root.path().join("layers")), 0);
    assert!(images.list().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_go_to_the_registry_alone() {
    let (registry, other) = (Registry::start().await, Registry::start().await);
    let pushed = registry.image("a/b", "1", &[layer("etc/x", b"1")], "{}");
    let (digest, blob) = pushed.blobs[0].clone();
    let name = format!("{}/a/b:1", registry.host());
    let root = tempfile::tempdir().unwrap();
    let images = store(root.path());
    registry.require(
        "Bearer TOKEN-CANARY",
        &format!(
            "Bearer realm=\"http://{}/token\",service=\"s\"",
            registry.host()
        ),
    );
    registry.body("/token", br#"{"token":"TOKEN-CANARY"}"#);
    // The blob lies elsewhere, with a signed URL.
    let path = format!("/v2/a/b/blobs/{digest}");
    let location = format!(
        "http://localhost:{}/elsewhere?sig=URL-CANARY",
        other.address.port()
    );
    registry.route(
        &path,
        Route::Answer(307, vec![("Location".into(), location)], Vec::new()),
    );
    other.body("/elsewhere", &blob);
    let auth = RegistryAuth {
        server_address: registry.host(),
        ..RegistryAuth::basic("user", "PASS-CANARY")
    };
    images
        .pull(&name, Some(auth.clone()), amd64())
        .await
        .unwrap();
    let token = registry
        .seen()
        .into_iter()
        .find(|s| s.path.starts_with("/token"))
        .unwrap();
    assert!(token.header("authorization").unwrap().starts_with("Basic "));
    assert!(
        token.path.contains("scope=repository%3Aa%2Fb%3Apull") && token.path.contains("service=s")
    );
    assert!(!other.seen().is_empty());
    assert!(
        other
            .seen()
            .iter()
            .all(|s| s.header("authorization").is_none()),
        "{:?}",
        other.seen()
    );
    images.remove(&name).await.unwrap();

    // Failing there must not print the signature.
    other.route("/elsewhere", Route::Answer(500, Vec::new(), Vec::new()));
    let error = images.pull(&name, Some(auth), amd64()).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("CANARY"), "{error}");

    // Without credentials, or with those of another host, the token server gets none.
    for auth in [
        None,
        Some(RegistryAuth {
            server_address: "evil.example".into(),
            ..RegistryAuth::basic("u", "PASS-CANARY")
        }),
    ] {
        registry.route("/token", Route::Answer(401, Vec::new(), Vec::new()));
        let before = registry.seen().len();
        let error = images.pull(&name, auth, amd64()).await.unwrap_err();
        assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
        assert!(
            registry.seen()[before..]
                .iter()
                .all(|s| s.header("authorization").is_none())
        );
    }
    let auth = RegistryAuth {
        registry_token: Secret::new("TOKEN-CANARY"),
        ..RegistryAuth::default()
    };
    other.body("/elsewhere", &blob);
    images.pull(&name, Some(auth), amd64()).await.unwrap();
    images.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_layers_never_see_credentials() {
    let (registry, evil) = (Registry::start().await, Registry::start().await);
    let pushed = registry.image("a/b", "1", &[layer("etc/x", b"1")], "{}");
    let (digest, blob) = pushed.blobs[0].clone();
    let foreign = pushed
        .manifest
        .replace("oci.image.layer.v1", "oci.image.layer.nondistributable.v1")
        .replace(
            &format!("\"digest\":\"{digest}\""),
            &format!(
                "\"digest\":\"{digest}\",\"urls\":[\"http://{}/layer\"]",
                evil.host()
            ),
        );
    registry.manifest("a/b", "1", support::OCI, &foreign);
    registry.route(
        &format!("/v2/a/b/blobs/{digest}"),
        Route::Answer(404, Vec::new(), Vec::new()),
    );
    registry.require("Basic dTpw", "Basic realm=\"x\"");
    evil.body("/layer", &blob);
    let root = tempfile::tempdir().unwrap();
    let images = store(root.path());
    let name = format!("{}/a/b:1", registry.host());
    images
        .pull(&name, Some(RegistryAuth::basic("u", "p")), amd64())
        .await
        .unwrap();
    assert!(
        evil.seen()
            .iter()
            .all(|s| s.header("authorization").is_none())
    );
    images.remove(&name).await.unwrap();
    // A challenge of that host is not answered.
    let challenge = vec![(
        "WWW-Authenticate".into(),
        format!("Bearer realm=\"http://{}/token\"", evil.host()),
    )];
    evil.route("/layer", Route::Answer(401, challenge, Vec::new()));
    assert!(
        images
            .pull(&name, Some(RegistryAuth::basic("u", "p")), amd64())
            .await
            .is_err()
    );
    assert_eq!(evil.count("/token"), 0);
    assert!(
        evil.seen()
            .iter()
            .all(|s| s.header("authorization").is_none())
    );
    images.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_come_first_and_are_told_the_registry() {
    let (mirror, second) = (Registry::start().await, Registry::start().await);
    second.image("a/b", "1", &[layer("etc/x", b"1")], "{}");
    let root = tempfile::tempdir().unwrap();
    let certs = root.path().join("certs.d/registry.invalid");
    std::fs::create_dir_all(&certs).unwrap();
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\n",
        second.host(),
        mirror.host()
    );
    std::fs::write(certs.join("hosts.toml"), text).unwrap();
    let mut config = insula_images::StoreConfig::new(root.path().join("store"));
    config.registry_config_paths = vec![root.path().join("certs.d")];
    let images = Images::open(config).unwrap();
    pull(&images, "registry.invalid/a/b:1").await.unwrap();
    assert_eq!(
        mirror.seen()[0].path,
        "/v2/a/b/manifests/1?ns=registry.invalid"
    );
    let image = images
        .status("registry.invalid/a/b:1")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(image.repo_tags, ["registry.invalid/a/b:1"]);
    let error = pull(&images, "registry.invalid/a/none:1")
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert!(
        error.to_string().contains(&mirror.host()) && error.to_string().contains(&second.host()),
        "{error}"
    );
    images.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn escaping_layers_are_refused_with_their_entry() {
    let registry = Registry::start().await;
    let root = tempfile::tempdir().unwrap();
    let images = store(&root.path().join("store"));
    let bad = Tar::new().file("../host-canary", 0o644, b"x").finish();
    registry.image("a/bad", "1", &[layer("etc/x", b"1"), bad], "{}");
    let error = pull(&images, &format!("{}/a/bad:1", registry.host()))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Corrupt { .. }) && error.to_string().contains("../host-canary"),
        "{error}"
    );
    assert!(images.list().await.unwrap().is_empty());
    images.settle().await;
}
