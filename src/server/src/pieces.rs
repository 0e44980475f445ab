//! Lists in pieces, for the Stream* calls (KEP-5825): each item exactly once,
//! in order, then the end of the stream.

use std::pin::Pin;
use tokio_stream::Stream;
use tonic::{Response, Status};

/// What a Stream* call gives back.
pub(crate) type Pieces<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

/// Items per message at most.
const ITEMS_MAX: usize = 256;
/// Encoded bytes per message, beyond which another is begun. Clients take
/// 16 MiB, and one item can be no larger than the request that made it.
const BYTES_MAX: usize = 1 << 20;

/// Answers with `items` in as many messages as it takes.
pub(crate) fn stream<T, M>(items: Vec<T>, message: fn(Vec<T>) -> M) -> Response<Pieces<M>>
where
    T: prost::Message,
    M: Send + 'static,
{
    let messages: Vec<_> = split(items)
        .into_iter()
        .map(|piece| Ok(message(piece)))
        .collect();
    Response::new(Box::pin(tokio_stream::iter(messages)))
}

fn split<T: prost::Message>(items: Vec<T>) -> Vec<Vec<T>> {
    let mut pieces: Vec<Vec<T>> = Vec::new();
    let mut bytes = 0;
    for item in items {
        let length = item.encoded_len();
        match pieces.last_mut() {
            Some(piece) if piece.len() < ITEMS_MAX && bytes + length <= BYTES_MAX => {
                bytes += length;
                piece.push(item);
            }
            _ => {
                bytes = length;
                pieces.push(vec![item]);
            }
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::{BYTES_MAX, ITEMS_MAX, split};
    use insula_cri_api::v1::PodIp;

    fn items(count: usize, length: usize) -> Vec<PodIp> {
        (0..count)
            .map(|index| PodIp {
                ip: format!("{index}{}", ".".repeat(length)),
            })
            .collect()
    }

    #[test]
    fn each_item_comes_once_and_in_order() {
        for (count, length) in [
            (0, 1),
            (1, 1),
            (256, 4),
            (257, 4),
            (1000, 4),
            (5, BYTES_MAX),
        ] {
            let pieces = split(items(count, length));
            assert!(
                pieces
                    .iter()
                    .all(|piece| !piece.is_empty() && piece.len() <= ITEMS_MAX)
            );
            assert_eq!(pieces.concat(), items(count, length));
        }
    }

    #[test]
    fn large_items_are_spread() {
        assert_eq!(split(items(3, BYTES_MAX / 2 - 100)).len(), 2);
        assert_eq!(split(items(3, BYTES_MAX)).len(), 3);
    }
}
