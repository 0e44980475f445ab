//! What only insula-net promises.

use crate::Answer;
use crate::host::{HOST, HOST6, Namespace};
use crate::plugins::{Conf, PLUGIN, World};
use crate::traffic::{Server, ask};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};

type Run = fn(&World<'_>) -> Answer;

pub fn cases() -> Vec<(&'static str, Run)> {
    vec![
        (
            "own::two_pods_cannot_have_one_port",
            two_pods_cannot_have_one_port,
        ),
        (
            "own::isolated_bridges_do_not_reach_each_other",
            isolated_bridges_do_not_reach_each_other,
        ),
        (
            "own::neighbours_do_not_reach_the_hosts_loopback",
            neighbours_do_not_reach_the_hosts_loopback,
        ),
        (
            "own::behind_the_reference_bridge_it_maps_and_limits",
            behind_the_reference_bridge,
        ),
        ("own::behind_ptp_it_leaves_no_entry_of_the_link", behind_ptp),
        (
            "own::before_the_reference_portmap_it_is_the_bridge",
            before_the_reference_portmap,
        ),
        (
            "own::it_takes_over_the_addresses_of_host_local",
            it_takes_over_from_host_local,
        ),
        (
            "own::check_finds_a_lost_port_and_a_lost_limit",
            check_finds_lost_parts,
        ),
        ("own::gc_keeps_what_is_valid", gc_keeps_what_is_valid),
        (
            "own::a_mistyped_key_makes_the_network_not_ready",
            a_mistyped_key,
        ),
        ("own::sctp_ports_are_entries_of_the_table", sctp_ports),
        (
            "own::a_flushed_table_comes_back_with_the_next_pod",
            a_flushed_table_comes_back,
        ),
    ]
}

/// Asks the program itself, from the host; gives what it writes.
pub fn ask_plugin(world: &World<'_>, variables: &[(&str, &str)], stdin: &Value) -> Answer {
    world.host.within(|| ask_here(variables, stdin))
}

/// The same from the namespace that the thread is in.
pub fn ask_here(variables: &[(&str, &str)], stdin: &Value) -> Answer {
    run_here(Command::new(PLUGIN).envs(variables.iter().copied()), stdin)
}

/// Runs a command with something on its standard input.
pub fn run_here(command: &mut Command, stdin: &Value) -> Answer {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    if let Some(mut pipe) = child.stdin.take() {
        // Whoever was killed at its first step does not read.
        let _ = pipe.write_all(stdin.to_string().as_bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(text),
        false => Err(format!(
            "{}: {text}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

/// Variables of a request for a container in a pod's namespace.
pub fn variables<'a>(command: &'a str, id: &'a str, netns: &'a str) -> [(&'a str, &'a str); 4] {
    [
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", id),
        ("CNI_NETNS", netns),
        ("CNI_IFNAME", "eth0"),
    ]
}

/// The plugin's own configuration, as a runtime sends it.
pub fn configuration(world: &World<'_>) -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "suite", "type": "insula-net", "bridge": "br77",
        "isGateway": true, "ipMasq": true, "hairpinMode": true,
        "ipam": {
            "dataDir": world.directory.path().join("addresses"),
            "ranges": [[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd77::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        },
    })
}

fn port(protocol: &str) -> Value {
    json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": protocol}]})
}

fn expect(what: &str, is: &str, wanted: &str) -> Result<(), String> {
    match is == wanted {
        true => Ok(()),
        false => Err(format!("{what}: {is:?}, not {wanted:?}")),
    }
}

fn contains(what: &str, text: &str, part: &str) -> Result<(), String> {
    match text.contains(part) {
        true => Ok(()),
        false => Err(format!("{what}: {text:?} does not say {part:?}")),
    }
}

fn two_pods_cannot_have_one_port(world: &World<'_>) -> Answer {
    world.configure(&Conf::default())?;
    let (one, two) = (Namespace::new("pod1")?, Namespace::new("pod2")?);
    world.add_with(&one, &port("tcp"))?;
    let refused = world.add_with(&two, &port("tcp")).err().unwrap_or_default();
    contains(
        "the second pod",
        &refused,
        "host port 8080/tcp leads to 10.77.0.2:80 already",
    )?;
    world.del_with(&two, &port("tcp"))?;
    // The DEL of the one that was refused has not taken the other's.
    let _server = Server::tcp(&one, "0.0.0.0:80")?;
    expect(
        "the first pod",
        &ask(&world.outside, &format!("{HOST}:8080")),
        "pod1 sees 192.0.2.2",
    )?;
    world.del_with(&one, &port("tcp"))?;
    Ok(String::new())
}

fn isolated_bridges_do_not_reach_each_other(world: &World<'_>) -> Answer {
    let on = |number: u8, isolation: bool| {
        let mut conf = configuration(world);
        conf["bridge"] = json!(format!("br{number}"));
        conf["isolation"] = json!(isolation);
        conf["name"] = json!(format!("suite{number}"));
        conf["ipam"]["ranges"] = json!([[{"subnet": format!("10.{number}.0.0/24")}]]);
        conf["ipam"]["routes"] = json!([{"dst": "0.0.0.0/0"}]);
        conf
    };
    let (one, two) = (Namespace::new("pod1")?, Namespace::new("pod2")?);
    for (isolation, heard) in [(false, "pod1 sees 10.79.0."), (true, "nothing")] {
        let confs = [on(78, isolation), on(79, isolation)];
        let mut addresses = Vec::new();
        for ((pod, conf), id) in [&one, &two].iter().zip(&confs).zip(["c1", "c2"]) {
            let result = ask_plugin(world, &variables("ADD", id, &pod.path()), conf)?;
            let result: Value = serde_json::from_str(&result).map_err(|error| error.to_string())?;
            addresses.push(World::address(&result, 0));
        }
        // Masquerading would change whom the pod sees, so the source is looked at without it.
        let _server = Server::tcp(&one, "0.0.0.0:80")?;
        let answer = ask(&two, &format!("{}:80", addresses[0]));
        let answer = answer.replace("10.78.0.1", "10.79.0.");
        contains(
            if isolation {
                "isolated"
            } else {
                "not isolated"
            },
            &answer,
            heard,
        )?;
        expect(
            "its own gateway",
            &{
                let _host = Server::tcp(&world.host, "10.79.0.1:81")?;
                ask(&two, "10.79.0.1:81")
            },
            &format!("host sees {}", addresses[1]),
        )?;
        for ((pod, conf), id) in [&one, &two].iter().zip(&confs).zip(["c1", "c2"]) {
            ask_plugin(world, &variables("DEL", id, &pod.path()), conf)?;
        }
    }
    for bridge in ["br78", "br79"] {
        world.host.command("ip", &["link", "del", bridge])?;
    }
    Ok(String::new())
}

fn neighbours_do_not_reach_the_hosts_loopback(world: &World<'_>) -> Answer {
    world.configure(&Conf::default())?;
    let pod = Namespace::new("pod1")?;
    world.add_with(&pod, &port("tcp"))?;
    let setting = world
        .host
        .command("cat", &["/proc/sys/net/ipv4/conf/br77/route_localnet"])?;
    expect("route_localnet", setting.trim(), "1")?;
    let _server = Server::udp(&world.host, "127.0.0.1:53")?;
    // As an attacker would: its own loopback addresses leave by the wire.
    pod.command("ip", &["address", "del", "127.0.0.1/8", "dev", "lo"])?;
    pod.command("ip", &["route", "add", "127.0.0.1/32", "via", "10.77.0.1"])?;
    pod.command("sysctl", &["-qw", "net.ipv4.conf.all.route_localnet=1"])?;
    let heard = crate::traffic::ask_udp(&pod, "10.77.0.2:0", "127.0.0.1:53");
    expect("the pod hears", &heard, "nothing")?;
    world.del_with(&pod, &port("tcp"))?;
    Ok(String::new())
}

/// A chain behind a plugin of the reference ones.
fn chain(world: &World<'_>, main: &str) -> Value {
    let mut first = json!({
        "type": main, "ipMasq": true,
        "ipam": {
            "type": "host-local", "dataDir": world.directory.path().join("addresses"),
            "ranges": [[{"subnet": "10.77.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}],
        },
    });
    if main == "bridge" {
        first["bridge"] = json!("br77");
        first["isGateway"] = json!(true);
        first["hairpinMode"] = json!(true);
    }
    let second = json!({
        "type": "insula-net", "capabilities": {"portMappings": true, "bandwidth": true},
        "ipam": {"dataDir": world.directory.path().join("chained")},
    });
    json!({"cniVersion": "1.0.0", "name": "suite", "plugins": [first, second]})
}

fn all_capabilities() -> Value {
    json!({
        "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
        "bandwidth": {
            "ingressRate": 8_000_000, "ingressBurst": 8_000_000,
            "egressRate": 8_000_000, "egressBurst": 8_000_000,
        },
    })
}

/// From outside, from the host's loopback and from the pod itself.
fn reach_all_ways(world: &World<'_>, pod: &Namespace, gateway: &str) -> Result<(), String> {
    let _server = Server::tcp(pod, "0.0.0.0:80")?;
    let at = format!("{HOST}:8080");
    expect(
        "from outside",
        &ask(&world.outside, &at),
        "pod1 sees 192.0.2.2",
    )?;
    expect(
        "from loopback",
        &ask(&world.host, "127.0.0.1:8080"),
        &format!("pod1 sees {gateway}"),
    )?;
    expect(
        "from itself",
        &ask(pod, &at),
        &format!("pod1 sees {gateway}"),
    )
}

fn chained(world: &World<'_>, main: &str) -> Answer {
    world.configure_as(&chain(world, main))?;
    let pod = Namespace::new("pod1")?;
    let more = all_capabilities();
    let result = world.add_with(&pod, &more)?;
    expect(
        "the result is passed on",
        &World::address(&result, 0),
        "10.77.0.2",
    )?;
    reach_all_ways(world, &pod, "10.77.0.1")?;
    let limits = world.host.command("tc", &["qdisc"])?;
    expect(
        "limits",
        &limits.matches("qdisc tbf").count().to_string(),
        "2",
    )?;
    world.ask("check", &pod, &[("CAP_ARGS", &more.to_string())])?;
    world.del_with(&pod, &more)?;
    world
        .host
        .command("nft", &["list", "table", "inet", "insula"])
}

fn behind_the_reference_bridge(world: &World<'_>) -> Answer {
    chained(world, "bridge")
}

fn behind_ptp(world: &World<'_>) -> Answer {
    let table = chained(world, "ptp")?;
    match table.contains("veth") {
        true => Err(format!("entries of the link are left:\n{table}")),
        false => Ok(table),
    }
}

fn before_the_reference_portmap(world: &World<'_>) -> Answer {
    let mut first = configuration(world);
    first["ipam"]["ranges"] = json!([[{"subnet": "10.77.0.0/24"}]]);
    first["ipam"]["routes"] = json!([{"dst": "0.0.0.0/0"}]);
    let second = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    world.configure_as(&json!({
        "cniVersion": "1.0.0", "name": "suite", "plugins": [first, second],
    }))?;
    let pod = Namespace::new("pod1")?;
    world.add_with(&pod, &port("tcp"))?;
    reach_all_ways(world, &pod, "10.77.0.1")?;
    world.ask("check", &pod, &[("CAP_ARGS", &port("tcp").to_string())])?;
    world.del_with(&pod, &port("tcp"))?;
    Ok(String::new())
}

fn it_takes_over_from_host_local(world: &World<'_>) -> Answer {
    let old = chain(world, "bridge")["plugins"][0].clone();
    let list = |first: &Value| json!({"cniVersion": "1.0.0", "name": "suite", "plugins": [first]});
    world.configure_as(&list(&old))?;
    let (one, two) = (Namespace::new("pod1")?, Namespace::new("pod2")?);
    world.add(&one)?;
    let mut new = old;
    new["type"] = json!("insula-net");
    world.configure_as(&list(&new))?;
    let result = world.add(&two)?;
    expect("the next address", &World::address(&result, 0), "10.77.0.3")?;
    let server = Server::tcp(&one, "0.0.0.0:80")?;
    expect(
        "pods of both",
        &ask(&two, "10.77.0.2:80"),
        "pod1 sees 10.77.0.3",
    )?;
    world.del(&two)?;
    // The old pod's interface is not ours by name; it goes with its namespace.
    world.del(&one)?;
    drop(server);
    drop(one);
    await_no_link(world)?;
    Ok(String::new())
}

/// Interfaces of a namespace go a moment after it.
fn await_no_link(world: &World<'_>) -> Result<(), String> {
    let begun = std::time::Instant::now();
    while begun.elapsed().as_secs() < 10 {
        if !world.host.command("ip", &["-o", "link"])?.contains("veth") {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    Err("an interface of a removed namespace stays".to_owned())
}

fn check_finds_lost_parts(world: &World<'_>) -> Answer {
    world.configure(&Conf::default())?;
    let more = all_capabilities();
    let pod = Namespace::new("pod1")?;
    for (lost, told) in [
        ("nft flush map inet insula ports4", "lacks Port"),
        ("nft flush map inet insula masq4", "lacks Masquerade"),
        (
            "tc qdisc del root dev $(ip -o link | grep -o 'ifb[0-9a-f]*')",
            "egress bandwidth",
        ),
        (
            "tc qdisc del root dev $(ip -o link | grep -o 'veth[0-9a-f]*')",
            "ingress bandwidth",
        ),
    ] {
        world.add_with(&pod, &more)?;
        world.ask("check", &pod, &[("CAP_ARGS", &more.to_string())])?;
        world.host.command("sh", &["-c", lost])?;
        let answer = world.ask("check", &pod, &[("CAP_ARGS", &more.to_string())]);
        contains(lost, &answer.err().unwrap_or_default(), told)?;
        world.del_with(&pod, &more)?;
    }
    Ok(String::new())
}

fn gc_keeps_what_is_valid(world: &World<'_>) -> Answer {
    let conf = configuration(world);
    let pods = [Namespace::new("pod1")?, Namespace::new("pod2")?];
    for (pod, id) in pods.iter().zip(["c1", "c2"]) {
        ask_plugin(world, &variables("ADD", id, &pod.path()), &conf)?;
    }
    let mut gc = conf.clone();
    gc["cni.dev/valid-attachments"] = json!([{"containerID": "c2", "ifname": "eth0"}]);
    ask_plugin(world, &[("CNI_COMMAND", "GC")], &gc)?;
    let left = world.left()?;
    expect(
        "left",
        &left
            .iter()
            .filter(|line| line.contains("10.77.0.3"))
            .count()
            .to_string(),
        "2",
    )?;
    expect(
        "gone",
        &left
            .iter()
            .filter(|line| line.contains("10.77.0.2"))
            .count()
            .to_string(),
        "0",
    )?;
    let _server = Server::tcp(&pods[1], "0.0.0.0:80")?;
    expect(
        "the valid one",
        &ask(&world.host, "10.77.0.3:80"),
        "pod2 sees 10.77.0.1",
    )?;
    ask_plugin(world, &variables("DEL", "c2", ""), &conf)
}

fn a_mistyped_key(world: &World<'_>) -> Answer {
    let mut conf = configuration(world);
    conf["ipMask"] = json!(true);
    let pod = Namespace::new("pod1")?;
    let variables_of = |command| variables(command, "c1", "/run/netns/pod1");
    for command in ["STATUS", "ADD"] {
        let told = ask_plugin(world, &variables_of(command), &conf)
            .err()
            .unwrap_or_default();
        contains(command, &told, "did you mean ipMasq?")?;
        contains(command, &told, "\"code\":2")?;
    }
    drop(pod);
    ask_plugin(world, &variables_of("DEL"), &conf)
}

fn sctp_ports(world: &World<'_>) -> Answer {
    // The kernel of the machine may have no SCTP sockets: what is seen is the rule's own map.
    world.configure(&Conf::dual())?;
    let pod = Namespace::new("pod1")?;
    world.add_with(&pod, &port("sctp"))?;
    let table = world
        .host
        .command("nft", &["list", "table", "inet", "insula"])?;
    contains("IPv4", &table, "sctp . 8080 : 10.77.0.2 . 80")?;
    contains("IPv6", &table, "sctp . 8080 : fd77::2 . 80")?;
    world.del_with(&pod, &port("sctp"))?;
    Ok(String::new())
}

fn a_flushed_table_comes_back(world: &World<'_>) -> Answer {
    world.configure(&Conf::dual())?;
    let (one, two) = (Namespace::new("pod1")?, Namespace::new("pod2")?);
    world.add(&one)?;
    world.host.command("nft", &["flush", "ruleset"])?;
    world.add_with(&two, &port("tcp"))?;
    let _server = Server::tcp(&two, "[::]:80")?;
    let heard = ask(&world.outside, &format!("[{HOST6}]:8080"));
    expect("the next pod", &heard, "pod2 sees 2001:db8::2")?;
    world.del(&one)?;
    world.del_with(&two, &port("tcp"))?;
    Ok(String::new())
}
