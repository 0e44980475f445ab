//! Who reaches whom, and under which address.

use super::{Case, table};
use crate::Answer;
use crate::host::{Namespace, OUTSIDE, OUTSIDE6};
use crate::plugins::{Conf, World};
use crate::traffic::{Server, ask};
use serde_json::json;

pub fn cases() -> Vec<Case> {
    table![
        a_pod_reaches_its_gateway => "host sees 10.77.0.2",
        pods_reach_each_other => "pod1 sees 10.77.0.3; pod1 sees fd77::3",
        what_leaves_has_the_hosts_address => "outside sees 192.0.2.1; outside sees 2001:db8::1",
        without_masquerading_it_has_the_pods => "outside sees 10.77.0.2; outside sees fd77::2",
        pods_of_one_network_see_their_addresses => "pod1 sees 10.77.0.3",
        a_default_gateway_makes_a_route => "default via 10.77.0.1 dev eth0; default via fd77::1 dev eth0",
        a_route_by_another_gateway => "198.51.100.0/24 via 10.77.0.9 dev eth0",
        a_hardware_address_by_capability => "c2:00:00:00:00:07 c2:00:00:00:00:07",
        a_hardware_address_by_cni_args => "c2:00:00:00:00:08",
        an_mtu_holds_on_both_ends => "1400 1400 1400",
        hairpin_is_set_as_asked => "on off",
        isolated_ports_do_not_reach_each_other => "nothing, host sees 10.77.0.3",
    ]
}

fn a_pod_reaches_its_gateway(world: &World<'_>) -> Answer {
    world.configure(&Conf::default())?;
    let pod = Namespace::new("pod1")?;
    world.add(&pod)?;
    let _server = Server::tcp(&world.host, "10.77.0.1:80")?;
    let heard = ask(&pod, "10.77.0.1:80");
    world.del(&pod)?;
    Ok(heard)
}

fn pods_reach_each_other(world: &World<'_>) -> Answer {
    world.configure(&Conf::dual())?;
    let (one, two) = (Namespace::new("pod1")?, Namespace::new("pod2")?);
    world.add(&one)?;
    world.add(&two)?;
    let _servers = [
        Server::tcp(&one, "10.77.0.2:80")?,
        Server::tcp(&one, "[fd77::2]:80")?,
    ];
    let heard = [ask(&two, "10.77.0.2:80"), ask(&two, "[fd77::2]:80")].join("; ");
    world.del(&one)?;
    world.del(&two)?;
    Ok(heard)
}

fn leaving(world: &World<'_>, masquerade: bool) -> Answer {
    world.configure(&Conf::dual().with("ipMasq", json!(masquerade)))?;
    let pod = Namespace::new("pod1")?;
    world.add(&pod)?;
    let addresses = [format!("{OUTSIDE}:80"), format!("[{OUTSIDE6}]:80")];
    let _servers = [
        Server::tcp(&world.outside, &addresses[0])?,
        Server::tcp(&world.outside, &addresses[1])?,
    ];
    let heard = addresses.map(|address| ask(&pod, &address)).join("; ");
    world.del(&pod)?;
    Ok(heard)
}

fn what_leaves_has_the_hosts_address(world: &World<'_>) -> Answer {
    leaving(world, true)
}

fn without_masquerading_it_has_the_pods(world: &World<'_>) -> Answer {
    leaving(world, false)
}

fn pods_of_one_network_see_their_addresses(world: &World<'_>) -> Answer {
    world.configure(&Conf::default())?;
    let (one, two) = (Namespace::new("pod1")?, Namespace::new("pod2")?);
    world.add(&one)?;
    world.add(&two)?;
    // By way of the host, not of the bridge alone.
    two.command("ip", &["route", "add", "10.77.0.2/32", "via", "10.77.0.1"])?;
    let _server = Server::tcp(&one, "10.77.0.2:80")?;
    let heard = ask(&two, "10.77.0.2:80");
    world.del(&one)?;
    world.del(&two)?;
    Ok(heard)
}

fn default_route(pod: &Namespace, family: &str) -> Answer {
    let route = pod.command("ip", &[family, "route", "show", "default"])?;
    Ok(route
        .split_whitespace()
        .take(5)
        .collect::<Vec<_>>()
        .join(" "))
}

