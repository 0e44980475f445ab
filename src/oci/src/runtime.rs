//! External OCI runtimes: programs with the command line that runc has
//! (runtime.md of the OCI runtime specification), such as crun, youki and runsc.
//!
//! [`features`] reads what one says of itself, [`mod@probe`] asks it.

pub mod features;
pub mod probe;

pub use features::{Features, FeaturesError};
pub use probe::{Containers, Facts, ProbeError, probe};
