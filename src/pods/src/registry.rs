//! Which pods and containers there are: ids, names, and the way to each pod's
//! owner and to what it last published.
//!
//! Nothing here waits: the lock is held for look-ups only, and what a pod is
//! like is read from the snapshot that its owner published.

use crate::container::Container;
use crate::error::{Error, Result};
use crate::ids::{ContainerId, PodId, is_prefix};
use crate::owner::Ask;
use crate::stats::PodMeter;
use crate::status::{ContainerStatus, PodStatus};
use insula_isolators::spec::{PodMetadata, PodSpec};
use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, watch};

/// A pod and its containers at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) pod: Arc<PodStatus>,
    pub(crate) containers: Vec<View>,
    /// What it was measured to use last.
    pub(crate) meter: Arc<PodMeter>,
}

/// A container at one moment, and what does not change of it.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) status: Arc<ContainerStatus>,
    pub(crate) container: Arc<Container>,
}

/// The way to a pod.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    pub(crate) asks: mpsc::Sender<Ask>,
    pub(crate) snapshot: watch::Receiver<Arc<Snapshot>>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    pods: BTreeMap<PodId, Handle>,
    containers: BTreeMap<ContainerId, PodId>,
    names: HashMap<PodMetadata, Claim>,
}

/// Whose name it is.
#[derive(Debug, Clone)]
struct Claim {
    id: PodId,
    spec: Arc<PodSpec>,
    /// How its making ended, while that is not known.
    making: Option<Making>,
}

/// How the making of a pod ends.
pub(crate) type Making = watch::Receiver<Option<Result<PodId>>>;

/// What became of a claim to a name.
#[derive(Debug)]
pub(crate) enum Claimed {
    /// It is ours: make the pod and say how it ended.
    New(PodId, watch::Sender<Option<Result<PodId>>>, Making),
    /// The same pod is being made.
    Join(Making),
    /// The same pod exists.
    Exists(PodId),
}

// === impl Registry ===

impl Registry {
    /// Claims a pod's name.
    pub(crate) fn claim(&self, spec: &Arc<PodSpec>) -> Result<Claimed> {
        let id = PodId::random()?;
        let mut tables = self.tables();
        if let Some(claim) = tables.names.get(&spec.metadata) {
            let taken = |why| Error::AlreadyExists {
                what: "pod",
                name: describe(&spec.metadata),
                holder: claim.id.to_string(),
                why,
            };
            if claim.spec != *spec {
                return Err(taken("which was made from a different configuration"));
            }
            return match &claim.making {
                Some(making) => Ok(Claimed::Join(making.clone())),
                None if tables.is_ready(&claim.id) => Ok(Claimed::Exists(claim.id.clone())),
                None => Err(taken("which is not ready any more")),
            };
        }
        let (sender, receiver) = watch::channel(None);
        let claim = Claim {
            id: id.clone(),
            spec: Arc::clone(spec),
            making: Some(receiver.clone()),
        };
        tables.names.insert(spec.metadata.clone(), claim);
        Ok(Claimed::New(id, sender, receiver))
    }

    /// The making of a pod failed: its name is free again.
    pub(crate) fn release(&self, id: &PodId) {
        self.tables().names.retain(|_, claim| claim.id != *id);
    }

    /// A pod exists. Where a record of another has the same name, the younger
    /// keeps it.
    pub(crate) fn add_pod(&self, spec: &Arc<PodSpec>, id: &PodId, handle: Handle) {
        let mut tables = self.tables();
        let claim = Claim {
            id: id.clone(),
            spec: Arc::clone(spec),
            making: None,
        };
        tables.names.insert(spec.metadata.clone(), claim);
        tables.pods.insert(id.clone(), handle);
    }

    /// A pod does not exist any more.
    pub(crate) fn remove_pod(&self, id: &PodId) {
        let mut tables = self.tables();
        tables.pods.remove(id);
        tables.containers.retain(|_, pod| pod != id);
        tables.names.retain(|_, claim| claim.id != *id);
    }

