//! Security contexts and namespace options, both ways.

use super::{NAME_MAX, Rejected, text, user_namespace, without_parent};
use insula_cri_api::v1::{
    Int64Value, LinuxContainerSecurityContext, NamespaceMode as Mode, NamespaceOption,
    SeLinuxOption, SecurityProfile, SupplementalGroupsPolicy, security_profile::ProfileType,
};
use insula_isolators::spec::{
    GroupsPolicy, NamespaceMode, NamespaceOptions, ProfileRequest, SecurityContext, SelinuxOptions,
};

/// What a container's security context asks for.
pub fn from_cri(message: LinuxContainerSecurityContext) -> Result<SecurityContext, Rejected> {
    let seccomp = profile(message.seccomp, "seccomp")?;
    #[expect(
        deprecated,
        reason = "kubelet still sends the string beside the structure"
    )]
    let apparmor = match profile(message.apparmor, "apparmor")? {
        ProfileRequest::Unset => apparmor_string(&message.apparmor_profile)?,
        request => request,
    };
    let user = message
        .run_as_user
        .map(|id| number(id, "run_as_user"))
        .transpose()?;
    let group = message
        .run_as_group
        .map(|id| number(id, "run_as_group"))
        .transpose()?;
    if user.is_some() && !message.run_as_username.is_empty() {
        return Err(Rejected::invalid(
            "run_as_username",
            "only one of `run_as_user` and `run_as_username` can be set",
        ));
    }
    if group.is_some() && user.is_none() && message.run_as_username.is_empty() {
        return Err(Rejected::invalid(
            "run_as_group",
            "needs `run_as_user` or `run_as_username`",
        ));
    }
    let capabilities = message.capabilities.unwrap_or_default();
    Ok(SecurityContext {
        add_capabilities: capabilities.add_capabilities,
        drop_capabilities: capabilities.drop_capabilities,
        add_ambient_capabilities: capabilities.add_ambient_capabilities,
        privileged: message.privileged,
        namespaces: namespaces(
            message.namespace_options.unwrap_or_default(),
            For::Container,
        )
        .map_err(|rejected| rejected.within("namespace_options"))?,
        selinux: selinux(message.selinux_options)
            .map_err(|rejected| rejected.within("selinux_options"))?,
        run_as_user: user,
        run_as_group: group,
        run_as_username: text(message.run_as_username, "run_as_username", NAME_MAX)?,
        readonly_rootfs: message.readonly_rootfs,
        supplemental_groups: groups(message.supplemental_groups)?,
        supplemental_groups_policy: groups_policy(message.supplemental_groups_policy)?,
        no_new_privs: message.no_new_privs,
        masked_paths: container_paths(message.masked_paths, "masked_paths")?,
        readonly_paths: container_paths(message.readonly_paths, "readonly_paths")?,
        seccomp,
        apparmor,
    })
}

/// Whose namespace options are parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// A pod's: there is no other container to target.
    Pod,
    /// A container's.
    Container,
}

/// Namespaces: which are the pod's, the node's, or of the container's own.
pub fn namespaces(message: NamespaceOption, whose: For) -> Result<NamespaceOptions, Rejected> {
    let pid = mode(message.pid, "pid")?;
    let target_id = text(message.target_id, "target_id", NAME_MAX)?;
    match (pid, whose) {
        (NamespaceMode::Target, For::Pod) => {
            return Err(Rejected::invalid(
                "pid",
                "TARGET is for containers, not for a pod",
            ));
        }
        (NamespaceMode::Target, For::Container) if target_id.is_empty() => {
            return Err(Rejected::invalid(
                "target_id",
                "is empty, but `pid` is TARGET",
            ));
        }
        _ => {}
    }
    let target_id = if pid == NamespaceMode::Target {
        target_id
    } else {
        String::new()
    };
    Ok(NamespaceOptions {
        network: pod_or_node(message.network, "network")?,
        pid,
        ipc: pod_or_node(message.ipc, "ipc")?,
        target_id,
        user: message
            .userns_options
            .map(|options| user_namespace::from_cri(&options))
            .transpose()
            .map_err(|rejected| rejected.within("userns_options"))?
            .flatten(),
    })
}

/// Namespaces as a status gives them back.
pub fn namespaces_to_cri(options: &NamespaceOptions) -> NamespaceOption {
    let mode = |mode| match mode {
        NamespaceMode::Pod => Mode::Pod,
        NamespaceMode::Container => Mode::Container,
        NamespaceMode::Node => Mode::Node,
        NamespaceMode::Target => Mode::Target,
    };
    NamespaceOption {
        network: mode(options.network) as i32,
        pid: mode(options.pid) as i32,
        ipc: mode(options.ipc) as i32,
        target_id: options.target_id.clone(),
        userns_options: options.user.map(user_namespace::to_cri),
    }
}

/// CRI `SupplementalGroupsPolicy`; an unknown value must be refused (KEP-3619).
pub fn groups_policy(value: i32) -> Result<GroupsPolicy, Rejected> {
    match SupplementalGroupsPolicy::try_from(value) {
        Ok(SupplementalGroupsPolicy::Merge) => Ok(GroupsPolicy::Merge),
        Ok(SupplementalGroupsPolicy::Strict) => Ok(GroupsPolicy::Strict),
        Err(_) => Err(Rejected::invalid(
            "supplemental_groups_policy",
            format!("{value} is not a value of enum SupplementalGroupsPolicy"),
        )),
    }
}

