//! What is asked of the kernel: links, addresses, routes, queues, settings, and whose namespace.

pub(crate) mod address;
pub(crate) mod conntrack;
pub(crate) mod link;
pub(crate) mod namespace;
pub(crate) mod remove;
pub(crate) mod route;
pub(crate) mod sysctl;
pub(crate) mod traffic;
