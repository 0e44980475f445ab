//! Descriptors: closing what is not ours, sealed memory, pipes.

use crate::fork::last_errno;
use crate::{Error, Result};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::fs::{MemfdFlags, SealFlags};
use std::io::{Read, Seek, SeekFrom, Write};

/// Closes every descriptor but those given, close_range(2). For a child just
/// after its fork: close-on-exec does nothing for one that waits, and an
/// inherited lock or pipe end outlives its owner.
///
/// Whatever else in the process still owns a closed descriptor must never run
/// again, which is why this is for forked children only.
pub fn close_all_except(keep: &[BorrowedFd<'_>]) -> Result<()> {
    close_all_but_numbers(
        keep.iter()
            .map(|fd| fd.as_raw_fd().unsigned_abs())
            .collect(),
    )
}

fn close_all_but_numbers(mut numbers: Vec<u32>) -> Result<()> {
    numbers.sort_unstable();
    numbers.dedup();
    let mut first = 0;
    for number in numbers {
        if number > first {
            close_range(first, number - 1)?;
        }
        first = number + 1;
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: close_range(2) takes plain numbers. Closing a descriptor that
    // some value still owns breaks I/O safety only if that value is used
    // again; the callers are a forked child that uses none but the kept ones,
    // and a program that has opened nothing yet.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, 0_u32) } {
        0 => Ok(()),
        _ => Err(Error::new(
            format!("close_range({first}, {last}, 0)"),
            last_errno(),
        )),
    }
}

/// Marks every descriptor above standard error close-on-exec, so that what this
/// process was born with does not reach the programs that it starts.
pub fn close_inherited_on_exec() -> Result<()> {
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: close_range(2) with CLOSE_RANGE_CLOEXEC takes plain numbers and
    // closes nothing.
    match unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, flags) } {
        0 => Ok(()),
        _ => Err(Error::new(
            "close_range(3, ~0, CLOSE_RANGE_CLOEXEC)",
            last_errno(),
        )),
    }
}

/// Takes ownership of descriptors the process was born with, marks them
/// close-on-exec, and closes whatever else above standard error came along. To
/// be called once, before anything is opened. Fails with `EBADF` where one is
/// not open.
pub fn take_inherited<const N: usize>(numbers: [i32; N]) -> Result<[OwnedFd; N]> {
    let mut keep: Vec<u32> = vec![0, 1, 2];
    keep.extend(numbers.iter().map(|number| number.unsigned_abs()));
    close_all_but_numbers(keep)?;
    for number in numbers {
        // SAFETY: F_SETFD takes a plain number and flags, fcntl(2).
        if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
            return Err(Error::new(
                format!("fcntl({number}, F_SETFD, FD_CLOEXEC)"),
                last_errno(),
            ));
        }
    }
    // SAFETY: each is open, as the call above showed, and nothing in this
    // process owns it: it was inherited at execve(2) and the caller takes it
    // once, before anything else is opened.
    Ok(numbers.map(|number| unsafe { OwnedFd::from_raw_fd(number) }))
}

/// A memfd with this content that nobody can change any more. Larger than a
/// socket message can be, so plans travel this way.
pub fn sealed_memfd(name: &str, content: &[u8]) -> Result<OwnedFd> {
    let fd = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(|errno| Error::new(format!("memfd_create({name:?})"), errno))?;
    let mut file = std::fs::File::from(fd);
    file.write_all(content).map_err(|error| {
        Error::from_io(format!("write(memfd:{name}, {})", content.len()), &error)
    })?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&file, seals)
        .map_err(|errno| Error::new(format!("fcntl(memfd:{name}, F_ADD_SEALS)"), errno))?;
    Ok(file.into())
}

/// Reads a sealed memfd from its start. Refuses one that is not sealed against
/// writing (`EPERM`), and one over `limit` bytes (`EFBIG`).
pub fn read_sealed(fd: OwnedFd, limit: u64) -> Result<Vec<u8>> {
    let seals = rustix::fs::fcntl_get_seals(&fd)
        .map_err(|errno| Error::new("fcntl(F_GET_SEALS)", errno))?;
    if !seals.contains(SealFlags::WRITE) {
        return Err(Error::new("fcntl(F_GET_SEALS)", rustix::io::Errno::PERM));
    }
    let mut file = std::fs::File::from(fd);
    let mut content = Vec::new();
    file.seek(SeekFrom::Start(0))
        .and_then(|_| (&mut file).take(limit + 1).read_to_end(&mut content))
        .map_err(|error| Error::from_io("read(memfd)", &error))?;
    if content.len() as u64 > limit {
        return Err(Error::new("read(memfd)", rustix::io::Errno::FBIG));
    }
    Ok(content)
}

/// A copy of a descriptor, close-on-exec.
pub fn duplicate(fd: impl AsFd) -> Result<OwnedFd> {
    let fd = fd.as_fd();
    rustix::io::fcntl_dupfd_cloexec(fd, 3)
        .map_err(|errno| Error::new(format!("fcntl({fd:?}, F_DUPFD_CLOEXEC, 3)"), errno))
}

/// A copy, close-on-exec, of a descriptor that is known by its number alone,
/// because a process that shares this one's table has opened it. Fails with
/// `EBADF` where nothing is open.
pub fn duplicate_number(number: i32) -> Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes plain numbers, fcntl(2).
    match unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) } {
        -1 => Err(Error::new(
            format!("fcntl({number}, F_DUPFD_CLOEXEC, 3)"),
            last_errno(),
        )),
        // SAFETY: the call made a new descriptor that nobody else owns.
        copy => Ok(unsafe { OwnedFd::from_raw_fd(copy) }),
    }
}

/// Moves descriptors to numbers from 0 upwards, as a program expects its
/// standard streams. The copies survive execve(2).
pub fn install_standard_streams(streams: [BorrowedFd<'_>; 3]) -> Result<()> {
    // Sources below 3 could be overwritten by the first copies.
    let copies = streams
        .into_iter()
        .map(duplicate)
        .collect::<Result<Vec<_>>>()?;
    let [stdin, stdout, stderr] = &copies[..] else {
        return Err(Error::new("dup2(0, 1, 2)", rustix::io::Errno::INVAL));
    };
    let failed = |errno| Error::new("dup2(stdio)", errno);
    rustix::stdio::dup2_stdin(stdin).map_err(failed)?;
    rustix::stdio::dup2_stdout(stdout).map_err(failed)?;
    rustix::stdio::dup2_stderr(stderr).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::{read_sealed, sealed_memfd};
    use rustix::fs::MemfdFlags;

    #[test]
    fn sealed_memory_is_read_back_and_cannot_be_written() {
        let fd = sealed_memfd("test", b"content").unwrap();
        assert!(rustix::io::write(&fd, b"x").is_err());
        assert_eq!(read_sealed(fd, 7).unwrap(), b"content");
    }

    #[test]
    fn unsealed_and_oversized_memory_is_refused() {
        let open = rustix::fs::memfd_create("open", MemfdFlags::ALLOW_SEALING).unwrap();
        assert_eq!(
            read_sealed(open, 10).unwrap_err().errno(),
            rustix::io::Errno::PERM
        );
        let large = sealed_memfd("large", &[0; 11]).unwrap();
        assert_eq!(
            read_sealed(large, 10).unwrap_err().errno(),
            rustix::io::Errno::FBIG
        );
    }
}
