//! Sizes of a client's terminal: JSON objects in a stream, one after another.

use serde::Deserialize;

/// Longest object that is understood, in bytes; a size needs forty.
const OBJECT_MAX: usize = 512;

/// A terminal's size in characters; neither is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// The stream holds something else than sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the resize stream holds something else than objects with Width and Height")]
pub struct NotASize;

/// Reads sizes from pieces of a stream.
#[derive(Debug, Default)]
pub struct Sizes {
    unread: Vec<u8>,
}

/// As client-go writes it.
#[derive(Debug, Deserialize)]
struct TerminalSize {
    #[serde(rename = "Width", alias = "width", default)]
    width: u16,
    #[serde(rename = "Height", alias = "height", default)]
    height: u16,
}

// === impl Sizes ===

impl Sizes {
    /// Takes the next piece and gives back the last whole size that is now
    /// known: those before it are out of date. A size with a 0 is that of no
    /// terminal and left out.
    pub fn push(&mut self, piece: &[u8]) -> Result<Option<Size>, NotASize> {
        self.unread.extend_from_slice(piece);
        let mut last = None;
        let mut objects =
            serde_json::Deserializer::from_slice(&self.unread).into_iter::<TerminalSize>();
        loop {
            match objects.next() {
                Some(Ok(TerminalSize { width: 0, .. } | TerminalSize { height: 0, .. })) => {}
                Some(Ok(size)) => {
                    last = Some(Size {
                        columns: size.width,
                        rows: size.height,
                    });
                }
                Some(Err(error)) if error.is_eof() => break,
                Some(Err(_)) => return Err(NotASize),
                None => break,
            }
        }
        let read = objects.byte_offset();
        self.unread.drain(..read);
        if self.unread.len() > OBJECT_MAX {
            return Err(NotASize);
        }
        Ok(last)
    }
}

#[cfg(test)]
mod tests {
    use super::{NotASize, OBJECT_MAX, Size, Sizes};
    use proptest::prelude::*;

    fn size(columns: u16, rows: u16) -> Size {
        Size { columns, rows }
    }

    #[test]
    fn the_last_whole_size_counts() {
        for (pieces, want) in [
            (
                &[r#"{"Width":80,"Height":24}"#][..],
                Ok(vec![Some(size(80, 24))]),
            ),
            (
                &["{\"Width\":80,\"Height\":24}\n"],
                Ok(vec![Some(size(80, 24))]),
            ),
            (
                &["{\"Width\":80,\"Hei", "ght\":24}{\"Width\":1,\"Height\":2}"],
                Ok(vec![None, Some(size(1, 2))]),
            ),
            (
                &["{\"Width\":0,\"Height\":24}", "{}", ""],
                Ok(vec![None, None, None]),
            ),
            (
                &["{\"Width\":7,\"Height\":8}{\"Width\":0,\"Height\":0}"],
                Ok(vec![Some(size(7, 8))]),
            ),
            (&["{\"Width\":65536,\"Height\":1}"], Err(NotASize)),
            (&["{\"Width\":-1,\"Height\":1}"], Err(NotASize)),
            (&["hello"], Err(NotASize)),
            (&["}"], Err(NotASize)),
        ] {
            let mut sizes = Sizes::default();
            let found: Result<Vec<_>, _> = pieces
                .iter()
                .map(|piece| sizes.push(piece.as_bytes()))
                .collect();
            assert_eq!(found, want, "{pieces:?}");
        }
    }

    #[test]
    fn an_object_without_end_is_refused() {
        let mut sizes = Sizes::default();
        assert_eq!(sizes.push(b"{\"other\":\""), Ok(None));
        assert_eq!(sizes.push(&[b'x'; OBJECT_MAX]), Err(NotASize));
    }

    proptest! {
        #[test]
        fn where_the_pieces_end_does_not_matter(
            dimensions in proptest::collection::vec((1u16.., 1u16..), 1..8),
            cut in 1usize..40,
        ) {
            let texts: Vec<_> = dimensions
                .iter()
                .map(|(width, height)| format!("{{\"Width\":{width},\"Height\":{height}}}\n"))
                .collect();
            let text = texts.concat();
            let mut sizes = Sizes::default();
            let mut last = None;
            for piece in text.as_bytes().chunks(cut) {
                last = sizes.push(piece).unwrap().or(last);
            }
            let (columns, rows) = *dimensions.last().unwrap();
            prop_assert_eq!(last, Some(size(columns, rows)));
        }

        #[test]
        fn nothing_panics(
            pieces in proptest::collection::vec(
                proptest::collection::vec(any::<u8>(), 0..50),
                0..20,
            ),
        ) {
            let mut sizes = Sizes::default();
            for piece in pieces {
                if sizes.push(&piece).is_err() {
                    break;
                }
            }
        }
    }
}
