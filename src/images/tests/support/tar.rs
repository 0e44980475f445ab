//! Writes tar archives of any shape, hostile ones included.
#![allow(dead_code, reason = "shared by tests that each use a part")]

/// An archive being written.
#[derive(Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    pub fn new() -> Self {
        Self::default()
    }

    /// A raw entry: header, then content as it is, padded.
    pub fn raw(
        mut self,
        name: &[u8],
        kind: u8,
        mode: u32,
        link: &[u8],
        size: u64,
        content: &[u8],
    ) -> Self {
        let mut header = [0u8; 512];
        header[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
        header[100..107].copy_from_slice(format!("{mode:07o}").as_bytes());
        header[108..115].copy_from_slice(b"0000000");
        header[116..123].copy_from_slice(b"0000000");
        header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        header[136..147].copy_from_slice(format!("{:011o}", 1_000_000).as_bytes());
        header[156] = kind;
        header[157..157 + link.len().min(100)].copy_from_slice(&link[..link.len().min(100)]);
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[329..336].copy_from_slice(b"0000000");
        header[337..344].copy_from_slice(b"0000000");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(content);
        let padded = self.0.len().next_multiple_of(512);
        self.0.resize(padded, 0);
        self
    }

    pub fn file(self, name: &str, mode: u32, content: &[u8]) -> Self {
        self.raw(
            name.as_bytes(),
            b'0',
            mode,
            b"",
            content.len() as u64,
            content,
        )
    }

    pub fn directory(self, name: &str, mode: u32) -> Self {
        self.raw(name.as_bytes(), b'5', mode, b"", 0, b"")
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.raw(name.as_bytes(), b'2', 0o777, target.as_bytes(), 0, b"")
    }

    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.raw(name.as_bytes(), b'1', 0o644, target.as_bytes(), 0, b"")
    }

    /// PAX records for the entry that follows.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while rest + length.to_string().len() != length {
                length = rest + length.to_string().len();
            }
            body.extend_from_slice(format!("{length} {key}=").as_bytes());
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        self.raw(b"pax", b'x', 0o644, b"", body.len() as u64, &body)
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}
