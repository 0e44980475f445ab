//! Servers and clients in network namespaces.

use crate::host::Namespace;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a client waits.
const PATIENCE: Duration = Duration::from_secs(3);

/// A server that tells each client which address it has, until it is dropped.
#[derive(Debug)]
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

// === impl Server ===

impl Server {
    fn start(
        namespace: &Namespace,
        bind: impl FnOnce() -> std::io::Result<Box<dyn FnMut() + Send>> + Send + 'static,
    ) -> Result<Self, String> {
        let stop = Arc::new(AtomicBool::new(false));
        let (name, stopped) = (namespace.name.clone(), Arc::clone(&stop));
        let (ready, started) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            // The value would remove the namespace when it is dropped.
            let namespace = std::mem::ManuallyDrop::new(Namespace { name });
            let served = namespace
                .enter()
                .and_then(|()| bind().map_err(|error| error.to_string()));
            match served {
                Ok(mut serve) => {
                    let _ = ready.send(Ok(()));
                    while !stopped.load(Ordering::Relaxed) {
                        serve();
                    }
                }
                Err(why) => drop(ready.send(Err(why))),
            }
        });
        started.recv().map_err(|error| error.to_string())??;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Answers "NAME sees ADDRESS" to each connection.
    pub fn tcp(namespace: &Namespace, address: &str) -> Result<Self, String> {
        let (name, address) = (namespace.name.clone(), address.to_owned());
        Self::start(namespace, move || {
            let listener = TcpListener::bind(&address)?;
            listener.set_nonblocking(true)?;
            Ok(Box::new(move || match listener.accept() {
                Ok((mut stream, peer)) => {
                    let _ = write!(stream, "{name} sees {}", peer.ip());
                }
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }))
        })
    }

    /// The same to each datagram.
    pub fn udp(namespace: &Namespace, address: &str) -> Result<Self, String> {
        let (name, address) = (namespace.name.clone(), address.to_owned());
        Self::start(namespace, move || {
            let socket = UdpSocket::bind(&address)?;
            socket.set_read_timeout(Some(Duration::from_millis(20)))?;
            Ok(Box::new(move || {
                let mut buffer = [0; 64];
                if let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(format!("{name} sees {}", peer.ip()).as_bytes(), peer);
                }
            }))
        })
    }

    /// Reads all that a client sends, or sends as long as one listens.
    pub fn bulk(namespace: &Namespace, address: &str, send: bool) -> Result<Self, String> {
        let address = address.to_owned();
        Self::start(namespace, move || {
            let listener = TcpListener::bind(&address)?;
            listener.set_nonblocking(true)?;
            Ok(Box::new(move || match listener.accept() {
                Ok((mut stream, _)) => {
                    let _ = stream.set_nonblocking(false);
                    let _ = stream.set_read_timeout(Some(PATIENCE));
                    let _ = stream.set_write_timeout(Some(PATIENCE));
                    let mut buffer = vec![0; 64 << 10];
                    let mut going = true;
                    while going {
                        going = match send {
                            true => stream.write_all(&buffer).is_ok(),
                            false => matches!(stream.read(&mut buffer), Ok(1..)),
                        };
                    }
                }
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }))
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What a TCP server says, or why nothing is heard.
pub fn ask(from: &Namespace, address: &str) -> String {
    let heard = from.within(|| {
        let address: SocketAddr = address.parse().map_err(|_| address.to_owned())?;
        let mut stream =
            TcpStream::connect_timeout(&address, PATIENCE).map_err(|error| reason(&error))?;
        let mut text = String::new();
        let _ = stream.set_read_timeout(Some(PATIENCE));
        stream
            .read_to_string(&mut text)
            .map_err(|error| reason(&error))?;
        Ok(text)
    });
    heard.unwrap_or_else(|why| why)
}

/// The same of a UDP server, from a port of one's own.
pub fn ask_udp(from: &Namespace, local: &str, address: &str) -> String {
    let heard = from.within(|| {
        let socket = UdpSocket::bind(local).map_err(|error| reason(&error))?;
        let _ = socket.set_read_timeout(Some(Duration::from_millis(300)));
        let begun = Instant::now();
        loop {
            let _ = socket.send_to(b"?", address);
            let mut buffer = [0; 64];
            match socket.recv_from(&mut buffer) {
                Ok((length, _)) => {
                    return Ok(String::from_utf8_lossy(&buffer[..length]).into_owned());
                }
                Err(_) if begun.elapsed() < Duration::from_millis(1500) => {}
                Err(_) => return Err("nothing".to_owned()),
            }
        }
    });
    heard.unwrap_or_else(|why| why)
}

fn reason(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused => "refused".to_owned(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "nothing".to_owned(),
        _ => error.to_string(),
    }
}

/// Megabits per second of a connection, measured behind its first burst.
pub fn rate(from: &Namespace, address: &str, receive: bool) -> Result<f64, String> {
    from.within(|| {
        let text = |error: std::io::Error| error.to_string();
        let address: SocketAddr = address.parse().map_err(|_| address.to_owned())?;
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(text)?;
        let mut buffer = vec![0; 16 << 10];
        let mut move_some = || match receive {
            true => stream.read(&mut buffer),
            false => stream.write(&buffer),
        };
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(1) {
            move_some().map_err(text)?;
        }
        let (begun, mut bytes) = (Instant::now(), 0_u32);
        while begun.elapsed() < Duration::from_secs(3) {
            bytes += u32::try_from(move_some().map_err(text)?).unwrap_or(0);
        }
        Ok(f64::from(bytes) * 8.0 / 1e6 / begun.elapsed().as_secs_f64())
    })
}