/// A security profile. `RuntimeDefault` is the interface's zero, so only a
/// message that is absent says nothing.
pub fn profile(message: Option<SecurityProfile>, field: &str) -> Result<ProfileRequest, Rejected> {
    let Some(message) = message else {
        return Ok(ProfileRequest::Unset);
    };
    let kind = ProfileType::try_from(message.profile_type).map_err(|_| {
        Rejected::invalid(
            format!("{field}.profile_type"),
            format!(
                "{} is not a value of enum ProfileType",
                message.profile_type
            ),
        )
    })?;
    let reference = text(
        message.localhost_ref,
        &format!("{field}.localhost_ref"),
        super::PATH_MAX,
    )?;
    match kind {
        ProfileType::Localhost if reference.is_empty() => Err(Rejected::invalid(
            format!("{field}.localhost_ref"),
            "is empty, but `profile_type` is Localhost",
        )),
        ProfileType::Localhost => Ok(ProfileRequest::Localhost(reference)),
        _ if !reference.is_empty() => Err(Rejected::invalid(
            format!("{field}.localhost_ref"),
            "is set, but `profile_type` is not Localhost",
        )),
        ProfileType::RuntimeDefault => Ok(ProfileRequest::RuntimeDefault),
        ProfileType::Unconfined => Ok(ProfileRequest::Unconfined),
    }
}

fn apparmor_string(value: &str) -> Result<ProfileRequest, Rejected> {
    match value {
        "" => Ok(ProfileRequest::Unset),
        "runtime/default" => Ok(ProfileRequest::RuntimeDefault),
        "unconfined" => Ok(ProfileRequest::Unconfined),
        _ => match value.strip_prefix("localhost/") {
            Some(name) if !name.is_empty() && !name.contains('\0') => {
                Ok(ProfileRequest::Localhost(name.to_owned()))
            }
            _ => Err(Rejected::invalid(
                "apparmor_profile",
                format!(
                    "{value:?} is not \"runtime/default\", \"unconfined\" or \"localhost/NAME\""
                ),
            )),
        },
    }
}

/// CRI `NamespaceMode`.
pub(super) fn mode(value: i32, field: &str) -> Result<NamespaceMode, Rejected> {
    match Mode::try_from(value) {
        Ok(Mode::Pod) => Ok(NamespaceMode::Pod),
        Ok(Mode::Container) => Ok(NamespaceMode::Container),
        Ok(Mode::Node) => Ok(NamespaceMode::Node),
        Ok(Mode::Target) => Ok(NamespaceMode::Target),
        Err(_) => Err(Rejected::invalid(
            field,
            format!("{value} is not a value of enum NamespaceMode"),
        )),
    }
}

fn pod_or_node(value: i32, field: &str) -> Result<NamespaceMode, Rejected> {
    match mode(value, field)? {
        mode @ (NamespaceMode::Pod | NamespaceMode::Node) => Ok(mode),
        NamespaceMode::Container => Err(Rejected::invalid(
            field,
            "CONTAINER is not possible, only POD and NODE are",
        )),
        NamespaceMode::Target => Err(Rejected::invalid(
            field,
            "TARGET is not possible, only POD and NODE are",
        )),
    }
}

/// Ids that a process can have: `(uid_t) -1` means "unchanged" to the kernel.
fn number(id: Int64Value, field: &str) -> Result<i64, Rejected> {
    if (0..i64::from(u32::MAX)).contains(&id.value) {
        Ok(id.value)
    } else {
        Err(Rejected::invalid(
            field,
            format!("{} is not an id between 0 and {}", id.value, u32::MAX - 1),
        ))
    }
}

fn groups(groups: Vec<i64>) -> Result<Vec<i64>, Rejected> {
    groups
        .into_iter()
        .enumerate()
        .map(|(index, value)| {
            number(
                Int64Value { value },
                &format!("supplemental_groups[{index}]"),
            )
        })
        .collect()
}

fn container_paths(paths: Vec<String>, field: &str) -> Result<Vec<String>, Rejected> {
    paths
        .into_iter()
        .enumerate()
        .map(|(index, path)| without_parent(path, &format!("{field}[{index}]")))
        .collect()
}

/// An SELinux label; a message without any part says nothing. Each part is a
/// word between the colons of a label, and only the level has colons itself.
pub fn selinux(message: Option<SeLinuxOption>) -> Result<Option<SelinuxOptions>, Rejected> {
    let Some(message) = message else {
        return Ok(None);
    };
    let part = |value: String, field: &str, more: &[u8]| -> Result<String, Rejected> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if value.len() <= NAME_MAX
            && value
                .bytes()
                .all(|byte| plain(byte) || more.contains(&byte))
        {
            return Ok(value);
        }
        Err(Rejected::invalid(
            field,
            format!("{value:?} is not part of an SELinux label"),
        ))
    };
    let options = SelinuxOptions {
        user: part(message.user, "user", b"")?,
        role: part(message.role, "role", b"")?,
        kind: part(message.r#type, "type", b"")?,
        level: part(message.level, "level", b":,")?,
    };
    Ok((options != SelinuxOptions::default()).then_some(options))
}

#[cfg(test)]
#[path = "security/tests.rs"]
mod tests;
