//! What both sides of CNI (<https://www.cni.dev/docs/spec/>) write alike: the versions of the
//! specification, and address ranges.
//!
//! The runtime (`insula-network`) and the plugin (`insula-net`) share no more than these words:
//! each must get on with any other plugin and any other runtime. Pure: nothing here touches a file
//! or the kernel.
#![forbid(unsafe_code)]

mod cidr;
mod version;

pub use self::cidr::{Cidr, bits, from_number, from_octets, number, octets};
pub use self::version::CniVersion;
