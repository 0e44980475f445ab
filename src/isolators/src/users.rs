//! Whose rights the process has.

use crate::accounts::{self, Account, MAX_FILE, MAX_ID};
use crate::contribution::Contribution;
use crate::isolator::{Isolator, PodView, Refusal};
use crate::spec::{ContainerSpec, GroupsPolicy, SecurityContext};
use insula_wire::OsText;
use insula_wire::plan::User;

/// Most supplementary groups, `NGROUPS_MAX` of limits.h.
const MAX_GROUPS: usize = 65_536;

/// User, groups and home directory.
#[derive(Debug)]
pub(crate) struct Users;

/// What a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Numeric ids.
    pub user: User,
    /// `HOME` where neither image nor container sets it.
    pub home: OsText,
}

/// A user or group as it was named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named<'a> {
    Id(u32),
    Name(&'a str),
}

impl Isolator for Users {
    fn name(&self) -> &'static str {
        "users"
    }

    fn prepare(&self, spec: &ContainerSpec, pod: &PodView<'_>) -> Result<Contribution, Refusal> {
        let resolved = resolve(&spec.security, &pod.image.user, pod.passwd, pod.group)?;
        let has_home = spec.envs.iter().any(|(name, _)| name == "HOME")
            || pod
                .image
                .env
                .iter()
                .any(|entry| entry.as_bytes().starts_with(b"HOME="));
        let env = if has_home {
            Vec::new()
        } else {
            vec![("HOME".to_owned(), resolved.home)]
        };
        Ok(Contribution {
            user: Some(resolved.user),
            env,
            ..Contribution::default()
        })
    }
}

/// Finds out the numeric ids of a container's process.
///
/// The container's `run_as_user` comes first, then `run_as_username`, then the
/// image's `USER` (`user`, `user:group`, either as name or number). What is
/// written as a number is a number and never looked up as a name
/// (CVE-2016-3697), and one that is out of range is an error. The primary
/// group is the one given, else that of the user's line in `/etc/passwd`, else
/// 0; it is always among the supplementary groups (CVE-2023-25173).
pub fn resolve(
    security: &SecurityContext,
    image_user: &str,
    passwd: &[u8],
    group: &[u8],
) -> Result<Resolved, Refusal> {
    for (file, bytes) in [("/etc/passwd", passwd), ("/etc/group", group)] {
        if bytes.len() > MAX_FILE {
            return Err(Refusal::new(format!(
                "the image's {file} is larger than {MAX_FILE} bytes"
            )));
        }
    }
    let (user, group_named) = requested(security, image_user)?;
    let account = match user {
        Named::Id(uid) => accounts::accounts(passwd).find(|account| account.uid == uid),
        Named::Name(name) => Some(
            accounts::accounts(passwd)
                .find(|account| account.name == name.as_bytes())
                .ok_or_else(|| {
                    Refusal::new(format!(
                        "unable to find user {name:?}: no matching entry in the image's /etc/passwd"
                    ))
                })?,
        ),
    };
    let uid = match (user, &account) {
        (Named::Id(uid), _) => uid,
        (Named::Name(_), Some(account)) => account.uid,
        (Named::Name(name), None) => {
            return Err(Refusal::new(format!("unable to find user {name:?}")));
        }
    };
    let gid = match group_named {
        Some(Named::Id(gid)) => gid,
        Some(Named::Name(name)) => accounts::groups(group)
            .find(|entry| entry.name == name.as_bytes())
            .map(|entry| entry.gid)
            .ok_or_else(|| {
                Refusal::new(format!(
                    "unable to find group {name:?}: no matching entry in the image's /etc/group"
                ))
            })?,
        None => account.map_or(0, |account| account.gid),
    };
    Ok(Resolved {
        user: User {
            uid,
            gid,
            supplementary_groups: supplementary(security, gid, account, group)?,
        },
        home: home(account),
    })
}

