use super::default_profile;
use crate::action::Action;
use crate::architecture::Architecture;
use crate::filter::Filter;
use crate::profile::KernelVersion;
use crate::program::Call;
use crate::select::Context;
use crate::tables;
use insula_wire::{Capability, CapabilitySet};

fn verdict(
    machine: Architecture,
    capabilities: &[Capability],
    (architecture, name, first): (Architecture, &str, u64),
) -> u32 {
    let context = Context {
        architecture: machine,
        capabilities: capabilities.iter().copied().collect(),
        kernel: KernelVersion {
            major: 6,
            minor: 12,
        },
    };
    let filter = Filter::compile(&default_profile(), &context).unwrap();
    let call = Call {
        number: tables::system_call(architecture, name).unwrap(),
        audit: architecture.audit(),
        arguments: [first, 0, 0, 0, 0, 0],
        ..Call::default()
    };
    filter.program.run(&call).bits
}

#[test]
fn what_is_dangerous_is_refused_and_the_rest_allowed() {
    use Architecture::{Aarch64, Arm, X32, X86, X86_64};
    let refused = Action::Error(1);
    let missing = Action::Error(38);
    let no_family = Action::Error(97);
    let allowed = Action::Allow;
    let none: &[Capability] = &[];
    let admin = &[Capability::SysAdmin][..];
    for (machine, capabilities, call, expected) in [
        (X86_64, none, (X86_64, "read", 0), allowed),
        (X86_64, none, (X86_64, "execve", 0), allowed),
        (X86_64, none, (X86_64, "ptrace", 0), allowed),
        (X86_64, none, (X86_64, "keyctl", 0), refused),
        (X86_64, none, (X86_64, "add_key", 0), refused),
        (X86_64, none, (X86_64, "io_uring_setup", 0), refused),
        (X86_64, none, (X86_64, "userfaultfd", 0), refused),
        (X86_64, none, (X86_64, "bpf", 0), refused),
        (X86_64, none, (X86_64, "unshare", 0), refused),
        (X86_64, none, (X86_64, "mount", 0), refused),
        (X86_64, none, (X86_64, "open_tree_attr", 0), missing),
        (X86_64, none, (X86_64, "personality", 0x0004_0000), refused),
        (X86_64, none, (X86_64, "personality", 0xffff_ffff), allowed),
        (X86_64, none, (X86_64, "socket", 2), allowed),
        (X86_64, none, (X86_64, "socket", 38), no_family),
        (X86_64, none, (X86_64, "socket", 40), no_family),
        (X86_64, none, (X86_64, "socket", 12), refused),
        (X86_64, none, (X86_64, "socket", 1 << 32 | 2), refused),
        (X86_64, none, (X86_64, "clone", 0x0001_0f00), allowed),
        (X86_64, none, (X86_64, "clone", 0x1000_0000), refused),
        (X86_64, none, (X86_64, "clone3", 0), missing),
        (X86_64, admin, (X86_64, "clone", 0x1000_0000), allowed),
        (X86_64, admin, (X86_64, "clone3", 0), allowed),
        (X86_64, admin, (X86_64, "unshare", 0), allowed),
        (X86_64, admin, (X86_64, "keyctl", 0), refused),
        (
            X86_64,
            &[Capability::SysChroot][..],
            (X86_64, "chroot", 0),
            allowed,
        ),
        (X86_64, none, (X86_64, "chroot", 0), refused),
        (X86_64, none, (X86_64, "arch_prctl", 0), allowed),
        (X86_64, none, (X86, "socketcall", 1), missing),
        (X86_64, none, (X86, "socket", 38), no_family),
        (X86_64, none, (X86, "waitpid", 0), allowed),
        (X86_64, none, (X32, "read", 0), allowed),
        (X86_64, none, (X32, "keyctl", 0), refused),
        (X86_64, none, (Aarch64, "read", 0), Action::KillThread),
        (Aarch64, none, (Aarch64, "openat", 0), allowed),
        (Aarch64, none, (Aarch64, "socket", 38), no_family),
        (Aarch64, none, (Arm, "cacheflush", 0), allowed),
        (Aarch64, none, (Arm, "keyctl", 0), refused),
        (Aarch64, none, (X86_64, "read", 0), Action::KillThread),
    ] {
        let got = verdict(machine, capabilities, call);
        assert_eq!(
            got,
            expected.bits(),
            "{machine:?} {capabilities:?} {call:?}"
        );
    }
}

#[test]
fn every_name_is_known_and_the_program_is_small() {
    for machine in [Architecture::X86_64, Architecture::Aarch64] {
        for capabilities in [CapabilitySet::EMPTY, CapabilitySet::all()] {
            let context = Context {
                architecture: machine,
                capabilities,
                kernel: KernelVersion { major: 6, minor: 6 },
            };
            let filter = Filter::compile(&default_profile(), &context).unwrap();
            let length = filter.program.instructions().len();
            assert!(length < 1000, "{machine:?}: {length}");
            for name in filter.unknown {
                let elsewhere = Architecture::ALL
                    .into_iter()
                    .any(|it| tables::system_call(it, &name).is_some());
                assert!(elsewhere, "{name} is nobody's");
            }
        }
    }
}
