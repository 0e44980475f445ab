//! CHECK, DEL, GC and STATUS.

use super::{Case, table};
use crate::Answer;
use crate::host::Namespace;
use crate::plugins::{Conf, World};
use serde_json::json;

pub fn cases() -> Vec<Case> {
    table![
        check_finds_all_in_order => "in order",
        check_finds_a_lost_address => "changed",
        check_finds_a_lost_route => "changed",
        check_finds_a_lost_interface => "changed",
        check_finds_an_interface_off_its_bridge => "changed",
        del_may_be_repeated => "done, done",
        del_works_without_the_namespace => "done, 10.77.0.3",
        del_of_what_never_was => "done",
        a_second_add_is_refused => "refused",
        gc_undoes_what_is_not_valid => "done",
        status_is_well => "done",
    ]
}

fn done<T>(result: Result<T, String>) -> String {
    match result {
        Ok(_) => "done".to_owned(),
        Err(why) => why,
    }
}

/// What CHECK says after `tamper` was at a pod with a mapped port and a limit.
fn checked(
    world: &World<'_>,
    tamper: impl FnOnce(&Namespace, &str) -> Result<(), String>,
) -> Answer {
    world.configure(&Conf::default())?;
    let more = json!({
        "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
        "bandwidth": {"ingressRate": 8_000_000, "ingressBurst": 8_000_000},
    });
    let pod = Namespace::new("pod1")?;
    let result = world.add_with(&pod, &more)?;
    let veth = result["interfaces"][1]["name"].as_str().unwrap_or_default();
    tamper(&pod, veth)?;
    let answer = world.ask("check", &pod, &[("CAP_ARGS", &more.to_string())]);
    world.del_with(&pod, &more)?;
    Ok(match answer {
        Ok(_) => "in order".to_owned(),
        Err(_) => "changed".to_owned(),
    })
}

fn check_finds_all_in_order(world: &World<'_>) -> Answer {
    checked(world, |_, _| Ok(()))
}

fn check_finds_a_lost_address(world: &World<'_>) -> Answer {
    checked(world, |pod, _| {
        pod.command("ip", &["address", "del", "10.77.0.2/24", "dev", "eth0"])
            .map(drop)
    })
}

fn check_finds_a_lost_route(world: &World<'_>) -> Answer {
    checked(world, |pod, _| {
        pod.command("ip", &["route", "del", "default"]).map(drop)
    })
}

fn check_finds_a_lost_interface(world: &World<'_>) -> Answer {
    checked(world, |_, veth| {
        world.host.command("ip", &["link", "del", veth]).map(drop)
    })
}

fn check_finds_an_interface_off_its_bridge(world: &World<'_>) -> Answer {
    checked(world, |_, _| {
        world.host.command("ip", &["link", "del", "br77"]).map(drop)
    })
}

fn del_may_be_repeated(world: &World<'_>) -> Answer {
    world.configure(&Conf::default())?;
    let pod = Namespace::new("pod1")?;
    world.add(&pod)?;
    Ok([done(world.del(&pod)), done(world.del(&pod))].join(", "))
}

fn del_works_without_the_namespace(world: &World<'_>) -> Answer {
    world.configure(&Conf::default())?;
    let ports =
        json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]});
    let pod = Namespace::new("pod1")?;
    world.add_with(&pod, &ports)?;
    crate::host::output("ip", &["netns", "del", "pod1"])?;
    let first = done(world.del_with(&pod, &ports));
    drop(pod);
    let pod = Namespace::new("pod2")?;
    let result = world.add_with(&pod, &ports)?;
    world.del_with(&pod, &ports)?;
    Ok(format!("{first}, {}", World::address(&result, 0)))
}

fn del_of_what_never_was(world: &World<'_>) -> Answer {
    world.configure(&Conf::default())?;
    let pod = Namespace::new("pod1")?;
    Ok(done(world.del(&pod)))
}

fn a_second_add_is_refused(world: &World<'_>) -> Answer {
    world.configure(&Conf::default())?;
    let pod = Namespace::new("pod1")?;
    world.add(&pod)?;
    let second = world.add(&pod);
    world.del(&pod)?;
    Ok(match second {
        Ok(result) => format!("given {result}"),
        Err(_) => "refused".to_owned(),
    })
}

fn gc_undoes_what_is_not_valid(world: &World<'_>) -> Answer {
    world.configure(&Conf {
        version: "1.1.0",
        ..Conf::default()
    })?;
    let pods = [Namespace::new("pod1")?, Namespace::new("pod2")?];
    for pod in &pods {
        world.add(pod)?;
    }
    // cnitool names no attachment as valid; what is left is looked at by the suite.
    Ok(done(world.ask("gc", &pods[0], &[])))
}

fn status_is_well(world: &World<'_>) -> Answer {
    world.configure(&Conf {
        version: "1.1.0",
        ..Conf::default()
    })?;
    let pod = Namespace::new("pod1")?;
    Ok(done(world.ask("status", &pod, &[])))
}
