//! System call filters.

use crate::contribution::Contribution;
use crate::isolator::{HostFacts, Isolator, PodView, Refusal};
use crate::spec::{ContainerSpec, ProfileRequest};
use insula_seccomp::default_profile::default_profile;
use insula_seccomp::{Architecture, Context, Filter, Profile};
use insula_wire::{CapabilitySet, FilterProgram, SeccompFilter, SeccompListener};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Most filters that are kept. A node has a handful of profiles, and most
/// containers one of two sets of capabilities.
const MAX_KEPT: usize = 64;

/// The filter a container asks for.
///
/// Nothing said means none, unless the node's configuration says otherwise:
/// kubelet says `RuntimeDefault` by itself where its `seccompDefault` is on. A
/// privileged container has none, whatever it asks for. The profile of the node is one that was read from its file (PodView);
/// what of it counts depends on the container's capabilities.
#[derive(Debug)]
pub(crate) struct Seccomp;

/// Filters that were compiled before. Containers with the same profile and
/// capabilities share one.
#[derive(Default)]
pub struct Filters(Mutex<HashMap<(Source, CapabilitySet), SeccompFilter>>);

/// What a filter is made from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Source {
    Default,
    /// The text of a profile.
    Node(Vec<u8>),
}

impl Isolator for Seccomp {
    fn name(&self) -> &'static str {
        "seccomp"
    }

    fn prepare(&self, spec: &ContainerSpec, pod: &PodView<'_>) -> Result<Contribution, Refusal> {
        let Some(source) = source(spec, pod)? else {
            return Ok(Contribution::default());
        };
        let capabilities = crate::capabilities::sets(spec, pod)?.bounding;
        let filter = pod
            .filters
            .get(source, capabilities, pod.host)
            .map_err(|why| refusal(spec, &why))?;
        Ok(Contribution {
            seccomp: Some(filter),
            ..Contribution::default()
        })
    }
}

/// The container's profile as an external OCI runtime reads it, `linux.seccomp`
/// of its specification: what the plan's filter was made from. Pure.
pub fn document(
    spec: &ContainerSpec,
    pod: &PodView<'_>,
) -> Result<Option<serde_json::Value>, Refusal> {
    let Some(source) = source(spec, pod)? else {
        return Ok(None);
    };
    let capabilities = crate::capabilities::sets(spec, pod)?.bounding;
    let (profile, context) =
        select(&source, capabilities, pod.host).map_err(|why| refusal(spec, &why))?;
    if profile.notifies() {
        let why = "SCMP_ACT_NOTIFY is for containers that no external runtime executes";
        return Err(refusal(spec, why));
    }
    Ok(Some(insula_seccomp::document(&profile, &context)))
}

/// What the container's filter is made from; `None` where it has none.
fn source(spec: &ContainerSpec, pod: &PodView<'_>) -> Result<Option<Source>, Refusal> {
    Ok(match &spec.security.seccomp {
        _ if spec.security.privileged => None,
        ProfileRequest::Unset if pod.seccomp_default => Some(Source::Default),
        ProfileRequest::Unset | ProfileRequest::Unconfined => None,
        ProfileRequest::RuntimeDefault => Some(Source::Default),
        ProfileRequest::Localhost(path) => match pod.seccomp_profile {
            Some(text) => Some(Source::Node(text.to_vec())),
            None => {
                return Err(Refusal::new(format!(
                    "seccomp profile {path:?} was not read"
                )));
            }
        },
    })
}

fn refusal(spec: &ContainerSpec, why: &str) -> Refusal {
    Refusal::new(match &spec.security.seccomp {
        ProfileRequest::Localhost(path) => format!("seccomp profile {path:?}: {why}"),
        _ => format!("the default seccomp profile: {why}"),
    })
}

// === impl Filters ===

impl Filters {
    fn get(
        &self,
        source: Source,
        capabilities: CapabilitySet,
        host: &HostFacts,
    ) -> Result<SeccompFilter, String> {
        let key = (source, capabilities);
        // A panic elsewhere leaves the map whole.
        let kept = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(filter) = kept().get(&key) {
            return Ok(filter.clone());
        }
        let filter = compile(&key.0, capabilities, host)?;
        let mut kept = kept();
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(key, filter.clone());
        Ok(filter)
    }
}

