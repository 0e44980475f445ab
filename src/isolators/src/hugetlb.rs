//! Huge pages.

use crate::change::Change;
use crate::isolator::{ApplyError, HostFacts, Isolator, Refusal};
use crate::spec::Resources;
use insula_sys::cgroup::Version;
use insula_wire::plan::CgroupResources;

/// `hugetlb.<size>.max` of version 2, `hugetlb.<size>.limit_in_bytes` of
/// version 1, and the limit of reservations beside it where the kernel has one.
///
/// Kubelet sends a limit of 0 for every page size, always. A host without the
/// controller, or without pages of a size, is therefore tolerated as long as
/// the limit is 0: refusing would mean that nothing ever runs, and pages that
/// do not exist need no limit.
#[derive(Debug)]
pub(crate) struct Hugetlb;

impl Isolator for Hugetlb {
    fn name(&self) -> &'static str {
        "hugetlb"
    }

    fn limits(&self, wanted: &Resources, _host: &HostFacts) -> Result<CgroupResources, Refusal> {
        let mut values = CgroupResources::default();
        for (size, limit) in &wanted.hugepage_limits {
            if !is_page_size(size) {
                return Err(Refusal::new(format!(
                    "huge page size {size:?} is not of a form such as \"2MB\" or \"1GB\""
                )));
            }
            if values
                .hugepage_limits
                .insert(size.clone(), *limit)
                .is_some()
            {
                return Err(Refusal::new(format!(
                    "huge page size {size:?} is given twice"
                )));
            }
        }
        Ok(values)
    }

    fn isolate(&self, change: &mut Change<'_>, want: &CgroupResources) -> Result<(), ApplyError> {
        let Some(version) = change.cgroup().controller("hugetlb") else {
            return match want.hugepage_limits.iter().find(|(_, limit)| **limit > 0) {
                None => Ok(()),
                Some((size, limit)) => Err(Refusal::new(format!(
                    "a limit of {limit} bytes in pages of {size} cannot be kept: this host has no hugetlb controller"
                ))
                .into()),
            };
        };
        let last = match version {
            Version::V1 => "limit_in_bytes",
            Version::V2 => "max",
        };
        for (size, limit) in &want.hugepage_limits {
            let (value, file) = (limit.to_string(), format!("hugetlb.{size}.{last}"));
            if *limit == 0 && !change.cgroup().has_file("hugetlb", &file) {
                continue;
            }
            change.write("hugetlb", &file, &value)?;
            let reservations = format!("hugetlb.{size}.rsvd.{last}");
            if change.cgroup().has_file("hugetlb", &reservations) {
                change.write("hugetlb", &reservations, &value)?;
            }
        }
        Ok(())
    }
}

fn is_page_size(text: &str) -> bool {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_uppercase());
    let unit = &text[digits.len()..];
    !digits.is_empty()
        && digits.len() <= 4
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && matches!(unit, "KB" | "MB" | "GB")
}
