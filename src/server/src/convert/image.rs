//! Images and credentials.

use super::{Rejected, required, text};
use insula_cri_api::v1::{
    AuthConfig, FilesystemIdentifier, FilesystemUsage, Image as Message, ImageSpec, Int64Value,
    UInt64Value,
};
use insula_images::{FsInfo, Image, RegistryAuth, Secret};

/// Longest reference of an image that is taken, in bytes; the store's own
/// bound is smaller.
const REFERENCE_MAX: usize = 4096;

/// The name or id that a call is about.
pub fn reference(message: Option<ImageSpec>) -> Result<String, Rejected> {
    let image = text(
        required(message, "image")?.image,
        "image.image",
        REFERENCE_MAX,
    )?;
    if image.is_empty() {
        return Err(Rejected::invalid("image.image", "is empty"));
    }
    Ok(image)
}

/// Credentials for one pull; a message with nothing in it is none.
pub fn auth(message: AuthConfig) -> Option<RegistryAuth> {
    if message == AuthConfig::default() {
        return None;
    }
    Some(RegistryAuth {
        username: message.username,
        password: Secret::new(message.password),
        auth: Secret::new(message.auth),
        server_address: message.server_address,
        identity_token: Secret::new(message.identity_token),
        registry_token: Secret::new(message.registry_token),
    })
}

/// An image as lists and statuses show it. Its id is the one that containers
/// made from it have.
pub fn to_cri(image: &Image) -> Message {
    let id = image.id.as_str().to_owned();
    Message {
        spec: Some(ImageSpec {
            image: id.clone(),
            ..ImageSpec::default()
        }),
        id,
        repo_tags: image.repo_tags.clone(),
        repo_digests: image.repo_digests.clone(),
        size: image.size,
        uid: image.config.uid().map(|value| Int64Value { value }),
        username: image.config.username().to_owned(),
        pinned: false,
    }
}

/// What images take; kubelet finds their disk by a directory that exists.
pub fn usage(info: &FsInfo, timestamp: i64) -> FilesystemUsage {
    FilesystemUsage {
        timestamp,
        fs_id: Some(FilesystemIdentifier {
            mountpoint: info.path.to_string_lossy().into_owned(),
        }),
        used_bytes: Some(UInt64Value { value: info.bytes }),
        inodes_used: Some(UInt64Value { value: info.inodes }),
    }
}

#[cfg(test)]
mod tests {
    use super::{auth, reference, to_cri, usage};
    use insula_cri_api::v1::{AuthConfig, ImageSpec};
    use insula_images::{FsInfo, Image, ImageConfig};
    use std::sync::Arc;

    #[test]
    fn an_image_must_be_named() {
        let spec = |image: &str| {
            Some(ImageSpec {
                image: image.into(),
                ..ImageSpec::default()
            })
        };
        assert_eq!(reference(spec("redis")).unwrap(), "redis");
        for (message, want) in [
            (None, "image: is missing"),
            (spec(""), "image.image: is empty"),
            (spec("a\0"), "image.image: holds a NUL byte"),
        ] {
            assert_eq!(reference(message).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn credentials_are_carried_whole_and_never_shown() {
        assert_eq!(auth(AuthConfig::default()), None);
        let carried = auth(AuthConfig {
            username: "alice".into(),
            password: "CANARY".into(),
            auth: "CANARY".into(),
            server_address: "r.example".into(),
            identity_token: "CANARY".into(),
            registry_token: "CANARY".into(),
        })
        .unwrap();
        assert_eq!(carried.password.expose(), "CANARY");
        assert_eq!(carried.server_address, "r.example");
        assert!(!format!("{carried:?}").contains("CANARY"));
    }

    #[test]
    fn an_image_has_a_user_by_number_or_by_name() {
        let digits = "ab".repeat(32);
        let image = |user: &str| Image {
            id: digits.parse().unwrap(),
            repo_tags: vec!["docker.io/library/redis:7".into()],
            repo_digests: Vec::new(),
            size: 12,
            config: Arc::new(ImageConfig {
                user: user.into(),
                ..ImageConfig::default()
            }),
        };
        for (user, uid, username) in [("", None, ""), ("1002:5", Some(1002), ""), ("w", None, "w")]
        {
            let message = to_cri(&image(user));
            assert_eq!(message.id, format!("sha256:{digits}"));
            assert_eq!(message.uid.map(|uid| uid.value), uid);
            assert_eq!(message.username, username);
            assert_eq!(message.size, 12);
        }
    }

    #[test]
    fn usage_is_never_absent() {
        let info = FsInfo {
            path: "/var/lib/insula".into(),
            bytes: 0,
            inodes: 0,
        };
        let message = usage(&info, 5);
        assert_eq!(message.used_bytes.unwrap().value, 0);
        assert_eq!(message.fs_id.unwrap().mountpoint, "/var/lib/insula");
    }
}
