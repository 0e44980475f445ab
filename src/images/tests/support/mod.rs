//! A small registry that can misbehave.

pub mod tar;

use std::collections::HashMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use insula_images::{Digest, Images, StoreConfig, Timeouts};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// How a path is answered.
#[derive(Clone)]
pub enum Route {
    /// A status, headers and a body; knows ranges.
    Answer(u16, Vec<(String, String)>, Vec<u8>),
    /// The request is read and nothing is said.
    Hang,
    /// Sends so many bytes of the body, then closes the connection; knows ranges.
    BreakAfter(usize, Vec<u8>),
    /// Answers, but only after a while.
    Slow(Duration, Vec<u8>),
}

/// One request as it came in.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub headers: String,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self
            .headers
            .lines()
            .filter_map(|line| line.split_once(": "));
        lines
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

#[derive(Default)]
struct State {
    routes: Mutex<HashMap<String, Route>>,
    seen: Mutex<Vec<Seen>>,
    /// `Authorization` that every `/v2/` request must have, and the challenge else.
    auth: Mutex<Option<(String, String)>>,
}

/// A registry on loopback, gone when dropped.
pub struct Registry {
    pub address: SocketAddr,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Registry {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move { drop(serve(stream, &shared).await) });
            }
        });
        Self {
            address,
            state,
            task,
        }
    }

    /// `127.0.0.1:<port>`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    pub fn route(&self, path: &str, route: Route) {
        self.state
            .routes
            .lock()
            .unwrap()
            .insert(path.to_owned(), route);
    }

    pub fn body(&self, path: &str, body: &[u8]) {
        self.route(path, Route::Answer(200, Vec::new(), body.to_vec()));
    }

    pub fn require(&self, authorization: &str, challenge: &str) {
        *self.state.auth.lock().unwrap() = Some((authorization.to_owned(), challenge.to_owned()));
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    pub fn count(&self, path: &str) -> usize {
        self.seen().iter().filter(|seen| seen.path == path).count()
    }

    /// Serves an image of these layers (gzip) under `repository:tag`; gives what it consists of.
    pub fn image(&self, repository: &str, tag: &str, layers: &[Vec<u8>], config: &str) -> Pushed {
        let mut diff_ids = Vec::new();
        let mut descriptors = Vec::new();
        let mut blobs = Vec::new();
        for layer in layers {
            let blob = gzip(layer);
            let digest = Digest::sha256(&blob);
            diff_ids.push(format!("\"{}\"", Digest::sha256(layer)));
            descriptors.push(format!(
                r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{digest}","size":{}}}"#,
                blob.len()
            ));
            self.body(&format!("/v2/{repository}/blobs/{digest}"), &blob);
            blobs.push((digest, blob));
        }
        let config = format!(
            r#"{{"os":"linux","architecture":"amd64","config":{config},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            diff_ids.join(",")
        );
        let id = Digest::sha256(config.as_bytes());
        self.body(&format!("/v2/{repository}/blobs/{id}"), config.as_bytes());
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{id}","size":{}}},"layers":[{}]}}"#,
            config.len(),
            descriptors.join(",")
        );
        let digest = self.manifest(repository, tag, OCI, &manifest);
        Pushed {
            id,
            digest,
            blobs,
            manifest,
        }
    }

    /// Serves a manifest or index by tag and digest.
    pub fn manifest(&self, repository: &str, tag: &str, media_type: &str, text: &str) -> Digest {
        let digest = Digest::sha256(text.as_bytes());
        let headers = vec![
            ("Content-Type".to_owned(), media_type.to_owned()),
            ("Docker-Content-Digest".to_owned(), digest.to_string()),
        ];
        for name in [tag, digest.as_str()] {
            let route = Route::Answer(200, headers.clone(), text.as_bytes().to_vec());
            self.route(&format!("/v2/{repository}/manifests/{name}"), route);
        }
        digest
    }
}

pub const OCI: &str = "application/vnd.oci.image.manifest.v1+json";

/// What an image consists of.
pub struct Pushed {
    pub id: Digest,
    pub digest: Digest,
    pub blobs: Vec<(Digest, Vec<u8>)>,
    pub manifest: String,
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A store with short deadlines.
pub fn store(root: &std::path::Path) -> Images {
    Images::open(StoreConfig {
        timeouts: Timeouts {
            connect: Duration::from_secs(2),
            progress: Duration::from_millis(500),
        },
        ..StoreConfig::new(root)
    })
    .unwrap()
}

async fn serve(mut stream: TcpStream, state: &State) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            let mut piece = [0; 4096];
            match stream.read(&mut piece).await? {
                0 => return Ok(()),
                n => buffer.extend_from_slice(&piece[..n]),
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        buffer.drain(..end);
        let (first, headers) = head.split_once("\r\n").unwrap_or((&head, ""));
        let mut words = first.split(' ');
        let seen = Seen {
            method: words.next().unwrap_or_default().into(),
            path: words.next().unwrap_or_default().into(),
            headers: headers.into(),
        };
        state.seen.lock().unwrap().push(seen.clone());
        if !answer(&mut stream, state, &seen).await? {
            return Ok(());
        }
    }
}

/// True if the connection may be used again.
async fn answer(stream: &mut TcpStream, state: &State, seen: &Seen) -> std::io::Result<bool> {
    let auth = state.auth.lock().unwrap().clone();
    if let Some((wanted, challenge)) = auth
        && seen.path.starts_with("/v2/")
        && seen.header("authorization") != Some(&wanted)
    {
        let headers = vec![("WWW-Authenticate".to_owned(), challenge)];
        send(stream, seen, 401, &headers, b"").await?;
        return Ok(true);
    }
    let path = seen.path.split('?').next().unwrap_or_default();
    let route = state.routes.lock().unwrap().get(path).cloned();
    match route {
        None => send(stream, seen, 404, &[], b"").await?,
        Some(Route::Hang) => {
            tokio::time::sleep(Duration::from_mins(1)).await;
            return Ok(false);
        }
        Some(Route::Slow(wait, body)) => {
            tokio::time::sleep(wait).await;
            send(stream, seen, 200, &[], &body).await?;
        }
        Some(Route::Answer(status, headers, body)) => {
            send(stream, seen, status, &headers, &body).await?;
        }
        Some(Route::BreakAfter(bytes, body)) => {
            let from = range(seen).min(body.len());
            let rest = &body[from..];
            let status = if from > 0 { 206 } else { 200 };
            let extra = format!(
                "Content-Range: bytes {from}-{}/{}\r\n",
                body.len().saturating_sub(1),
                body.len()
            );
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{extra}\r\n",
                rest.len()
            );
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&rest[..bytes.min(rest.len())]).await?;
            stream.flush().await?;
            return Ok(false);
        }
    }
    Ok(true)
}

fn range(seen: &Seen) -> usize {
    let text = seen.header("range").unwrap_or("bytes=0-");
    text.trim_start_matches("bytes=")
        .trim_end_matches('-')
        .parse()
        .unwrap_or(0)
}

async fn send(
    stream: &mut TcpStream,
    seen: &Seen,
    status: u16,
    headers: &[(String, String)],
    body: &[u8],
) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    if seen.method != "HEAD" {
        stream.write_all(body).await?;
    }
    stream.flush().await
}