    /// A container exists.
    pub(crate) fn add_container(&self, id: &ContainerId, pod: &PodId) {
        self.tables().containers.insert(id.clone(), pod.clone());
    }

    /// A container does not exist any more.
    pub(crate) fn remove_container(&self, id: &ContainerId) {
        self.tables().containers.remove(id);
    }

    /// A pod by its id or the beginning of it.
    pub(crate) fn pod(&self, text: &str) -> Result<(PodId, Handle)> {
        let tables = self.tables();
        let (id, handle) = find(&tables.pods, text, "pod")?;
        Ok((id.clone(), handle.clone()))
    }

    /// A container by its id or the beginning of it, and its pod.
    pub(crate) fn container(&self, text: &str) -> Result<(ContainerId, Handle)> {
        let tables = self.tables();
        let (id, pod) = find(&tables.containers, text, "container")?;
        let handle = tables.pods.get(pod);
        handle
            .map(|handle| (id.clone(), handle.clone()))
            .ok_or_else(|| Error::no_container(text))
    }

    /// What all pods last published, oldest pod first.
    pub(crate) fn snapshots(&self) -> Vec<Arc<Snapshot>> {
        let mut all: Vec<_> = self
            .tables()
            .pods
            .values()
            .map(|handle| Arc::clone(&handle.snapshot.borrow()))
            .collect();
        all.sort_by_key(|snapshot| snapshot.pod.created_at);
        all
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Tables ===

impl Tables {
    fn is_ready(&self, id: &PodId) -> bool {
        self.pods.get(id).is_some_and(|handle| {
            handle.snapshot.borrow().pod.state == crate::status::PodState::Ready
        })
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// A container of it.
    pub(crate) fn container(&self, id: &ContainerId) -> Option<&View> {
        self.containers.iter().find(|view| view.status.id == *id)
    }
}

/// A pod's name for messages.
pub(crate) fn describe(metadata: &PodMetadata) -> String {
    format!(
        "{}/{} (uid {}, attempt {})",
        metadata.namespace, metadata.name, metadata.uid, metadata.attempt
    )
}

fn find<'a, K: Ord + Borrow<str>, V>(
    table: &'a BTreeMap<K, V>,
    text: &str,
    what: &'static str,
) -> Result<(&'a K, &'a V)> {
    let missing = || Error::NotFound {
        what,
        id: text.chars().take(crate::ids::ID_LENGTH).collect(),
    };
    if !is_prefix(text) {
        return Err(missing());
    }
    let mut matches = table
        .range::<str, _>((Bound::Included(text), Bound::Unbounded))
        .take_while(|(id, _)| (*id).borrow().starts_with(text));
    let found = matches.next().ok_or_else(missing)?;
    match matches.next() {
        None => Ok(found),
        Some((other, _)) => Err(Error::InvalidArgument(format!(
            "{text:?} is the beginning of more than one {what}'s id, such as {} and {}: give more digits",
            found.0.borrow(),
            other.borrow()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::find;
    use std::collections::BTreeMap;

    #[test]
    fn beginnings_of_ids_are_resolved_when_they_are_unambiguous() {
        let table: BTreeMap<String, u8> = [("0123ab", 1), ("0123cd", 2), ("ff", 3)]
            .map(|(id, n)| (id.to_owned(), n))
            .into();
        for (text, expected) in [
            ("0123a", Ok(1)),
            ("0123cd", Ok(2)),
            ("f", Ok(3)),
            ("0123", Err("more than one")),
            ("1", Err("does not exist")),
            ("", Err("does not exist")),
            ("XYZ", Err("does not exist")),
        ] {
            match (find(&table, text, "pod"), expected) {
                (Ok((_, found)), Ok(wanted)) => assert_eq!(*found, wanted, "{text}"),
                (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
                (found, wanted) => panic!("{text}: {found:?}, not {wanted:?}"),
            }
        }
    }
}
