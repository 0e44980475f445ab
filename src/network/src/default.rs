//! The network of a node that has no configuration.

use std::path::Path;

use insula_cni::Cidr;
use serde_json::json;

use crate::conf::NetworkConf;
use crate::config::DefaultNetwork;

/// The plugin that belongs to the daemon.
pub(crate) const OWN_PLUGIN: &str = "insula-net";

/// The network's name, and so that of the directory of its addresses.
const NAME: &str = "insula";

/// The default network as if it had been read. With `pod_cidrs` the addresses come from those, by
/// the capability `ipRanges`.
pub(crate) fn network(default: &DefaultNetwork, pod_cidrs: &[Cidr]) -> Result<NetworkConf, String> {
    // A kernel that was booted without IPv6 has no such directory.
    let ipv6 = Path::new("/proc/sys/net/ipv6").is_dir();
    let ranges: Vec<_> = default
        .subnets
        .iter()
        .filter(|subnet| pod_cidrs.is_empty() && (ipv6 || subnet.address.is_ipv4()))
        .map(|subnet| json!([{"subnet": subnet.to_string()}]))
        .collect();
    let list = json!({
        "cniVersion": "1.1.0",
        "name": NAME,
        "plugins": [{
            "type": OWN_PLUGIN,
            "bridge": default.bridge,
            "isDefaultGateway": true,
            "ipMasq": true,
            "hairpinMode": true,
            "capabilities": {
                "portMappings": true, "bandwidth": true, "ipRanges": true, "ips": true, "mac": true,
            },
            "ipam": {"ranges": ranges, "dataDir": default.data_dir},
        }],
    });
    NetworkConf::parse_list(list.to_string().as_bytes(), |_| Ok(Vec::new()))
}

#[cfg(test)]
mod tests {
    use super::{OWN_PLUGIN, network};
    use crate::config::DefaultNetwork;

    #[test]
    fn ranges_are_the_clients_once_there_are_some() {
        let default = DefaultNetwork {
            bridge: "insula0".to_owned(),
            subnets: vec!["10.90.0.0/16".parse().unwrap()],
            data_dir: "/addresses".into(),
        };
        // The client's ranges, those in the configuration.
        for (pod_cidrs, expected) in [
            (vec![], r#""ranges":[[{"subnet":"10.90.0.0/16"}]]"#),
            (vec!["10.244.3.0/24".parse().unwrap()], r#""ranges":[]"#),
        ] {
            let conf = network(&default, &pod_cidrs).unwrap();
            assert_eq!(conf.plugins[0].kind.as_str(), OWN_PLUGIN);
            assert!(conf.declares("ipRanges") && conf.declares("portMappings"));
            let written = serde_json::to_string(&conf).unwrap();
            assert!(written.contains(expected), "{written}");
        }
    }
}
