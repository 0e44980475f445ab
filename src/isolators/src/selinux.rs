//! SELinux labels of containers and of what is mounted for them.
//!
//! What the loaded policy calls a container is the host's matter and found out
//! once ([`Policy::detect`]); everything else here is pure. All containers of a
//! pod share the pod's level: two categories that no other pod has, so that the
//! policy keeps pods apart (multi-category security, mcs(8)).

use crate::contribution::Contribution;
use crate::isolator::{Isolator, PodView, Refusal};
use crate::spec::{ContainerSpec, PodSpec, SelinuxOptions};
use std::fmt;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;

/// Where the kernel's side of SELinux is mounted, if one may look.
const SELINUXFS: &str = "/sys/fs/selinux";
/// Where the policies and the choice among them are.
const POLICIES: &str = "/etc/selinux";
/// What a policy calls containers, where it does not say (container-selinux
/// and the reference policy).
const PROCESS: &str = "system_u:system_r:container_t:s0";
const FILE: &str = "system_u:object_r:container_file_t:s0";
/// A privileged container: as good as unconfined, with every category.
const PRIVILEGED: &str = "system_u:system_r:spc_t:s0-s0:c0.c1023";
/// Most that is read of an answer of the kernel's, in bytes; it has six numbers.
const ANSWER_MAX: u64 = 256;
/// Categories that policies are built with.
const CATEGORIES: u32 = 1024;

/// A security context, `user:role:type` and, in policies with levels, a level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    user: String,
    role: String,
    kind: String,
    level: Option<String>,
}

/// What the policy that is loaded on this host says of containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Labels of a container's process and of its files; `None` where the
    /// policy knows no containers.
    pub containers: Option<(Label, Label)>,
    /// Label of a privileged container's process; `None` where the policy has
    /// no such type: it then runs as the daemon does.
    pub privileged: Option<Label>,
    /// Whether labels have levels.
    pub levels: bool,
}

/// Labels of one container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// Of its processes.
    pub process: Option<String>,
    /// Of its file systems, and of volumes that are relabelled.
    pub mount: Option<String>,
}

/// CRI `SELinuxOption`: what is not said is the policy's for containers, and
/// the pod's level. A privileged container has a label of its own, whatever it
/// says. Where SELinux is off, options have nothing to apply to and are taken,
/// as containerd does; a level that is none is refused everywhere.
#[derive(Debug)]
pub(crate) struct Selinux;

impl Isolator for Selinux {
    fn name(&self) -> &'static str {
        "selinux"
    }

    fn prepare(&self, spec: &ContainerSpec, pod: &PodView<'_>) -> Result<Contribution, Refusal> {
        let policy = pod.host.selinux.as_ref();
        let labels = labels(policy, pod.spec, Some(spec), pod.selinux_level)?;
        Ok(Contribution {
            selinux_label: labels.process,
            mount_label: labels.mount,
            ..Contribution::default()
        })
    }
}

/// The labels of a container, or of what is the pod's own where there is none.
pub fn labels(
    policy: Option<&Policy>,
    pod: &PodSpec,
    container: Option<&ContainerSpec>,
    pod_level: Option<&str>,
) -> Result<Labels, Refusal> {
    let asked = asked(pod, container);
    check_level(&asked.level)?;
    let Some(policy) = policy else {
        return Ok(Labels::default());
    };
    let Some((process, file)) = &policy.containers else {
        if asked == SelinuxOptions::default() {
            return Ok(Labels::default());
        }
        return Err(Refusal::new(
            "SELinux options were asked for, but the policy of this host has no types for containers: install one that has, such as container-selinux",
        ));
    };
    if !policy.levels && !asked.level.is_empty() {
        return Err(Refusal::new(format!(
            "SELinux level {:?} was asked for, but the policy of this host has no levels: leave it unset",
            asked.level
        )));
    }
    let or = |asked: &str, usual: &str| if asked.is_empty() { usual } else { asked }.to_owned();
    let level = if policy.levels {
        let of_pod = pod_level.or(process.level.as_deref()).unwrap_or("s0");
        Some(or(&asked.level, of_pod))
    } else {
        None
    };
    let user = |label: &Label| or(&asked.user, &label.user);
    let mount = Label {
        user: user(file),
        level: level.clone(),
        ..file.clone()
    };
    let process = if container.is_some_and(|spec| spec.security.privileged) {
        policy.privileged.clone()
    } else {
        Some(Label {
            user: user(process),
            role: or(&asked.role, &process.role),
            kind: or(&asked.kind, &process.kind),
            level,
        })
    };
    Ok(Labels {
        process: process.map(|label| label.to_string()),
        mount: Some(mount.to_string()),
    })
}

