//! A system call filter as a plan carries it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::Arc;

/// Size of one instruction, `struct sock_filter` (linux/filter.h).
const INSTRUCTION: usize = 8;

/// Most instructions of a program, `BPF_MAXINSNS` (linux/bpf_common.h).
const MAX_INSTRUCTIONS: usize = 4096;

/// A filter that a process loads just before it executes, seccomp(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeccompFilter {
    /// What is asked for every system call.
    pub program: FilterProgram,
    /// `SECCOMP_FILTER_FLAG_LOG`: what is not allowed is logged, as far as
    /// `/proc/sys/kernel/seccomp/actions_logged` lets it.
    pub log: bool,
    /// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`: leaves the mitigation of speculative
    /// store bypass as it is, which else costs programs up to a third.
    pub spec_allow: bool,
    /// Who decides on the calls that the program hands over.
    pub listener: Option<SeccompListener>,
}

/// A program of the node's that is asked about system calls
/// (seccomp_unotify(2)): it is handed the filter's descriptor with the
/// container's process state (OCI runtime-spec, config-linux.md, "Seccomp").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeccompListener {
    /// Absolute path of its unix socket on the node.
    pub path: String,
    /// Handed to it as it is.
    pub metadata: String,
    /// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`: once it has taken a call, only
    /// a signal that kills ends the wait for its answer.
    pub wait_killable: bool,
}

/// A classic BPF program: `struct sock_filter` after `struct sock_filter`, in
/// the byte order of the machine. In JSON it is base64. Containers with the
/// same profile share it.
#[derive(Clone, PartialEq, Eq)]
pub struct FilterProgram(Arc<[u8]>);

/// The bytes are no program that a kernel would take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a filter program of {0} bytes is not 1 to {MAX_INSTRUCTIONS} instructions of {INSTRUCTION} bytes"
)]
pub struct ProgramSizeError(usize);

// === impl FilterProgram ===

impl FilterProgram {
    /// Takes a program's bytes.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Result<Self, ProgramSizeError> {
        let bytes = bytes.into();
        let fits = bytes.len() <= MAX_INSTRUCTIONS * INSTRUCTION;
        if bytes.is_empty() || !bytes.len().is_multiple_of(INSTRUCTION) || !fits {
            return Err(ProgramSizeError(bytes.len()));
        }
        Ok(Self(bytes))
    }

    /// The program's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// How many instructions it has.
    pub fn instructions(&self) -> usize {
        self.0.len() / INSTRUCTION
    }
}

impl std::fmt::Debug for FilterProgram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FilterProgram({} instructions)", self.instructions())
    }
}

impl Serialize for FilterProgram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for FilterProgram {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
        Self::new(bytes).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{FilterProgram, SeccompFilter};

    #[test]
    fn only_whole_instructions_up_to_the_kernels_limit_are_a_program() {
        for (length, taken) in [
            (0, false),
            (7, false),
            (8, true),
            (12, false),
            (4096 * 8, true),
            (4097 * 8, false),
        ] {
            assert_eq!(
                FilterProgram::new(vec![0; length]).is_ok(),
                taken,
                "{length}"
            );
        }
    }

    #[test]
    fn a_filter_survives_json() {
        let filter = SeccompFilter {
            program: FilterProgram::new(vec![6, 0, 0, 0, 0, 0, 255, 127]).unwrap(),
            log: true,
            spec_allow: false,
            listener: None,
        };
        let json = serde_json::to_string(&filter).unwrap();
        assert_eq!(
            json,
            r#"{"program":"BgAAAAAA/38=","log":true,"spec_allow":false,"listener":null}"#
        );
        assert_eq!(
            serde_json::from_str::<SeccompFilter>(&json).unwrap(),
            filter
        );
        assert!(serde_json::from_str::<FilterProgram>(r#""BgAAAA==""#).is_err());
    }
}
