//! Numbers of system calls and errors, by name.

mod aarch64;
mod arm;
mod errors;
mod x32;
mod x86;
mod x86_64;

use crate::architecture::Architecture;

/// The number of a system call; `None` where the architecture has none of that
/// name.
pub fn system_call(architecture: Architecture, name: &str) -> Option<u32> {
    look_up(table(architecture), name)
}

/// All system calls of an architecture, sorted by name.
pub fn system_calls(architecture: Architecture) -> impl Iterator<Item = (&'static str, u32)> {
    table(architecture).iter().copied()
}

/// The name of a system call, for people.
pub fn name(architecture: Architecture, number: u32) -> Option<&'static str> {
    system_calls(architecture)
        .find(|(_, known)| *known == number)
        .map(|(name, _)| name)
}

/// The number of an error such as `EPERM`, errno(3).
pub fn error(name: &str) -> Option<u32> {
    look_up(errors::TABLE, name)
}

fn table(architecture: Architecture) -> &'static [(&'static str, u32)] {
    match architecture {
        Architecture::X86_64 => x86_64::TABLE,
        Architecture::X86 => x86::TABLE,
        Architecture::X32 => x32::TABLE,
        Architecture::Aarch64 => aarch64::TABLE,
        Architecture::Arm => arm::TABLE,
    }
}

fn look_up(table: &[(&'static str, u32)], name: &str) -> Option<u32> {
    table
        .binary_search_by(|(known, _)| (*known).cmp(name))
        .ok()
        .map(|index| table[index].1)
}

#[cfg(test)]
mod tests {
    use super::{error, name, system_call, system_calls};
    use crate::architecture::Architecture;

    #[test]
    fn tables_are_sorted_and_every_name_is_found() {
        for architecture in Architecture::ALL {
            let names: Vec<_> = system_calls(architecture).map(|(name, _)| name).collect();
            assert!(names.is_sorted(), "{architecture:?}");
            assert!(names.len() > 300, "{architecture:?}");
            for (name, number) in system_calls(architecture) {
                assert_eq!(system_call(architecture, name), Some(number));
            }
        }
    }

    #[test]
    fn numbers_are_the_kernels() {
        use Architecture::{Aarch64, Arm, X32, X86, X86_64};
        for (architecture, call, number) in [
            (X86_64, "read", Some(0)),
            (X86_64, "execve", Some(59)),
            (X86_64, "socketcall", None),
            (X86_64, "mseal", Some(462)),
            (X86, "socketcall", Some(102)),
            (X86, "clone3", Some(435)),
            (X32, "read", Some(0x4000_0000)),
            (X32, "execve", Some(0x4000_0208)),
            (Aarch64, "open", None),
            (Aarch64, "openat", Some(56)),
            (Arm, "cacheflush", Some(0x000f_0002)),
            (Arm, "arm_sync_file_range", Some(341)),
        ] {
            assert_eq!(
                system_call(architecture, call),
                number,
                "{architecture:?} {call}"
            );
        }
        assert_eq!(name(X86_64, 59), Some("execve"));
        assert_eq!(
            (error("EPERM"), error("ENOSYS"), error("EMAGIC")),
            (Some(1), Some(38), None)
        );
    }
}
