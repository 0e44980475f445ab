//! The program that guards a container's devices with cgroup version 2.
//!
//! Version 2 has no files for device access: a BPF program of type
//! `BPF_PROG_TYPE_CGROUP_DEVICE`, attached to the cgroup, is asked for every
//! open and mknod of a device (bpf(2), admin-guide/cgroup-v2.rst, "Device
//! controller").

mod program;
#[cfg(test)]
mod tests;

pub use program::{DeviceKind, DeviceRule, Instruction, device_program};

use crate::{Error, Result};
use rustix::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use rustix::io::Errno;

// linux/bpf.h.
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_DETACH: libc::c_long = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// Most programs that one cgroup can have, `BPF_CGROUP_MAX_PROGS`.
const MAX_PROGRAMS: usize = 64;

/// `union bpf_attr` of `BPF_PROG_LOAD`, as far as it is used. Size and name of
/// the rest are zero.
#[repr(C)]
struct LoadAttributes {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// `union bpf_attr` of `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
#[repr(C)]
struct AttachAttributes {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// `union bpf_attr` of `BPF_PROG_QUERY`, as far as it is used.
#[repr(C)]
struct QueryAttributes {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

/// `union bpf_attr` of `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
struct IdAttributes {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Loads a device program and makes it the only one of a cgroup (version 2, or
/// the unified hierarchy of a hybrid host). The kernel asks those of the
/// cgroups above, too.
///
/// The new one is attached before those that were there are detached, so there
/// is no moment without a program.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: &[Instruction]) -> Result<()> {
    let old = attached(cgroup)?;
    let loaded = load(program)?;
    let attributes = AttachAttributes {
        target_fd: number(cgroup),
        attach_bpf_fd: number(rustix::fd::AsFd::as_fd(&loaded)),
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
    };
    let call = format!(
        "bpf(BPF_PROG_ATTACH, {{cgroup {}, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI}})",
        attributes.target_fd
    );
    // SAFETY: the attributes hold descriptors that outlive the call, no
    // pointers.
    unsafe { bpf(BPF_PROG_ATTACH, &attributes) }.map_err(|errno| Error::new(call, errno))?;
    for id in old {
        detach(cgroup, id)?;
    }
    Ok(())
}

/// Ids of the device programs of this very cgroup.
fn attached(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>> {
    let mut ids = [0u32; MAX_PROGRAMS];
    let mut attributes = QueryAttributes {
        target_fd: number(cgroup),
        attach_type: BPF_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: 64,
        padding: 0,
    };
    let call = format!(
        "bpf(BPF_PROG_QUERY, {{cgroup {}, BPF_CGROUP_DEVICE}})",
        number(cgroup)
    );
    // SAFETY: `prog_ids` points to `prog_cnt` numbers of `ids`, which outlives
    // the call; the kernel writes at most that many, and the count itself into
    // `attributes`, which is borrowed mutably for the call.
    unsafe { bpf_mut(BPF_PROG_QUERY, &mut attributes) }.map_err(|errno| Error::new(call, errno))?;
    let count = (attributes.prog_cnt as usize).min(MAX_PROGRAMS);
    Ok(ids[..count].to_vec())
}

fn load(program: &[Instruction]) -> Result<OwnedFd> {
    let failed = |errno| {
        let count = program.len();
        Error::new(
            format!("bpf(BPF_PROG_LOAD, {{BPF_PROG_TYPE_CGROUP_DEVICE, {count} instructions}})"),
            errno,
        )
    };
    let attributes = LoadAttributes {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).map_err(|_| failed(Errno::TOOBIG))?,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
    };
    // SAFETY: `insns` points to `insn_cnt` instructions of `program` in the
    // kernel's layout, `license` to a string with NUL; both outlive the call,
    // which only reads them.
    let fd = unsafe { bpf(BPF_PROG_LOAD, &attributes) }.map_err(failed)?;
    // SAFETY: a successful BPF_PROG_LOAD gives a new descriptor that nobody
    // else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn detach(cgroup: BorrowedFd<'_>, id: u32) -> Result<()> {
    let by_id = IdAttributes {
        prog_id: id,
        next_id: 0,
        open_flags: 0,
    };
    // SAFETY: the attributes hold no pointers.
    let fd = match unsafe { bpf(BPF_PROG_GET_FD_BY_ID, &by_id) } {
        Ok(fd) => fd,
        // It went by itself.
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => {
            return Err(Error::new(
                format!("bpf(BPF_PROG_GET_FD_BY_ID, {{{id}}})"),
                errno,
            ));
        }
    };
    // SAFETY: a successful BPF_PROG_GET_FD_BY_ID gives a new descriptor that
    // nobody else owns.
    let program = unsafe { OwnedFd::from_raw_fd(fd) };
    let attributes = AttachAttributes {
        target_fd: number(cgroup),
        attach_bpf_fd: number(rustix::fd::AsFd::as_fd(&program)),
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: 0,
    };
    // SAFETY: the attributes hold descriptors that outlive the call, no
    // pointers.
    match unsafe { bpf(BPF_PROG_DETACH, &attributes) } {
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => {
            let call = format!(
                "bpf(BPF_PROG_DETACH, {{cgroup {}, program {id}}})",
                number(cgroup)
            );
            Err(Error::new(call, errno))
        }
    }
}

/// The kernel's `__u32 target_fd`. A valid descriptor is never negative.
fn number(fd: BorrowedFd<'_>) -> u32 {
    u32::try_from(fd.as_raw_fd()).unwrap_or(u32::MAX)
}

/// bpf(2) with attributes that the kernel only reads.
///
/// # Safety
/// `T` must be laid out as the part of `union bpf_attr` that belongs to the
/// command, and every pointer in it must be valid for what the command does.
unsafe fn bpf<T>(command: libc::c_long, attributes: &T) -> rustix::io::Result<i32> {
    // SAFETY: the contract is the caller's; the size is that of what is
    // pointed to.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    i32::try_from(result)
        .ok()
        .filter(|fd| *fd >= 0)
        .ok_or_else(last_error)
}

/// bpf(2) with attributes that the kernel writes into.
///
/// # Safety
/// As [`bpf`].
unsafe fn bpf_mut<T>(command: libc::c_long, attributes: &mut T) -> rustix::io::Result<i32> {
    // SAFETY: the contract is the caller's; the size is that of what is
    // pointed to, and the borrow is exclusive for the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    i32::try_from(result)
        .ok()
        .filter(|fd| *fd >= 0)
        .ok_or_else(last_error)
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
