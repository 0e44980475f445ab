//! ADD: attaches a pod.
//!
//! ```text
//!  lock ─ addresses ─ record ─ unlock ─▶ bridge ─▶ pair ─▶ pod's end ─▶ rates ─▶ packet filter
//! ```
//!
//! Everything to the right of the record is named in it, so a plugin that is killed anywhere
//! leaves nothing that DEL or GC would not find.

use crate::bridge;
use crate::config::Config;
use crate::del;
use crate::error::{Code, Failure};
use crate::kernel::address;
use crate::kernel::link::{self, Link, Mac, Pair, PortMode};
use crate::kernel::namespace::PodNamespace;
use crate::kernel::route::{self, Route};
use crate::kernel::{conntrack, sysctl, traffic};
use crate::names;
use crate::netlink::{Family, NetlinkError, Socket};
use crate::nft::{Entry, Filter};
use crate::ports;
use crate::request::Target;
use crate::resolver;
use crate::result::{AddResult, Given, Interface};
use crate::store::{Record, Store};
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long a new pair may take until traffic flows.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at it.
const PAUSE: Duration = Duration::from_millis(1);

/// Attaches a pod and gives the result as JSON.
pub(crate) fn add(config: &Config, target: &Target) -> Result<String, Failure> {
    config.refuse_unknown()?;
    let pod = open_pod(target)?;
    if let Some(previous) = &config.previous {
        return crate::chained::add(config, previous, target, &pod);
    }
    if config.ranges.is_empty() {
        return Err(Failure::configuration(
            "ipam names no range of addresses: write, for example, \
             \"ipam\": {\"ranges\": [[{\"subnet\": \"10.88.0.0/16\"}]]}",
        ));
    }
    let store = Store::open(&config.identity)?;
    let (given, record) = reserve(config, target, &store)?;
    let result = build(config, target, &pod, &given, &record);
    if result.is_err() {
        // The runtime will ask for DEL, too; whatever fails here is tried again then.
        let _ = del::undo(&config.identity, &target.id, &store, &record);
    }
    result.map(|result| result.to_json(config.identity.version))
}

/// The pod's namespace, which must be there.
pub(crate) fn open_pod(target: &Target) -> Result<PodNamespace, Failure> {
    let path = target.netns.as_deref().unwrap_or("".as_ref());
    PodNamespace::open(path)?
        .ok_or_else(|| Failure::environment(format!("CNI_NETNS {path:?} does not exist")))
}

/// Takes addresses, and writes down what is going to be made.
fn reserve(
    config: &Config,
    target: &Target,
    store: &Store,
) -> Result<(Vec<Given>, Record), Failure> {
    let locked = store.lock()?;
    if store.record(&target.id)?.is_some() {
        return Err(Failure::new(
            Code::Taken,
            format!(
                "{} of container {} is attached already",
                target.id.interface(),
                target.id.container()
            ),
            "DEL comes before another ADD",
        ));
    }
    let requested = [target.args.ips.as_slice(), &config.requested].concat();
    let given = locked.allocate(&target.id, &config.ranges, &requested, &config.exclude)?;
    let record = record(config, target, &given);
    if let Err(failure) = locked.write_record(&target.id, &record) {
        locked.give_back(&addresses(&given), &target.id)?;
        return Err(failure);
    }
    Ok((given, record))
}

fn addresses(given: &[Given]) -> Vec<IpAddr> {
    given.iter().map(|ip| ip.address.address).collect()
}

fn record(config: &Config, target: &Target, given: &[Given]) -> Record {
    let network = &config.identity.name;
    let mut links = vec![names::host_interface(network, &target.id)];
    if config.bandwidth.egress.is_some() {
        links.push(names::ifb(network, &target.id));
    }
    let masquerade = given.iter().filter(|_| config.masquerade);
    let mut entries: Vec<Entry> = masquerade
        .map(|ip| Entry::Masquerade {
            address: ip.address.address,
            subnet: ip.address.network(),
        })
        .collect();
    entries.extend(ports::entries(&config.ports, &addresses(given)));
    Record {
        addresses: given.iter().map(|ip| ip.address).collect(),
        links,
        entries,
    }
}