/// What the container says, completed by what its pod says.
fn asked(pod: &PodSpec, container: Option<&ContainerSpec>) -> SelinuxOptions {
    let of_pod = pod.selinux.clone().unwrap_or_default();
    let own = container
        .and_then(|spec| spec.security.selinux.clone())
        .unwrap_or_default();
    let or = |own: String, of_pod: String| if own.is_empty() { of_pod } else { own };
    SelinuxOptions {
        user: or(own.user, of_pod.user),
        role: or(own.role, of_pod.role),
        kind: or(own.kind, of_pod.kind),
        level: or(own.level, of_pod.level),
    }
}

/// The level of two categories, in the form `s0:c1,c2`; `None` if they are the
/// same. Numbers beyond the policy's categories are brought into range.
pub fn level_of(first: u32, second: u32) -> Option<String> {
    let (first, second) = (first % CATEGORIES, second % CATEGORIES);
    (first != second).then(|| format!("s0:c{},c{}", first.min(second), first.max(second)))
}

/// Refuses a level that is none: `s0`, `s0:c1,c2`, `s0:c0.c1023`, or a range
/// of two, `s0-s0:c0.c1023`. Empty says nothing.
fn check_level(level: &str) -> Result<(), Refusal> {
    if level.is_empty() || is_range(level) {
        return Ok(());
    }
    Err(Refusal::new(format!(
        "SELinux level {level:?} is not of the form s0:c1,c2"
    )))
}

fn is_range(text: &str) -> bool {
    let number = |text: &str, letter: char, below: u32| {
        text.strip_prefix(letter)
            .filter(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse::<u32>().ok())
            .filter(|number| *number < below)
    };
    let category = |text: &str| match text.split_once('.') {
        None => number(text, 'c', CATEGORIES).is_some(),
        Some((first, last)) => {
            match (
                number(first, 'c', CATEGORIES),
                number(last, 'c', CATEGORIES),
            ) {
                (Some(first), Some(last)) => first < last,
                _ => false,
            }
        }
    };
    let level = |text: &str| match text.split_once(':') {
        None => number(text, 's', 16).is_some(),
        Some((sensitivity, categories)) => {
            number(sensitivity, 's', 16).is_some() && categories.split(',').all(category)
        }
    };
    match text.split_once('-') {
        None => level(text),
        Some((low, high)) => level(low) && level(high),
    }
}

/// The labels of containers in a policy's `lxc_contexts`: of the process and of
/// files. Lines are `name = "label"`.
pub fn parse_container_contexts(text: &str) -> Option<(Label, Label)> {
    let value = |name: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key.trim() == name).then(|| Label::parse(value.trim().trim_matches('"')))?
        })
    };
    Some((value("process")?, value("file")?))
}

/// Which policy `/etc/selinux/config` chooses.
fn chosen_policy(config: &str) -> Option<&str> {
    let name = config
        .lines()
        .find_map(|line| line.trim().strip_prefix("SELINUXTYPE="))?
        .trim();
    (!name.is_empty() && !name.contains('/') && name != "..").then_some(name)
}

// === impl Label ===

impl Label {
    /// Takes a label apart; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, ':').map(str::to_owned);
        let label = Self {
            user: parts.next()?,
            role: parts.next()?,
            kind: parts.next()?,
            level: parts.next(),
        };
        let named = [&label.user, &label.role, &label.kind]
            .iter()
            .all(|part| !part.is_empty() && !part.contains(char::is_whitespace));
        (named && label.level.as_deref().is_none_or(is_range)).then_some(label)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.user, self.role, self.kind)?;
        match &self.level {
            Some(level) => write!(f, ":{level}"),
            None => Ok(()),
        }
    }
}

