//! What the Open Container Initiative and its neighbours say about a
//! container, and how that meets a launch plan.
//!
//! [`render()`] shows a plan as a document of the OCI runtime specification,
//! the language that people, hooks and other tools read. Nothing of it is
//! executed: the plan is what counts, and the document is made from it.
//! [`cdi`] reads what vendors say that a container needs with their devices,
//! from which the isolator of that name makes its part of a plan.
#![forbid(unsafe_code)]

pub mod cdi;
pub mod render;
pub mod runtime_spec;

pub use render::{Surroundings, render};
pub use runtime_spec::Spec;
