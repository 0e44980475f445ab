//! Which addresses are given, and what the result says.

use super::{Case, table};
use crate::Answer;
use crate::host::Namespace;
use crate::plugins::{Conf, World};
use serde_json::{Value, json};

pub fn cases() -> Vec<Case> {
    table![
        a_result_of_0_3_1 => RESULT_OLD,
        a_result_of_0_4_0 => RESULT_OLD,
        a_result_of_1_0_0 => RESULT_NEW,
        a_result_of_1_1_0 => RESULT_NEW,
        both_families => "10.77.0.2/24 10.77.0.1, fd77::2/64 fd77::1",
        addresses_go_round => "2 3 4, then 5 6 2 4",
        a_full_range_refuses => "2 3, no IP, 2",
        ranges_of_a_set_follow_each_other => "10.77.0.9 10.78.0.7 10.78.0.8",
        a_gateway_of_ones_own => "10.77.0.1/24 10.77.0.254, default via 10.77.0.254",
        requested_by_cni_args => "10.77.0.50",
        requested_by_args => "10.77.0.51",
        requested_by_capability => "10.77.0.52",
        what_is_taken_cannot_be_requested => "refused, 10.77.0.61",
        what_is_in_no_range_cannot_be_requested => "refused, 10.77.0.4",
        ranges_by_capability => "10.99.0.2 10.77.0.2",
        resolver_settings_pass => r#"{"nameservers":["10.0.0.53"],"search":["a.b"]}"#,
        resolver_settings_of_a_file => r#"{"nameservers":["10.0.0.54"],"options":["ndots:5"]}"#,
    ]
}

const RESULT_OLD: &str = r#"[{"address":"10.77.0.2/24","gateway":"10.77.0.1","interface":2,"version":"4"}] [{"dst":"0.0.0.0/0"}] br77,veth,eth0 in the pod"#;
const RESULT_NEW: &str = r#"[{"address":"10.77.0.2/24","gateway":"10.77.0.1","interface":2}] [{"dst":"0.0.0.0/0"}] br77,veth,eth0 in the pod"#;

fn shape(world: &World<'_>, version: &'static str) -> Answer {
    world.configure(&Conf {
        version,
        ..Conf::default()
    })?;
    let pod = Namespace::new("pod1")?;
    let result = world.add(&pod)?;
    world.del(&pod)?;
    if result["cniVersion"] != version {
        return Err(format!("the result is in another version: {result}"));
    }
    let interfaces = result["interfaces"].as_array().cloned().unwrap_or_default();
    let names: Vec<_> = interfaces
        .iter()
        .map(|interface| {
            let name = interface["name"].as_str().unwrap_or_default();
            let mac = interface["mac"].as_str().unwrap_or_default();
            assert_eq!(mac.len(), 17, "{interface}");
            match (name, interface["sandbox"].as_str()) {
                (name, Some(path)) if path == pod.path() => format!("{name} in the pod"),
                (name, _) if name.starts_with("veth") => "veth".to_owned(),
                (name, _) => name.to_owned(),
            }
        })
        .collect();
    Ok(format!(
        "{} {} {}",
        result["ips"],
        result["routes"],
        names.join(",")
    ))
}

fn a_result_of_0_3_1(world: &World<'_>) -> Answer {
    shape(world, "0.3.1")
}

fn a_result_of_0_4_0(world: &World<'_>) -> Answer {
    shape(world, "0.4.0")
}

fn a_result_of_1_0_0(world: &World<'_>) -> Answer {
    shape(world, "1.0.0")
}

fn a_result_of_1_1_0(world: &World<'_>) -> Answer {
    shape(world, "1.1.0")
}

fn both_families(world: &World<'_>) -> Answer {
    world.configure(&Conf::dual())?;
    let pod = Namespace::new("pod1")?;
    let result = world.add(&pod)?;
    world.del(&pod)?;
    let ips = result["ips"].as_array().cloned().unwrap_or_default();
    let one = |ip: &Value| format!("{} {}", ip["address"], ip["gateway"]).replace('"', "");
    Ok(ips.iter().map(one).collect::<Vec<_>>().join(", "))
}

