//! The Kubernetes Container Runtime Interface, version 1: messages, clients and server traits.
//!
//! Everything in [`v1`] is generated at build time from `proto/cri/runtime/v1/api.proto`, our own
//! file of the interface (names and numbers as in `k8s.io/cri-api` v0.37.2, which the tests
//! compare). Nothing else lives here but what the generator cannot do: a `Debug` for
//! [`v1::AuthConfig`] that does not print secrets. Maps are `BTreeMap`s, so that output made
//! from a message has one order.
#![forbid(unsafe_code)]

use std::fmt;

/// Package `runtime.v1` of the interface.
#[allow(
    missing_docs,
    reason = "a field whose name says it all has no comment in the interface file"
)]
#[allow(
    clippy::pedantic,
    clippy::large_enum_variant,
    reason = "generated code: what it looks like is not ours to choose"
)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}

/// The interface as an encoded `google.protobuf.FileDescriptorSet`, with comments.
///
/// For tests that compare interfaces, and for clients that ask for a description.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cri.bin"));

/// Shows who the credentials are for, never the credentials.
impl fmt::Debug for v1::AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |secret: &str| if secret.is_empty() { "" } else { "(hidden)" };
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("password", &hidden(&self.password))
            .field("auth", &hidden(&self.auth))
            .field("server_address", &self.server_address)
            .field("identity_token", &hidden(&self.identity_token))
            .field("registry_token", &hidden(&self.registry_token))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::v1::{AuthConfig, PullImageRequest};

    #[test]
    fn credentials_are_not_printed() {
        let request = PullImageRequest {
            auth: Some(AuthConfig {
                username: "alice".into(),
                password: "pass-1".into(),
                auth: "pass-2".into(),
                server_address: "registry.example".into(),
                identity_token: "pass-3".into(),
                registry_token: "pass-4".into(),
            }),
            ..Default::default()
        };
        let shown = format!("{request:?}");
        assert!(!shown.contains("pass-"), "{shown}");
        assert!(shown.contains("alice") && shown.contains("registry.example"));
    }
}