impl fmt::Debug for Filters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filters")
    }
}

fn compile(
    source: &Source,
    capabilities: CapabilitySet,
    host: &HostFacts,
) -> Result<SeccompFilter, String> {
    let (profile, context) = select(source, capabilities, host)?;
    let filter = Filter::compile(&profile, &context).map_err(|error| error.to_string())?;
    if !filter.unknown.is_empty() && *source != Source::Default {
        tracing::info!(
            system_calls = ?filter.unknown,
            "a seccomp profile names system calls that this machine does not have; they are passed over"
        );
    }
    Ok(SeccompFilter {
        program: FilterProgram::new(filter.program.to_bytes())
            .map_err(|error| error.to_string())?,
        log: filter.flags.log,
        spec_allow: filter.flags.spec_allow,
        // Where no rule asks anybody, nobody is told.
        listener: filter
            .listener
            .filter(|_| profile.notifies())
            .map(|listener| SeccompListener {
                path: listener.path,
                metadata: listener.metadata,
                wait_killable: filter.flags.wait_killable,
            }),
    })
}

/// The profile, and what its conditions are about.
fn select(
    source: &Source,
    capabilities: CapabilitySet,
    host: &HostFacts,
) -> Result<(Profile, Context), String> {
    let architecture = Architecture::native()
        .ok_or("filters cannot be made for this machine: leave the profile unset")?;
    let profile = match source {
        Source::Default => default_profile(),
        Source::Node(text) => Profile::parse(text).map_err(|error| error.to_string())?,
    };
    if profile.notifies() && profile.listener.is_none() {
        return Err("SCMP_ACT_NOTIFY needs a listenerPath: nobody would answer".to_owned());
    }
    let context = Context {
        architecture,
        capabilities,
        kernel: host.kernel,
    };
    Ok((profile, context))
}

#[cfg(test)]
mod tests {
    use super::Filters;
    use crate::spec::ProfileRequest;
    use crate::tests::{Fixture, plan_of, refusal_of};
    use insula_seccomp::Program;
    use insula_seccomp::program::Call;
    use insula_wire::SeccompFilter;
    use insula_wire::plan::LaunchPlan;