/// Makes what the record says.
fn build(
    config: &Config,
    target: &Target,
    pod: &PodNamespace,
    given: &[Given],
    record: &Record,
) -> Result<AddResult, Failure> {
    let network = &config.identity.name;
    let host = Socket::open(Family::Route)?;
    let bridge = bridge::ensure(&host, config, given)?;
    let name = names::host_interface(network, &target.id);
    let asked = config.mac.or(target.args.mac);
    let pod_mac = asked.unwrap_or_else(|| match given.first() {
        Some(ip) => names::pod_mac(network, ip.address.address),
        None => names::host_mac(network, &target.id),
    });
    let pair = Pair {
        host: &name,
        host_mac: names::host_mac(network, &target.id),
        pod: target.id.interface(),
        pod_mac,
        namespace: pod.fd.as_fd(),
        mtu: config.mtu,
        bridge: bridge.index,
    };
    link::create_pair(&host, &pair)?;
    let mode = PortMode {
        hairpin: config.hairpin,
        isolated: config.port_isolation,
    };
    // Before traffic can flow, which is when a link would look for neighbours.
    link::set_port_mode(&host, &name, mode, sysctl::exists("ipv6"))?;
    let routes = routes(config, given);
    let mtu = configure_pod(config, target, pod, given, &routes)?;
    let host_end = await_traffic(&host, &name)?;
    limit(config, target, &host, &host_end)?;
    filter(config, &bridge, record)?;
    Ok(result(
        config,
        target,
        pod,
        given,
        routes,
        &Made {
            bridge,
            host_end,
            pod_mac,
            mtu,
        },
    ))
}

/// Sets up the pod's end; gives its MTU.
fn configure_pod(
    config: &Config,
    target: &Target,
    pod: &PodNamespace,
    given: &[Given],
    routes: &[Route],
) -> Result<u32, Failure> {
    let name = target.id.interface();
    let socket = pod.within(|| {
        // Whoever knows an older owner of the address is told; no neighbour tells us of routers.
        sysctl::set_if_there(&format!("ipv4/conf/{name}/arp_notify"), "1")?;
        sysctl::set_if_there(&format!("ipv6/conf/{name}/ndisc_notify"), "1")?;
        sysctl::set_if_there(&format!("ipv6/conf/{name}/accept_ra"), "0")?;
        if given.iter().any(|ip| ip.address.address.is_ipv6()) {
            sysctl::set(&format!("ipv6/conf/{name}/disable_ipv6"), "0")?;
        }
        Ok(Socket::open(Family::Route)?)
    })?;
    let link = link::by_name(&socket, name)?.ok_or_else(|| gone(name))?;
    let family = |ipv4: bool| {
        given
            .iter()
            .filter(move |ip| ip.address.address.is_ipv4() == ipv4)
    };
    // An interface that comes up with an address announces it.
    for ip in family(true) {
        address::add(&socket, link.index, ip.address, config.detect_duplicates)?;
    }
    link::set_up(&socket, link.index)?;
    for ip in family(false) {
        address::add(&socket, link.index, ip.address, config.detect_duplicates)?;
    }
    for route in routes {
        let gateway_of_family = given
            .iter()
            .find(|ip| ip.gateway.is_ipv4() == route.destination.address.is_ipv4())
            .map(|ip| ip.gateway);
        let route = Route {
            gateway: route.gateway.or(gateway_of_family),
            ..route.clone()
        };
        route::add(&socket, link.index, &route)?;
    }
    Ok(link.mtu)
}

/// The routes as the result tells them: those of the configuration, and default ones.
fn routes(config: &Config, given: &[Given]) -> Vec<Route> {
    let mut routes = config.routes.clone();
    for ip in given.iter().filter(|_| config.is_default_gateway) {
        let all = insula_cni::Cidr {
            address: ip.gateway,
            prefix: 0,
        }
        .network();
        if !routes.iter().any(|route| route.destination == all) {
            routes.push(Route {
                destination: all,
                gateway: Some(ip.gateway),
                mtu: None,
                advmss: None,
                priority: None,
                table: None,
                scope: None,
            });
        }
    }
    routes
}

