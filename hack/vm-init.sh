#!/bin/bash
# Process 1 of hack/vm's guest: what a node's init has set up before a container runtime starts,
# then the command. With VM_SYSTEMD it becomes systemd, which runs it again as a service for the
# command. Its output goes to the first serial line, everything else to the second,
# where the last line is `hack-vm-exit: N`. With VM_REBOOTS a command that ends with 100 is run once more
# after a reboot, on a machine that comes up as a node does.
set -u
console=/dev/ttyS1
exec <"/dev/null" >"$console" 2>&1

mount_all() {
  mountpoint -q /proc || mount -t proc proc /proc
  mountpoint -q /sys || mount -t sysfs sysfs /sys
  mountpoint -q /dev || mount -t devtmpfs devtmpfs /dev
  mountpoint -q /run || mount -t tmpfs -o mode=0755,nosuid,nodev tmpfs /run
  mount -o remount,rw /
  mkdir -p /dev/pts /dev/shm /dev/mqueue /run/netns /run/lock
  mountpoint -q /dev/pts || mount -t devpts devpts /dev/pts
  mount -o remount,gid=5,mode=0620,ptmxmode=0666 /dev/pts
  mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /dev/shm
  mount -t mqueue mqueue /dev/mqueue
  mount -t securityfs securityfs /sys/kernel/security
  mount -t bpf bpf /sys/fs/bpf
  # As systemd mounts it: controllers for everybody, limits that a child cannot loosen.
  mount -t cgroup2 -o nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup
  mount --make-rshared /
}

give_controllers() {
  local controller
  for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
    echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
  done
}

# The checkout where the host has it, and a cache that finds what the payload brought.
link_payload() {
  [ ! -e "$VM_REPO" ] || return 0
  mkdir -p "$(dirname "$VM_REPO")" /root/.cache
  ln -s /mnt/repo "$VM_REPO"
  cp -rs /mnt/cache /root/.cache/insula
}

# Loads the policy, where the kernel has SELinux, and labels everything as on a node: what the policy
# calls for takes setfiles half a minute, and the daemon is a container engine by its program's label.
start_selinux() {
  [ -z "${VM_SELINUX:-}" ] && return
  printf 'SELINUX=%s\nSELINUXTYPE=default\n' "$VM_SELINUX" >/etc/selinux/config
  mount -t selinuxfs selinuxfs /sys/fs/selinux
  load_policy
  setfiles -F /etc/selinux/default/contexts/files/file_contexts / /dev /run
  local program
  install -D -t /usr/local/lib/insula /mnt/bin/insula{,-pod,-net}
  chcon -t bin_t /usr/local/lib/insula/*
  chcon -t crio_exec_t /usr/local/lib/insula/insula
  for program in insula{,-pod,-net}; do mount --bind "/usr/local/lib/insula/$program" "/mnt/bin/$program"; done
  # Debian has plugins elsewhere than the policy knows them, and an engine may not ask for modules.
  chcon -t container_plugin_t /usr/lib/cni/*
  modprobe -a overlay bridge veth
  # What hack/daemon makes, as /run/insula and /var/lib/insula are.
  mkdir /var/lib/insula-test
  chcon -t container_var_lib_t /var/lib/insula-test
  export TMPDIR=/var/lib/insula-test
  # From the kernel's domain to that of init scripts, which start daemons.
  install -D -t /usr/local/lib/init "$(command -v busybox)"
  chcon -t init_exec_t /usr/local/lib/init/busybox
  label=(/usr/local/lib/init/busybox env)
}

# Gives process 1 to systemd.
become_systemd() {
  local units=/run/systemd/system
  mount -t tmpfs -o mode=0755,nosuid,nodev tmpfs /run
  mkdir -p "$units"
  cat >"$units/insula-vm.target" <<'END'
[Unit]
Requires=basic.target dbus.socket
After=basic.target dbus.socket
Wants=insula-vm.service
END
  [ "${VM_REBOOTS:-no}" = no ] || {
    echo Wants=multi-user.target >>"$units/insula-vm.target"
    # It would hang up the line that this script writes to.
    ln -s /dev/null "$units/serial-getty@ttyS1.service"
  }
  cat >"$units/insula-vm.service" <<'END'
[Unit]
Wants=dbus.service
After=basic.target dbus.service
[Service]
Type=oneshot
ExecStart=/bin/bash /mnt/init
TimeoutStartSec=infinity
Delegate=yes
TasksMax=infinity
END
  exec /lib/systemd/systemd
}

label=()
. /mnt/environment
if [ "${VM_SYSTEMD:-no}" = no ]; then
  mount_all
  give_controllers
elif [ $$ = 1 ]; then
  become_systemd
fi
start_selinux
link_payload
hostname -F /etc/hostname
ip link set lo up
# A stack of a kernel that is stuck, before the host's patience ends.
echo 10 >/proc/sys/kernel/printk
dmesg -n 4
export HOME=/root TERM=${VM_TERM:-dumb} PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
cd "$VM_REPO" || exit

if [ "$VM_INTERACTIVE" = yes ]; then
  stty -F /dev/ttyS0 sane
  stty -F /dev/ttyS0 rows "$VM_ROWS" cols "$VM_COLUMNS"
else
  stty -F /dev/ttyS0 raw -echo
fi
echo "up after $(cut -d' ' -f1 /proc/uptime) s"
"${label[@]}" /usr/bin/setsid -w -c /bin/bash /mnt/command <>/dev/ttyS0 >&0 2>&1
status=$?
sync
if [ "${VM_REBOOTS:-no}" = yes ] && [ "$status" = 100 ]; then
  systemctl reboot --no-block
  exit
fi
echo "hack-vm-exit: $status"
# The line must be out before the machine is gone.
stty -F "$console" -echo
if [ "${VM_REBOOTS:-no}" = yes ]; then busybox poweroff -f; else busybox reboot -f; fi
