use super::{Decision, Queue, Refusal, Request, Supervisor};
use crate::ids::ContainerId;
use crate::status::ContainerState;
use proptest::prelude::*;

fn id(number: u8) -> ContainerId {
    ContainerId::parse(&format!("{number:064x}")).unwrap()
}

fn pod_with(states: &[ContainerState]) -> Queue {
    let mut queue = Queue::new();
    for (number, state) in (0..).zip(states) {
        queue.restore(id(number), *state);
    }
    queue
}

type Then = fn(&mut Queue, &ContainerId);

#[test]
fn a_life_in_order() {
    let mut queue = Queue::new();
    let one = id(1);
    let steps: [(Request, Decision, Then); 5] = [
        (
            Request::Create(one.clone()),
            Decision::Begin,
            |queue, id| {
                queue.created(id, true);
            },
        ),
        (Request::Start(one.clone()), Decision::Begin, |queue, id| {
            queue.started(id, true);
        }),
        (Request::Use(one.clone()), Decision::Begin, |_, _| {}),
        (Request::Stop(one.clone()), Decision::Begin, |queue, id| {
            queue.exited(id);
            queue.stop_ended(id);
        }),
        (
            Request::Remove(one.clone()),
            Decision::Begin,
            |queue, id| queue.removed(id, true),
        ),
    ];
    for (request, expected, then) in steps {
        assert_eq!(queue.ask(&request), expected, "{request:?}");
        then(&mut queue, &one);
    }
    assert_eq!(
        queue.ask(&Request::Stop(one)),
        Decision::Refuse(Refusal::NoContainer)
    );
    assert_eq!(queue.ask(&Request::StopPod), Decision::Begin);
    queue.pod_stopped(true);
    assert_eq!(queue.ask(&Request::StopPod), Decision::Done);
    assert_eq!(
        queue.ask(&Request::Create(id(2))),
        Decision::Refuse(Refusal::PodNotReady)
    );
    assert_eq!(queue.ask(&Request::RemovePod), Decision::Begin);
}

#[test]
fn states_allow_what_they_should() {
    use ContainerState::{Created, Exited, Running};
    let state = |state| Decision::Refuse(Refusal::State(state));
    for (now, request, expected) in [
        (Created, Request::Start(id(0)), Decision::Begin),
        (Running, Request::Start(id(0)), state(Running)),
        (Exited, Request::Start(id(0)), state(Exited)),
        (Created, Request::Use(id(0)), state(Created)),
        (Exited, Request::Use(id(0)), state(Exited)),
        (Created, Request::Update(id(0)), Decision::Begin),
        (Running, Request::Update(id(0)), Decision::Begin),
        (Exited, Request::Update(id(0)), state(Exited)),
        (Created, Request::Stop(id(0)), Decision::Begin),
        (Exited, Request::Stop(id(0)), Decision::Done),
        (Running, Request::Remove(id(0)), Decision::Begin),
    ] {
        assert_eq!(
            pod_with(&[now]).ask(&request),
            expected,
            "{now:?} {request:?}"
        );
    }
}

#[test]
fn repeated_requests_join() {
    let mut queue = pod_with(&[ContainerState::Running]);
    for request in [Request::Stop(id(0)), Request::Remove(id(0))] {
        assert_eq!(queue.ask(&request), Decision::Begin);
        assert_eq!(queue.ask(&request), Decision::Join);
    }
    let mut queue = Queue::new();
    for request in [Request::StopPod, Request::RemovePod] {
        assert_eq!(queue.ask(&request), Decision::Begin);
        assert_eq!(queue.ask(&request), Decision::Join);
        queue.pod_stopped(true);
    }
}

#[test]
fn stopping_a_pod_waits_for_a_creation_but_not_for_a_stop() {
    let mut queue = pod_with(&[ContainerState::Running]);
    assert_eq!(queue.ask(&Request::Stop(id(0))), Decision::Begin);
    assert_eq!(queue.ask(&Request::Create(id(1))), Decision::Begin);
    assert_eq!(queue.ask(&Request::StopPod), Decision::Wait);
    assert!(!queue.is_ready());
    assert_eq!(
        queue.ask(&Request::Create(id(2))),
        Decision::Refuse(Refusal::PodNotReady)
    );
    queue.created(&id(1), false);
    assert_eq!(queue.ask(&Request::StopPod), Decision::Begin);
}

#[test]
fn a_pod_whose_supervisor_died_can_be_stopped_and_removed() {
    let mut queue = pod_with(&[ContainerState::Running]);
    queue.set_supervisor(Supervisor::Dying);
    assert!(!queue.is_ready());
    assert_eq!(queue.ask(&Request::StopPod), Decision::Wait);
    assert_eq!(
        queue.ask(&Request::Use(id(0))),
        Decision::Refuse(Refusal::PodNotReady)
    );
    queue.exited(&id(0));
    queue.set_supervisor(Supervisor::Dead);
    queue.set_supervisor(Supervisor::Attached);
    assert_eq!(queue.supervisor(), Supervisor::Dead, "the dead stay dead");
    assert_eq!(queue.ask(&Request::Remove(id(0))), Decision::Begin);
}

/// What the model does next.
#[derive(Debug, Clone)]
enum Step {
    Ask(Request),
    /// The in-flight operation of this number ends so.
    End(prop::sample::Index, bool),
    Exit(u8),
    Attach(bool),
    Die,
}

