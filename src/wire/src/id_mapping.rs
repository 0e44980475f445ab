//! Which ids of the host stand for the ids of a user namespace.

use serde::{Deserialize, Serialize};

/// A user namespace's ids as the host counts them, user_namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdMappings {
    /// User ids.
    pub uids: IdRange,
    /// Group ids.
    pub gids: IdRange,
}

/// One range of ids: those from 0 on inside stand for as many from another
/// number on outside. KEP-127 has one range for users and one for groups, and
/// root is always in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Plain", into = "Plain")]
pub struct IdRange {
    first: u32,
    length: u32,
}

/// What is wrong with a range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdRange {
    /// It begins after 0, or is empty.
    #[error("does not map id 0 of the container")]
    WithoutRoot,
    /// Id 0 of the host is in it: nothing would be gained.
    #[error("maps id 0 of the container to root of the node")]
    HostRoot,
    /// It goes beyond what an id can be; `(uid_t) -1` is none.
    #[error("maps {length} ids from {first} on, beyond the last id {}", u32::MAX - 1)]
    TooLong {
        /// The first id outside.
        first: u32,
        /// How many.
        length: u32,
    },
}

/// The same without its promises.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    first: u32,
    length: u32,
}

// === impl IdRange ===

impl IdRange {
    /// A range of `length` ids from `inside` on in the namespace, which are
    /// those from `outside` on on the host.
    ///
    /// # Errors
    /// Refuses a range without root, one that holds the host's root, and one
    /// beyond the last id.
    pub fn new(inside: u32, outside: u32, length: u32) -> Result<Self, InvalidIdRange> {
        if inside != 0 || length == 0 {
            return Err(InvalidIdRange::WithoutRoot);
        }
        if outside == 0 {
            return Err(InvalidIdRange::HostRoot);
        }
        // The sum is one more than the last id, and that is at most MAX - 1.
        if outside.checked_add(length).is_none() {
            return Err(InvalidIdRange::TooLong {
                first: outside,
                length,
            });
        }
        Ok(Self {
            first: outside,
            length,
        })
    }

    /// The host's id for id 0 inside.
    pub fn first(self) -> u32 {
        self.first
    }

    /// How many ids there are.
    pub fn length(self) -> u32 {
        self.length
    }

    /// The host's id for one inside; `None` where there is none.
    pub fn to_host(self, inside: u32) -> Option<u32> {
        (inside < self.length).then(|| self.first + inside)
    }

    /// The line of `/proc/PID/uid_map` or `gid_map`, user_namespaces(7).
    pub fn line(self) -> String {
        format!("0 {} {}\n", self.first, self.length)
    }
}

impl TryFrom<Plain> for IdRange {
    type Error = InvalidIdRange;

    fn try_from(plain: Plain) -> Result<Self, Self::Error> {
        Self::new(0, plain.first, plain.length)
    }
}

impl From<IdRange> for Plain {
    fn from(range: IdRange) -> Self {
        Self {
            first: range.first,
            length: range.length,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{IdRange, InvalidIdRange};
    use proptest::prelude::{any, proptest};

    #[test]
    fn ranges_hold_root_and_only_ids() {
        let last = u32::MAX - 1;
        let too_long = |first, length| Err(InvalidIdRange::TooLong { first, length });
        for (inside, outside, length, want) in [
            (0, 100_000, 65_536, Ok(())),
            (0, 1, last, Ok(())),
            (0, last, 1, Ok(())),
            (1, 100_000, 65_536, Err(InvalidIdRange::WithoutRoot)),
            (0, 100_000, 0, Err(InvalidIdRange::WithoutRoot)),
            (0, 0, 1, Err(InvalidIdRange::HostRoot)),
            (0, last, 2, too_long(last, 2)),
            (0, u32::MAX, 1, too_long(u32::MAX, 1)),
            (0, 2, u32::MAX, too_long(2, u32::MAX)),
        ] {
            let got = IdRange::new(inside, outside, length);
            assert_eq!(got.map(|_| ()), want, "{inside} {outside} {length}");
        }
    }

    #[test]
    fn json_is_checked_too() {
        let read = serde_json::from_str::<IdRange>;
        assert_eq!(
            read(r#"{"first":5,"length":2}"#).unwrap(),
            IdRange::new(0, 5, 2).unwrap()
        );
        assert!(read(r#"{"first":0,"length":2}"#).is_err());
    }

    proptest! {
        #[test]
        fn what_is_mapped_is_in_the_range(outside in any::<u32>(), length in any::<u32>(), id in any::<u32>()) {
            let Ok(range) = IdRange::new(0, outside, length) else {
                return Ok(());
            };
            match range.to_host(id) {
                Some(host) => assert!(id < length && host - outside == id && host != u32::MAX && host != 0),
                None => assert!(id >= length),
            }
        }
    }
}
