# The network of a test daemon: a bridge and a subnet that nobody else uses. Sourced by hack/daemon.

# A /20 in 10.64.0.0/10 that no route of this host leads to.
network_subnet() {
  local candidate used
  used=$(ip -4 route show table all | grep -oE '10\.[0-9]+\.' | sort -u || true)
  for _ in $(seq 100); do
    candidate=10.$((64 + RANDOM % 64)).
    grep -qxF "$candidate" <<<"$used" || { echo "${candidate}$((RANDOM % 16 * 16)).0/20" && return; }
  done
  die "no free subnet in 10.64.0.0/10"
}

# network_config DIR: what the daemon's section [cni] says.
network_config() {
  local plugins=${INSULA_CNI_BIN:-}
  if [ "${INSULA_NETWORK:-}" = insula-net ]; then
    plugins=$([ -n "${INSULA_BIN:-}" ] && dirname "$INSULA_BIN" || "$repo/hack/build")
  fi
  printf 'conf_dir = "%s/cni"\nbin_dirs = [%s"/usr/lib/cni", "/opt/cni/bin"]\n' "$1" "${plugins:+\"$plugins\", }"
}

# default_network DIR: what Insula's own network is made of.
default_network() {
  printf 'default_bridge = "%s"\ndefault_subnets = ["%s"]\n' "$(cat "$1/bridge")" "$(cat "$1/subnet")"
}

# network_prepare DIR: writes DIR/cni, notes what the host's packet filter had. INSULA_NETWORK is reference
# (if it is not set), insula-net, or own, which leaves DIR/cni empty: the daemon's own network then has that
# bridge and subnet.
network_prepare() {
  local bridge subnet
  bridge=insula$(printf '%04x' $RANDOM)
  subnet=$(network_subnet)
  echo "$bridge" >"$1/bridge"
  echo "$subnet" >"$1/subnet"
  case ${INSULA_NETWORK:-reference} in
  own | insula-net) nft list table inet insula >/dev/null 2>&1 || touch "$1/own-table" ;;
  reference)
    { iptables-save -t nat; ip6tables-save -t nat; } 2>/dev/null | grep '^:CNI-' | cut -d' ' -f1 >"$1/chains" || true
    ;;
  *) die "no network is called '$INSULA_NETWORK': reference, insula-net, own" ;;
  esac
  [ "${INSULA_NETWORK:-}" = own ] || network_file "$1" "$bridge" "$subnet" >"$1/cni/10-insula.conflist"
}

# network_file DIR BRIDGE SUBNET: the same network of one plugin or of four.
network_file() {
  local bridge addresses capabilities='"capabilities": {"portMappings": true, "bandwidth": true}'
  bridge="\"bridge\": \"$2\", \"isGateway\": true, \"ipMasq\": true, \"hairpinMode\": true"
  addresses="\"dataDir\": \"$1/addresses\", \"ranges\": [[{\"subnet\": \"$3\"}]], \"routes\": [{\"dst\": \"0.0.0.0/0\"}]"
  echo '{"cniVersion": "1.0.0", "name": "insula-test", "plugins": ['
  if [ "${INSULA_NETWORK:-}" = insula-net ]; then
    echo "{\"type\": \"insula-net\", $bridge, $capabilities, \"ipam\": {$addresses}}"
  else
    echo "{\"type\": \"bridge\", $bridge, \"ipam\": {\"type\": \"host-local\", $addresses}},"
    echo '{"type": "portmap", "capabilities": {"portMappings": true}, "snat": true},'
    echo '{"type": "bandwidth", "capabilities": {"bandwidth": true}}'
  fi
  echo ']}'
}

# The chains that portmap makes once for all pods and never removes; those of a pod it removes itself.
network_chains="CNI-HOSTPORT-DNAT CNI-HOSTPORT-MASQ CNI-HOSTPORT-SETMARK"

# network_remove DIR: takes down what belongs to the network and not to a pod.
network_remove() {
  local family chain rule
  [ -e "$1/bridge" ] || return 0
  ip link del "$(cat "$1/bridge")" 2>/dev/null || true
  [ ! -e "$1/own-table" ] || nft delete table inet insula 2>/dev/null || true
  [ -e "$1/chains" ] || return 0
  for family in iptables ip6tables; do
    for chain in $network_chains; do
      ! grep -qxF ":$chain" "$1/chains" || continue
      "$family" -t nat -S 2>/dev/null | grep -E -- "^-A (PREROUTING|OUTPUT|POSTROUTING) .*-j $chain\$" |
        while read -r rule; do xargs "$family" -t nat <<<"-D ${rule#-A }" || true; done || true
    done
    # A chain that still leads to a pod's own is not empty: that is then reported as left behind.
    for chain in $network_chains; do
      grep -qxF ":$chain" "$1/chains" || remove_chain "$family" "$chain"
    done
  done
}

# Only what portmap puts into its chains by itself may be in them.
remove_chain() {
  local rules
  rules=$("$1" -t nat -S "$2" 2>/dev/null) || return 0
  if grep -qE -- '-j CNI-(DN|SN)-' <<<"$rules"; then return 0; fi
  "$1" -t nat -F "$2" && "$1" -t nat -X "$2" || true
}

# network_left DIR: addresses that no pod gave back.
network_left() {
  find "$1/addresses" "$1/root/addresses" -type f -name '*.*.*.*' -not -name 'last_reserved_ip*' -printf 'address %f\n' 2>/dev/null || true
}
