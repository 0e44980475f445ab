# What hack/node-suite starts kubelet with, in its directory $dir. Sourced by it.

# suite_path: the directory $dir/bin is the suite's PATH. It takes systemd for running wherever it finds
# its programs, and calls sudo. Where systemd does not run, kubelet is started and restarted by
# hack/node-suite-units in its place.
suite_path() {
  local path program
  mkdir -p "$dir/bin"
  for path in /usr/bin/* /usr/sbin/* /bin/* /sbin/*; do
    case ${path##*/} in
    systemd-run | systemctl) [ ! -d /run/systemd/system ] || ln -sf "$path" "$dir/bin/" ;;
    journalctl | sudo) ;;
    *) [ -e "$dir/bin/${path##*/}" ] || ln -s "$path" "$dir/bin/${path##*/}" ;;
    esac
  done
  [ -d /run/systemd/system ] || for program in systemd-run systemctl; do
    ln -s "$repo/hack/node-suite-units" "$dir/bin/$program"
  done
  mkdir -p "$dir/units"
  ln -sf "$("$repo/hack/tool" etcd)" "$dir/bin/etcd"
  printf '#!/bin/sh\n# Whoever calls this is root already.\nexec "$@"\n' >"$dir/bin/sudo"
  chmod 0755 "$dir/bin/sudo"
}

# Without systemd the suite looks for what the system's own processes use, in a cgroup of theirs.
kubelet_configuration() {
  [ -d /run/systemd/system ] || echo 'systemCgroups: /system'
  cat <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupRoot: /
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
serializeImagePulls: false
fileCheckFrequency: 10s
volumeStatsAggPeriod: 10s
volumePluginDir: $dir/volume-plugins
podCIDR: 10.100.0.0/24
evictionPressureTransitionPeriod: 30s
# The disk is the machine's, and others use it.
evictionHard: {memory.available: 250Mi, nodefs.available: 1%, nodefs.inodesFree: 1%}
evictionMinimumReclaim: {nodefs.available: 1%, nodefs.inodesFree: 1%}
END
}
