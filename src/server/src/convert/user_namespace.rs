//! `UserNamespace` and the id mappings of mounts, both ways (KEP-127).

use super::Rejected;
use super::security::mode;
use insula_cri_api::v1::{IdMapping, NamespaceMode as Mode, UserNamespace};
use insula_isolators::spec::NamespaceMode;
use insula_wire::{IdMappings, IdRange};

/// The ids of a pod's own user namespace; `None` is the node's.
pub fn from_cri(options: &UserNamespace) -> Result<Option<IdMappings>, Rejected> {
    match mode(options.mode, "mode")? {
        NamespaceMode::Node if options.uids.is_empty() && options.gids.is_empty() => Ok(None),
        NamespaceMode::Node => Err(Rejected::invalid("mode", "is NODE, but mappings are given")),
        NamespaceMode::Pod => mappings((&options.uids, "uids"), (&options.gids, "gids")).map(Some),
        NamespaceMode::Container | NamespaceMode::Target => {
            Err(Rejected::invalid("mode", "only POD and NODE are possible"))
        }
    }
}

/// The same as a status gives it back.
pub fn to_cri(user: IdMappings) -> UserNamespace {
    let (uids, gids) = lists(Some(user));
    UserNamespace {
        mode: Mode::Pod as i32,
        uids,
        gids,
    }
}

/// One mapping of each kind, from lists with the names of their fields.
pub fn mappings(
    uids: (&[IdMapping], &str),
    gids: (&[IdMapping], &str),
) -> Result<IdMappings, Rejected> {
    Ok(IdMappings {
        uids: one(uids.0, uids.1)?,
        gids: one(gids.0, gids.1)?,
    })
}

/// The two lists of mappings, empty for the node's ids.
pub fn lists(user: Option<IdMappings>) -> (Vec<IdMapping>, Vec<IdMapping>) {
    let list = |range: IdRange| {
        vec![IdMapping {
            container_id: 0,
            host_id: range.first(),
            length: range.length(),
        }]
    };
    user.map(|user| (list(user.uids), list(user.gids)))
        .unwrap_or_default()
}

fn one(mappings: &[IdMapping], field: &str) -> Result<IdRange, Rejected> {
    let [mapping] = mappings else {
        return Err(Rejected::invalid(
            field,
            format!("has {} mappings, exactly one is possible", mappings.len()),
        ));
    };
    IdRange::new(mapping.container_id, mapping.host_id, mapping.length)
        .map_err(|invalid| Rejected::invalid(field, invalid.to_string()))
}

#[cfg(test)]
mod tests {
    use super::{from_cri, to_cri};
    use insula_cri_api::v1::{IdMapping, UserNamespace};

    const POD: i32 = 0;
    const CONTAINER: i32 = 1;
    const NODE: i32 = 2;
    const TARGET: i32 = 3;

    fn mapping(container_id: u32, host_id: u32, length: u32) -> IdMapping {
        IdMapping {
            container_id,
            host_id,
            length,
        }
    }

    type Case = (
        i32,
        Vec<IdMapping>,
        Vec<IdMapping>,
        Result<bool, &'static str>,
    );

    #[test]
    fn a_user_namespace_has_one_mapping_each_with_root() {
        let one = || vec![mapping(0, 100_000, 1000)];
        let two = vec![mapping(0, 100_000, 10), mapping(10, 200_000, 10)];
        let cases: &[Case] = &[
            (NODE, vec![], vec![], Ok(false)),
            (POD, one(), vec![mapping(0, 300_000, 10)], Ok(true)),
            (
                POD,
                two,
                one(),
                Err("uids: has 2 mappings, exactly one is possible"),
            ),
            (
                POD,
                one(),
                vec![],
                Err("gids: has 0 mappings, exactly one is possible"),
            ),
            (
                POD,
                vec![mapping(1, 100_000, 1000)],
                one(),
                Err("uids: does not map id 0 of the container"),
            ),
            (
                POD,
                one(),
                vec![mapping(0, 0, 1000)],
                Err("gids: maps id 0 of the container to root of the node"),
            ),
            (
                POD,
                one(),
                vec![mapping(0, u32::MAX, 2)],
                Err("gids: maps 2 ids from 4294967295 on, beyond the last id 4294967294"),
            ),
            (
                NODE,
                one(),
                one(),
                Err("mode: is NODE, but mappings are given"),
            ),
            (
                CONTAINER,
                one(),
                one(),
                Err("mode: only POD and NODE are possible"),
            ),
            (
                TARGET,
                one(),
                one(),
                Err("mode: only POD and NODE are possible"),
            ),
            (
                9,
                one(),
                one(),
                Err("mode: 9 is not a value of enum NamespaceMode"),
            ),
        ];
        for (mode, uids, gids, want) in cases {
            let message = UserNamespace {
                mode: *mode,
                uids: uids.clone(),
                gids: gids.clone(),
            };
            let got = from_cri(&message).map_err(|rejected| rejected.to_string());
            let got = got.as_ref().map(Option::is_some).map_err(String::as_str);
            assert_eq!(got, *want);
            if let Ok(Some(user)) = from_cri(&message) {
                assert_eq!(to_cri(user), message);
            }
        }
    }
}