    const DENY: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["sethostname"], "action": "SCMP_ACT_ERRNO"},
        {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_SYS_ADMIN"]}}]}"#;

    fn ask(fixture: &mut Fixture, text: &str) {
        fixture.spec.security.seccomp = ProfileRequest::Localhost("/p.json".to_owned());
        fixture.seccomp_profile = Some(text.as_bytes().to_vec());
    }

    fn filter(plan: &LaunchPlan) -> &SeccompFilter {
        plan.process.seccomp.as_ref().unwrap()
    }

    fn allows(plan: &LaunchPlan, name: &str) -> bool {
        let native = insula_seccomp::Architecture::native().unwrap();
        let program = Program::from_bytes(filter(plan).program.as_bytes()).unwrap();
        let call = Call {
            number: insula_seccomp::tables::system_call(native, name).unwrap(),
            audit: native.audit(),
            ..Call::default()
        };
        program.run(&call).bits == 0x7fff_0000
    }

    #[test]
    fn requests_are_filters() {
        for (request, privileged, filtered) in [
            (ProfileRequest::Unset, false, false),
            (ProfileRequest::Unconfined, false, false),
            (ProfileRequest::RuntimeDefault, false, true),
            (ProfileRequest::Localhost("/p.json".to_owned()), false, true),
            (ProfileRequest::RuntimeDefault, true, false),
            (ProfileRequest::Localhost("/p.json".to_owned()), true, false),
        ] {
            let mut fixture = match privileged {
                true => Fixture::privileged(),
                false => Fixture::new(),
            };
            ask(&mut fixture, DENY);
            fixture.spec.security.seccomp = request.clone();
            let plan = fixture.plan().unwrap();
            assert_eq!(plan.process.seccomp.is_some(), filtered, "{request:?}");
        }
    }

    #[test]
    fn capabilities_count() {
        let plan = plan_of(|fixture| {
            fixture.spec.security.seccomp = ProfileRequest::RuntimeDefault;
        });
        assert!(allows(&plan, "chroot") && !allows(&plan, "unshare"));
        let plan = plan_of(|fixture| {
            fixture.spec.security.seccomp = ProfileRequest::RuntimeDefault;
            fixture.spec.security.add_capabilities = vec!["SYS_ADMIN".to_owned()];
            fixture.spec.security.drop_capabilities = vec!["SYS_CHROOT".to_owned()];
        });
        assert!(!allows(&plan, "chroot") && allows(&plan, "unshare"));
        let plan = plan_of(|fixture| ask(fixture, DENY));
        assert!(!allows(&plan, "sethostname") && !allows(&plan, "mount"));
        let plan = plan_of(|fixture| {
            ask(fixture, DENY);
            fixture.spec.security.add_capabilities = vec!["ALL".to_owned()];
        });
        assert!(!allows(&plan, "sethostname") && allows(&plan, "mount"));
    }

    #[test]
    fn what_cannot_be_loaded_is_refused_with_its_path() {
        for (text, words) in [
            ("", "seccomp profile \"/p.json\": EOF while parsing"),
            ("{}", "missing field `defaultAction`"),
            (r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#, "SCMP_ACT_NOTIFY"),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "run/x"}"#,
                "listenerPath \"run/x\" is not absolute",
            ),
        ] {
            let refusal = refusal_of(|fixture| ask(fixture, text));
            assert!(refusal.contains(words), "{refusal}");
        }
        let refusal = refusal_of(|fixture| {
            ask(fixture, DENY);
            fixture.seccomp_profile = None;
        });
        assert!(refusal.contains("was not read"), "{refusal}");
    }

    #[test]
    fn who_asks_has_somebody_to_answer() {
        let profile = |action: &str| {
            format!(
                r#"{{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent.sock",
                    "listenerMetadata": "a word", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
                    "syscalls": [{{"names": ["mkdir"], "action": "{action}"}}]}}"#
            )
        };
        let plan = plan_of(|fixture| ask(fixture, &profile("SCMP_ACT_NOTIFY")));
        let listener = insula_wire::SeccompListener {
            path: "/run/agent.sock".to_owned(),
            metadata: "a word".to_owned(),
            wait_killable: true,
        };
        assert_eq!(filter(&plan).listener, Some(listener));
        assert!(plan.bundle.is_some(), "what it is told");
        let plan = plan_of(|fixture| ask(fixture, &profile("SCMP_ACT_ERRNO")));
        assert_eq!((&filter(&plan).listener, &plan.bundle), (&None, &None));
    }

    #[test]
    fn the_node_may_say_what_holds_where_nothing_is_said() {
        for (request, privileged, filtered) in [
            (ProfileRequest::Unset, false, true),
            (ProfileRequest::Unset, true, false),
            (ProfileRequest::Unconfined, false, false),
        ] {
            let mut fixture = match privileged {
                true => Fixture::privileged(),
                false => Fixture::new(),
            };
            fixture.seccomp_default = true;
            fixture.spec.security.seccomp = request.clone();
            let plan = fixture.plan().unwrap();
            assert_eq!(plan.process.seccomp.is_some(), filtered, "{request:?}");
        }
    }

    #[test]
    fn equal_requests_share_a_program() {
        let fixture = {
            let mut fixture = Fixture::new();
            ask(&mut fixture, DENY);
            fixture
        };
        let (one, two) = (fixture.plan().unwrap(), fixture.plan().unwrap());
        let address = |plan: &LaunchPlan| filter(plan).program.as_bytes().as_ptr();
        assert_eq!(address(&one), address(&two));
        // It does not grow without bound.
        let filters = Filters::default();
        for number in 0..200_u32 {
            let text =
                format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": {number}}}"#);
            let source = super::Source::Node(text.into_bytes());
            filters
                .get(source, insula_wire::CapabilitySet::EMPTY, &fixture.host)
                .unwrap();
        }
        assert!(filters.0.lock().unwrap().len() <= super::MAX_KEPT);
    }
}
