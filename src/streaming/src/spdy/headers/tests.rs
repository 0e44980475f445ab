use std::fmt::Write as _;

use flate2::{Compress, Compression, FlushCompress};
use proptest::prelude::*;

use super::*;

const LIMIT: usize = 16 << 10;

/// A compressor that does compress, as other ends have one.
fn compressor() -> Compress {
    let mut zlib = Compress::new(Compression::best(), true);
    zlib.set_dictionary(DICTIONARY).unwrap();
    zlib
}

fn compress(zlib: &mut Compress, block: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(block.len() + 100);
    zlib.compress_vec(block, &mut out, FlushCompress::Sync)
        .unwrap();
    out
}

#[test]
fn blocks_of_the_go_client() {
    let octets = include_bytes!("../../../tests/fixtures/client.spdy");
    let mut inflater = Inflater::new(LIMIT);
    let blocks = [
        (0x12..0x31, "error"),
        (0x43..0x50, "stdin"),
        (0x62..0x71, "stdout"),
        (0x83..0x91, "resize"),
    ];
    for (place, kind) in blocks {
        let block = inflater.inflate(&octets[place]).unwrap();
        let headers = Headers::parse(&block).unwrap();
        assert_eq!(headers.get("streamType"), Some(kind));
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("streamtype", kind)]);
    }
}

#[test]
fn our_own_blocks() {
    let (mut deflater, mut inflater) = (Deflater::default(), Inflater::new(LIMIT));
    let block = Headers::block(&[("streamType", "data"), ("port", "80\x00443")]);
    for _ in 0..3 {
        let inflated = inflater.inflate(&deflater.deflate(&block)).unwrap();
        let headers = Headers::parse(&inflated).unwrap();
        assert_eq!(headers.get("PORT"), Some("80"));
        assert_eq!(headers.get("streamtype"), Some("data"));
        assert_eq!(headers.get("requestid"), None);
    }
}

#[test]
fn an_empty_block_costs_the_same_every_time() {
    let mut deflater = Deflater::default();
    let first = deflater.deflate(&[0; 4]);
    assert_eq!(hex(&first), "7820e3c6a7c2000400fbff00000000000000ffff");
    assert_eq!(deflater.deflate(&[0; 4]), first[6..]);
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

#[test]
fn a_block_larger_than_the_limit_is_refused() {
    let mut zlib = compressor();
    let mut inflater = Inflater::new(LIMIT);
    let fits = compress(&mut zlib, &[b'a'; LIMIT]);
    assert_eq!(inflater.inflate(&fits).unwrap(), [b'a'; LIMIT]);
    let bomb = compress(&mut zlib, &vec![0; 16 << 20]);
    assert!(bomb.len() < LIMIT * 2, "{} octets", bomb.len());
    let error = inflater.inflate(&bomb).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a SPDY header block inflates to more than 16384 octets"
    );
}

#[test]
fn blocks_that_are_no_zlib_stream() {
    let another_dictionary = b"\x78\x20\0\0\0\x01\0\x04\0\xfb\xff\0\0\0\0";
    let ended = {
        let mut out = Vec::with_capacity(100);
        compressor()
            .compress_vec(b"\0\0\0\0", &mut out, FlushCompress::Finish)
            .unwrap();
        out
    };
    let cases: [(&[u8], &str); 4] = [
        (another_dictionary, "it asks for the dictionary 0x00000001"),
        (&ended, "the zlib stream ends"),
        (b"GET / HTTP/1.1", ""),
        (b"\x78\x20\xe3\xc6\xa7\xc2\x07", ""),
    ];
    for (block, expected) in cases {
        let error = Inflater::new(LIMIT).inflate(block).unwrap_err();
        let SpdyError::Compression(problem) = error else {
            panic!("{block:?}: {error}");
        };
        assert!(
            problem == expected || expected.is_empty(),
            "{block:?}: {problem}"
        );
    }
}

#[test]
fn blocks_that_are_no_headers() {
    let cases: &[(&[u8], &str)] = &[
        (b"", "header block is cut off"),
        (b"\0\0\0", "header block is cut off"),
        (b"\0\0\0\x01", "header block is cut off"),
        (b"\0\0\0\x01\0\0\0\x02a", "header block is cut off"),
        (b"\0\0\0\x01\xff\xff\xff\xffa", "header block is cut off"),
        (b"\0\0\0\x01\0\0\0\x01a", "header block is cut off"),
        (b"\xff\xff\xff\xff", "has 4294967295 headers, more than 128"),
        (b"\0\0\0\x01\0\0\0\0\0\0\0\0", "has a header without a name"),
        (
            b"\0\0\0\x01\0\0\0\x01A\0\0\0\0",
            "has a header name in upper case, \"A\"",
        ),
        (
            b"\0\0\0\x01\0\0\0\x01\xff\0\0\0\0",
            "has a header that is not UTF-8",
        ),
        (
            b"\0\0\0\x02\0\0\0\x01a\0\0\0\0\0\0\0\x01a\0\0\0\0",
            "has the header \"a\" twice",
        ),
        (b"\0\0\0\0\0", "header block goes on after its last header"),
    ];
    for (block, expected) in cases {
        assert_eq!(Headers::parse(block).unwrap_err(), *expected, "{block:?}");
    }
}

proptest! {
    #[test]
    fn blocks_survive_any_compressor(
        blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 1..8),
        ours in any::<bool>(),
    ) {
        let (mut zlib, mut deflater) = (compressor(), Deflater::default());
        let mut inflater = Inflater::new(LIMIT);
        for block in blocks {
            let compressed = match ours {
                true => deflater.deflate(&block),
                false => compress(&mut zlib, &block),
            };
            prop_assert_eq!(inflater.inflate(&compressed).unwrap(), block);
        }
    }

    #[test]
    fn headers_are_read_as_they_were_written(
        pairs in prop::collection::btree_map("[a-z0-9-]{1,12}", ".{0,40}", 0..20),
    ) {
        let pairs: Vec<(&str, &str)> =
            pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let headers = Headers::parse(&Headers::block(&pairs)).unwrap();
        prop_assert_eq!(headers.iter().collect::<Vec<_>>(), pairs);
    }
}
