//! `insula images` and `insula rmi`.

use std::process::ExitCode;

use insula_cri_api::v1::{
    Image, ImageSpec, ImageStatusRequest, ListImagesRequest, RemoveImageRequest,
};
use serde::Serialize;

use super::Outcome;
use super::connection::{CHANGE, QUESTION, answer};
use super::error::ClientError;
use super::output::{print, print_json};
use super::session::Session;
use super::table::{Table, bytes, short_id};
use crate::cli::{Format, Rmi};

/// An image as a program reads it.
#[derive(Debug, Serialize)]
struct Row<'a> {
    id: &'a str,
    tags: &'a [String],
    digests: &'a [String],
    bytes: u64,
    user: String,
    pinned: bool,
}

/// Lists images.
pub(crate) async fn images(session: &Session) -> Outcome {
    let request = ListImagesRequest { filter: None };
    let mut images = session.client.images();
    let list = answer("list images", QUESTION, images.list_images(request));
    let mut images = list.await?.images;
    images.sort_by(|a, b| (&a.repo_tags, &a.id).cmp(&(&b.repo_tags, &b.id)));
    match session.format {
        Format::Json => print_json(&images.iter().map(row).collect::<Vec<_>>())?,
        Format::Table => print(&table(&images))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes images, and prints each name when it is gone.
pub(crate) async fn rmi(session: &Session, args: &Rmi) -> Outcome {
    for name in &args.images {
        let image = spec(name);
        let mut images = session.client.images();
        // Removing what is not there is success for the CRI, and a typing error for a person.
        if id_of(session, name).await?.is_none() {
            return Err(ClientError::Usage(format!(
                "no image is called {name:?}: insula images lists what there is"
            )));
        }
        let request = RemoveImageRequest { image: Some(image) };
        let doing = format!("remove image {name}");
        answer(&doing, CHANGE, images.remove_image(request)).await?;
        print(&format!("{name}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The id of an image in the store.
pub(crate) async fn id_of(session: &Session, name: &str) -> Result<Option<String>, ClientError> {
    let request = ImageStatusRequest {
        image: Some(spec(name)),
        verbose: false,
    };
    let doing = format!("look for image {name}");
    let mut images = session.client.images();
    let status = answer(&doing, QUESTION, images.image_status(request)).await?;
    Ok(status.image.map(|image| image.id))
}

/// An image by its name only.
pub(crate) fn spec(name: &str) -> ImageSpec {
    ImageSpec {
        image: name.to_owned(),
        ..Default::default()
    }
}

fn row(image: &Image) -> Row<'_> {
    Row {
        id: &image.id,
        tags: &image.repo_tags,
        digests: &image.repo_digests,
        bytes: image.size,
        user: image
            .uid
            .as_ref()
            .map_or_else(|| image.username.clone(), |uid| uid.value.to_string()),
        pinned: image.pinned,
    }
}

fn table(images: &[Image]) -> String {
    let mut table = Table::new(["IMAGE", "TAG", "ID", "SIZE"]);
    for image in images {
        let id = short_id(&image.id);
        let mut line = |name: &str, tag: &str| {
            table.row([
                name.to_owned(),
                tag.to_owned(),
                id.clone(),
                bytes(image.size),
            ]);
        };
        for name in &image.repo_tags {
            let (name, tag) = split_tag(name);
            line(name, tag);
        }
        if image.repo_tags.is_empty() {
            let name = image
                .repo_digests
                .first()
                .and_then(|digest| digest.split_once('@'))
                .map_or("-", |(name, _)| name);
            line(name, "-");
        }
    }
    table.to_string()
}

/// A tag follows the last colon that is behind the last slash: a port has one too.
fn split_tag(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (name, "-"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_tag() {
        let images = [
            Image {
                id: "sha256:0123456789abcdef".into(),
                repo_tags: vec![
                    "docker.io/library/redis:8".into(),
                    "localhost:5000/redis:latest".into(),
                ],
                size: 123_000_000,
                ..Default::default()
            },
            Image {
                id: "sha256:ff".into(),
                repo_digests: vec!["localhost:5000/x@sha256:aa".into()],
                ..Default::default()
            },
            Image {
                id: "sha256:ee".into(),
                ..Default::default()
            },
        ];
        assert_eq!(
            table(&images),
            "IMAGE                     TAG      ID             SIZE\n\
             docker.io/library/redis   8        0123456789ab   117 MiB\n\
             localhost:5000/redis      latest   0123456789ab   117 MiB\n\
             localhost:5000/x          -        ff             0 B\n\
             -                         -        ee             0 B\n"
        );
        assert_eq!(
            split_tag("localhost:5000/redis"),
            ("localhost:5000/redis", "-")
        );
    }
}
