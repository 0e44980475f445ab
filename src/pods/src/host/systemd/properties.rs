//! What limits are as properties of a unit. Pure.
//!
//! systemd writes the files of the controllers it knows, and writes them again
//! when it is reloaded or a property changes. A limit that it is not told of is
//! then lost, so all of those are told (systemd.resource-control(5) and
//! org.freedesktop.systemd1(5)), as runc and crun do.

use insula_isolators::cpu_weight;
use insula_wire::plan::CgroupResources;

/// "No limit" in properties of type `t`.
pub(super) const INFINITY: u64 = u64::MAX;

/// The kernel's default CFS period, microseconds.
const DEFAULT_PERIOD: u64 = 100_000;

/// One property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Property {
    pub(super) name: &'static str,
    pub(super) value: Value,
}

/// A value, by its D-Bus type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// `b`
    Bool(bool),
    /// `t`
    Number(u64),
    /// `s`
    Text(String),
    /// `ay`
    Bytes(Vec<u8>),
    /// `au`
    Pids(Vec<u32>),
}

/// What `cpu.max` says: quota (`None` is unlimited) and period, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CpuMax {
    pub(super) quota: Option<u64>,
    pub(super) period: u64,
}

// === impl Property ===

impl Property {
    pub(super) fn number(name: &'static str, value: u64) -> Self {
        Self {
            name,
            value: Value::Number(value),
        }
    }

    pub(super) fn bool(name: &'static str, value: bool) -> Self {
        Self {
            name,
            value: Value::Bool(value),
        }
    }

    pub(super) fn text(name: &'static str, value: impl Into<String>) -> Self {
        Self {
            name,
            value: Value::Text(value.into()),
        }
    }
}

// === impl CpuMax ===

impl Default for CpuMax {
    fn default() -> Self {
        Self {
            quota: None,
            period: DEFAULT_PERIOD,
        }
    }
}

impl CpuMax {
    /// Reads `cpu.max`: `max 100000`. A part that is missing is as in `self`,
    /// as it is when the file is written.
    pub(super) fn read(self, text: &str) -> Self {
        let mut words = text.split_whitespace();
        let quota = match words.next() {
            Some("max") => None,
            Some(number) => number.parse().ok().or(self.quota),
            None => self.quota,
        };
        let period = words.next().and_then(|word| word.parse().ok());
        Self {
            quota,
            period: period.unwrap_or(self.period),
        }
    }

    fn with(self, want: &CgroupResources) -> Self {
        Self {
            quota: match want.cpu_quota {
                None => self.quota,
                Some(quota) => u64::try_from(quota).ok(),
            },
            period: want.cpu_period.unwrap_or(self.period),
        }
    }

    /// systemd counts in whole percent of a processor, so the quota is rounded
    /// up to 10 ms for each second; the exact value is written to the file
    /// afterwards.
    fn per_second(self) -> u64 {
        let Some(quota) = self.quota else {
            return INFINITY;
        };
        let exact = u128::from(quota) * 1_000_000 / u128::from(self.period.max(1));
        let rounded = exact.div_ceil(10_000) * 10_000;
        u64::try_from(rounded).unwrap_or(INFINITY)
    }
}

