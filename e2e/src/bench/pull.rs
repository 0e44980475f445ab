//! Pulling an image of several gzip layers from a registry on loopback.

use super::error::Result;
use super::figure::Figure;
use super::run::Run;

/// Measures one pull of an image that is not there. It stays: a second pull would meet what removing
/// the first left behind on the disk.
pub async fn measure(run: &mut Run) -> Result<()> {
    let Some(image) = run.settings.pull_image.clone() else {
        return Ok(());
    };
    if !run.wants("pull") {
        return Ok(());
    }
    run.client.remove_image(&image).await?;
    let time = run.client.pull(&image).await?;
    run.emit(&Figure::single("pull", time.as_secs_f64()));
    Ok(())
}
