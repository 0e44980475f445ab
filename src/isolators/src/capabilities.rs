//! Which of root's powers a container has.

use crate::contribution::Contribution;
use crate::isolator::{Isolator, PodView, Refusal};
use crate::spec::ContainerSpec;
use insula_wire::plan;
use insula_wire::{Capability, CapabilitySet};

/// What a container has when nothing is said: the fourteen that Docker and
/// containerd give, which images are made for (package managers chown and set
/// file capabilities, `ping` opens raw sockets). Kubernetes' restricted
/// profile drops all of them by name.
const DEFAULT: &[Capability] = &[
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// The sets of capabilities(7).
///
/// `ALL` is added first, then what is dropped goes, then what is added by name
/// comes, so that "drop ALL, add X" is exactly X. Nothing goes beyond what
/// this process may have. Inheritable stays empty, so that a program with file
/// capabilities gains nothing by being started here (CVE-2022-24769), unless
/// ambient ones are asked for, which the kernel ties to it (KEP-2763). An
/// ambient one is added by name as well, so it may come with "drop ALL"; one
/// that is dropped by name is refused, since only one of the two can be meant.
/// `ALL` makes every capability that the container has ambient.
#[derive(Debug)]
pub(crate) struct Capabilities;

impl Isolator for Capabilities {
    fn name(&self) -> &'static str {
        "capabilities"
    }

    fn prepare(&self, spec: &ContainerSpec, pod: &PodView<'_>) -> Result<Contribution, Refusal> {
        Ok(Contribution {
            capabilities: Some(sets(spec, pod)?),
            ..Contribution::default()
        })
    }
}

/// The sets of a container, which others have to know, too.
pub(crate) fn sets(spec: &ContainerSpec, pod: &PodView<'_>) -> Result<plan::Capabilities, Refusal> {
    let security = &spec.security;
    let possible = pod.host.capabilities;
    let add = Named::parse(&security.add_capabilities)?;
    let drop = Named::parse(&security.drop_capabilities)?;
    let ambient = Named::parse(&security.add_ambient_capabilities)?;
    let mut set: CapabilitySet = if security.privileged || add.all {
        CapabilitySet::all()
    } else {
        DEFAULT.iter().copied().collect()
    };
    if !security.privileged {
        if drop.all {
            set = CapabilitySet::EMPTY;
        }
        drop.named
            .iter()
            .for_each(|capability| set.remove(capability));
        add.named
            .iter()
            .for_each(|capability| set.insert(capability));
    }
    let mut raised = if ambient.all {
        set
    } else {
        CapabilitySet::EMPTY
    };
    for capability in ambient.named.iter() {
        if drop.named.contains(capability) && !security.privileged {
            return Err(Refusal::new(format!(
                "capability {capability:?} is to be dropped and to be ambient: only one of both is possible"
            )));
        }
        raised.insert(capability);
        set.insert(capability);
    }
    let set = set.intersection(possible);
    let raised = raised.intersection(possible);
    Ok(plan::Capabilities {
        bounding: set,
        effective: set,
        permitted: set,
        inheritable: raised,
        ambient: raised,
    })
}

/// A list of names with the word `ALL` taken out.
struct Named {
    all: bool,
    named: CapabilitySet,
}

// === impl Named ===

impl Named {
    fn parse(names: &[String]) -> Result<Self, Refusal> {
        let mut parsed = Self {
            all: false,
            named: CapabilitySet::EMPTY,
        };
        for name in names {
            if name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL") {
                parsed.all = true;
            } else {
                let capability = name.parse().map_err(|error| {
                    Refusal::new(format!(
                        "{error}: use a name of capabilities(7) such as NET_ADMIN, or ALL"
                    ))
                })?;
                parsed.named.insert(capability);
            }
        }
        Ok(parsed)
    }
}
