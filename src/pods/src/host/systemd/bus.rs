//! Calls to systemd over the system bus.
//!
//! The connection is made when it is first needed and again when it breaks:
//! D-Bus may be restarted at any time. A call whose connection breaks is made
//! anew, within its deadline; callers take "it exists already" for an answer.

use super::properties::{Property, Value};
use futures_util::StreamExt as _;
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use zbus::message::{Message, Type};
use zbus::{Connection, MatchRule, MessageStream, OwnedObjectPath, OwnedVariant, Variant};

const DESTINATION: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const UNIT: &str = "org.freedesktop.systemd1.Unit";

/// How often a job is asked after, in case its signal was lost.
const ASK: Duration = Duration::from_secs(1);

/// Pause before a connection is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// Signals that wait to be looked at.
const SIGNALS: std::num::NonZeroUsize = std::num::NonZeroUsize::new(1024).unwrap();

/// A call was not answered as hoped for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BusError {
    /// systemd knows no such unit.
    #[error("systemd has no unit {0}")]
    NoSuchUnit(String),
    /// A unit of this name exists, or has a file on disk.
    #[error("systemd has a unit {0} already")]
    Exists(String),
    /// systemd said no.
    #[error("{call} = {name}: {message}")]
    Refused {
        /// The call with its arguments.
        call: String,
        /// Name of the D-Bus error.
        name: String,
        /// Its words.
        message: String,
    },
    /// systemd tried and failed.
    #[error(
        "systemd's job to {what} {unit} ended with {result:?}: see `systemctl status {unit}` and the journal"
    )]
    Failed {
        /// `start` or `stop`.
        what: &'static str,
        /// The unit.
        unit: String,
        /// JobRemoved's result, or the unit's state.
        result: String,
    },
    /// Nobody answered.
    #[error("{call} was not answered after {:.1} s{}", after.as_secs_f64(), because(last.as_deref()))]
    Late {
        /// The call with its arguments.
        call: String,
        /// How long.
        after: Duration,
        /// Why it could not be sent, the last time.
        last: Option<String>,
    },
}

fn because(last: Option<&str>) -> String {
    last.map_or_else(String::new, |last| {
        format!(" ({last}); the systemd cgroup driver needs D-Bus and systemd")
    })
}

/// systemd, as reached by D-Bus.
#[derive(Debug)]
pub(super) struct Bus {
    live: tokio::sync::Mutex<Option<Live>>,
    jobs: Arc<Jobs>,
    deadline: Duration,
}

#[derive(Debug, Clone)]
struct Live {
    connection: Connection,
}

/// Who waits for the jobs of which unit.
#[derive(Debug, Default)]
struct Jobs(Mutex<HashMap<String, mpsc::UnboundedSender<Ended>>>);

/// A job's object and its result.
type Ended = (String, String);

/// What a job is to reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    Started,
    Stopped,
}

type Properties<'a> = Vec<(&'a str, Variant<'a>)>;

// === impl Bus ===

impl Bus {
    /// Whose calls may take this long each.
    pub(super) fn new(deadline: Duration) -> Self {
        Self {
            live: tokio::sync::Mutex::default(),
            jobs: Arc::default(),
            deadline,
        }
    }

    /// Where systemd has its own root, below that of each hierarchy; empty
    /// unless systemd runs in a container.
    pub(super) async fn root(&self) -> Result<String, BusError> {
        let reply = self
            .call(MANAGER_PATH, PROPERTIES, "Get", &(MANAGER, "ControlGroup"))
            .await?;
        let value: OwnedVariant = read(&reply)?;
        String::try_from(value).map_err(|error| unreadable(&reply, &error))
    }

