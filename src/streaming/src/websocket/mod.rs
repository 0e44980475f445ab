//! WebSocket sessions: [`channel`] reads and writes messages, [`mux`] drives a
//! connection with several channels, [`tunnel`] makes one stream of bytes of it.

pub(crate) mod channel;
pub(crate) mod mux;
pub(crate) mod tunnel;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// Largest message of a client, in bytes. Clients write 32 KiB and less; a
/// person may paste more.
const MESSAGE_MAX: usize = 4 << 20;
/// Most that waits to be written to a client, in bytes.
const UNWRITTEN_MAX: usize = 1 << 20;

/// Takes over a connection whose opening handshake is done.
pub(crate) async fn accept<I: AsyncRead + AsyncWrite + Unpin>(io: I) -> WebSocketStream<I> {
    let config = WebSocketConfig::default()
        .read_buffer_size(64 << 10)
        // Each message is written at once: what waits is what the socket did
        // not take.
        .write_buffer_size(0)
        .max_write_buffer_size(UNWRITTEN_MAX)
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}
