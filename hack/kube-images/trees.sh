# The layers of the images that Kubernetes' node suite wants. Sourced by hack/images.

# One tree of tools serves all images that upstream builds on Alpine, Debian or perl.
tools_parts() {
  local tree=$1/trees/tools
  mkdir -p "$1/trees"
  debian_tree "$1/apt" "$tree" '' base-files base-passwd bash bind9-dnsutils coreutils curl dash findutils grep \
    hostname iperf iproute2 iptables libc-bin mawk ncurses-bin netcat-openbsd perl procps sed sysvinit-utils util-linux
  # What the scripts of base-files and base-passwd would do.
  rmdir "$tree"/var/{run,lock}
  ln -s /run "$tree/var/run"
  ln -s /run/lock "$tree/var/lock"
  cp "$tree/usr/share/base-passwd/passwd.master" "$tree/etc/passwd"
  cp "$tree/usr/share/base-passwd/group.master" "$tree/etc/group"
  ln -sf dash "$tree/usr/bin/sh"
  # And what update-alternatives would.
  ln -sf nc.openbsd "$tree/usr/bin/nc"
  ln -sf iptables-nft "$tree/usr/sbin/iptables"
  ln -sf mawk "$tree/usr/bin/awk"
  # The suite's scripts take time stamps with an applet of Alpine's busybox.
  mkdir -p "$1/stock"
  tar -xf "$parts/busybox.tar" -C "$1/stock" bin
  cp "$1/stock/bin/busybox" "$tree/usr/bin/nmeter"
  rm -rf "$tree"/usr/share/{bash-completion,bug,lintian,zoneinfo}
}

# The program of most of the suite's containers, with what its image has around it.
agnhost_parts() {
  local tree=$1/trees/agnhost source
  source=$(cd "$repo/hack/kube-tools" && go list -m -f '{{.Dir}}' k8s.io/kubernetes)/test/images/agnhost
  mkdir -p "$tree"/{uploads,etc,home/user-defined-in-image,var/registry}
  cp "$("$repo/hack/tool" agnhost)" "$tree/agnhost"
  ln -s agnhost "$tree/agnhost-2"
  install -m 0644 "$source"/porter/localhost.{crt,key} "$tree/"
  { cat "$1/trees/tools/etc/passwd" &&
    echo 'user-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh'; } >"$tree/etc/passwd"
  { cat "$1/trees/tools/etc/group" && echo 'user-defined-in-image:x:1000:' &&
    echo 'group-defined-in-image:x:50000:user-defined-in-image'; } >"$tree/etc/group"
  # Its registry serves one small image from a directory.
  python3 "$repo/hack/image-build.py" layout "$repo/hack/kube-images/registry.toml" "$parts" "$tree/var/registry"
  # The plugin of the specs of devices.
  mkdir -p "$1/trees/device-plugin"
  cp "$("$repo/hack/tool" sample-device-plugin)" "$1/trees/device-plugin/sampledeviceplugin"
  # What is mounted as an image volume: the names of a picture and of a system are looked for there.
  tree=$1/trees/kitten
  mkdir -p "$tree/etc"
  echo '{"image": "kitten.jpg"}' >"$tree/data.json"
  echo 'NAME="Alpine Linux"' >"$tree/etc/os-release"
  echo 'root:x:0:0:root:/root:/bin/sh' >"$tree/etc/passwd"
}
