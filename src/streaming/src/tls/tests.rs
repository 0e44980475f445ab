use super::{Reloading, TlsFiles};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_rustls::TlsConnector;

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn provider() {
    // Another test may have been first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// A certificate for 127.0.0.1 in two files.
fn identity(directory: &Path) -> (TlsFiles, CertificateDer<'static>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(vec![ADDRESS.to_string()]).unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    let pem = |label, der: &[u8]| {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        let lines: Vec<_> = text
            .as_bytes()
            .chunks(64)
            .map(String::from_utf8_lossy)
            .collect();
        format!(
            "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
            lines.join("\n")
        )
    };
    let (one, two) = (directory.join("tls.crt"), directory.join("tls.key"));
    std::fs::write(&one, pem("CERTIFICATE", certificate.der())).unwrap();
    std::fs::write(&two, pem("PRIVATE KEY", key.serialized_der())).unwrap();
    let files = TlsFiles {
        identity: Some((one, two)),
        client_ca: None,
    };
    (files, certificate.der().clone())
}

/// Whether a client that trusts one certificate only gets through.
async fn connects(server: &Reloading, now: Instant, trusted: &CertificateDer<'static>) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let (near, far) = tokio::io::duplex(1 << 16);
    let acceptor = server.acceptor(now);
    let accepting = tokio::spawn(async move {
        let accepted = acceptor.accept(far).await;
        // The client of TLS 1.3 is done before it hears that it is refused.
        match accepted {
            Ok(mut stream) => tokio::io::AsyncWriteExt::write_all(&mut stream, b"x").await,
            Err(error) => Err(error),
        }
    });
    let name = ServerName::from(ADDRESS);
    let connected = match connector.connect(name, near).await {
        Ok(mut stream) => tokio::io::AsyncReadExt::read_u8(&mut stream).await.is_ok(),
        Err(_) => false,
    };
    let _ = accepting.await;
    connected
}

#[tokio::test]
async fn a_new_certificate_is_used_without_a_restart() {
    provider();
    let directory = tempfile::tempdir().unwrap();
    let (files, first) = identity(directory.path());
    let server = Reloading::open(files.clone(), ADDRESS).unwrap();
    let now = Instant::now();
    assert!(connects(&server, now, &first).await);

    let (_, second) = identity(directory.path());
    let later = now + Duration::from_secs(2);
    assert!(!connects(&server, later, &first).await);
    assert!(connects(&server, later, &second).await);

    std::fs::write(directory.path().join("tls.key"), "not a key").unwrap();
    let later = later + Duration::from_secs(2);
    assert!(connects(&server, later, &second).await);
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused_where_one_is_wanted() {
    provider();
    let directory = tempfile::tempdir().unwrap();
    let (files, certificate) = identity(directory.path());
    let authority = files.identity.clone().unwrap().0;
    let files = TlsFiles {
        client_ca: Some(authority),
        ..files
    };
    let server = Reloading::open(files, ADDRESS).unwrap();
    assert!(!connects(&server, Instant::now(), &certificate).await);
}

#[tokio::test]
async fn without_files_there_is_a_certificate_all_the_same() {
    provider();
    let server = Reloading::open(TlsFiles::default(), ADDRESS).unwrap();
    let other = identity(tempfile::tempdir().unwrap().path()).1;
    assert!(!connects(&server, Instant::now(), &other).await);
}

#[test]
fn a_wrong_file_is_named() {
    provider();
    let directory = tempfile::tempdir().unwrap();
    let (files, _) = identity(directory.path());
    let (certificate, key) = files.identity.unwrap();
    let empty = directory.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    let missing = directory.path().join("missing");
    for (identity, client_ca, wrong, problem) in [
        ((&empty, &key), None, &empty, "holds no certificate in PEM"),
        (
            (&certificate, &empty),
            None,
            &empty,
            "holds no private key in PEM",
        ),
        (
            (&missing, &key),
            None,
            &missing,
            "No such file or directory (os error 2)",
        ),
        (
            (&certificate, &key),
            Some(&missing),
            &missing,
            "No such file or directory (os error 2)",
        ),
    ] {
        let files = TlsFiles {
            identity: Some((identity.0.clone(), identity.1.clone())),
            client_ca: client_ca.cloned(),
        };
        let error = Reloading::open(files, ADDRESS).unwrap_err();
        assert_eq!(error.to_string(), format!("{}: {problem}", wrong.display()));
    }
}
