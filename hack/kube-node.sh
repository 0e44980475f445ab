# What a machine needs to be a node, in namespaces of its own. Sourced by hack/kube and hack/node-suite.

node=insula-node
node_address=10.200.0.2

# node_names DIR: kubelet looks its own name up before it registers. Others end at once: a name server
# that nothing leads to would hold up everybody for 20 seconds.
node_names() {
  { cat /etc/hosts && echo "$node_address $node"; } >"$1/hosts"
  echo 'nameserver 127.0.0.1' >"$1/resolv.conf"
  mount --bind "$1/hosts" /etc/hosts
  mount --bind "$1/resolv.conf" "$(realpath /etc/resolv.conf)"
}

# Kubelet and the API server want an address that is not loopback's, and a default route to find it.
node_network() {
  ip link add node0 type veth peer name node1
  ip address add "$node_address/24" dev node0
  ip link set node0 up
  ip link set node1 up
  ip route add default via "${node_address%.*}.1" dev node0
  echo 1 >/proc/sys/net/ipv4/ip_forward
}

# node_directories DIR: what kubelet keeps in fixed places is in DIR, for this run alone. Mounted are the
# directories above those: one that is empty on the host, and that anybody removes there, is unmounted
# here.
node_directories() {
  local path
  for path in /var/lib /var/log; do
    mkdir -p "$1/node$path"
    mount --bind "$1/node$path" "$path"
    # No peer of what it was taken from: a volume is mounted once.
    mount --make-private "$path"
    mount --make-rshared "$path"
  done
  mkdir -p /var/lib/kubelet /var/log/pods /var/log/containers
}

# node_group NAME PID: the runtime and kubelet have cgroups of their own, /runtime and /kubelet, as services
# have; kubelet shows what the runtime uses if it is told the group's name.
node_group() {
  local hierarchy file
  while read -r hierarchy; do
    mkdir -p "$hierarchy/$1"
    # Version 1's, which begins empty.
    [ ! -e "$hierarchy/$1/cpuset.cpus" ] || for file in cpuset.cpus cpuset.mems; do
      cat "$hierarchy/$file" >"$hierarchy/$1/$file"
    done
    echo "$2" >"$hierarchy/$1/cgroup.procs"
  done < <(findmnt -rn -t cgroup,cgroup2 -o TARGET | sort -u)
}

# The suite has everybody moved to /system. Not at once: processes come and go meanwhile.
node_forget_groups() {
  local group home pid
  local ours=('(' -path '*/kubepods*' -o -name 'kubelet*' -o -name system -o -name runtime ')')
  for _ in 1 2 3 4 5; do
    for group in /sys/fs/cgroup/{,*/}{system,runtime,kubelet,kubelet.slice}; do
      [ -d "$group" ] || continue
      # Where hack/private has put everybody, with version 2.
      home=$group/..
      [ ! -d "$home/main" ] || home+=/main
      while read -r pid; do echo "$pid" >"$home/cgroup.procs" || true; done <"$group/cgroup.procs" 2>/dev/null
    done
    find /sys/fs/cgroup -mindepth 1 -depth -type d "${ours[@]}" -exec rmdir {} + 2>/dev/null || true
    [ -n "$(find /sys/fs/cgroup -mindepth 1 -type d "${ours[@]}" -print -quit)" ] || return 0
    sleep 0.3
  done
}

# What kubelet and its suite leave on purpose, for the next start: cgroups, and chains.
node_forget_kubelet() {
  local family
  node_forget_groups
  for family in iptables ip6tables; do
    "$family-save" | grep -v KUBE- | "$family-restore"
  done
}
