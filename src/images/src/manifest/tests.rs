use proptest::prelude::*;

use super::*;

const A: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const B: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn manifest(layer_type: &str) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"x","digest":"{A}","size":2}},
        "layers":[{{"mediaType":"{layer_type}","digest":"{B}","size":3}}]}}"#
    )
}

fn parse(json: &str, content_type: Option<&str>) -> Result<Document> {
    Document::parse(json.as_bytes(), content_type, "x")
}

#[test]
fn layer_media_types() {
    let cases = [
        (
            "application/vnd.oci.image.layer.v1.tar",
            Some(Compression::None),
        ),
        (
            "application/vnd.oci.image.layer.v1.tar+gzip",
            Some(Compression::Gzip),
        ),
        (
            "application/vnd.oci.image.layer.v1.tar+zstd",
            Some(Compression::Zstd),
        ),
        (
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            Some(Compression::Gzip),
        ),
        (
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            Some(Compression::Gzip),
        ),
        ("application/vnd.oci.image.layer.v1.tar+bzip2", None),
        ("application/vnd.in-toto+json", None),
        ("", None),
    ];
    for (media_type, expected) in cases {
        let got = match parse(&manifest(media_type), None) {
            Ok(Document::Manifest(manifest)) => Some(manifest.layers[0].compression),
            _ => None,
        };
        assert_eq!(got, expected, "{media_type}");
    }
}

#[test]
fn refuses_ambiguous_documents() {
    let good = manifest("application/vnd.oci.image.layer.v1.tar");
    assert!(parse(&good, None).is_ok());
    assert!(parse(&good, Some(OCI_MANIFEST)).is_ok());
    assert!(
        parse(
            &good,
            Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8")
        )
        .is_ok()
    );
    assert!(parse(&good, Some("application/json")).is_ok());
    let both = good.replacen("\"layers\"", "\"manifests\":[],\"layers\"", 1);
    let twice = good.replacen("\"layers\"", "\"layers\":[],\"layers\"", 1);
    let huge = good.replacen("\"size\":2", "\"size\":99999999", 1);
    let escape = good.replacen(A, "sha256:../../x", 1);
    let cases = [
        (good.as_str(), Some(OCI_INDEX)),
        (&good, Some(DOCKER_MANIFEST)),
        (&good, Some("text/html")),
        (&both, None),
        (&twice, None),
        (&huge, None),
        (&escape, None),
        ("{}", None),
        ("null", None),
        ("[]", None),
        (r#"{"schemaVersion":1,"fsLayers":[]}"#, None),
        (
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","layers":[]}"#,
            None,
        ),
        (
            r#"{"schemaVersion":2,"manifests":[{"digest":"sha256:00","size":1}]}"#,
            None,
        ),
        (
            r#"{"schemaVersion":2,"manifests":[{"digest":"x","size":-1}]}"#,
            None,
        ),
    ];
    for (json, content_type) in cases {
        assert!(
            parse(json, content_type).is_err(),
            "{json} {content_type:?}"
        );
    }
}

#[test]
fn deep_nesting_is_an_error_and_no_crash() {
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(parse(&deep, None).is_err());
}

#[test]
fn index_skips_attestations() {
    let json = format!(
        r#"{{"schemaVersion":2,"manifests":[
        {{"mediaType":"{OCI_MANIFEST}","digest":"{A}","size":1,"platform":{{"os":"unknown","architecture":"unknown"}}}},
        {{"mediaType":"{DOCKER_MANIFEST}","digest":"{B}","size":1,"platform":{{"os":"linux","architecture":"amd64"}}}},
        {{"mediaType":"{OCI_MANIFEST}","digest":"{A}","size":1,"platform":{{"os":"linux","architecture":"arm","variant":"v6"}}}}]}}"#
    );
    let Document::Index(index) = parse(&json, None).unwrap() else {
        panic!("not an index")
    };
    let select = |platform: &str| {
        index
            .select(&platform.parse().unwrap(), "x")
            .map(|d| d.digest.to_string())
    };
    assert_eq!(select("linux/amd64").unwrap(), B);
    assert_eq!(select("linux/arm/v7").unwrap(), A);
    let error = select("linux/s390x").unwrap_err().to_string();
    assert!(
        error.contains("linux/amd64") && !error.contains("unknown/"),
        "{error}"
    );
}

proptest! {
    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), content_type in "\\PC{0,40}") {
        let _ = Document::parse(&bytes, Some(&content_type), "x");
    }
}