// === impl Policy ===

impl Policy {
    /// What the loaded policy says; `None` where SELinux is off. Reads files.
    /// A label counts only if the kernel takes it for valid.
    ///
    /// The reference policy keeps container engines out of selinuxfs, so what
    /// can be known without it is not asked there.
    pub fn detect() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        if !has_selinuxfs(&mounts) {
            return None;
        }
        // Without a policy it is no label but "kernel".
        let own = Label::parse(&own_label().ok()?)?;
        let levels = own.level.is_some();
        let config = fs::read_to_string(Path::new(POLICIES).join("config")).unwrap_or_default();
        let of_policy = chosen_policy(&config)
            .map(|name| Path::new(POLICIES).join(name).join("contexts/lxc_contexts"))
            .and_then(|path| fs::read_to_string(path).ok())
            .and_then(|text| parse_container_contexts(&text));
        let usual = || Some((Label::parse(PROCESS)?, Label::parse(FILE)?));
        let fits = |label: &Label| fitting(label, levels);
        let containers = [of_policy, usual()]
            .into_iter()
            .flatten()
            .find_map(|(process, file): (Label, Label)| Some((fits(&process)?, fits(&file)?)));
        Some(Self {
            containers,
            privileged: Label::parse(PRIVILEGED).and_then(|label| fits(&label)),
            levels,
        })
    }

    /// Whether processes of containers may write to pipes of a process with this
    /// label, and use descriptors that it gave them; `None` if the kernel does
    /// not say. A pipe has the label of the process that made it and no other
    /// can be given to it, so these are a container's standard streams.
    pub fn may_use_pipes_of(&self, label: &str) -> Option<bool> {
        let (process, _) = self.containers.as_ref()?;
        let source = process.to_string();
        Some(allows(&source, label, "fifo_file", "write")? && allows(&source, label, "fd", "use")?)
    }
}

/// The label of this process.
pub fn own_label() -> std::io::Result<String> {
    let text = fs::read_to_string("/proc/thread-self/attr/current")?;
    Ok(text.trim_end_matches(['\0', '\n']).to_owned())
}

/// Whether the kernel's side of SELinux is mounted, by mountinfo
/// (proc_pid_mountinfo(5)).
fn has_selinuxfs(mounts: &str) -> bool {
    mounts
        .lines()
        .filter_map(|line| line.split_once(" - "))
        .any(|(_, kind)| kind.split(' ').next() == Some("selinuxfs"))
}

/// The label with or without a level, as the policy has it, if it is valid.
fn fitting(label: &Label, levels: bool) -> Option<Label> {
    let level = levels.then(|| label.level.clone().unwrap_or_else(|| "s0".to_owned()));
    let label = Label {
        level,
        ..label.clone()
    };
    is_valid(&label.to_string()).then_some(label)
}

/// Whether the kernel takes a label for one: by declaring it for an execve(2)
/// of a thread that ends without any. Nobody is kept from that who may give
/// containers their labels, in contrast to `/sys/fs/selinux/context`.
fn is_valid(label: &str) -> bool {
    let label = label.to_owned();
    let declare = move || {
        let file = "/proc/thread-self/attr/exec";
        let mut declared = fs::File::options().write(true).open(file)?;
        declared.write_all(label.as_bytes())
    };
    let declared = std::thread::spawn(declare).join();
    declared.is_ok_and(|written| written.is_ok())
}