/// The user and group that were asked for, by the container or its image.
fn requested<'a>(
    security: &'a SecurityContext,
    image_user: &'a str,
) -> Result<(Named<'a>, Option<Named<'a>>), Refusal> {
    let group = security
        .run_as_group
        .map(|gid| number("run_as_group", gid).map(Named::Id))
        .transpose()?;
    if let Some(uid) = security.run_as_user {
        return Ok((Named::Id(number("run_as_user", uid)?), group));
    }
    let name = security.run_as_username.as_str();
    if !name.is_empty() {
        if name.contains(':') {
            return Err(Refusal::new(format!(
                "run_as_username {name:?} holds a colon: give the group as run_as_group"
            )));
        }
        return Ok((named("run_as_username", name)?, group));
    }
    if group.is_some() {
        return Err(Refusal::new(
            "user group is specified without user: run_as_group needs run_as_user or run_as_username",
        ));
    }
    let what = "the image's user";
    match image_user.split_once(':') {
        None if image_user.is_empty() => Ok((Named::Id(0), None)),
        None => Ok((named(what, image_user)?, None)),
        Some(("", _)) => Err(Refusal::new(format!(
            "{what} {image_user:?} names a group but no user"
        ))),
        Some((user, "")) => Ok((named(what, user)?, None)),
        Some((user, group)) => Ok((named(what, user)?, Some(named("the image's group", group)?))),
    }
}

/// A number where the text is one, in range; else a name.
fn named<'a>(what: &str, text: &'a str) -> Result<Named<'a>, Refusal> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        if text.bytes().any(|byte| byte == b'\n' || byte == 0) {
            return Err(Refusal::new(format!(
                "{what} {text:?} holds a line break or NUL"
            )));
        }
        return Ok(Named::Name(text));
    }
    // A sign makes it no name, and no id either.
    text.parse::<u32>()
        .ok()
        .filter(|id| *id <= MAX_ID && digits.len() == text.len())
        .map(Named::Id)
        .ok_or_else(|| out_of_range(what, text))
}

fn number(what: &str, id: i64) -> Result<u32, Refusal> {
    u32::try_from(id)
        .ok()
        .filter(|id| *id <= MAX_ID)
        .ok_or_else(|| out_of_range(what, &id.to_string()))
}

fn out_of_range(what: &str, text: &str) -> Refusal {
    Refusal::new(format!("{what} {text} is not a number from 0 to {MAX_ID}"))
}

/// With policy `Merge` also the groups of the image that list the user by the
/// name it has in the image (KEP-3619).
fn supplementary(
    security: &SecurityContext,
    gid: u32,
    account: Option<Account<'_>>,
    group: &[u8],
) -> Result<Vec<u32>, Refusal> {
    let mut ids = vec![gid];
    for id in &security.supplemental_groups {
        ids.push(number("supplemental group", *id)?);
    }
    if security.supplemental_groups_policy == GroupsPolicy::Merge
        && let Some(account) = account
    {
        ids.extend(
            accounts::groups(group)
                .filter(|entry| entry.has_member(account.name))
                .map(|entry| entry.gid),
        );
    }
    ids.sort_unstable();
    ids.dedup();
    if ids.len() > MAX_GROUPS {
        return Err(Refusal::new(format!(
            "{} supplementary groups are more than the kernel's {MAX_GROUPS}",
            ids.len()
        )));
    }
    Ok(ids)
}

/// The home directory of the user's line, `/` where there is none or it is no
/// path. The field cannot hold a colon or a line break, which separate fields
/// and lines (CVE-2022-4318).
fn home(account: Option<Account<'_>>) -> OsText {
    account
        .map(|account| account.home)
        .filter(|home| home.first() == Some(&b'/') && home.len() < 4096)
        .filter(|home| !home.iter().any(u8::is_ascii_control))
        .and_then(|home| OsText::new(home).ok())
        .or_else(|| OsText::new(&b"/"[..]).ok())
        .unwrap_or_default()
}
