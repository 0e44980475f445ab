//! Whose system calls a filter judges.

use std::fmt;

/// Set in the number of every x32 system call, asm/unistd.h of x86.
pub const X32_BIT: u32 = 0x4000_0000;

/// First number of the system calls private to 32-bit ARM, `__ARM_NR_BASE`.
pub const ARM_PRIVATE: u32 = 0x000f_0000;

/// A set of system calls that a kernel offers: its own, and those of the
/// smaller machines it can run the programs of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "names of architectures")]
pub enum Architecture {
    X86_64,
    /// 32-bit x86.
    X86,
    /// 32-bit pointers on x86_64. To the kernel it is x86_64 with
    /// [`X32_BIT`] in the numbers.
    X32,
    Aarch64,
    /// 32-bit ARM, EABI.
    Arm,
}

/// What a profile can name: an architecture of ours, or one of another family
/// of machines, which no kernel here has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedArchitecture {
    /// One that this crate compiles for.
    Known(Architecture),
    /// One of other machines.
    Foreign,
}

/// No such architecture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown architecture {0:?}: a name such as SCMP_ARCH_X86_64 is wanted")]
pub struct UnknownArchitecture(pub String);

/// Architectures of the OCI runtime specification (config-linux.md, "Seccomp")
/// that belong to other machines.
const FOREIGN: &[&str] = &[
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
];

// === impl Architecture ===

impl Architecture {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::X86_64, Self::X86, Self::X32, Self::Aarch64, Self::Arm];

    /// That of the machine this was built for; `None` where profiles cannot be
    /// compiled.
    pub const fn native() -> Option<Self> {
        if cfg!(target_arch = "x86_64") {
            Some(Self::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Self::Aarch64)
        } else {
            None
        }
    }

    /// `AUDIT_ARCH_*` of linux/audit.h, which is what a filter sees.
    pub const fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// Whether arguments are compared in full. Of the others only the lower
    /// half counts, as in libseccomp.
    pub const fn is_64_bit(self) -> bool {
        matches!(self, Self::X86_64 | Self::Aarch64)
    }

    /// How `includes` and `excludes` of Docker's profiles name it.
    pub const fn docker_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::X86 => "x86",
            Self::X32 => "x32",
            Self::Aarch64 => "arm64",
            Self::Arm => "arm",
        }
    }

    /// How the OCI runtime specification names it.
    pub const fn oci_name(self) -> &'static str {
        match self {
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::X86 => "SCMP_ARCH_X86",
            Self::X32 => "SCMP_ARCH_X32",
            Self::Aarch64 => "SCMP_ARCH_AARCH64",
            Self::Arm => "SCMP_ARCH_ARM",
        }
    }

    /// Those whose programs a kernel of this one can run, itself first.
    pub const fn with_smaller(self) -> &'static [Self] {
        match self {
            Self::X86_64 => &[Self::X86_64, Self::X86, Self::X32],
            Self::X86 => &[Self::X86],
            Self::X32 => &[Self::X32],
            Self::Aarch64 => &[Self::Aarch64, Self::Arm],
            Self::Arm => &[Self::Arm],
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.oci_name())
    }
}

// === impl NamedArchitecture ===

impl TryFrom<String> for NamedArchitecture {
    type Error = UnknownArchitecture;

    fn try_from(name: String) -> Result<Self, UnknownArchitecture> {
        let known = Architecture::ALL
            .into_iter()
            .find(|architecture| architecture.oci_name() == name);
        match known {
            Some(architecture) => Ok(Self::Known(architecture)),
            None if FOREIGN.contains(&name.as_str()) => Ok(Self::Foreign),
            None => Err(UnknownArchitecture(name)),
        }
    }
}
