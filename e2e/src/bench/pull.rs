//! Pulling an image of several gzip layers from a registry on loopback.

use super::error::Result;
use super::figure::{Figure, Samples};
use super::run::Run;

/// Measures pulls; the image is removed before each, and with it every layer.
pub async fn measure(run: &mut Run) -> Result<()> {
    let Some(image) = run.settings.pull_image.clone() else {
        return Ok(());
    };
    if !run.wants("pull") {
        return Ok(());
    }
    let (mut pulls, mut removals) = (Vec::new(), Vec::new());
    for _ in 0..run.settings.effort.pulls {
        run.client.remove_image(&image).await?;
        pulls.push(run.client.pull(&image).await?.as_secs_f64());
        removals.push(run.client.remove_image(&image).await?.as_secs_f64());
    }
    if let (Some(pulls), Some(removals)) = (Samples::new(pulls), Samples::new(removals)) {
        let mut figure = Figure::spread("pull", &pulls);
        figure.p99 = None;
        figure.details.push(("remove", removals.median()));
        run.emit(&figure);
    }
    Ok(())
}
