//! One connection of a forward.

use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Bytes copied at once.
const BUFFER: usize = 64 << 10;
/// How long one direction may be quiet after the end of the other: clients
/// close both of theirs one after the other, and cannot tell us which close was
/// the last (containerd gives as long).
const QUIET: Duration = Duration::from_secs(1);

/// Copies both ways until both have ended, or one is quiet after the other's
/// end. The end of one direction is passed on as a half close.
pub(crate) async fn both_ways(
    client: impl AsyncRead + AsyncWrite,
    mut pod: TcpStream,
) -> io::Result<()> {
    let (client_read, client_write) = tokio::io::split(client);
    let (pod_read, pod_write) = pod.split();
    let (towards, ended_towards) = tokio::sync::watch::channel(false);
    let (back, ended_back) = tokio::sync::watch::channel(false);
    let there = async {
        copy(client_read, pod_write, ended_back).await?;
        // Nobody listens any more when the other direction has ended as well.
        let _ = towards.send(true);
        Ok(())
    };
    let here = async {
        copy(pod_read, client_write, ended_towards).await?;
        let _ = back.send(true);
        Ok(())
    };
    tokio::try_join!(there, here).map(|_: ((), ())| ())
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut other_ended: tokio::sync::watch::Receiver<bool>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let ended = *other_ended.borrow();
        let length = if ended {
            match tokio::time::timeout(QUIET, from.read(&mut buffer)).await {
                Ok(read) => read?,
                Err(_quiet) => 0,
            }
        } else {
            tokio::select! {
                read = from.read(&mut buffer) => read?,
                // An error means the end of both directions.
                _ = other_ended.changed() => continue,
            }
        };
        if length == 0 {
            return match to.shutdown().await {
                // The other side has closed everything by itself.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
                other => other,
            };
        }
        to.write_all(&buffer[..length]).await?;
        to.flush().await?;
    }
}

#[cfg(test)]
mod tests {
    use super::both_ways;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn an_answer_comes_after_a_half_close() {
        let (near, mut pod) = connected().await;
        let (mut client, far) = tokio::io::duplex(64);
        let copying = tokio::spawn(both_ways(far, near));
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut question = String::new();
        pod.read_to_string(&mut question).await.unwrap();
        assert_eq!(question, "question");
        pod.write_all(b"answer").await.unwrap();
        drop(pod);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "answer");
        copying.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_side_that_says_no_more_is_given_up() {
        for client_closes in [true, false] {
            let (near, mut pod) = connected().await;
            let (mut client, far) = tokio::io::duplex(64);
            let copying = tokio::spawn(both_ways(far, near));
            if client_closes {
                client.shutdown().await.unwrap();
            } else {
                pod.shutdown().await.unwrap();
            }
            // The other one keeps its half open and says nothing.
            copying.await.unwrap().unwrap();
        }
    }
}
