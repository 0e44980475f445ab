//! Whose rights a process has: ids, groups, capabilities.

use crate::fork::last_errno;
use crate::{Error, Result};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// The kernel's masks of the five sets of capabilities(7).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the sets of capabilities(7)")]
pub struct CapabilityMasks {
    pub bounding: u64,
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub ambient: u64,
}

/// Takes everything that is not in `bounding` from the bounding set. A number
/// the kernel does not know is passed over.
pub fn limit_bounding_set(bounding: u64) -> Result<()> {
    for number in 0..64_u32 {
        if bounding & (1 << number) != 0 {
            continue;
        }
        // SAFETY: PR_CAPBSET_READ and PR_CAPBSET_DROP take plain numbers,
        // prctl(2).
        match unsafe { libc::prctl(libc::PR_CAPBSET_READ, number, 0, 0, 0) } {
            0 => continue,
            1 => {}
            _ => break,
        }
        // SAFETY: as above.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) } != 0 {
            return Err(Error::new(
                format!("prctl(PR_CAPBSET_DROP, {number})"),
                last_errno(),
            ));
        }
    }
    Ok(())
}

/// Changes group, groups and user for good, keeping the permitted capabilities
/// for [`set_capabilities`].
pub fn change_ids(uid: u32, gid: u32, groups: &[u32]) -> Result<()> {
    rustix::thread::set_keep_capabilities(true)
        .map_err(|errno| Error::new("prctl(PR_SET_KEEPCAPS, 1)", errno))?;
    // The thread calls change this thread alone, which is why they suit a
    // process that has one.
    let gid_list: Vec<_> = groups
        .iter()
        .map(|group| rustix::process::Gid::from_raw(*group))
        .collect();
    rustix::thread::set_thread_groups(&gid_list)
        .map_err(|errno| Error::new(format!("setgroups({groups:?})"), errno))?;
    let raw_gid = rustix::process::Gid::from_raw(gid);
    rustix::thread::set_thread_res_gid(raw_gid, raw_gid, raw_gid)
        .map_err(|errno| Error::new(format!("setresgid({gid}, {gid}, {gid})"), errno))?;
    let raw_uid = rustix::process::Uid::from_raw(uid);
    rustix::thread::set_thread_res_uid(raw_uid, raw_uid, raw_uid)
        .map_err(|errno| Error::new(format!("setresuid({uid}, {uid}, {uid})"), errno))?;
    rustix::thread::set_keep_capabilities(false)
        .map_err(|errno| Error::new("prctl(PR_SET_KEEPCAPS, 0)", errno))
}

/// Sets effective, permitted, inheritable and ambient capabilities, in an order
/// in which each step is allowed. The bounding set is for
/// [`limit_bounding_set`], which needs CAP_SETPCAP and so comes before.
pub fn set_capabilities(masks: CapabilityMasks) -> Result<()> {
    rustix::thread::clear_ambient_capability_set()
        .map_err(|errno| Error::new("prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)", errno))?;
    limit_capabilities(masks)?;
    for number in (0..64_u32).filter(|number| masks.ambient & (1 << number) != 0) {
        // SAFETY: PR_CAP_AMBIENT_RAISE takes plain numbers, prctl(2).
        let result = unsafe {
            libc::prctl(
                libc::PR_CAP_AMBIENT,
                libc::PR_CAP_AMBIENT_RAISE,
                number,
                0,
                0,
            )
        };
        if result != 0 {
            return Err(Error::new(
                format!("prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, {number})"),
                last_errno(),
            ));
        }
    }
    Ok(())
}

/// Sets effective, permitted and inheritable capabilities, capset(2): for
/// giving up some after [`set_capabilities`], by one system call.
pub fn limit_capabilities(masks: CapabilityMasks) -> Result<()> {
    let set = CapabilitySet::from_bits_retain;
    let sets = CapabilitySets {
        effective: set(masks.effective),
        permitted: set(masks.permitted),
        inheritable: set(masks.inheritable),
    };
    rustix::thread::set_capabilities(None, sets)
        .map_err(|errno| Error::new(format!("capset({masks:?})"), errno))
}

/// The capabilities this process could give away: its own bounding set.
pub fn own_bounding_set() -> u64 {
    (0..64_u32)
        .filter(|number| {
            // SAFETY: PR_CAPBSET_READ takes a plain number, prctl(2).
            unsafe { libc::prctl(libc::PR_CAPBSET_READ, *number, 0, 0, 0) == 1 }
        })
        .fold(0, |mask, number| mask | (1 << number))
}

/// `PR_SET_NO_NEW_PRIVS`, for good.
pub fn set_no_new_privileges() -> Result<()> {
    rustix::thread::set_no_new_privs(true)
        .map_err(|errno| Error::new("prctl(PR_SET_NO_NEW_PRIVS, 1)", errno))
}
