//! Which request may begin when: the policy of one pod, without any I/O.
//!
//! The pod's owner asks for each request and tells what became of those that
//! began. A request that must [`Wait`](Decision::Wait) is asked about again
//! whenever something has changed.
//!
//! ```text
//! pod:        Open ──StopPod asked──► Closed ──begins──► Stopping ──► Stopped
//!                                        ▲  failed ──────────┘
//!             any but Stopping ──RemovePod begins──► Removing ──► gone
//! supervisor: Unattached ◄──► Attached ──► Dying ──containers killed──► Dead
//! container:  Creating ──► Created ──► Starting ──► Running ──► Exited
//!             Created, Running and Exited may be stopping, updating, removing
//! ```
//!
//! What holds at any time: at most one operation of a kind on a container; no
//! operation on a container but its stop while the pod is being stopped or
//! removed; nothing is made or started in a pod that is not open. A request
//! that waits is never waiting for nothing: something in flight, or the
//! supervisor's adoption, will change its answer.

use crate::ids::ContainerId;
use crate::records::Progress;
use crate::status::ContainerState;
use std::collections::BTreeMap;

#[cfg(test)]
mod tests;

/// What a pod's clients ask for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Request {
    /// Make a container.
    Create(ContainerId),
    /// Let it run.
    Start(ContainerId),
    /// End it.
    Stop(ContainerId),
    /// Remove it.
    Remove(ContainerId),
    /// Change its limits.
    Update(ContainerId),
    /// Do something with a running container that changes no state of it.
    Use(ContainerId),
    /// End all containers and detach the pod.
    StopPod,
    /// Remove all.
    RemovePod,
}

/// What is to be done about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Do it; say so when it is done.
    Begin,
    /// It is being done.
    Join,
    /// It was done before.
    Done,
    /// Ask again when something has changed.
    Wait,
    /// No.
    Refuse(Refusal),
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No such container.
    NoContainer,
    /// The pod was stopped, is being stopped, or its supervisor died.
    PodNotReady,
    /// The container is being stopped or removed.
    Ending,
    /// The container's state does not allow it.
    State(ContainerState),
}

/// The policy's memory.
#[derive(Debug)]
pub(crate) struct Queue {
    phase: PodPhase,
    supervisor: Supervisor,
    containers: BTreeMap<ContainerId, Container>,
}

/// What is known about the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Supervisor {
    /// It is being connected to.
    Unattached,
    /// It answers.
    Attached,
    /// It died; the containers are being killed.
    Dying,
    /// It is gone, and so is all that it ran.
    Dead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PodPhase {
    Open,
    Closed,
    Stopping,
    Stopped,
    Removing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Creating,
    Created,
    Starting,
    Running,
    Exited,
}

#[derive(Debug)]
struct Container {
    phase: Phase,
    stopping: bool,
    updating: bool,
    removing: bool,
}

// === impl Queue ===

impl Queue {
    /// A pod that was just made.
    pub(crate) fn new() -> Self {
        Self {
            phase: PodPhase::Open,
            supervisor: Supervisor::Attached,
            containers: BTreeMap::new(),
        }
    }

    /// A pod from its record, as far as it got there.
    pub(crate) fn recorded(progress: Progress) -> Self {
        let (phase, supervisor) = match progress {
            Progress::Stopped => (PodPhase::Stopped, Supervisor::Dead),
            Progress::Closed => (PodPhase::Closed, Supervisor::Unattached),
            Progress::Making | Progress::Ready | Progress::Broken => {
                (PodPhase::Open, Supervisor::Unattached)
            }
        };
        Self {
            phase,
            supervisor,
            containers: BTreeMap::new(),
        }
    }

    /// A container from its record.
    pub(crate) fn restore(&mut self, id: ContainerId, state: ContainerState) {
        let phase = match state {
            ContainerState::Created => Phase::Created,
            ContainerState::Running | ContainerState::Unknown => Phase::Running,
            ContainerState::Exited => Phase::Exited,
        };
        self.containers.insert(id, Container::new(phase));
    }

    /// Decides about a request, and remembers it if it begins.
    pub(crate) fn ask(&mut self, request: &Request) -> Decision {
        match request {
            Request::Create(id) => self.create(id),
            Request::Start(id) => self.start(id),
            Request::Stop(id) => self.stop(id),
            Request::Remove(id) => self.remove(id),
            Request::Update(id) => self.update(id),
            Request::Use(id) => self.use_running(id),
            Request::StopPod => self.stop_pod(),
            Request::RemovePod => self.remove_pod(),
        }
    }

    /// Whether the pod is ready, as its clients see it.
    pub(crate) fn is_ready(&self) -> bool {
        self.phase == PodPhase::Open
            && matches!(
                self.supervisor,
                Supervisor::Attached | Supervisor::Unattached
            )
    }