/// Asks the loaded policy (security_compute_av(3), `/sys/fs/selinux/access`):
/// two labels and the class's number, to which the kernel answers with the
/// permissions that are allowed, in hexadecimal.
fn allows(source: &str, target: &str, class: &str, permission: &str) -> Option<bool> {
    let kernel = Path::new(SELINUXFS);
    let number = |path: std::path::PathBuf| -> Option<u32> {
        fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    let class = kernel.join("class").join(class);
    let index = number(class.join("index"))?;
    let bit = number(class.join("perms").join(permission))?;
    let mut ask = fs::File::options()
        .read(true)
        .write(true)
        .open(kernel.join("access"))
        .ok()?;
    ask.write_all(format!("{source} {target} {index}").as_bytes())
        .ok()?;
    let mut answer = String::new();
    ask.take(ANSWER_MAX).read_to_string(&mut answer).ok()?;
    let allowed = u32::from_str_radix(answer.split_ascii_whitespace().next()?, 16).ok()?;
    Some(allowed & 1_u32.checked_shl(bit.checked_sub(1)?)? != 0)
}

#[cfg(test)]
mod tests {
    use super::{
        Label, chosen_policy, has_selinuxfs, is_range, level_of, parse_container_contexts,
    };

    #[test]
    fn levels_are_told_from_what_is_none() {
        for level in [
            "s0",
            "s15",
            "s0:c1",
            "s0:c4,c5",
            "s0:c0.c1023",
            "s0:c1.c3,c7",
            "s0-s0:c0.c1023",
            "s0:c1-s0:c0.c1023",
        ] {
            assert!(is_range(level), "{level}");
        }
        for none in [
            "", "s", "s16", "c1", "s0:", "s0,c4,c5", "s0:c1,", "s0:c1024", "s0:c5.c5", "s0:c5.c1",
            "s0-", "s0-s0-s0", "s0:c1:c2", "s+1", "s0:c 1",
        ] {
            assert!(!is_range(none), "{none:?}");
        }
    }

    #[test]
    fn categories_become_levels() {
        assert_eq!(level_of(7, 3).as_deref(), Some("s0:c3,c7"));
        assert_eq!(level_of(5, 5), None);
        assert_eq!(level_of(1024, 2048), None);
        assert_eq!(level_of(1025, 1023).as_deref(), Some("s0:c1,c1023"));
        assert!(is_range(&level_of(u32::MAX, 0).unwrap()));
    }

    #[test]
    fn files_of_a_policy_are_read() {
        let text = "process = \"system_u:system_r:svirt_lxc_net_t:s0\"\n\
                    content = \"system_u:object_r:virt_var_lib_t:s0\"\n\
                    file = \"system_u:object_r:svirt_lxc_file_t:s0\"\n";
        let (process, file) = parse_container_contexts(text).unwrap();
        assert_eq!(process.to_string(), "system_u:system_r:svirt_lxc_net_t:s0");
        assert_eq!(file.to_string(), "system_u:object_r:svirt_lxc_file_t:s0");
        assert_eq!(parse_container_contexts("process = \"a:b:c\"\n"), None);
        for (config, want) in [
            (
                "# SELINUXTYPE=x\nSELINUX=enforcing\nSELINUXTYPE=default\n",
                Some("default"),
            ),
            ("SELINUXTYPE=../../tmp", None),
            ("", None),
        ] {
            assert_eq!(chosen_policy(config), want, "{config}");
        }
    }

    #[test]
    fn selinux_is_on_where_its_file_system_is_mounted() {
        let mount = "29 23 0:22 / /sys/fs/selinux rw,nosuid,noexec,relatime shared:9 - selinuxfs selinuxfs rw";
        let other = "30 23 0:23 / /sys/fs/selinuxfs rw - tmpfs selinuxfs rw";
        for (mounts, want) in [
            ("", false),
            (other, false),
            (mount, true),
            (&*format!("{other}\n{mount}\n"), true),
        ] {
            assert_eq!(has_selinuxfs(mounts), want, "{mounts}");
        }
    }

    #[test]
    fn labels_have_three_or_four_parts() {
        for label in ["a:b:c", "a:b:c:s0", "a:b:c:s0-s0:c0.c1023"] {
            assert_eq!(Label::parse(label).unwrap().to_string(), label);
        }
        for none in ["", "a:b", "a::c", "a:b:c:x", "a:b:c:", "a:b c:d"] {
            assert_eq!(Label::parse(none), None, "{none:?}");
        }
    }
}