    /// Starts a transient unit and waits until it is there. `around` are slices
    /// that are made with it, to go when nothing needs them any more.
    pub(super) async fn start(
        &self,
        unit: &str,
        properties: &[Property],
        around: &[&str],
    ) -> Result<(), BusError> {
        let slices: Vec<(&str, Properties<'_>)> = around
            .iter()
            .map(|slice| (*slice, of_passing_slice()))
            .collect();
        let body = (unit, "replace", variants(properties), slices);
        self.job(Goal::Started, unit, "StartTransientUnit", &body)
            .await
    }

    /// Stops a unit and waits until it is gone. One that is not there is no
    /// error.
    pub(super) async fn stop(&self, unit: &str) -> Result<(), BusError> {
        let result = self
            .job(Goal::Stopped, unit, "StopUnit", &(unit, "replace"))
            .await;
        match result {
            Err(BusError::NoSuchUnit(_)) => return Ok(()),
            other => other?,
        }
        // One that failed is kept in memory until somebody has looked at it.
        match self
            .call(MANAGER_PATH, MANAGER, "ResetFailedUnit", &(unit,))
            .await
        {
            Ok(_) | Err(BusError::NoSuchUnit(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sets properties of a unit until it ends.
    pub(super) async fn set(&self, unit: &str, properties: &[Property]) -> Result<(), BusError> {
        let body = (unit, true, variants(properties));
        self.call(MANAGER_PATH, MANAGER, "SetUnitProperties", &body)
            .await
            .map(drop)
    }

    /// The values that these properties of a unit have now. `kind` is `Scope`
    /// or `Slice`.
    pub(super) async fn get(
        &self,
        unit: &str,
        kind: &str,
        properties: &[Property],
    ) -> Result<Vec<Property>, BusError> {
        let object = self.object(unit).await?;
        let interface = format!("{DESTINATION}.{kind}");
        let mut values = Vec::with_capacity(properties.len());
        for Property { name, .. } in properties {
            let reply = self
                .call(&object, PROPERTIES, "Get", &(interface.as_str(), *name))
                .await?;
            let value: OwnedVariant = read(&reply)?;
            let value = match u64::try_from(&value) {
                Ok(number) => Value::Number(number),
                Err(_) => {
                    Value::Bytes(Vec::try_from(value).map_err(|error| unreadable(&reply, &error))?)
                }
            };
            values.push(Property { name, value });
        }
        Ok(values)
    }

    async fn object(&self, unit: &str) -> Result<String, BusError> {
        let reply = self
            .call(MANAGER_PATH, MANAGER, "GetUnit", &(unit,))
            .await?;
        let path: OwnedObjectPath = read(&reply)?;
        Ok(path.as_str().to_owned())
    }

    /// `active`, `inactive`, `failed` …; `None` where there is no such unit.
    async fn state(&self, unit: &str) -> Result<Option<String>, BusError> {
        let object = match self.object(unit).await {
            Err(BusError::NoSuchUnit(_)) => return Ok(None),
            object => object?,
        };
        let reply = self
            .call(&object, PROPERTIES, "Get", &(UNIT, "ActiveState"))
            .await;
        match reply {
            Ok(reply) => {
                let value: OwnedVariant = read(&reply)?;
                let state = String::try_from(value);
                state.map(Some).map_err(|error| unreadable(&reply, &error))
            }
            // It went away between the two calls.
            Err(BusError::NoSuchUnit(_) | BusError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a call that begins a job, and waits for the job.
    async fn job<B>(&self, goal: Goal, unit: &str, member: &str, body: &B) -> Result<(), BusError>
    where
        B: serde::Serialize + zbus::DynamicType + Sync,
    {
        let begun = Instant::now();
        let mut signals = self.jobs.expect(unit);
        let reply = self.call(MANAGER_PATH, MANAGER, member, body).await?;
        let job: OwnedObjectPath = read(&reply)?;
        self.settle(goal, unit, job.as_str(), &mut signals, begun)
            .await
    }

    async fn settle(
        &self,
        goal: Goal,
        unit: &str,
        job: &str,
        signals: &mut mpsc::UnboundedReceiver<Ended>,
        begun: Instant,
    ) -> Result<(), BusError> {
        while begun.elapsed() < self.deadline {
            match tokio::time::timeout(ASK, signals.recv()).await {
                Ok(Some((ended, result))) if ended == job => return goal.judge(unit, result),
                Ok(Some(_)) => {}
                // Another request for this unit listens now.
                Ok(None) => tokio::time::sleep(PAUSE).await,
                Err(_) => {
                    if let Some(done) = goal.reached(unit, self.state(unit).await?) {
                        return done;
                    }
                }
            }
        }
        Err(BusError::Late {
            call: format!("systemd's job to {} {unit}", goal.verb()),
            after: begun.elapsed(),
            last: None,
        })
    }

    /// One call, on a connection that is made if need be.
    async fn call<B>(
        &self,
        path: &str,
        interface: &str,
        member: &str,
        body: &B,
    ) -> Result<Message, BusError>
    where
        B: serde::Serialize + zbus::DynamicType + Sync,
    {
        let begun = Instant::now();
        let mut last = None;
        while let Some(left) = self.deadline.checked_sub(begun.elapsed()) {
            let attempt = async {
                let live = self.live().await?;
                let sent = live.connection.call_method(
                    Some(DESTINATION),
                    path,
                    Some(interface),
                    member,
                    body,
                );
                sent.await
            };
            match within(left, attempt).await {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(error)) => match judge(member, &error) {
                    Some(error) => return Err(error),
                    None => last = Some(error.to_string()),
                },
                Err(()) => break,
            }
            self.drop_broken().await;
            tokio::time::sleep(PAUSE).await;
        }
        Err(BusError::Late {
            call: format!("{interface}.{member}"),
            after: begun.elapsed(),
            last,
        })
    }

    async fn live(&self) -> zbus::Result<Live> {
        let mut live = self.live.lock().await;
        if let Some(live) = live.as_ref()
            && !live.connection.is_closed()
        {
            return Ok(live.clone());
        }
        let made = connect(Arc::clone(&self.jobs)).await?;
        *live = Some(made.clone());
        Ok(made)
    }

    async fn drop_broken(&self) {
        let mut live = self.live.lock().await;
        if live
            .as_ref()
            .is_some_and(|live| live.connection.is_closed())
        {
            *live = None;
        }
    }
}

async fn within<T>(left: Duration, work: impl Future<Output = T>) -> Result<T, ()> {
    tokio::time::timeout(left, work).await.map_err(drop)
}

/// Connects, and has the ends of jobs told to those who wait for them.
async fn connect(jobs: Arc<Jobs>) -> zbus::Result<Live> {
    let connection = Connection::system().await?;
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender(DESTINATION)
        .path(MANAGER_PATH)
        .interface(MANAGER)
        .member("JobRemoved")
        .build()?;
    let mut signals = MessageStream::for_match_rule(rule, &connection, Some(SIGNALS)).await?;
    // systemd sends signals only while somebody has said that he listens.
    connection
        .call_method(
            Some(DESTINATION),
            MANAGER_PATH,
            Some(MANAGER),
            "Subscribe",
            &(),
        )
        .await?;
    tokio::spawn(async move {
        while let Some(Ok(signal)) = signals.next().await {
            let body = signal.body();
            let Ok((_, job, unit, result)) =
                body.deserialize::<(u32, zbus::ObjectPath<'_>, &str, &str)>()
            else {
                continue;
            };
            jobs.tell(unit, job.as_str(), result);
        }
    });
    Ok(Live { connection })
}

/// A slice that is there for others only, and goes with the last of them.
fn of_passing_slice() -> Properties<'static> {
    vec![
        ("StopWhenUnneeded", Variant::from(true)),
        ("DefaultDependencies", Variant::from(false)),
    ]
}

fn variants(properties: &[Property]) -> Properties<'_> {
    let variant = |value: &Value| match value {
        Value::Bool(value) => Variant::from(*value),
        Value::Number(value) => Variant::from(*value),
        Value::Text(value) => Variant::from(value.clone()),
        Value::Bytes(value) => Variant::from(value.clone()),
        Value::Pids(value) => Variant::from(value.clone()),
    };
    properties
        .iter()
        .map(|property| (property.name, variant(&property.value)))
        .collect()
}

/// What an error means; `None` where the call may be made again.
fn judge(member: &str, error: &zbus::Error) -> Option<BusError> {
    let refused = |name: &str, message: String| BusError::Refused {
        call: member.to_owned(),
        name: name.to_owned(),
        message,
    };
    match error {
        zbus::Error::MethodError(name, message, _) => {
            let message = message.clone().unwrap_or_default();
            Some(match name.as_str().rsplit('.').next() {
                Some("NoSuchUnit") => BusError::NoSuchUnit(message),
                Some("UnitExists") => BusError::Exists(message),
                _ => refused(name.as_str(), message),
            })
        }
        zbus::Error::FDO(error) => match error.as_ref() {
            // The bus, or systemd on it, is being restarted.
            zbus::fdo::Error::NoReply(_)
            | zbus::fdo::Error::Disconnected(_)
            | zbus::fdo::Error::ServiceUnknown(_)
            | zbus::fdo::Error::NameHasNoOwner(_)
            | zbus::fdo::Error::ZBus(_) => None,
            other => Some(refused("org.freedesktop.DBus.Error", other.to_string())),
        },
        zbus::Error::InputOutput(_) | zbus::Error::Handshake(_) | zbus::Error::Address(_) => None,
        other => Some(refused("D-Bus", other.to_string())),
    }
}

fn read<T>(reply: &Message) -> Result<T, BusError>
where
    T: serde::de::DeserializeOwned + zbus::Type,
{
    reply
        .body()
        .deserialize::<T>()
        .map_err(|error| unreadable(reply, &error))
}

fn unreadable(reply: &Message, error: &dyn std::fmt::Display) -> BusError {
    BusError::Refused {
        call: reply.to_string(),
        name: "an answer that is not understood".to_owned(),
        message: error.to_string(),
    }
}

// === impl Goal ===

impl Goal {
    fn verb(self) -> &'static str {
        match self {
            Self::Started => "start",
            Self::Stopped => "stop",
        }
    }

    /// By a job's result, org.freedesktop.systemd1(5) "JobRemoved".
    fn judge(self, unit: &str, result: String) -> Result<(), BusError> {
        if result == "done" {
            return Ok(());
        }
        Err(BusError::Failed {
            what: self.verb(),
            unit: unit.to_owned(),
            result,
        })
    }

    /// By the unit's state; `None` while it is on its way.
    fn reached(self, unit: &str, state: Option<String>) -> Option<Result<(), BusError>> {
        match (self, state.as_deref()) {
            (Self::Started, Some("active"))
            | (Self::Stopped, None | Some("inactive" | "failed")) => Some(Ok(())),
            (Self::Started, None | Some("inactive" | "failed")) => {
                Some(self.judge(unit, state.unwrap_or_else(|| "gone".to_owned())))
            }
            _ => None,
        }
    }
}

// === impl Jobs ===

impl Jobs {
    fn expect(&self, unit: &str) -> mpsc::UnboundedReceiver<Ended> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut waiting = self.lock();
        waiting.retain(|_, sender| !sender.is_closed());
        waiting.insert(unit.to_owned(), sender);
        receiver
    }

    fn tell(&self, unit: &str, job: &str, result: &str) {
        if let Some(sender) = self.lock().get(unit) {
            let _gone = sender.send((job.to_owned(), result.to_owned()));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, mpsc::UnboundedSender<Ended>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{BusError, Goal, Jobs};

    #[test]
    fn a_job_is_judged_by_its_result_or_by_the_unit() {
        assert_eq!(Goal::Started.judge("a.scope", "done".to_owned()), Ok(()));
        for result in ["failed", "canceled", "timeout", "dependency"] {
            let error = Goal::Stopped.judge("a.scope", result.to_owned());
            assert!(matches!(error, Err(BusError::Failed { what: "stop", .. })));
        }
        let state = |text: &str| Some(text.to_owned());
        for (goal, now, expected) in [
            (Goal::Started, state("active"), Some(true)),
            (Goal::Started, state("activating"), None),
            (Goal::Started, state("failed"), Some(false)),
            (Goal::Started, None, Some(false)),
            (Goal::Stopped, state("active"), None),
            (Goal::Stopped, state("deactivating"), None),
            (Goal::Stopped, state("inactive"), Some(true)),
            (Goal::Stopped, None, Some(true)),
        ] {
            let reached = goal.reached("a.scope", now.clone());
            assert_eq!(
                reached.map(|done| done.is_ok()),
                expected,
                "{goal:?} {now:?}"
            );
        }
    }

    #[test]
    fn ends_of_jobs_are_told_to_who_waits() {
        let jobs = Jobs::default();
        jobs.tell("a.scope", "/job/1", "done");
        let mut waiter = jobs.expect("a.scope");
        jobs.tell("b.scope", "/job/2", "done");
        jobs.tell("a.scope", "/job/3", "failed");
        let told = waiter.try_recv().unwrap();
        assert_eq!(told, ("/job/3".to_owned(), "failed".to_owned()));
        assert!(waiter.try_recv().is_err());
        drop(waiter);
        let _other = jobs.expect("c.scope");
        assert_eq!(jobs.lock().len(), 1);
    }
}
