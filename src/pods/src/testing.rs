//! A machine, an image store and a network that tests can see into and break.

mod events;
mod fakes;
mod life;
mod restart;
mod specs;
mod streams;
mod supervisor;

pub(crate) use fakes::{Bench, Fault};
pub(crate) use specs::{container_spec, id_mappings, plan, pod_spec};