fn steps() -> impl Strategy<Value = Step> {
    let request = (0..3_u8, 0..8_u8).prop_map(|(number, kind)| {
        let id = id(number);
        match kind {
            0 => Request::Create(id),
            1 => Request::Start(id),
            2 => Request::Stop(id),
            3 => Request::Remove(id),
            4 => Request::Update(id),
            5 => Request::Use(id),
            6 => Request::StopPod,
            _ => Request::RemovePod,
        }
    });
    prop_oneof![
        8 => request.prop_map(Step::Ask),
        6 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(i, ok)| Step::End(i, ok)),
        2 => (0..3_u8).prop_map(Step::Exit),
        1 => any::<bool>().prop_map(Step::Attach),
        1 => Just(Step::Die),
    ]
}

/// The model: which operations are in flight, which containers exist, and
/// whether somebody asked for the pod's end.
#[derive(Debug, Default)]
struct Model {
    in_flight: Vec<Request>,
    exists: Vec<ContainerId>,
    closed: bool,
    gone: bool,
}

impl Model {
    fn ask(&mut self, queue: &mut Queue, request: Request) {
        if let Request::Create(id) = &request {
            // The owner chooses an id that was never used.
            if self.exists.contains(id) || self.in_flight.contains(&request) {
                return;
            }
        }
        self.closed |= matches!(request, Request::StopPod | Request::RemovePod);
        match queue.ask(&request) {
            Decision::Begin if matches!(request, Request::Use(_)) => {}
            Decision::Begin => {
                assert!(!self.in_flight.contains(&request), "{request:?} twice");
                let starts = matches!(request, Request::Create(_) | Request::Start(_));
                assert!(!(starts && self.closed), "{request:?} in a closed pod");
                self.in_flight.push(request);
            }
            Decision::Join => assert!(
                self.in_flight.contains(&request),
                "{request:?} joins nothing"
            ),
            Decision::Wait => assert!(
                !self.in_flight.is_empty()
                    || matches!(
                        queue.supervisor(),
                        Supervisor::Unattached | Supervisor::Dying
                    ),
                "{request:?} waits for nothing"
            ),
            Decision::Done | Decision::Refuse(_) => {}
        }
        let pod_operation = self
            .in_flight
            .iter()
            .any(|r| matches!(r, Request::StopPod | Request::RemovePod));
        assert!(
            !pod_operation
                || self
                    .in_flight
                    .iter()
                    .all(|r| matches!(r, Request::StopPod | Request::RemovePod | Request::Stop(_))),
            "{:?}",
            self.in_flight
        );
    }

    fn end(&mut self, queue: &mut Queue, index: usize, succeeded: bool) {
        match self.in_flight.remove(index) {
            Request::Create(id) => {
                queue.created(&id, succeeded);
                if succeeded {
                    self.exists.push(id);
                }
            }
            Request::Start(id) => queue.started(&id, succeeded),
            Request::Stop(id) => {
                if succeeded {
                    queue.exited(&id);
                }
                queue.stop_ended(&id);
            }
            Request::Remove(id) => {
                queue.removed(&id, succeeded);
                if succeeded {
                    self.exists.retain(|other| *other != id);
                }
            }
            Request::Update(id) => queue.update_ended(&id),
            Request::Use(_) => {}
            Request::StopPod => {
                if succeeded {
                    for id in &self.exists {
                        queue.exited(id);
                    }
                }
                queue.pod_stopped(succeeded);
            }
            Request::RemovePod if succeeded => self.gone = true,
            Request::RemovePod => queue.pod_removal_failed(),
        }
    }
}

proptest! {
    #[test]
    fn nothing_overlaps_and_nothing_waits_for_ever(steps in prop::collection::vec(steps(), 1..120)) {
        let mut queue = Queue::new();
        let mut model = Model::default();
        for step in steps {
            if model.gone {
                break;
            }
            match step {
                Step::Ask(request) => model.ask(&mut queue, request),
                Step::End(index, succeeded) if !model.in_flight.is_empty() => {
                    let index = index.index(model.in_flight.len());
                    model.end(&mut queue, index, succeeded);
                }
                Step::End(..) => {}
                Step::Exit(number) => {
                    let id = id(number);
                    if queue.ask(&Request::Use(id.clone())) == Decision::Begin {
                        queue.exited(&id);
                    }
                }
                Step::Attach(attached) => queue.set_supervisor(if attached {
                    Supervisor::Attached
                } else {
                    Supervisor::Unattached
                }),
                Step::Die => queue.set_supervisor(Supervisor::Dying),
            }
        }
        // Let all that is in flight end, and the supervisor be adopted or
        // buried: then nothing waits.
        while !model.gone && !model.in_flight.is_empty() {
            model.end(&mut queue, 0, true);
        }
        if !model.gone {
            queue.set_supervisor(if queue.supervisor() == Supervisor::Dying {
                Supervisor::Dead
            } else {
                Supervisor::Attached
            });
            for number in 0..3 {
                for request in [Request::Stop(id(number)), Request::Update(id(number)), Request::Use(id(number))] {
                    let running_orphan = queue.supervisor() == Supervisor::Dead;
                    let decision = queue.ask(&request);
                    prop_assert!(decision != Decision::Wait || running_orphan, "{request:?} {decision:?}");
                    match (decision, request) {
                        (Decision::Begin, Request::Stop(id)) => {
                            queue.exited(&id);
                            queue.stop_ended(&id);
                        }
                        (Decision::Begin, Request::Update(id)) => queue.update_ended(&id),
                        _ => {}
                    }
                }
            }
            prop_assert_eq!(queue.ask(&Request::RemovePod), Decision::Begin);
        }
    }
}