fn last_octet(result: &Value) -> String {
    let address = World::address(result, 0);
    address.rsplit('.').next().unwrap_or_default().to_owned()
}

/// A network of five addresses.
fn small() -> Conf {
    Conf {
        ranges: json!([[{"subnet": "10.77.0.0/29"}]]),
        ..Conf::default()
    }
}

fn addresses_go_round(world: &World<'_>) -> Answer {
    world.configure(&small())?;
    let pods = ["pod1", "pod2", "pod3", "pod4"].map(Namespace::new);
    let [one, two, three, four] = pods;
    let (one, two, three, four) = (one?, two?, three?, four?);
    let mut first = Vec::new();
    for pod in [&one, &two, &three] {
        first.push(last_octet(&world.add(pod)?));
    }
    world.del(&one)?;
    world.del(&three)?;
    let mut then = Vec::new();
    for pod in [&one, &three, &four] {
        then.push(last_octet(&world.add(pod)?));
    }
    // Address 3 is still taken.
    world.del(&one)?;
    then.push(last_octet(&world.add(&one)?));
    for pod in [&one, &two, &three, &four] {
        world.del(pod)?;
    }
    Ok(format!("{}, then {}", first.join(" "), then.join(" ")))
}

fn a_full_range_refuses(world: &World<'_>) -> Answer {
    world.configure(&Conf {
        ranges: json!([[{"subnet": "10.77.0.0/24", "rangeEnd": "10.77.0.3"}]]),
        ..Conf::default()
    })?;
    let (one, two, three) = (
        Namespace::new("pod1")?,
        Namespace::new("pod2")?,
        Namespace::new("pod3")?,
    );
    let (a, b) = (last_octet(&world.add(&one)?), last_octet(&world.add(&two)?));
    let full = world
        .add(&three)
        .err()
        .ok_or("a full range gave an address")?;
    world.del(&three)?;
    world.del(&one)?;
    let again = last_octet(&world.add(&three)?);
    world.del(&two)?;
    world.del(&three)?;
    let told = full.to_lowercase().contains("address");
    Ok(format!(
        "{a} {b}, {}, {again}",
        if told { "no IP" } else { &full }
    ))
}

/// The reference bridge has one gateway of each family and no more, and cannot take the rules of
/// two addresses of a family away.
fn no_gateway() -> Conf {
    let conf = Conf::default().with("isGateway", json!(false));
    conf.with("ipMasq", json!(false))
}

fn ranges_of_a_set_follow_each_other(world: &World<'_>) -> Answer {
    world.configure(&Conf {
        ranges: json!([[
            {"subnet": "10.77.0.0/24", "rangeStart": "10.77.0.9", "rangeEnd": "10.77.0.9"},
            {"subnet": "10.78.0.0/24", "rangeStart": "10.78.0.7"},
        ]]),
        ..no_gateway()
    })?;
    let mut found = Vec::new();
    let pods = [
        Namespace::new("pod1")?,
        Namespace::new("pod2")?,
        Namespace::new("pod3")?,
    ];
    for pod in &pods {
        found.push(World::address(&world.add(pod)?, 0));
    }
    for pod in &pods {
        world.del(pod)?;
    }
    Ok(found.join(" "))
}

fn a_gateway_of_ones_own(world: &World<'_>) -> Answer {
    world.configure(&Conf {
        ranges: json!([[{"subnet": "10.77.0.0/24", "gateway": "10.77.0.254"}]]),
        ..Conf::default()
    })?;
    let pod = Namespace::new("pod1")?;
    let result = world.add(&pod)?;
    let route = pod.command("ip", &["route", "show", "default"])?;
    world.del(&pod)?;
    let words: Vec<_> = route.split_whitespace().take(3).collect();
    Ok(format!(
        "{} {}, {}",
        result["ips"][0]["address"].as_str().unwrap_or_default(),
        result["ips"][0]["gateway"].as_str().unwrap_or_default(),
        words.join(" ")
    ))
}