fn a_default_gateway_makes_a_route(world: &World<'_>) -> Answer {
    let conf = Conf {
        routes: json!([]),
        ..Conf::dual()
    };
    world.configure(&conf.with("isDefaultGateway", json!(true)))?;
    let pod = Namespace::new("pod1")?;
    world.add(&pod)?;
    let routes = [default_route(&pod, "-4")?, default_route(&pod, "-6")?].join("; ");
    world.del(&pod)?;
    Ok(routes)
}

fn a_route_by_another_gateway(world: &World<'_>) -> Answer {
    world.configure(&Conf {
        routes: json!([{"dst": "198.51.100.0/24", "gw": "10.77.0.9"}]),
        ..Conf::default()
    })?;
    let pod = Namespace::new("pod1")?;
    world.add(&pod)?;
    let route = pod.command("ip", &["route", "show", "198.51.100.0/24"])?;
    world.del(&pod)?;
    Ok(route.trim().to_owned())
}

fn a_hardware_address_by_capability(world: &World<'_>) -> Answer {
    world.configure(&Conf::default())?;
    let pod = Namespace::new("pod1")?;
    let result = world.add_with(&pod, &json!({"mac": "c2:00:00:00:00:07"}))?;
    let is = pod
        .command("cat", &["/proc/self/net/dev"])
        .and_then(|_| mac(&pod))?;
    world.del(&pod)?;
    let told = result["interfaces"][2]["mac"].as_str().unwrap_or_default();
    Ok(format!("{told} {is}"))
}

fn mac(pod: &Namespace) -> Answer {
    let link = pod.command("ip", &["-o", "link", "show", "eth0"])?;
    let mut words = link
        .split_whitespace()
        .skip_while(|word| *word != "link/ether");
    Ok(words.nth(1).unwrap_or_default().to_owned())
}

fn a_hardware_address_by_cni_args(world: &World<'_>) -> Answer {
    world.configure(&Conf::default())?;
    let pod = Namespace::new("pod1")?;
    world.ask(
        "add",
        &pod,
        &[("CNI_ARGS", "IgnoreUnknown=1;MAC=c2:00:00:00:00:08")],
    )?;
    let is = mac(&pod)?;
    world.del(&pod)?;
    Ok(is)
}

fn mtu(namespace: &Namespace, link: &str) -> Answer {
    let link = namespace.command("ip", &["-o", "link", "show", link])?;
    let mut words = link.split_whitespace().skip_while(|word| *word != "mtu");
    Ok(words.nth(1).unwrap_or_default().to_owned())
}

fn an_mtu_holds_on_both_ends(world: &World<'_>) -> Answer {
    world.configure(&Conf::default().with("mtu", json!(1400)))?;
    let pod = Namespace::new("pod1")?;
    let result = world.add(&pod)?;
    let veth = result["interfaces"][1]["name"].as_str().unwrap_or_default();
    let found = [
        mtu(&world.host, "br77")?,
        mtu(&world.host, veth)?,
        mtu(&pod, "eth0")?,
    ];
    world.del(&pod)?;
    Ok(found.join(" "))
}

fn hairpin_is_set_as_asked(world: &World<'_>) -> Answer {
    let mut found = Vec::new();
    for asked in [true, false] {
        world.configure(&Conf::default().with("hairpinMode", json!(asked)))?;
        let pod = Namespace::new("pod1")?;
        let result = world.add(&pod)?;
        let veth = result["interfaces"][1]["name"].as_str().unwrap_or_default();
        let shown = world
            .host
            .command("bridge", &["-d", "link", "show", "dev", veth])?;
        found.push(if shown.contains("hairpin on") {
            "on"
        } else {
            "off"
        });
        world.del(&pod)?;
    }
    Ok(found.join(" "))
}

fn isolated_ports_do_not_reach_each_other(world: &World<'_>) -> Answer {
    world.configure(&Conf::default().with("portIsolation", json!(true)))?;
    let (one, two) = (Namespace::new("pod1")?, Namespace::new("pod2")?);
    world.add(&one)?;
    world.add(&two)?;
    let _servers = [
        Server::udp(&one, "10.77.0.2:80")?,
        Server::tcp(&world.host, "10.77.0.1:80")?,
    ];
    let pod = crate::traffic::ask_udp(&two, "0.0.0.0:0", "10.77.0.2:80");
    let host = ask(&two, "10.77.0.1:80");
    world.del(&one)?;
    world.del(&two)?;
    Ok(format!("{pod}, {host}"))
}
