//! Making a container.

use super::Container;
use super::phases::Begun;
use crate::env::Pod;
use crate::error::Result;
use crate::files;
use crate::ids::ContainerId;
use crate::link::Link;
use crate::records::{ContainerRecord, End};
use insula_isolators::spec::ContainerSpec;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;
use tracing::{Instrument as _, info_span};

/// A container that was made.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) record: ContainerRecord,
    pub(crate) container: Arc<Container>,
    pub(crate) ended: watch::Sender<Option<End>>,
    pub(crate) pid: i32,
}

/// Goes through the phases; on an error everything is undone.
pub(crate) async fn create(
    pod: Arc<Pod>,
    link: Arc<Link>,
    id: ContainerId,
    spec: Arc<ContainerSpec>,
    closing: watch::Receiver<bool>,
) -> Result<Made> {
    let span = info_span!("create container", pod = %pod.id, container = %id, name = spec.name);
    go(pod, link, id, spec, closing).instrument(span).await
}

async fn go(
    pod: Arc<Pod>,
    link: Arc<Link>,
    id: ContainerId,
    spec: Arc<ContainerSpec>,
    closing: watch::Receiver<bool>,
) -> Result<Made> {
    let mut clock = Clock::new(&pod);
    let begun = Begun::new(pod.clone(), id, spec, closing)?;
    let rooted = match begun.root(&link).await {
        Ok(next) => next,
        Err((before, error)) => {
            before.fail();
            return Err(error);
        }
    };
    clock.passed("rootfs");
    let planned = match rooted.plan().await {
        Ok(next) => next,
        Err((before, error)) => {
            before.fail().await;
            return Err(error);
        }
    };
    clock.passed("plan");
    let grouped = match planned.group().await {
        Ok(next) => next,
        Err((before, error)) => {
            before.fail().await;
            return Err(error);
        }
    };
    clock.passed("cgroup");
    let forked = match grouped.fork(link).await {
        Ok(next) => next,
        Err((before, error)) => {
            before.fail().await;
            return Err(error);
        }
    };
    clock.passed("fork");
    let planned = &forked.before.before;
    let begun = &planned.before.before;
    let image = &planned.before.image;
    let record = ContainerRecord {
        id: begun.id.clone(),
        pod_id: begun.pod.id.clone(),
        spec: Arc::clone(&begun.spec),
        plan: Arc::clone(&planned.plan),
        image_id: image.id.clone(),
        image_ref: image.reference.clone(),
        image_name: image
            .name
            .clone()
            .unwrap_or_else(|| begun.spec.image.image.clone()),
        created_at: files::now(),
        started_at: 0,
        resources: begun.spec.resources.clone(),
        end: None,
    };
    if let Err(error) = pod.env.records.write_container(&record) {
        forked.fail().await;
        return Err(error);
    }
    let (ended, watched) = watch::channel(None);
    let container = Container::new(&record, Some(Arc::clone(&forked.before.group)), watched);
    Ok(Made {
        container: Arc::new(container),
        ended,
        pid: forked.pid,
        record,
    })
}

/// Measures the stages of a creation.
struct Clock<'a> {
    pod: &'a Pod,
    last: Instant,
}

impl<'a> Clock<'a> {
    fn new(pod: &'a Pod) -> Self {
        Self {
            pod,
            last: Instant::now(),
        }
    }

    fn passed(&mut self, stage: &'static str) {
        let now = Instant::now();
        let took = now - self.last;
        self.last = now;
        self.pod.env.metrics.stage("create_container", stage, took);
        tracing::debug!(stage, ms = took.as_secs_f64() * 1e3, "passed");
    }
}
