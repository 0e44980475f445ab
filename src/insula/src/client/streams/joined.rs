//! A session's streams joined to those of this process.

use std::convert::Infallible;
use std::io::{self, Read as _, Write};

use insula_streaming::client::{ClientError, Remote, Sizes};
use insula_streaming::spdy::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::terminal;

/// Bytes copied at once.
const BUFFER: usize = 64 << 10;
/// Pieces that were read on one side and are not written on the other yet.
const PIECES: usize = 4;

/// Copies until the other end tells how it ended; gives back the exit code.
pub(super) async fn run(remote: Remote) -> Result<i32, ClientError> {
    let Remote {
        stdin,
        stdout,
        stderr,
        sizes,
        end,
    } = remote;
    let outputs = async {
        tokio::try_join!(
            copy_out(stdout, io::stdout()),
            copy_out(stderr, io::stderr()),
        )
    };
    let inputs = async {
        tokio::join!(copy_in(stdin), tell_sizes(sizes));
        // The end of the input is not that of the session.
        std::future::pending::<Infallible>().await
    };
    let session = async {
        outputs.await?;
        end.wait().await
    };
    tokio::select! {
        ended = session => ended,
        never = inputs => match never {},
    }
}

/// Writes what the other end writes, to its end.
async fn copy_out(
    from: Option<Stream>,
    to: impl Write + Send + 'static,
) -> Result<(), ClientError> {
    let Some(mut from) = from else {
        return Ok(());
    };
    let (pieces, written) = write_output(to);
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = from.read(&mut buffer).await?;
        // A thread that takes no more has failed, and says why below.
        if length == 0 || pieces.send(buffer[..length].to_vec()).await.is_err() {
            break;
        }
    }
    drop(pieces);
    match written.await {
        Ok(written) => Ok(written?),
        Err(_) => Err(io::Error::other("the thread that writes output is gone").into()),
    }
}

/// A thread that writes output: whoever reads it may be slow, and input goes on meanwhile.
fn write_output(
    mut to: impl Write + Send + 'static,
) -> (mpsc::Sender<Vec<u8>>, oneshot::Receiver<io::Result<()>>) {
    let (sender, mut pieces) = mpsc::channel::<Vec<u8>>(PIECES);
    let (done, written) = oneshot::channel();
    std::thread::spawn(move || {
        let mut write = || {
            while let Some(piece) = pieces.blocking_recv() {
                to.write_all(&piece)?;
                to.flush()?;
            }
            Ok(())
        };
        // Nobody waits any more when the session has failed.
        let _ = done.send(write());
    });
    (sender, written)
}

/// Sends this process's input to its end. What is wrong with the session is told where its output
/// is read.
async fn copy_in(to: Option<Stream>) {
    let Some(mut to) = to else { return };
    let mut pieces = read_input();
    while let Some(piece) = pieces.recv().await {
        let sent = async {
            to.write_all(&piece).await?;
            to.flush().await
        };
        if sent.await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
    // Dropped it would be reset, before the other end has read it.
    std::future::pending::<()>().await;
}

/// A thread that reads standard input. A read cannot be given up, so the thread is left alone
/// when the session ends, and ends with this process.
fn read_input() -> mpsc::Receiver<Vec<u8>> {
    let (sender, pieces) = mpsc::channel(PIECES);
    std::thread::spawn(move || {
        let mut buffer = vec![0; BUFFER];
        loop {
            match io::stdin().read(&mut buffer) {
                Ok(0) => return,
                Ok(length) => {
                    if sender.blocking_send(buffer[..length].to_vec()).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
    pieces
}

/// Sends the terminal's size, now and whenever it changes.
async fn tell_sizes(sizes: Option<Sizes>) {
    let (Some(mut sizes), Ok(mut changes)) = (sizes, signal(SignalKind::window_change())) else {
        return;
    };
    loop {
        if let Some(size) = terminal::size()
            && sizes.send(size).await.is_err()
        {
            return;
        }
        if changes.recv().await.is_none() {
            return;
        }
    }
}
