//! Doors to the parsers that have no public one, for the fuzz targets only.

/// Reads a `hosts.toml`.
pub fn hosts_toml(text: &str) -> bool {
    crate::registry::parse_hosts_toml(text)
}

/// Reads a `WWW-Authenticate` header.
pub fn challenge(header: &str) -> bool {
    crate::registry::parse_challenge(header)
}

/// Reads a tar archive's entries without writing any.
pub fn tar(archive: &[u8]) -> bool {
    crate::layer::parse_tar(archive)
}

/// Reads a bbolt database.
pub fn bolt(bytes: &[u8]) -> bool {
    crate::bundle::parse_bolt(bytes)
}