    /// What is known about the supervisor.
    pub(crate) fn supervisor(&self) -> Supervisor {
        self.supervisor
    }

    /// Whether the supervisor's end is what we want.
    pub(crate) fn is_ending(&self) -> bool {
        matches!(
            self.phase,
            PodPhase::Stopping | PodPhase::Stopped | PodPhase::Removing
        )
    }

    /// Whether the pod is being stopped, or soon will be.
    pub(crate) fn is_closing(&self) -> bool {
        self.phase != PodPhase::Open
    }

    /// Something is known anew about the supervisor. The dead stay dead.
    pub(crate) fn set_supervisor(&mut self, now: Supervisor) {
        let order = |supervisor| match supervisor {
            Supervisor::Unattached | Supervisor::Attached => 0,
            Supervisor::Dying => 1,
            Supervisor::Dead => 2,
        };
        if order(now) >= order(self.supervisor) {
            self.supervisor = now;
        }
    }

    /// A creation ended.
    pub(crate) fn created(&mut self, id: &ContainerId, succeeded: bool) {
        if succeeded {
            self.set_phase(id, Phase::Created);
        } else {
            self.containers.remove(id);
        }
    }

    /// A start ended. One that failed has ended the container.
    pub(crate) fn started(&mut self, id: &ContainerId, succeeded: bool) {
        if self
            .containers
            .get(id)
            .is_some_and(|c| c.phase == Phase::Starting)
        {
            self.set_phase(
                id,
                if succeeded {
                    Phase::Running
                } else {
                    Phase::Exited
                },
            );
        }
    }

    /// A container turned out to have been started.
    pub(crate) fn found_running(&mut self, id: &ContainerId) {
        if self
            .containers
            .get(id)
            .is_some_and(|c| c.phase == Phase::Created)
        {
            self.set_phase(id, Phase::Running);
        }
    }

    /// A container's main process ended.
    pub(crate) fn exited(&mut self, id: &ContainerId) {
        self.set_phase(id, Phase::Exited);
    }

    /// A stop ended, well or badly.
    pub(crate) fn stop_ended(&mut self, id: &ContainerId) {
        if let Some(container) = self.containers.get_mut(id) {
            container.stopping = false;
        }
    }

    /// An update ended, well or badly.
    pub(crate) fn update_ended(&mut self, id: &ContainerId) {
        if let Some(container) = self.containers.get_mut(id) {
            container.updating = false;
        }
    }

    /// A removal ended.
    pub(crate) fn removed(&mut self, id: &ContainerId, succeeded: bool) {
        if succeeded {
            self.containers.remove(id);
        } else if let Some(container) = self.containers.get_mut(id) {
            container.removing = false;
        }
    }

    /// The pod's stop ended.
    pub(crate) fn pod_stopped(&mut self, succeeded: bool) {
        if succeeded {
            self.supervisor = Supervisor::Dead;
            self.phase = PodPhase::Stopped;
        } else {
            self.phase = PodPhase::Closed;
        }
    }

    /// The pod's removal failed; when it succeeds there is no pod to ask about.
    pub(crate) fn pod_removal_failed(&mut self) {
        self.phase = PodPhase::Closed;
    }

    fn create(&mut self, id: &ContainerId) -> Decision {
        if !self.is_ready() {
            return Decision::Refuse(Refusal::PodNotReady);
        }
        if self.supervisor == Supervisor::Unattached {
            return Decision::Wait;
        }
        self.containers
            .insert(id.clone(), Container::new(Phase::Creating));
        Decision::Begin
    }

    fn start(&mut self, id: &ContainerId) -> Decision {
        let (ready, attached) = (self.is_ready(), self.supervisor == Supervisor::Attached);
        let Some(container) = self.visible(id) else {
            return Decision::Refuse(Refusal::NoContainer);
        };
        match container.phase {
            Phase::Starting => Decision::Join,
            Phase::Created if container.stopping || container.removing => {
                Decision::Refuse(Refusal::Ending)
            }
            Phase::Created if !ready => Decision::Refuse(Refusal::PodNotReady),
            Phase::Created if !attached || container.updating => Decision::Wait,
            Phase::Created => {
                container.phase = Phase::Starting;
                Decision::Begin
            }
            phase => Decision::Refuse(Refusal::State(phase.state())),
        }
    }

    fn stop(&mut self, id: &ContainerId) -> Decision {
        let (supervisor, pod_ends) = (self.supervisor, self.is_ending());
        let Some(container) = self.visible(id) else {
            return Decision::Refuse(Refusal::NoContainer);
        };
        match container.phase {
            Phase::Exited => Decision::Done,
            _ if container.stopping => Decision::Join,
            Phase::Starting => Decision::Wait,
            _ if container.removing || supervisor != Supervisor::Attached => Decision::Wait,
            _ if pod_ends => Decision::Wait,
            _ => {
                container.stopping = true;
                Decision::Begin
            }
        }
    }

