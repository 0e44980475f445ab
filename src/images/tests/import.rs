//! Images from files: layouts, archives of `docker save`, and what is wrong with them.

#[path = "support/tar.rs"]
mod tar;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use insula_images::{Bundle, Digest, Error, ImageId, Images, Platform, StoreConfig};
use tar::Tar;

/// An image's blobs, by digest.
#[derive(Default)]
struct Made {
    blobs: BTreeMap<Digest, Vec<u8>>,
    manifest: Option<Digest>,
    config: Option<Digest>,
}

impl Made {
    fn add(&mut self, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        self.blobs.insert(digest.clone(), bytes.to_vec());
        digest
    }

    fn image() -> (Self, Vec<u8>) {
        let mut made = Self::default();
        let layer = Tar::new().file("hello", 0o644, b"hello\n").finish();
        let diff_id = made.add(&layer);
        let config = format!(
            r#"{{"os":"linux","architecture":"amd64","config":{{"Cmd":["/hello"]}},"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
        );
        let config_digest = made.add(config.as_bytes());
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
            "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config_digest}","size":{}}},
            "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{diff_id}","size":{}}}]}}"#,
            config.len(),
            layer.len()
        );
        made.manifest = Some(made.add(manifest.as_bytes()));
        made.config = Some(config_digest);
        (made, layer)
    }

    fn index(&self, annotations: &str) -> String {
        let manifest = self.manifest.as_ref().unwrap();
        format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{manifest}","size":{},"annotations":{annotations}}}]}}"#,
            self.blobs[manifest].len()
        )
    }

    fn directory(&self, path: &Path, annotations: &str) {
        std::fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        std::fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        std::fs::write(path.join("index.json"), self.index(annotations)).unwrap();
        for (digest, bytes) in &self.blobs {
            std::fs::write(path.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        }
    }

    fn archive(&self, annotations: &str) -> Vec<u8> {
        let mut tar = Tar::new()
            .directory("blobs/", 0o755)
            .file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)
            .file("index.json", 0o644, self.index(annotations).as_bytes());
        for (digest, bytes) in &self.blobs {
            tar = tar.file(&format!("blobs/sha256/{}", digest.hex()), 0o644, bytes);
        }
        tar.finish()
    }
}

const NAMED: &str = r#"{"io.containerd.image.name":"docker.io/library/hello:1"}"#;

async fn import(images: &Images, bundle: &Bundle, name: &str) -> Result<ImageId, Error> {
    let platform: Platform = "linux/amd64".parse().unwrap();
    let reference = name.parse().unwrap();
    let image = &bundle.images()[0];
    images
        .import(bundle, image, &reference, &platform, |_| {})
        .await
}

fn entries(path: &Path) -> usize {
    std::fs::read_dir(path).unwrap().count()
}

