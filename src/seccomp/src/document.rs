//! A profile in the words of the OCI runtime specification, for those who
//! compile it themselves (config-linux.md, "Seccomp").

use crate::action::Action;
use crate::profile::{Condition, Operator, Profile};
use crate::select::{Context, Rules};
use serde_json::{Value, json};

/// What counts of a profile on this machine for these capabilities. Of the
/// flags only that is named which a profile has to ask for.
pub fn document(profile: &Profile, context: &Context) -> Value {
    let rules = Rules::select(profile, context);
    let mut document = json!({
        "defaultAction": name(rules.default_action),
        "architectures": rules.architectures.iter().map(|it| it.oci_name()).collect::<Vec<_>>(),
        "syscalls": groups(&rules),
    });
    if let Some(number) = number(rules.default_action) {
        document["defaultErrnoRet"] = number.into();
    }
    if profile.flags.log {
        document["flags"] = json!(["SECCOMP_FILTER_FLAG_LOG"]);
    }
    if let Some(listener) = &profile.listener {
        document["listenerPath"] = listener.path.as_str().into();
        document["listenerMetadata"] = listener.metadata.as_str().into();
    }
    document
}

/// Rules that differ in the system call alone are one group.
fn groups(rules: &Rules) -> Vec<Value> {
    let mut groups: Vec<(Action, &[Condition], Vec<&str>)> = Vec::new();
    for rule in &rules.rules {
        let same = groups.iter_mut().find(|(action, conditions, _)| {
            *action == rule.action && *conditions == rule.conditions
        });
        match same {
            Some((_, _, names)) if names.contains(&rule.name.as_str()) => {}
            Some((_, _, names)) => names.push(&rule.name),
            None => groups.push((rule.action, &rule.conditions, vec![&rule.name])),
        }
    }
    groups
        .into_iter()
        .map(|(action, conditions, names)| {
            let mut group = json!({"names": names, "action": name(action)});
            if let Some(number) = number(action) {
                group["errnoRet"] = number.into();
            }
            if !conditions.is_empty() {
                group["args"] = conditions.iter().map(argument).collect();
            }
            group
        })
        .collect()
}

fn argument(condition: &Condition) -> Value {
    json!({
        "index": condition.argument,
        "value": condition.value,
        "valueTwo": condition.value_two,
        "op": operator(condition.operator),
    })
}

fn operator(operator: Operator) -> &'static str {
    match operator {
        Operator::NotEqual => "SCMP_CMP_NE",
        Operator::Less => "SCMP_CMP_LT",
        Operator::LessOrEqual => "SCMP_CMP_LE",
        Operator::Equal => "SCMP_CMP_EQ",
        Operator::GreaterOrEqual => "SCMP_CMP_GE",
        Operator::Greater => "SCMP_CMP_GT",
        Operator::MaskedEqual => "SCMP_CMP_MASKED_EQ",
    }
}

fn name(action: Action) -> &'static str {
    match action {
        Action::KillThread => "SCMP_ACT_KILL_THREAD",
        Action::KillProcess => "SCMP_ACT_KILL_PROCESS",
        Action::Trap => "SCMP_ACT_TRAP",
        Action::Error(_) => "SCMP_ACT_ERRNO",
        Action::Notify => "SCMP_ACT_NOTIFY",
        Action::Trace(_) => "SCMP_ACT_TRACE",
        Action::Log => "SCMP_ACT_LOG",
        Action::Allow => "SCMP_ACT_ALLOW",
    }
}

fn number(action: Action) -> Option<u16> {
    match action {
        Action::Error(number) | Action::Trace(number) => Some(number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::document;
    use crate::default_profile::default_profile;
    use crate::{Architecture, Context, Filter, KernelVersion, Profile};
    use insula_wire::{Capability, CapabilitySet};
    use serde_json::json;

    fn context(capabilities: CapabilitySet) -> Context {
        Context {
            architecture: Architecture::X86_64,
            capabilities,
            kernel: KernelVersion {
                major: 6,
                minor: 12,
            },
        }
    }

    /// What a runtime compiles from the document is what we compile from the
    /// profile.
    #[test]
    fn a_document_means_what_its_profile_means() {
        let own = br#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
            "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
            "syscalls": [
                {"names": ["read", "write", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["kill"], "action": "SCMP_ACT_TRACE", "errnoRet": 7},
                {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
                 "args": [{"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 8, "valueTwo": 8},
                          {"index": 0, "op": "SCMP_CMP_EQ", "value": 131072}]}]}"#;
        let profiles = [default_profile(), Profile::parse(own).unwrap()];
        let admin: CapabilitySet = [Capability::SysAdmin].into_iter().collect();
        for profile in profiles {
            for context in [context(CapabilitySet::default()), context(admin)] {
                let text = serde_json::to_vec(&document(&profile, &context)).unwrap();
                let again = Profile::parse(&text).unwrap();
                let compiled = |profile| Filter::compile(profile, &context).unwrap().program;
                assert_eq!(compiled(&again), compiled(&profile));
            }
        }
    }

    #[test]
    fn groups_have_what_their_rules_share() {
        let text = br#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "listenerPath": "/run/agent.sock", "listenerMetadata": "x",
            "syscalls": [{"names": ["read", "write"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5},
                         {"names": ["kill"], "action": "SCMP_ACT_KILL_PROCESS",
                          "args": [{"index": 1, "op": "SCMP_CMP_NE", "value": 9}]}]}"#;
        let profile = Profile::parse(text).unwrap();
        assert_eq!(
            document(&profile, &context(CapabilitySet::default())),
            json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64"],
                "flags": ["SECCOMP_FILTER_FLAG_LOG"],
                "listenerPath": "/run/agent.sock",
                "listenerMetadata": "x",
                "syscalls": [
                    {"names": ["read", "write"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5},
                    {"names": ["kill"], "action": "SCMP_ACT_KILL_PROCESS",
                     "args": [{"index": 1, "op": "SCMP_CMP_NE", "value": 9, "valueTwo": 0}]},
                ],
            })
        );
    }
}
