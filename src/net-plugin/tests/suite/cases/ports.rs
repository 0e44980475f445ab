//! Mapped ports, from everywhere.

use super::{Case, table};
use crate::Answer;
use crate::host::{HOST, HOST_OTHER, HOST6, Namespace};
use crate::plugins::{Conf, World};
use crate::traffic::{Server, ask, ask_udp};
use serde_json::{Value, json};

pub fn cases() -> Vec<Case> {
    table![
        tcp_from_outside => "pod1 sees 192.0.2.2",
        tcp_from_the_host => "pod1 sees 192.0.2.1",
        tcp_from_the_hosts_loopback => "pod1 sees 10.77.0.1",
        tcp_from_another_pod => "pod1 sees 10.77.0.1",
        tcp_from_the_pod_itself => "pod1 sees 10.77.0.1",
        udp_from_outside => "pod1 sees 192.0.2.2",
        udp_from_the_hosts_loopback => "pod1 sees 10.77.0.1",
        ipv6_from_outside => "pod1 sees 2001:db8::2",
        ipv6_from_the_host => "pod1 sees 2001:db8::1",
        one_address_of_the_host => "pod1 sees 192.0.2.2, refused",
        the_unspecified_address_is_all_of_its_family => "pod1 sees 192.0.2.2, refused",
        one_port_of_two_addresses => "pod1 sees 192.0.2.2, pod2 sees 192.0.2.2",
        a_removed_port_leads_nowhere => "pod1 sees 192.0.2.2, refused",
        a_port_that_moves_leads_to_the_new_pod => "pod1 sees 192.0.2.2, pod2 sees 192.0.2.2",
        old_datagrams_do_not_hold_a_port => "nothing, pod1 sees 192.0.2.2",
        tcp_and_udp_of_one_port => "pod1 sees 192.0.2.2, pod1 sees 192.0.2.2",
    ]
}

fn mapping(protocol: &str, host_ip: &str) -> Value {
    json!({"portMappings": [
        {"hostPort": 8080, "containerPort": 80, "protocol": protocol, "hostIP": host_ip},
    ]})
}

/// With one pod that has a mapped port and serves there: what `work` finds.
fn with_pod(
    world: &World<'_>,
    conf: &Conf,
    mapping: &Value,
    work: impl FnOnce(&Namespace) -> Answer,
) -> Answer {
    world.configure(conf)?;
    let pod = Namespace::new("pod1")?;
    world.add_with(&pod, mapping)?;
    let servers = (
        Server::tcp(&pod, "[::]:80")?,
        Server::udp(&pod, "0.0.0.0:80")?,
    );
    let heard = work(&pod);
    drop(servers);
    world.del_with(&pod, mapping)?;
    // An IPv4 peer at a socket of both families.
    heard.map(|heard| heard.replace("::ffff:", ""))
}

fn at(host: &str) -> String {
    format!("{host}:8080")
}

fn tcp_from_outside(world: &World<'_>) -> Answer {
    with_pod(world, &Conf::default(), &mapping("tcp", ""), |_| {
        Ok(ask(&world.outside, &at(HOST)))
    })
}

fn tcp_from_the_host(world: &World<'_>) -> Answer {
    with_pod(world, &Conf::default(), &mapping("tcp", ""), |_| {
        Ok(ask(&world.host, &at(HOST)))
    })
}

fn tcp_from_the_hosts_loopback(world: &World<'_>) -> Answer {
    with_pod(world, &Conf::default(), &mapping("tcp", ""), |_| {
        Ok(ask(&world.host, &at("127.0.0.1")))
    })
}

fn tcp_from_another_pod(world: &World<'_>) -> Answer {
    with_pod(world, &Conf::default(), &mapping("tcp", ""), |_| {
        let other = Namespace::new("pod2")?;
        world.add(&other)?;
        let heard = ask(&other, &at(HOST));
        world.del(&other)?;
        Ok(heard)
    })
}

fn tcp_from_the_pod_itself(world: &World<'_>) -> Answer {
    with_pod(world, &Conf::default(), &mapping("tcp", ""), |pod| {
        Ok(ask(pod, &at(HOST)))
    })
}

fn udp_from_outside(world: &World<'_>) -> Answer {
    with_pod(world, &Conf::default(), &mapping("udp", ""), |_| {
        Ok(ask_udp(&world.outside, "0.0.0.0:0", &at(HOST)))
    })
}

fn udp_from_the_hosts_loopback(world: &World<'_>) -> Answer {
    with_pod(world, &Conf::default(), &mapping("udp", ""), |_| {
        Ok(ask_udp(&world.host, "0.0.0.0:0", &at("127.0.0.1")))
    })
}

