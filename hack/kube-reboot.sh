# What a loss of power does to the node of hack/kube: nothing of it runs any more, what its kernel and its
# /run held is gone, what was on its disk is there. The control plane is taken for another machine's.
# Sourced by kube-cluster.sh.

# Who asks for the id of the boot is told the cluster's own, so that it can change.
node_boot() {
  cp /proc/sys/kernel/random/boot_id "$dir/boot_id"
  mount --bind "$dir/boot_id" /proc/sys/kernel/random/boot_id
}

# The groups of kubelet and the runtime with all that they started, of supervisors, and of pods.
node_groups() {
  find /sys/fs/cgroup -mindepth 1 -depth -type d '(' -path '/sys/fs/cgroup/*/kubepods*' -o -path '/sys/fs/cgroup/kubepods*' \
    -o -path "*/$(cat "$dir/daemon/bridge")*" -o -name runtime -o -name kubelet ')' 2>/dev/null
}

# One process may make another while it is looked for: until there is none.
node_killed() {
  local processes
  processes=$(node_groups | sed 's,$,/cgroup.procs,' | xargs cat 2>/dev/null | sort -u) || true
  [ -n "$processes" ] || return 0
  xargs kill -9 <<<"$processes" || true
  return 1
}

# Unmounted are kubelet's volumes and the runtime's state, which is a tmpfs as /run is on a node.
node_memory_lost() {
  local family path
  ! mountpoint -q "$dir/daemon/state" || umount --recursive "$dir/daemon/state"
  mount -t tmpfs -o mode=0711 tmpfs "$dir/daemon/state"
  while read -r path; do umount "$path"; done < <(findmnt -rn -o TARGET | grep '^/var/lib/kubelet/' | tac)
  node_groups | xargs rmdir
  ip link delete "$(cat "$dir/daemon/bridge")" 2>/dev/null || true
  for family in iptables ip6tables; do "$family-save" | grep -v CNI- | "$family-restore"; done
  nft delete table inet insula 2>/dev/null || true
}

no_pairs() { [ -z "$(ip -o link show type veth | grep -v ': node[01]@')" ]; }

reboot_node() {
  touch "$dir/stopped/kubelet" "$dir/stopped/$runtime"
  wait_for "the end of everything on the node" 30 node_killed
  # The kernel takes network namespaces apart a while after their last process.
  node_memory_lost
  wait_for "the end of the pods' interfaces" 30 no_pairs
  cat /proc/sys/kernel/random/uuid >"$dir/boot_id"
  start_program "$runtime"
  start_program kubelet
}
