# The machine of hack/vm: QEMU, and a Debian 13 guest in the cache. Sourced by hack/vm.

vm_packages=(
  linux-image-cloud-amd64          # 6.12: the newest kernel of a Debian release
  systemd-sysv dbus                # for the systemd cgroup driver
  apparmor sudo                    # the default profile; critest's specs load profiles by sudo
  selinux-policy-default policycoreutils # hack/vm --selinux
  containernetworking-plugins      # bridge, host-local, portmap, bandwidth, loopback
  crun runc                        # external runtimes that handlers name
  docker-registry apache2-utils    # hack/registry
  openssl curl ca-certificates     # hack/registry
  iproute2 iptables nftables kmod  # what the plugins and the scripts drive
  busybox-static e2fsprogs jq procps python3 util-linux util-linux-extra xz-utils zstd
)

# QEMU 7.2, which Debian 12 has, corrupts guests with two processors: 10 is in its backports.
vm_qemu() {
  local codename list
  case $(qemu-system-x86_64 --version 2>/dev/null || true) in
  'QEMU emulator version '[1-9][0-9].*) return ;;
  esac
  [ "$(id -u)" = 0 ] || die "QEMU 10 or newer is missing: install qemu-system-x86 as root"
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:?this is not a Debian release}")
  if [ "$codename" = bookworm ]; then
    list=/etc/apt/sources.list.d/$codename-backports.sources
    if ! apt-get indextargets --format '$(SUITE) $(CODENAME)' | grep -q "$codename-backports"; then
      say "adding $codename-backports to apt's sources: $list"
      printf '%s\n' 'Types: deb' "URIs: $(debian_archive)" "Suites: $codename-backports" 'Components: main' \
        'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg' >"$list"
    fi
    set -- -t "$codename-backports"
  fi
  say "installing QEMU"
  run_quietly apt_get -q update || say "apt-get update failed: going on with the lists there are"
  DEBIAN_FRONTEND=noninteractive run_quietly apt_get -q -y --no-install-recommends "$@" install qemu-system-x86 ||
    die "apt-get could not install QEMU"
}

# vm_guest_build OUT: disk, vmlinuz and initrd.
vm_guest_build() {
  local out=$1 tree=$1/tree
  say "making the guest's disk (about a minute)"
  run_quietly mmdebstrap --quiet --variant=minbase --components=main \
    --include="$(IFS=,; echo "${vm_packages[*]}")" --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --essential-hook="sync-in '$repo/hack/vm-guest' /" \
    trixie "$tree" "$(debian_archive)"
  cp "$tree"/boot/vmlinuz-* "$out/vmlinuz"
  cp "$tree"/boot/initrd.img-* "$out/initrd"
  # The node suite reads the kernel's configuration.
  rm -rf "$tree"/boot/{vmlinuz,initrd}*
  truncate -s 6G "$out/disk"
  run_quietly mke2fs -t ext4 -m 0 -d "$tree" "$out/disk"
  rm -rf --one-file-system "$tree"
}