fn ipv6_from_outside(world: &World<'_>) -> Answer {
    with_pod(world, &Conf::dual(), &mapping("tcp", ""), |_| {
        Ok(ask(&world.outside, &at(&format!("[{HOST6}]"))))
    })
}

fn ipv6_from_the_host(world: &World<'_>) -> Answer {
    with_pod(world, &Conf::dual(), &mapping("tcp", ""), |_| {
        Ok(ask(&world.host, &at(&format!("[{HOST6}]"))))
    })
}

fn one_address_of_the_host(world: &World<'_>) -> Answer {
    with_pod(world, &Conf::default(), &mapping("tcp", HOST), |_| {
        let heard = [HOST, HOST_OTHER].map(|host| ask(&world.outside, &at(host)));
        Ok(heard.join(", "))
    })
}

fn the_unspecified_address_is_all_of_its_family(world: &World<'_>) -> Answer {
    with_pod(world, &Conf::dual(), &mapping("tcp", "0.0.0.0"), |_| {
        let ipv6 = format!("[{HOST6}]");
        let heard = [HOST_OTHER, &ipv6].map(|host| ask(&world.outside, &at(host)));
        Ok(heard.join(", "))
    })
}

fn one_port_of_two_addresses(world: &World<'_>) -> Answer {
    with_pod(world, &Conf::default(), &mapping("tcp", HOST), |_| {
        let other = Namespace::new("pod2")?;
        let second = mapping("tcp", HOST_OTHER);
        world.add_with(&other, &second)?;
        let _server = Server::tcp(&other, "0.0.0.0:80")?;
        let heard = [HOST, HOST_OTHER].map(|host| ask(&world.outside, &at(host)));
        world.del_with(&other, &second)?;
        Ok(heard.join(", "))
    })
}

fn a_removed_port_leads_nowhere(world: &World<'_>) -> Answer {
    let heard = with_pod(world, &Conf::default(), &mapping("tcp", ""), |_| {
        Ok(ask(&world.outside, &at(HOST)))
    })?;
    Ok(format!("{heard}, {}", ask(&world.outside, &at(HOST))))
}

fn a_port_that_moves_leads_to_the_new_pod(world: &World<'_>) -> Answer {
    let ports = mapping("udp", "");
    // One port of the client: to the kernel it is the same conversation.
    let client = "0.0.0.0:4000";
    let first = with_pod(world, &Conf::default(), &ports, |_| {
        Ok(ask_udp(&world.outside, client, &at(HOST)))
    })?;
    let pod = Namespace::new("pod2")?;
    world.add_with(&pod, &ports)?;
    let server = Server::udp(&pod, "0.0.0.0:80")?;
    let second = ask_udp(&world.outside, client, &at(HOST));
    drop(server);
    world.del_with(&pod, &ports)?;
    Ok(format!("{first}, {second}"))
}

fn old_datagrams_do_not_hold_a_port(world: &World<'_>) -> Answer {
    // Somebody takes them, so that no refusal ends the conversation.
    let sink = Server::udp(&world.host, "0.0.0.0:8081")?;
    let client = "0.0.0.0:4001";
    world
        .host
        .command("nft", &["add", "table", "ip", "suite"])?;
    world.host.command(
        "nft",
        &[
            "add",
            "chain",
            "ip",
            "suite",
            "in",
            "{ type filter hook input priority 0; }",
        ],
    )?;
    world.host.command(
        "nft",
        &[
            "add",
            "rule",
            "ip",
            "suite",
            "in",
            "udp",
            "dport",
            "8080",
            "ct",
            "state",
            "new,established",
            "counter",
            "accept",
        ],
    )?;
    let before = ask_udp(&world.outside, client, &at(HOST));
    drop(sink);
    let after = with_pod(world, &Conf::default(), &mapping("udp", ""), |_| {
        Ok(ask_udp(&world.outside, client, &at(HOST)))
    })?;
    let before = if before.contains("sees") {
        before
    } else {
        "nothing".to_owned()
    };
    Ok(format!("{before}, {after}"))
}

fn tcp_and_udp_of_one_port(world: &World<'_>) -> Answer {
    let both = json!({"portMappings": [
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 8080, "containerPort": 80, "protocol": "udp"},
    ]});
    with_pod(world, &Conf::default(), &both, |_| {
        let tcp = ask(&world.outside, &at(HOST));
        Ok(format!(
            "{tcp}, {}",
            ask_udp(&world.outside, "0.0.0.0:0", &at(HOST))
        ))
    })
}
