//! Finding the supervisor of a pod on record.
//!
//! Ends in one of two ways: it is connected, or it has provably ended, which
//! is when nobody holds the pod's lock. An error is no proof and is tried
//! again; meanwhile the pod is listed as it was last seen.

use crate::env::Pod;
use crate::error::{Error, Result};
use crate::files::blocking;
use crate::link::Link;
use crate::owner::Adoption;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How many ends of containers may wait for the pod's owner.
const EVENTS: usize = 256;

/// The longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Looks for the supervisor until it is found or proved dead.
pub(crate) async fn adopt(pod: &Arc<Pod>) -> Adoption {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(20);
    loop {
        match attempt(pod).await {
            Ok(adoption) => {
                let took = begun.elapsed();
                pod.env.metrics.operation("adopt", true, took);
                return adoption;
            }
            Err(error) => {
                pod.env.metrics.operation("adopt", false, begun.elapsed());
                tracing::warn!(pod = %pod.id, %error, "the pod's supervisor cannot be reached yet");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

async fn attempt(pod: &Arc<Pod>) -> Result<Adoption> {
    let deadline = pod.env.config.deadlines.adopt;
    let stage = format!("adopt pod {}", pod.id);
    let asking = Arc::clone(pod);
    let socket = blocking(stage.clone(), deadline, move || {
        if asking.env.host.supervisor_ended(&asking.directory)? {
            return Ok(None);
        }
        asking.env.host.connect(&asking.directory).map(Some)
    });
    let Some(socket) = socket.await? else {
        return Ok(Adoption::Dead);
    };
    let (sender, events) = mpsc::channel(EVENTS);
    let (link, hello) = Link::open(socket, sender, deadline).await?;
    if !hello.pod_made {
        return Err(Error::internal(&stage, "its supervisor has made no pod"));
    }
    let pidfd = pod.env.host.open_process(hello.pid)?;
    // The connection proves that the id still means it: only if it has ended
    // since could another process have it, and then the connection has too.
    Ok(Adoption::Found {
        link,
        events,
        hello: Box::new(hello),
        pidfd,
    })
}
