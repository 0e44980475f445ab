//! TLS settings of one host.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::hosts::TlsFiles;
use crate::error::{Error, Result};

/// A client configuration. The client certificate is left out unless `with_client`: it is for the
/// configured host, not for those it redirects to.
///
/// Reads files; call it on a blocking thread.
pub(super) fn client_config(files: &TlsFiles, with_client: bool) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Unsupported(format!("TLS cannot be used: {error}")))?;
    let builder = if files.skip_verify {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
    } else {
        builder.with_root_certificates(roots(files)?)
    };
    let Some((certificate, key)) = files.client.first().filter(|_| with_client) else {
        return Ok(builder.with_no_client_auth());
    };
    let key_file = key.as_ref().unwrap_or(certificate);
    let chain = certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| bad(key_file, &error))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| bad(certificate, &error))
}

/// The host's roots and those named for this registry.
fn roots(files: &TlsFiles) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(%error, "a system root certificate cannot be read");
    }
    roots.add_parsable_certificates(native.certs);
    for file in &files.ca {
        for certificate in certificates(file)? {
            roots.add(certificate).map_err(|error| bad(file, &error))?;
        }
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let found = found.map_err(|error| bad(file, &error))?;
    if found.is_empty() {
        return Err(bad(file, &"it holds no PEM certificate"));
    }
    Ok(found)
}

fn bad(file: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::Configuration {
        file: file.to_owned(),
        reason: reason.to_string(),
    }
}

/// `skip_verify`: believes every certificate, but still checks that the peer has its key.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