/// Waits until the bridge forwards for the new port: the first packet of the pod must not be lost.
fn await_traffic(host: &Socket, name: &str) -> Result<Link, Failure> {
    let begun = Instant::now();
    loop {
        let link = link::by_name(host, name)?.ok_or_else(|| gone(name))?;
        if link.operational {
            return Ok(link);
        }
        if begun.elapsed() > PATIENCE {
            return Err(Failure::new(
                Code::TryAgainLater,
                format!("{name} carries no traffic after {} s", PATIENCE.as_secs()),
                "both ends are up, and the kernel does not say so",
            ));
        }
        std::thread::sleep(PAUSE);
    }
}

pub(crate) fn gone(name: &str) -> Failure {
    Failure::new(
        Code::TryAgainLater,
        format!("interface {name:?} is gone"),
        "somebody removes it, or its pod ends",
    )
}

/// Sets the rates at the host's end, where the pod cannot change them.
pub(crate) fn limit(
    config: &Config,
    target: &Target,
    host: &Socket,
    host_end: &Link,
) -> Result<(), Failure> {
    if let Some(rate) = config.bandwidth.ingress {
        traffic::limit(host, host_end.index, rate)?;
    }
    if let Some(rate) = config.bandwidth.egress {
        let name = names::ifb(&config.identity.name, &target.id);
        link::create_ifb(host, &name, host_end.mtu).map_err(no_ifb)?;
        let ifb = link::by_name(host, &name)?.ok_or_else(|| gone(&name))?;
        traffic::limit(host, ifb.index, rate)?;
        traffic::redirect_incoming(host, host_end.index, ifb.index)?;
    }
    Ok(())
}

fn no_ifb(error: NetlinkError) -> Failure {
    match error.errno {
        Errno::OPNOTSUPP => Failure::new(
            Code::System,
            error.request,
            "the kernel has no ifb (module ifb), which a limit of what a pod sends needs",
        ),
        _ => error.into(),
    }
}

/// Makes the entries of the packet filter: the pod's, and what its bridge needs for them.
fn filter(config: &Config, bridge: &Link, record: &Record) -> Result<(), Failure> {
    let mut entries = ports::interface_entries(config, &bridge.name, &record.addresses);
    if config.isolation {
        entries.push(Entry::Isolated {
            interface: bridge.name.clone(),
        });
    }
    entries.extend(record.entries.iter().cloned());
    add_entries(config, &bridge.name, &entries)
}

/// Adds entries, and what the kernel needs beside them so that ports are reached.
pub(crate) fn add_entries(
    config: &Config,
    interface: &str,
    entries: &[Entry],
) -> Result<(), Failure> {
    if entries.is_empty() {
        return Ok(());
    }
    let localhost = |entry: &Entry| matches!(entry, Entry::Localhost { .. });
    if entries.iter().any(localhost) {
        // Otherwise what comes from 127.0.0.1 may not leave the host.
        sysctl::set_if_there(&format!("ipv4/conf/{interface}/route_localnet"), "1")?;
    }
    let filter = Filter::open()?;
    filter.add(entries)?;
    conntrack::forget_udp(filter.socket(), &ports::udp_ports(&config.ports))?;
    Ok(())
}

/// What was made and is told in the result.
struct Made {
    bridge: Link,
    host_end: Link,
    pod_mac: Mac,
    mtu: u32,
}

fn result(
    config: &Config,
    target: &Target,
    pod: &PodNamespace,
    given: &[Given],
    routes: Vec<Route>,
    made: &Made,
) -> AddResult {
    let dns = match (
        &config.resolv_conf,
        config.dns == crate::result::Dns::default(),
    ) {
        // A file that cannot be read is no reason to refuse a pod; STATUS tells of it.
        (Some(path), true) => resolver::read(path).unwrap_or_default(),
        _ => config.dns.clone(),
    };
    AddResult {
        interfaces: vec![
            Interface::of_host(&made.bridge.name, made.bridge.mac),
            Interface {
                mtu: Some(made.host_end.mtu),
                ..Interface::of_host(&made.host_end.name, made.host_end.mac)
            },
            Interface {
                mtu: Some(made.mtu),
                sandbox: Some(pod.path.display().to_string()),
                ..Interface::of_host(target.id.interface(), Some(made.pod_mac))
            },
        ],
        ips: given.to_vec(),
        routes,
        dns,
    }
}
