//! Tables over whole plans, and what the isolators' own tables share.

mod accounts;
mod apply;
mod files;
mod limits;
mod merging;
mod rights;
mod views;

pub(crate) use views::{Fixture, host, plan_of, refusal_of};
