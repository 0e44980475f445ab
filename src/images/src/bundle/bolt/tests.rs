use super::*;

const PAGE: usize = 512;

/// One element of a leaf: flags, key, value.
type Element = (u32, &'static [u8], Vec<u8>);

fn page(number: u64, flags: u16, count: usize, overflow: u32, rest: &[u8]) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend(flags.to_le_bytes());
    bytes.extend(u16::try_from(count).unwrap().to_le_bytes());
    bytes.extend(overflow.to_le_bytes());
    bytes.extend(rest);
    bytes
}

fn leaf(number: u64, elements: &[Element]) -> Vec<u8> {
    let (mut heads, mut bodies) = (Vec::new(), Vec::new());
    for (at, (flags, key, value)) in elements.iter().enumerate() {
        let position = (elements.len() - at) * 16 + bodies.len();
        for field in [*flags as usize, position, key.len(), value.len()] {
            heads.extend(u32::try_from(field).unwrap().to_le_bytes());
        }
        bodies.extend_from_slice(key);
        bodies.extend_from_slice(value);
    }
    heads.extend(bodies);
    let size = (HEADER + heads.len()).div_ceil(PAGE);
    let overflow = u32::try_from(size - 1).unwrap();
    page(number, LEAF, elements.len(), overflow, &heads)
}

fn branch(number: u64, children: &[u64]) -> Vec<u8> {
    let mut elements = Vec::new();
    for child in children {
        elements.extend(0u64.to_le_bytes());
        elements.extend(child.to_le_bytes());
    }
    page(number, BRANCH, children.len(), 0, &elements)
}

fn meta(number: u64, root: u64, transaction: u64) -> Vec<u8> {
    let mut meta = Vec::new();
    for field in [MAGIC, VERSION, u32::try_from(PAGE).unwrap(), 0] {
        meta.extend(field.to_le_bytes());
    }
    for field in [root, 0, 0, 0, transaction] {
        meta.extend(field.to_le_bytes());
    }
    meta.extend(fnv1a(&meta).to_le_bytes());
    page(number, 0x04, 0, 0, &meta)
}

fn file(pages: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for page in pages {
        bytes.extend(page);
        bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
    }
    bytes
}

/// The value that names a bucket.
fn bucket_at(root: u64) -> Vec<u8> {
    [root.to_le_bytes(), 0u64.to_le_bytes()].concat()
}

fn inline(elements: &[Element]) -> Vec<u8> {
    [bucket_at(0), leaf(0, elements)].concat()
}

/// Root: a branch of two leaves; one value overflows its page; one bucket is inline, one is not.
fn good() -> Vec<u8> {
    file(&[
        meta(0, 2, 7),
        meta(1, 9, 6),
        branch(2, &[3, 4]),
        leaf(
            3,
            &[(0, b"a", b"1".to_vec()), (IS_BUCKET, b"far", bucket_at(7))],
        ),
        leaf(
            4,
            &[
                (0, b"large", vec![b'x'; 700]),
                (IS_BUCKET, b"near", inline(&[(0, b"k", b"v".to_vec())])),
            ],
        ),
        // The leaf before has two pages, this is 6.
        Vec::from([0; PAGE]),
        leaf(7, &[(0, b"inner", b"2".to_vec())]),
    ])
}

fn read(bytes: Vec<u8>) -> Result<Database> {
    Database::parse(bytes, "x.db")
}

#[test]
fn values_and_buckets_are_found() {
    let database = read(good()).unwrap();
    let root = database.root();
    assert_eq!(root.value(b"a").unwrap(), Some(&b"1"[..]));
    assert_eq!(root.value(b"large").unwrap().map(<[u8]>::len), Some(700));
    assert_eq!(root.value(b"far").unwrap(), None, "a bucket is no value");
    assert!(root.bucket(b"a").unwrap().is_none(), "nor the reverse");
    assert!(root.bucket(b"none").unwrap().is_none());
    let near = root.bucket(b"near").unwrap().unwrap();
    assert_eq!(near.value(b"k").unwrap(), Some(&b"v"[..]));
    let far = root.bucket(b"far").unwrap().unwrap();
    assert_eq!(far.value(b"inner").unwrap(), Some(&b"2"[..]));
    let mut keys = Vec::new();
    root.each_bucket(|key, _| {
        keys.push(key);
        Ok(())
    })
    .unwrap();
    assert_eq!(keys, [&b"far"[..], b"near"]);
}

#[test]
fn the_newer_of_two_valid_states_is_read() {
    let root = |bytes: Vec<u8>| read(bytes).map(|database| database.state.root);
    assert_eq!(root(file(&[meta(0, 2, 7), meta(1, 3, 8)])).unwrap(), 3);
    assert_eq!(root(file(&[meta(0, 2, 9), meta(1, 3, 8)])).unwrap(), 2);
    // The first is torn: the second lies where its own size says.
    let mut torn = file(&[meta(0, 2, 9), meta(1, 3, 8)]);
    torn[HEADER + 50] ^= 1;
    assert_eq!(root(torn.clone()).unwrap(), 3);
    torn[PAGE + HEADER + 50] ^= 1;
    let error = root(torn).unwrap_err().to_string();
    assert!(error.contains("no meta page is valid"), "{error}");
}

#[test]
fn damage_is_an_error_not_a_panic() {
    let root = vec![(IS_BUCKET, &b"b"[..], bucket_at(99))];
    let cases = [
        (file(&[meta(0, 9, 1), meta(1, 9, 0)]), "outside"),
        (
            file(&[meta(0, 2, 1), meta(1, 2, 0), branch(2, &[2])]),
            "circle",
        ),
        (
            file(&[meta(0, 2, 1), meta(1, 2, 0), page(2, 0x40, 0, 0, &[])]),
            "neither branch nor leaf",
        ),
        (
            file(&[meta(0, 2, 1), meta(1, 2, 0), page(2, LEAF, 60000, 0, &[])]),
            "element",
        ),
        (
            file(&[meta(0, 2, 1), meta(1, 2, 0), page(2, LEAF, 0, 5, &[])]),
            "overflows",
        ),
    ];
    for (bytes, reason) in cases {
        let database = read(bytes).unwrap();
        let error = database.root().value(b"x").unwrap_err().to_string();
        assert!(error.contains(reason), "{reason}: {error}");
    }
    let database = read(file(&[meta(0, 2, 1), meta(1, 2, 0), leaf(2, &root)])).unwrap();
    let bucket = database.root().bucket(b"b").unwrap().unwrap();
    assert!(bucket.value(b"x").is_err());
}

#[test]
fn any_flipped_byte_is_survived() {
    let good = good();
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0xff;
        let _ = parse(&bytes);
        let _ = parse(&good[..at]);
    }
    assert!(parse(&good));
}
