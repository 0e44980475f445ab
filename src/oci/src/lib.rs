//! What the Open Container Initiative and its neighbours say about a
//! container, and how that meets a launch plan.
//!
//! [`render()`] shows a plan as a document of the OCI runtime specification,
//! the language that people, hooks and other tools read. The plan is what
//! counts, and the document is made from it; [`bundle`] makes the one that an
//! external runtime executes.
//! [`cdi`] reads what vendors say that a container needs with their devices,
//! from which the isolator of that name makes its part of a plan. [`runtime`]
//! is about external runtimes, programs that execute such documents.
#![forbid(unsafe_code)]

pub mod bundle;
pub mod cdi;
pub mod render;
pub mod runtime;
pub mod runtime_spec;

pub use render::{Surroundings, render};
pub use runtime_spec::Spec;