/// The properties for what is set in `want`, `unified` included, which wins.
/// `now` is the processor limit in force, since a quota and its period are set
/// together.
pub(super) fn of_limits(want: &CgroupResources, now: CpuMax) -> Vec<Property> {
    let mut found = Properties::default();
    if let Some(shares) = want.cpu_shares {
        found.number("CPUWeight", cpu_weight(shares));
    }
    let mut cpu = (want.cpu_quota.is_some() || want.cpu_period.is_some()).then(|| now.with(want));
    if let Some(limit) = want.memory_limit {
        found.number("MemoryMax", bytes(limit));
    }
    if let Some(total) = want.memory_swap_limit {
        let swap = match want.memory_limit {
            Some(limit) if limit >= 0 && total >= 0 => (total - limit).max(0),
            _ => total,
        };
        found.number("MemorySwapMax", bytes(swap));
    }
    if let Some(limit) = want.pids_limit {
        found.number("TasksMax", bytes(limit));
    }
    for (name, list) in [
        ("AllowedCPUs", &want.cpuset_cpus),
        ("AllowedMemoryNodes", &want.cpuset_mems),
    ] {
        if let Some(mask) = list.as_deref().and_then(mask) {
            found.set(name, Value::Bytes(mask));
        }
    }
    for (file, value) in &want.unified {
        match file.as_str() {
            "cpu.max" => cpu = Some(cpu.unwrap_or(now).read(value)),
            "cpu.weight" => found.parsed("CPUWeight", value),
            "memory.min" => found.parsed("MemoryMin", value),
            "memory.low" => found.parsed("MemoryLow", value),
            "memory.high" => found.parsed("MemoryHigh", value),
            "memory.max" => found.parsed("MemoryMax", value),
            "memory.swap.max" => found.parsed("MemorySwapMax", value),
            "pids.max" => found.parsed("TasksMax", value),
            "cpuset.cpus" => found.list("AllowedCPUs", value),
            "cpuset.mems" => found.list("AllowedMemoryNodes", value),
            // The file alone: systemd does not know it, or has no such value.
            _ => {}
        }
    }
    if let Some(cpu) = cpu {
        found.number("CPUQuotaPerSecUSec", cpu.per_second());
        found.number("CPUQuotaPeriodUSec", cpu.period);
    }
    found.0
}

/// Each name once.
#[derive(Default)]
struct Properties(Vec<Property>);

impl Properties {
    fn set(&mut self, name: &'static str, value: Value) {
        self.0.retain(|known| known.name != name);
        self.0.push(Property { name, value });
    }

    fn number(&mut self, name: &'static str, value: u64) {
        self.set(name, Value::Number(value));
    }

    /// A number or `max`; of what is neither, only the kernel can judge.
    fn parsed(&mut self, name: &'static str, text: &str) {
        let number = match text.trim() {
            "max" => Some(INFINITY),
            number => number.parse().ok(),
        };
        if let Some(number) = number {
            self.number(name, number);
        }
    }

    fn list(&mut self, name: &'static str, text: &str) {
        if let Some(mask) = mask(text) {
            self.set(name, Value::Bytes(mask));
        }
    }
}

fn bytes(limit: i64) -> u64 {
    u64::try_from(limit).unwrap_or(INFINITY)
}

/// A list such as `0-3,7` as a mask, bit 0 of byte 0 first. `None` where it is
/// no list, or has numbers that no machine has.
fn mask(list: &str) -> Option<Vec<u8>> {
    /// `CONFIG_NR_CPUS` of the largest kernels.
    const MOST: usize = 8192;
    let mut mask = Vec::new();
    for part in list
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        if mask.len() <= last / 8 {
            mask.resize(last / 8 + 1, 0);
        }
        for number in first..=last {
            mask[number / 8] |= 1 << (number % 8);
        }
    }
    (!mask.is_empty()).then_some(mask)
}

#[cfg(test)]
mod tests {
    use super::{CpuMax, INFINITY, Property, Value, mask, of_limits};
    use insula_wire::plan::CgroupResources;
    use proptest::prelude::*;

    fn unified(file: &str, value: &str) -> CgroupResources {
        CgroupResources {
            unified: [(file.to_owned(), value.to_owned())].into(),
            ..CgroupResources::default()
        }
    }

