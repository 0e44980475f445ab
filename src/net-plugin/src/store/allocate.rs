//! Giving out addresses, in host-local's order: round and round each set of ranges, so that an
//! address that was given back rests for as long as possible.

use super::{LAST_RESERVED, Locked, read, replace};
use crate::config::{Range, RangeSet};
use crate::error::{Code, Failure};
use crate::request::AttachmentId;
use crate::result::Given;
use insula_cni::{Cidr, from_number, number};
use std::net::IpAddr;
use std::path::PathBuf;

// === impl Locked ===

impl Locked<'_> {
    /// One address out of each set: the requested one where there is one, else the next that is
    /// free. On failure none is kept.
    pub(crate) fn allocate(
        &self,
        owner: &AttachmentId,
        sets: &[RangeSet],
        requested: &[IpAddr],
        exclude: &[Cidr],
    ) -> Result<Vec<Given>, Failure> {
        let mut given: Vec<Given> = Vec::new();
        let result = self.allocate_all(owner, sets, requested, exclude, &mut given);
        if result.is_err() {
            let addresses: Vec<_> = given.iter().map(|ip| ip.address.address).collect();
            self.give_back(&addresses, owner)?;
        }
        result.map(|()| given)
    }

    fn allocate_all(
        &self,
        owner: &AttachmentId,
        sets: &[RangeSet],
        requested: &[IpAddr],
        exclude: &[Cidr],
        given: &mut Vec<Given>,
    ) -> Result<(), Failure> {
        let mut wanted: Vec<IpAddr> = requested.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        for (at, set) in sets.iter().enumerate() {
            let of_set = |address: &IpAddr| set.range_of(*address).is_some();
            let (address, range) = match wanted.iter().position(of_set) {
                Some(position) => self.take_requested(owner, set, at, wanted.remove(position))?,
                None => self.take_next(owner, set, at, exclude)?,
            };
            given.push(Given {
                address: Cidr {
                    address,
                    prefix: range.subnet.prefix,
                },
                gateway: range.gateway,
            });
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let left: Vec<_> = wanted.iter().map(ToString::to_string).collect();
        Err(Failure::new(
            Code::NoAddress,
            format!("the requested address {} cannot be given", left.join(", ")),
            "it is in no range, or there are more than one for the same set of ranges",
        ))
    }

    fn take_requested<'r>(
        &self,
        owner: &AttachmentId,
        set: &'r RangeSet,
        number_of_set: usize,
        address: IpAddr,
    ) -> Result<(IpAddr, &'r Range), Failure> {
        let refused = |why: String| {
            Failure::new(
                Code::Taken,
                format!("the requested address {address} {why}"),
                "ask for another one, or for none",
            )
        };
        let Some(range) = set
            .range_of(address)
            .filter(|range| range.gateway != address)
        else {
            return Err(refused("is the gateway's".to_owned()));
        };
        if self.take(address, owner)? {
            self.remember(number_of_set, address)?;
            return Ok((address, range));
        }
        let has = self.store.owner_text(address)?.unwrap_or_default();
        Err(refused(format!(
            "is taken by {}",
            has.split_whitespace().next().unwrap_or("nobody")
        )))
    }

    fn last_file(&self, number_of_set: usize) -> PathBuf {
        let name = format!("{LAST_RESERVED}{number_of_set}");
        self.store.dir.join(name)
    }

    /// The next search begins behind it; that is no more than a good place to begin.
    fn remember(&self, number_of_set: usize, address: IpAddr) -> Result<(), Failure> {
        replace(
            &self.last_file(number_of_set),
            address.to_string().as_bytes(),
        )
    }

    fn take_next<'r>(
        &self,
        owner: &AttachmentId,
        set: &'r RangeSet,
        number_of_set: usize,
        exclude: &[Cidr],
    ) -> Result<(IpAddr, &'r Range), Failure> {
        let last = read(&self.last_file(number_of_set))?.and_then(|text| text.trim().parse().ok());
        for (address, range) in candidates(set, last) {
            if exclude.iter().any(|cidr| cidr.contains(address)) {
                continue;
            }
            if self.take(address, owner)? {
                self.remember(number_of_set, address)?;
                return Ok((address, range));
            }
        }
        Err(Failure::new(
            Code::NoAddress,
            format!("no address is free in {}", set.describe()),
            "remove pods, or configure a larger range",
        ))
    }
}

/// Every address of the set once, gateways left out, beginning behind `last`.
pub(super) fn candidates(
    set: &RangeSet,
    last: Option<IpAddr>,
) -> impl Iterator<Item = (IpAddr, &Range)> {
    let ranges = &set.0;
    let begin = last.and_then(|last| {
        let at = ranges.iter().position(|range| range.contains(last))?;
        Some((at, number(last)))
    });
    let (first, behind) = begin.unwrap_or((0, 0));
    // The rest of the range that was used last, the other ranges, and that range's beginning.
    let rest = begin.map(|_| (first, Part::Behind(behind)));
    let others = (1..ranges.len()).map(move |step| ((first + step) % ranges.len(), Part::All));
    let beginning = std::iter::once((
        first,
        match begin {
            Some(_) => Part::UpTo(behind),
            None => Part::All,
        },
    ));
    let parts: Box<dyn Iterator<Item = (usize, Part)>> = match begin {
        Some(_) => Box::new(rest.into_iter().chain(others).chain(beginning)),
        None => Box::new(beginning.chain(others)),
    };
    parts.flat_map(move |(at, part)| {
        let range = &ranges[at];
        let (start, end) = (number(range.start), number(range.end));
        let numbers = match part {
            Part::All => start..=end,
            Part::Behind(last) => last.saturating_add(1).max(start)..=end,
            Part::UpTo(last) => start..=last.min(end),
        };
        numbers
            .map(move |number| (from_number(range.start, number), range))
            .filter(|(address, range)| *address != range.gateway)
    })
}

/// Which addresses of a range.
#[derive(Debug, Clone, Copy)]
enum Part {
    All,
    Behind(u128),
    UpTo(u128),
}