/// An image with its only layer, and the layout with it in a directory.
fn an_image_in_a_layout() -> (Made, Vec<u8>, tempfile::TempDir, PathBuf) {
    let (made, layer) = Made::image();
    let place = tempfile::tempdir().unwrap();
    let layout = place.path().join("layout");
    made.directory(&layout, NAMED);
    (made, layer, place, layout)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_gives_the_same_image() {
    let (made, layer, place, layout) = an_image_in_a_layout();
    let archive = place.path().join("archive.tar");
    std::fs::write(&archive, made.archive(NAMED)).unwrap();
    // As `docker save` wrote it once: the second image's layer is a link to the first's.
    let config = &made.blobs[made.config.as_ref().unwrap()];
    let list =
        br#"[{"Config":"c.json","RepoTags":["hello:1","hello:2"],"Layers":["two/layer.tar"]}]"#;
    let saved = Tar::new()
        .file("c.json", 0o644, config)
        .file("one/layer.tar", 0o644, &layer)
        .symlink("two/layer.tar", "../one/layer.tar")
        .file("manifest.json", 0o644, list)
        .finish();
    let mut pipe: &[u8] = &saved;

    let bundles = [
        (Bundle::open(&layout).unwrap(), 1),
        (Bundle::open(&archive).unwrap(), 1),
        (Bundle::read(&mut pipe, place.path()).unwrap(), 2),
    ];
    for (at, (bundle, names)) in bundles.iter().enumerate() {
        let root = tempfile::tempdir().unwrap();
        let images = Images::open(StoreConfig::new(root.path())).unwrap();
        assert_eq!(bundle.images().len(), 1);
        assert_eq!(bundle.images()[0].names.len(), *names);
        let id = import(&images, bundle, &bundle.images()[0].names[0])
            .await
            .unwrap();
        assert_eq!(Some(id.digest()), made.config.as_ref(), "form {at}");
        // Another name takes no layer again.
        import(&images, bundle, "hello:3").await.unwrap();
        let image = images.status("hello:1").await.unwrap().unwrap();
        assert_eq!(
            image.repo_tags,
            ["docker.io/library/hello:1", "docker.io/library/hello:3"]
        );
        images.settle().await;
        assert_eq!(entries(&root.path().join("staging")), 0);
    }
    // The archive on standard input had an unnamed file.
    assert_eq!(entries(place.path()), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_given_another_name() {
    let (made, _, place, layout) = an_image_in_a_layout();
    let bundle = Bundle::open(&layout).unwrap();
    let images = Images::open(StoreConfig::new(place.path().join("store"))).unwrap();
    let id = import(&images, &bundle, "hello:1").await.unwrap();
    for (image, name) in [
        ("hello:1", "hello:2"),
        (id.as_str(), "example.com:5000/x/hi"),
    ] {
        assert_eq!(images.tag(image, &name.parse().unwrap()).await.unwrap(), id);
    }
    let image = images.status("hello:2").await.unwrap().unwrap();
    assert_eq!(
        image.repo_tags,
        [
            "docker.io/library/hello:1",
            "docker.io/library/hello:2",
            "example.com:5000/x/hi:latest"
        ]
    );
    let manifest = made.manifest.as_ref().unwrap();
    assert_eq!(
        image.repo_digests,
        [
            format!("docker.io/library/hello@{manifest}"),
            format!("example.com:5000/x/hi@{manifest}")
        ]
    );
    let by_digest = format!("hello@{manifest}");
    for (image, name, wrong) in [
        ("other:1", "hello:3", "image other:1 not found"),
        ("hello:1", by_digest.as_str(), "a name with a digest"),
    ] {
        let error = images.tag(image, &name.parse().unwrap()).await.unwrap_err();
        assert!(error.to_string().contains(wrong), "{error}");
    }
    images.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_true_is_refused_and_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let images = Images::open(StoreConfig::new(root.path())).unwrap();
    let place = tempfile::tempdir().unwrap();
    let blob = |digest: &Digest| place.path().join("x/blobs/sha256").join(digest.hex());
    let (made, layer) = Made::image();
    let layer = Digest::sha256(&layer);
    let manifest = made.manifest.clone().unwrap();
    let long = "y".repeat(9 << 20);
    let cases: [(&str, &dyn Fn(), &str); 6] = [
        (
            "hello",
            &|| std::fs::remove_file(blob(&layer)).unwrap(),
            "not found in",
        ),
        (
            "hello",
            &|| std::fs::write(blob(&layer), "short").unwrap(),
            "has 5 bytes",
        ),
        (
            "hello",
            &|| {
                let mut bytes = std::fs::read(blob(&layer)).unwrap();
                bytes[600] ^= 1;
                std::fs::write(blob(&layer), bytes).unwrap();
            },
            "digest of its bytes",
        ),
        (
            "hello",
            &|| std::fs::write(blob(&manifest), "{}").unwrap(),
            "its digest is",
        ),
        (
            "hello",
            &|| std::fs::write(blob(&manifest), &long).unwrap(),
            "more than",
        ),
        (
            "hello@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            &|| {},
            "the image's digest is",
        ),
    ];
    for (name, damage, expected) in cases {
        let layout = place.path().join("x");
        let _ = std::fs::remove_dir_all(&layout);
        made.directory(&layout, NAMED);
        let bundle = Bundle::open(&layout).unwrap();
        damage();
        let error = import(&images, &bundle, name)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(images.list().await.unwrap().is_empty());
    }
    // A link out of the layout is not followed.
    let layout = place.path().join("x");
    std::fs::remove_file(blob(&layer)).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", blob(&layer)).unwrap();
    let bundle = Bundle::open(&layout).unwrap();
    assert!(import(&images, &bundle, "hello").await.is_err());
    images.settle().await;
    assert_eq!(entries(&root.path().join("layers")), 0);
    assert_eq!(entries(&root.path().join("staging")), 0);
}

#[test]
fn what_is_no_image_is_said_to_be_none() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("x");
    let (made, _) = Made::image();
    let cases: [(Vec<u8>, &str); 7] = [
        (b"hello".to_vec(), "ends within"),
        (vec![0x1f, 0x8b, 8, 0], "is compressed"),
        (
            Tar::new().file("a", 0o644, b"").finish(),
            "neither an index.json",
        ),
        (
            Tar::new().file("index.json", 0o644, b"{").finish(),
            "index.json of",
        ),
        (
            Tar::new().file("manifest.json", 0o644, b"{}").finish(),
            "manifest.json of",
        ),
        (
            Tar::new()
                .file("manifest.json", 0o644, br#"[{"Config":"c","Layers":[]}]"#)
                .symlink("c", "c")
                .finish(),
            "link to itself",
        ),
        (
            Tar::new()
                .file(
                    "manifest.json",
                    0o644,
                    br#"[{"Config":"../c","Layers":[]}]"#,
                )
                .finish(),
            "not found",
        ),
    ];
    for (bytes, expected) in cases {
        std::fs::write(&path, bytes).unwrap();
        let error = Bundle::open(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let error = Bundle::open(place.path()).unwrap_err().to_string();
    assert!(error.contains("no index.json"), "{error}");
    let error = Bundle::open_containerd(place.path(), "k8s.io").unwrap_err();
    assert!(error.to_string().contains("meta.db"), "{error}");
    // A tag alone is no name.
    let tag = r#"{"org.opencontainers.image.ref.name":"latest"}"#;
    std::fs::write(&path, made.archive(tag)).unwrap();
    assert!(Bundle::open(&path).unwrap().images()[0].names.is_empty());
    let whole = r#"{"org.opencontainers.image.ref.name":"quay.io/a/b:1"}"#;
    std::fs::write(&path, made.archive(whole)).unwrap();
    assert_eq!(
        Bundle::open(&path).unwrap().images()[0].names,
        ["quay.io/a/b:1"]
    );
}
