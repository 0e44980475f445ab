//! Making a pod.

use super::phases::Begun;
use crate::env::{Env, Pod};
use crate::error::Result;
use crate::host::Process;
use crate::ids::{self, PodId};
use crate::levels::Reserved;
use crate::link::{Exited, Link};
use crate::records::{PodRecord, Progress};
use insula_isolators::spec::PodSpec;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;
use tracing::{Instrument as _, info_span};

/// A pod that was made.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) pod: Arc<Pod>,
    pub(crate) record: PodRecord,
    pub(crate) process: Process,
    pub(crate) link: Arc<Link>,
    pub(crate) events: mpsc::Receiver<Exited>,
}

/// Goes through the phases; on an error everything is undone.
pub(crate) async fn make(env: &Arc<Env>, id: PodId, spec: Arc<PodSpec>) -> Result<Made> {
    let metadata = &spec.metadata;
    let span =
        info_span!("run pod", pod = %id, namespace = metadata.namespace, name = metadata.name);
    let mut pod = Pod::new(env, id, spec)?;
    if env.host.has_selinux_levels() {
        pod.level = Some(level(&pod)?);
    }
    go(Arc::new(pod)).instrument(span).await
}

/// The SELinux level that was asked for, or one that no other pod has.
fn level(pod: &Pod) -> Result<Reserved> {
    let levels = &pod.env.levels;
    match &pod.spec.selinux {
        Some(asked) if !asked.level.is_empty() => Ok(levels.keep(&asked.level)),
        _ => levels.draw(ids::random_pair),
    }
}

async fn go(pod: Arc<Pod>) -> Result<Made> {
    let mut last = Instant::now();
    let mut passed = |stage: &'static str| {
        let took = last.elapsed();
        last = Instant::now();
        pod.env.metrics.stage("run_sandbox", stage, took);
        tracing::debug!(stage, ms = took.as_secs_f64() * 1e3, "passed");
    };
    let begun = Begun::new(Arc::clone(&pod)).await?;
    passed("record");
    let supervised = match begun.start().await {
        Ok(next) => next,
        Err((before, error)) => {
            before.fail();
            return Err(error);
        }
    };
    passed("supervisor");
    let isolated = match supervised.isolate().await {
        Ok(next) => next,
        Err((before, error)) => {
            before.fail().await;
            return Err(error);
        }
    };
    passed("namespaces");
    let mut attached = match isolated.attach().await {
        Ok(next) => next,
        Err((before, error)) => {
            before.fail().await;
            return Err(error);
        }
    };
    passed("network");
    let record = &mut attached.before.before.before.record;
    record.progress = Progress::Ready;
    if let Err(error) = pod.env.records.write_pod(record) {
        attached.fail().await;
        return Err(error);
    }
    let isolated = attached.before;
    let supervised = isolated.before;
    Ok(Made {
        record: supervised.before.record,
        process: supervised.process,
        link: isolated.link,
        events: isolated.events,
        pod: Arc::clone(&pod),
    })
}