    fn remove(&mut self, id: &ContainerId) -> Decision {
        let pod_waits = self.supervisor_waits() || self.pod_in_flight();
        let Some(container) = self.visible(id) else {
            return Decision::Refuse(Refusal::NoContainer);
        };
        if container.removing {
            return Decision::Join;
        }
        if pod_waits || container.phase == Phase::Starting || container.updating {
            return Decision::Wait;
        }
        container.removing = true;
        Decision::Begin
    }

    fn update(&mut self, id: &ContainerId) -> Decision {
        let ready = self.is_ready();
        let Some(container) = self.visible(id) else {
            return Decision::Refuse(Refusal::NoContainer);
        };
        match container.phase {
            Phase::Exited => Decision::Refuse(Refusal::State(ContainerState::Exited)),
            _ if !ready => Decision::Refuse(Refusal::PodNotReady),
            _ if container.stopping || container.removing => Decision::Refuse(Refusal::Ending),
            Phase::Starting => Decision::Wait,
            _ if container.updating => Decision::Wait,
            _ => {
                container.updating = true;
                Decision::Begin
            }
        }
    }

    fn use_running(&mut self, id: &ContainerId) -> Decision {
        let (supervisor, gone) = (self.supervisor, self.is_ending());
        let Some(container) = self.visible(id) else {
            return Decision::Refuse(Refusal::NoContainer);
        };
        match container.phase {
            Phase::Starting => Decision::Wait,
            Phase::Running if container.removing || gone => Decision::Refuse(Refusal::Ending),
            Phase::Running => match supervisor {
                Supervisor::Attached => Decision::Begin,
                Supervisor::Unattached => Decision::Wait,
                Supervisor::Dying | Supervisor::Dead => Decision::Refuse(Refusal::PodNotReady),
            },
            phase => Decision::Refuse(Refusal::State(phase.state())),
        }
    }

    fn stop_pod(&mut self) -> Decision {
        match self.phase {
            PodPhase::Stopped => return Decision::Done,
            PodPhase::Stopping => return Decision::Join,
            PodPhase::Removing => return Decision::Wait,
            PodPhase::Open | PodPhase::Closed => self.phase = PodPhase::Closed,
        }
        if self.supervisor_waits() || self.container_in_flight() {
            return Decision::Wait;
        }
        self.phase = PodPhase::Stopping;
        Decision::Begin
    }

    fn remove_pod(&mut self) -> Decision {
        match self.phase {
            PodPhase::Removing => return Decision::Join,
            PodPhase::Stopping => return Decision::Wait,
            PodPhase::Open => self.phase = PodPhase::Closed,
            PodPhase::Closed | PodPhase::Stopped => {}
        }
        if self.supervisor_waits() || self.container_in_flight() {
            return Decision::Wait;
        }
        self.phase = PodPhase::Removing;
        Decision::Begin
    }

    /// The supervisor's state is about to change.
    fn supervisor_waits(&self) -> bool {
        matches!(self.supervisor, Supervisor::Unattached | Supervisor::Dying)
    }

    fn pod_in_flight(&self) -> bool {
        matches!(self.phase, PodPhase::Stopping | PodPhase::Removing)
    }

    /// An operation that a pod's stop has to wait for. A container's stop is
    /// none: the pod's cuts it short.
    fn container_in_flight(&self) -> bool {
        self.containers.values().any(|container| {
            matches!(container.phase, Phase::Creating | Phase::Starting)
                || container.updating
                || container.removing
        })
    }

    /// A container that clients may know of.
    fn visible(&mut self, id: &ContainerId) -> Option<&mut Container> {
        self.containers
            .get_mut(id)
            .filter(|container| container.phase != Phase::Creating)
    }

    fn mark(&mut self, id: &ContainerId, change: impl FnOnce(&mut Container)) {
        if let Some(container) = self.containers.get_mut(id) {
            change(container);
        }
    }

    fn set_phase(&mut self, id: &ContainerId, phase: Phase) {
        self.mark(id, |container| container.phase = phase);
    }
}

// === impl Container ===

impl Container {
    fn new(phase: Phase) -> Self {
        Self {
            phase,
            stopping: false,
            updating: false,
            removing: false,
        }
    }
}

// === impl Phase ===

impl Phase {
    fn state(self) -> ContainerState {
        match self {
            Self::Creating | Self::Created | Self::Starting => ContainerState::Created,
            Self::Running => ContainerState::Running,
            Self::Exited => ContainerState::Exited,
        }
    }
}
