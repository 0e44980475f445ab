//! TLS for the streaming server.

pub(crate) mod pinned;

use pinned::Fingerprint;
use rcgen::{CertificateParams, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::io::Read as _;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_rustls::TlsAcceptor;

/// Largest file of certificates or keys that is read, in bytes.
const FILE_MAX: u64 = 1 << 20;
/// How old the knowledge may be that the files are as they were.
const FRESH: Duration = Duration::from_secs(1);

/// Where certificates come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsFiles {
    /// The server's certificate with those that signed it, and its key, both
    /// PEM. Without them it makes a certificate of its own at each start.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// PEM with the authorities of clients' certificates. With it, a client
    /// without such a certificate is refused.
    pub client_ca: Option<PathBuf>,
}

/// The server cannot offer TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be used.
    #[error("{}: {problem}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        problem: String,
    },
    /// Certificate and key do not go together, or are of a kind that is not
    /// known.
    #[error("the certificate and the key of the streaming server: {0}")]
    Identity(String),
    /// No certificate could be made.
    #[error("making a certificate for the streaming server: {0}")]
    SelfSigned(String),
}

/// Takes connections with the certificates that the files hold now.
#[derive(Debug)]
pub(crate) struct Reloading {
    files: TlsFiles,
    address: IpAddr,
    state: Mutex<State>,
}

struct State {
    offer: Offer,
    seen: Vec<Option<Version>>,
    looked: Instant,
}

/// What connections are taken with.
#[derive(Clone)]
struct Offer {
    acceptor: TlsAcceptor,
    certificate: Fingerprint,
}

/// What changes when a file is replaced or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

// === impl Reloading ===

impl Reloading {
    /// Reads the files, or makes a certificate for `address`. Blocks.
    pub(crate) fn open(files: TlsFiles, address: IpAddr) -> Result<Self, TlsError> {
        let seen = files.versions();
        let offer = files.offer(address)?;
        Ok(Self {
            files,
            address,
            state: Mutex::new(State {
                offer,
                seen,
                looked: Instant::now(),
            }),
        })
    }

    /// What takes the next connection. Blocks while files are read, if they
    /// have changed; those that cannot be used leave the old ones in force.
    pub(crate) fn acceptor(&self, now: Instant) -> TlsAcceptor {
        self.offer(now).acceptor
    }

    /// The certificate that the next connection is shown. Blocks as
    /// [`Self::acceptor`] does.
    pub(crate) fn certificate(&self, now: Instant) -> Fingerprint {
        self.offer(now).certificate
    }

    fn offer(&self, now: Instant) -> Offer {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(state.looked) < FRESH {
            return state.offer.clone();
        }
        state.looked = now;
        let seen = self.files.versions();
        if seen != state.seen {
            state.seen = seen;
            match self.files.offer(self.address) {
                Ok(offer) => {
                    state.offer = offer;
                    tracing::info!("the streaming server's certificates were read again");
                }
                Err(error) => tracing::error!(
                    %error,
                    "the streaming server's certificates stay as they were"
                ),
            }
        }
        state.offer.clone()
    }
}

// === impl State ===

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

// === impl TlsFiles ===

impl TlsFiles {
    fn paths(&self) -> impl Iterator<Item = &Path> {
        let identity = self.identity.iter().flat_map(|(one, two)| [one, two]);
        identity.chain(&self.client_ca).map(PathBuf::as_path)
    }

    fn versions(&self) -> Vec<Option<Version>> {
        self.paths().map(Version::of).collect()
    }

    fn offer(&self, address: IpAddr) -> Result<Offer, TlsError> {
        let (chain, key) = match &self.identity {
            Some((certificate, key)) => (certificates(certificate)?, private_key(key)?),
            None => self_signed(address)?,
        };
        let certificate = chain
            .first()
            .map(Fingerprint::of)
            .ok_or_else(|| TlsError::Identity("there is no certificate".to_owned()))?;
        let builder = ServerConfig::builder();
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(file)? {
                    roots
                        .add(certificate)
                        .map_err(|error| wrong(file, &error))?;
                }
                let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| wrong(file, &error))?)
            }
        };
        let config = builder
            .with_single_cert(chain, key)
            .map_err(|error| TlsError::Identity(error.to_string()))?;
        Ok(Offer {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            certificate,
        })
    }
}

// === impl Version ===

impl Version {
    fn of(file: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(file).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(file)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(file, &error))?;
    if certificates.is_empty() {
        return Err(wrong(file, &"holds no certificate in PEM"));
    }
    Ok(certificates)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(file)?)
        .map_err(|_| wrong(file, &"holds no private key in PEM"))
}

fn self_signed(
    address: IpAddr,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let failed = |error: rcgen::Error| TlsError::SelfSigned(error.to_string());
    let names = vec!["localhost".to_owned(), address.to_string()];
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = CertificateParams::new(names)
        .and_then(|parameters| parameters.self_signed(&key))
        .map_err(failed)?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    Ok((vec![certificate.der().clone()], key))
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .and_then(|handle| handle.take(FILE_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| wrong(file, &error))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(wrong(file, &format!("is larger than {FILE_MAX} bytes")));
    }
    Ok(bytes)
}

fn wrong(file: &Path, problem: &dyn std::fmt::Display) -> TlsError {
    TlsError::File {
        file: file.to_owned(),
        problem: problem.to_string(),
    }
}

#[cfg(test)]
mod tests;