    #[test]
    fn each_limit_has_its_property() {
        let none = CgroupResources::default();
        let bytes = |name, mask: &[u8]| Property {
            name,
            value: Value::Bytes(mask.to_vec()),
        };
        let number = Property::number;
        let cases: [(CgroupResources, Vec<Property>); 7] = [
            (none.clone(), vec![]),
            (
                CgroupResources {
                    cpu_shares: Some(1024),
                    ..none.clone()
                },
                vec![number("CPUWeight", 100)],
            ),
            (
                CgroupResources {
                    cpu_quota: Some(25_000),
                    cpu_period: Some(50_000),
                    ..none.clone()
                },
                vec![
                    number("CPUQuotaPerSecUSec", 500_000),
                    number("CPUQuotaPeriodUSec", 50_000),
                ],
            ),
            (
                // A third of a processor is rounded up to 34 %.
                CgroupResources {
                    cpu_quota: Some(33_333),
                    ..none.clone()
                },
                vec![
                    number("CPUQuotaPerSecUSec", 340_000),
                    number("CPUQuotaPeriodUSec", 100_000),
                ],
            ),
            (
                CgroupResources {
                    memory_limit: Some(100),
                    memory_swap_limit: Some(150),
                    ..none.clone()
                },
                vec![number("MemoryMax", 100), number("MemorySwapMax", 50)],
            ),
            (
                CgroupResources {
                    memory_limit: Some(-1),
                    memory_swap_limit: Some(-1),
                    pids_limit: Some(7),
                    ..none.clone()
                },
                vec![
                    number("MemoryMax", INFINITY),
                    number("MemorySwapMax", INFINITY),
                    number("TasksMax", 7),
                ],
            ),
            (
                CgroupResources {
                    cpuset_cpus: Some("0-2,9".to_owned()),
                    cpuset_mems: Some("0".to_owned()),
                    ..none.clone()
                },
                vec![
                    bytes("AllowedCPUs", &[0b111, 0b10]),
                    bytes("AllowedMemoryNodes", &[1]),
                ],
            ),
        ];
        for (want, expected) in cases {
            assert_eq!(of_limits(&want, CpuMax::default()), expected, "{want:?}");
        }
    }

    #[test]
    fn no_limit_and_raw_files_have_their_properties() {
        let number = Property::number;
        let cases = [
            (
                CgroupResources {
                    cpu_quota: Some(-1),
                    ..CgroupResources::default()
                },
                vec![
                    number("CPUQuotaPerSecUSec", INFINITY),
                    number("CPUQuotaPeriodUSec", 100_000),
                ],
            ),
            (
                unified("cpu.max", "20000"),
                vec![
                    number("CPUQuotaPerSecUSec", 200_000),
                    number("CPUQuotaPeriodUSec", 100_000),
                ],
            ),
            (
                unified("cpu.max", "max 50000"),
                vec![
                    number("CPUQuotaPerSecUSec", INFINITY),
                    number("CPUQuotaPeriodUSec", 50_000),
                ],
            ),
            (
                unified("memory.high", "max"),
                vec![number("MemoryHigh", INFINITY)],
            ),
            (
                unified("memory.min", "4096"),
                vec![number("MemoryMin", 4096)],
            ),
            (unified("memory.oom.group", "1"), vec![]),
        ];
        for (want, expected) in cases {
            assert_eq!(of_limits(&want, CpuMax::default()), expected, "{want:?}");
        }
    }

    #[test]
    fn raw_files_win() {
        let want = CgroupResources {
            memory_limit: Some(100),
            ..unified("memory.max", "200")
        };
        assert_eq!(
            of_limits(&want, CpuMax::default()),
            [Property::number("MemoryMax", 200)]
        );
    }

    #[test]
    fn a_quota_alone_keeps_the_period_in_force() {
        let now = CpuMax::default().read("10000 20000\n");
        assert_eq!((now.quota, now.period), (Some(10_000), 20_000));
        let want = CgroupResources {
            cpu_quota: Some(5_000),
            ..CgroupResources::default()
        };
        assert_eq!(
            of_limits(&want, now),
            [
                Property::number("CPUQuotaPerSecUSec", 250_000),
                Property::number("CPUQuotaPeriodUSec", 20_000)
            ]
        );
    }

    proptest! {
        #[test]
        fn masks_hold_what_lists_name(numbers in prop::collection::btree_set(0_usize..300, 1..20)) {
            let list: Vec<_> = numbers.iter().map(ToString::to_string).collect();
            let mask = mask(&list.join(",")).unwrap();
            let found: Vec<usize> = (0..mask.len() * 8)
                .filter(|bit| mask[bit / 8] & (1 << (bit % 8)) != 0)
                .collect();
            prop_assert_eq!(found, numbers.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn what_is_no_list_has_no_mask(text in "[0-9,x-]{0,8}") {
            let _never_panics = mask(&text);
        }
    }
}
