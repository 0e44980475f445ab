//! The benchmark client: what a runtime behind any CRI socket costs, measured from its client.
//!
//! A *row* is one figure (see [`rows`]) and has a budget. A *group* measures a few rows in one go:
//! pods ([`pods`]), execs ([`execs`]), many pods at a time ([`fleet`]), logs ([`logs`]) and pulls
//! ([`pull`]). Each measurement is a line of JSON ([`figure`]); lines of several runs and runtimes
//! become one table ([`table`]). [`counts`] counts system calls, processes and mounts instead of
//! time, so its figures are the same on every machine and can gate.
//!
//! Everything goes through the CRI but what it cannot tell: memory and mounts come from /proc,
//! log bytes from the log files, system calls from strace(1).

pub mod client;
pub mod counts;
pub mod error;
pub mod execs;
pub mod figure;
pub mod fleet;
pub mod logs;
pub mod pods;
pub mod processes;
pub mod pull;
pub mod rows;
pub mod run;
pub mod table;
pub mod trace;
