//! `ImageService`.

use crate::convert::{Rejected, image as show};
use crate::errors::Error;
use crate::observe::Call;
use crate::pieces::{Pieces, stream};
use crate::service::Service;
use insula_cri_api::v1::image_service_server::ImageService;
use insula_cri_api::v1::{
    Image, ImageFilter, ImageFsInfoRequest, ImageFsInfoResponse, ImageStatusRequest,
    ImageStatusResponse, ListImagesRequest, ListImagesResponse, PullImageRequest,
    PullImageResponse, RemoveImageRequest, RemoveImageResponse, StreamImagesRequest,
    StreamImagesResponse,
};
use insula_images::Platform;
use insula_wire::time::now_nanoseconds;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Instant;
use tonic::{Request, Response, Status, async_trait};

type Answer<T> = Result<Response<T>, Status>;

#[async_trait]
impl ImageService for Service {
    type StreamImagesStream = Pieces<StreamImagesResponse>;

    async fn list_images(&self, request: Request<ListImagesRequest>) -> Answer<ListImagesResponse> {
        let asked = request.into_inner();
        self.answer(Call::polled("ListImages"), async {
            let images = list(self, asked.filter).await?;
            Ok(ListImagesResponse { images })
        })
        .await
    }

    async fn stream_images(
        &self,
        request: Request<StreamImagesRequest>,
    ) -> Answer<Self::StreamImagesStream> {
        let asked = request.into_inner();
        let images = self
            .answer(Call::polled("StreamImages"), list(self, asked.filter))
            .await?;
        Ok(stream(images.into_inner(), |images| StreamImagesResponse {
            images,
        }))
    }

    async fn image_status(
        &self,
        request: Request<ImageStatusRequest>,
    ) -> Answer<ImageStatusResponse> {
        let asked = request.into_inner();
        self.answer(Call::polled("ImageStatus"), status(self, asked))
            .await
    }

    async fn pull_image(&self, request: Request<PullImageRequest>) -> Answer<PullImageResponse> {
        let asked = request.into_inner();
        self.answer(Call::once("PullImage"), pull(self, asked))
            .await
    }

    async fn remove_image(
        &self,
        request: Request<RemoveImageRequest>,
    ) -> Answer<RemoveImageResponse> {
        let asked = request.into_inner();
        self.answer(Call::once("RemoveImage"), async {
            self.images().remove(&show::reference(asked.image)?).await?;
            Ok(RemoveImageResponse {})
        })
        .await
    }

    async fn image_fs_info(&self, _: Request<ImageFsInfoRequest>) -> Answer<ImageFsInfoResponse> {
        self.answer(Call::polled("ImageFsInfo"), async {
            let timestamp = now_nanoseconds();
            let info = self.images().fs_info().await?;
            Ok(ImageFsInfoResponse {
                image_filesystems: vec![show::usage(&info, timestamp)],
                // Writable layers are on the same file system.
                container_filesystems: Vec::new(),
            })
        })
        .await
    }
}

/// All images, or the one that the filter names.
async fn list(service: &Service, filter: Option<ImageFilter>) -> Result<Vec<Image>, Error> {
    let named = filter
        .and_then(|filter| filter.image)
        .map(|image| image.image);
    let images = match named.filter(|name| !name.is_empty()) {
        Some(name) => service.images().status(&name).await?.into_iter().collect(),
        None => service.images().list().await?,
    };
    Ok(images.iter().map(|image| show::to_cri(image)).collect())
}

/// An image that is not here is an answer without one.
async fn status(
    service: &Service,
    asked: ImageStatusRequest,
) -> Result<ImageStatusResponse, Error> {
    let name = show::reference(asked.image)?;
    let Some(image) = service.images().status(&name).await? else {
        return Ok(ImageStatusResponse::default());
    };
    let mut info = BTreeMap::new();
    if asked.verbose
        && let Some(config) = service.images().raw_config(&image.id).await?
    {
        // Kept as it came, so it may be no JSON any more.
        let config = serde_json::from_slice::<serde_json::Value>(&config)
            .unwrap_or_else(|error| json!({ "error": error.to_string() }));
        info.insert(
            "info".to_owned(),
            json!({ "imageSpec": config }).to_string(),
        );
    }
    Ok(ImageStatusResponse {
        image: Some(show::to_cri(&image)),
        info,
    })
}

/// The pull ends with this call unless another one waits for the same image.
async fn pull(service: &Service, asked: PullImageRequest) -> Result<PullImageResponse, Error> {
    let name = show::reference(asked.image)?;
    let reference: insula_images::Reference =
        name.parse().map_err(|error: insula_images::Error| {
            Rejected::invalid("image.image", error.to_string())
        })?;
    let auth = asked.auth.and_then(show::auth);
    tracing::info!(image = %reference, "pulling");
    let pull = service.images().start_pull(&name, auth, Platform::host())?;
    let _watched = service.node().pulls.watch(&reference, &pull);
    let begun = Instant::now();
    let result = pull.wait().await.map_err(Error::from);
    service.inner.calls.pulled(&pull, begun.elapsed(), &result);
    let id = result?;
    Ok(PullImageResponse {
        image_ref: id.to_string(),
    })
}