fn requested_by_cni_args(world: &World<'_>) -> Answer {
    world.configure(&Conf::default())?;
    let pod = Namespace::new("pod1")?;
    let result = world.ask(
        "add",
        &pod,
        &[("CNI_ARGS", "IgnoreUnknown=1;IP=10.77.0.50")],
    )?;
    world.del(&pod)?;
    let result: Value = serde_json::from_str(&result).map_err(|error| error.to_string())?;
    Ok(World::address(&result, 0))
}

fn requested_by_args(world: &World<'_>) -> Answer {
    let args = json!({"cni": {"ips": ["10.77.0.51"]}});
    world.configure(&Conf::default().with("args", args))?;
    let pod = Namespace::new("pod1")?;
    let result = world.add(&pod)?;
    world.del(&pod)?;
    Ok(World::address(&result, 0))
}

fn requested_by_capability(world: &World<'_>) -> Answer {
    world.configure(&Conf::default())?;
    let pod = Namespace::new("pod1")?;
    let result = world.add_with(&pod, &json!({"ips": ["10.77.0.52/24"]}))?;
    world.del(&pod)?;
    Ok(World::address(&result, 0))
}

/// Whether a pod that asks for `address` is refused, and what the next one gets.
fn refused(world: &World<'_>, address: &str) -> Answer {
    let (two, three) = (Namespace::new("pod2")?, Namespace::new("pod3")?);
    let asked = world.add_with(&two, &json!({"ips": [address]}));
    let told = match asked {
        Ok(result) => format!("given {result}"),
        Err(_) => "refused".to_owned(),
    };
    world.del(&two)?;
    let result = world.add(&three)?;
    world.del(&three)?;
    Ok(format!("{told}, {}", World::address(&result, 0)))
}

fn what_is_taken_cannot_be_requested(world: &World<'_>) -> Answer {
    world.configure(&Conf::default())?;
    let one = Namespace::new("pod1")?;
    world.add_with(&one, &json!({"ips": ["10.77.0.60"]}))?;
    let answer = refused(world, "10.77.0.60");
    world.del(&one)?;
    answer
}

fn what_is_in_no_range_cannot_be_requested(world: &World<'_>) -> Answer {
    world.configure(&Conf::default())?;
    let one = Namespace::new("pod1")?;
    world.add(&one)?;
    let answer = refused(world, "10.99.0.5");
    world.del(&one)?;
    answer
}

fn ranges_by_capability(world: &World<'_>) -> Answer {
    world.configure(&no_gateway())?;
    let pod = Namespace::new("pod1")?;
    let ranges = json!({"ipRanges": [[{"subnet": "10.99.0.0/24"}]]});
    let result = world.add_with(&pod, &ranges)?;
    world.del_with(&pod, &ranges)?;
    Ok(format!(
        "{} {}",
        World::address(&result, 0),
        World::address(&result, 1)
    ))
}

fn resolver_settings_pass(world: &World<'_>) -> Answer {
    let dns = json!({"nameservers": ["10.0.0.53"], "search": ["a.b"]});
    world.configure(&Conf::default().with("dns", dns))?;
    let pod = Namespace::new("pod1")?;
    let result = world.add(&pod)?;
    world.del(&pod)?;
    Ok(result["dns"].to_string())
}

fn resolver_settings_of_a_file(world: &World<'_>) -> Answer {
    let file = world.directory.path().join("resolv.conf");
    std::fs::write(&file, "# test\nnameserver 10.0.0.54\noptions ndots:5\n")
        .map_err(|error| error.to_string())?;
    world.configure(&Conf {
        ipam: json!({"resolvConf": file}),
        ..Conf::default()
    })?;
    let pod = Namespace::new("pod1")?;
    let result = world.add(&pod)?;
    world.del(&pod)?;
    Ok(result["dns"].to_string())
}
