//! `insula pull`, and the first half of `insula run`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use insula_cri_api::v1::PullImageRequest;
use serde::Serialize;

use super::Outcome;
use super::error::ClientError;
use super::images::spec;
use super::output::{print, print_json};
use super::progress::{self, Display};
use super::session::Session;
use crate::cli::{Format, Pull};

/// How often the progress is looked at.
const TICK: Duration = Duration::from_millis(100);

#[derive(Debug, Serialize)]
struct Pulled<'a> {
    image: &'a str,
    id: &'a str,
    milliseconds: u128,
}

/// Pulls an image and prints its id.
pub(crate) async fn command(session: &Session, args: &Pull) -> Outcome {
    let started = Instant::now();
    let id = pull(session, &args.image).await?;
    match session.format {
        Format::Json => print_json(&Pulled {
            image: &args.image,
            id: &id,
            milliseconds: started.elapsed().as_millis(),
        })?,
        Format::Table => print(&format!("{id}\n"))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Pulls an image, shows how far it is on standard error, and returns its id.
///
/// No deadline: the daemon has one for every step of a pull, and leaving off this call (Ctrl-C)
/// ends the pull.
pub(crate) async fn pull(session: &Session, image: &str) -> Result<String, ClientError> {
    let request = PullImageRequest {
        image: Some(spec(image)),
        ..Default::default()
    };
    let mut images = session.client.images();
    let call = images.pull_image(request);
    tokio::pin!(call);
    let mut display = Display::new();
    let mut ticks = tokio::time::interval(TICK);
    let answer = loop {
        tokio::select! {
            answer = &mut call => break answer,
            _ = ticks.tick() => {
                if let Some(snapshot) = progress::read(&session.state, image) {
                    display.update(&snapshot);
                }
            }
        }
    };
    display.finish();
    let response = answer.map_err(|status| ClientError::Refused {
        doing: format!("pull {image}"),
        status: Box::new(status),
    })?;
    Ok(response.into_inner().image_ref)
}
