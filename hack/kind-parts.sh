# What hack/kind-image puts together: Debian's files, and the images of a control plane. Sourced.

node_packages=(
  systemd-sysv dbus                           # services, and cgroups that systemd makes
  iptables nftables conntrack ethtool         # kubelet, kube-proxy, and people
  iproute2 socat kmod procps hostname         # kubeadm's preflight, kubelet
  mount util-linux e2fsprogs                  # volumes
  bash jq curl ca-certificates                # the image's scripts, exec probes of people
)

# The node's files without Kubernetes and Insula. Of what Debian would start, what a container needs.
node_base() {
  local out=$1 tree=$1/tree units=$1/tree/usr/lib/systemd/system unit
  say "fetching the node's Debian packages (two minutes)"
  run_quietly mmdebstrap --quiet --variant=minbase --include="$(IFS=,; echo "${node_packages[*]}")" \
    --aptopt='APT::Install-Recommends "false"' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    trixie "$tree" "$(debian_archive)"
  rm -rf "$tree"/etc/systemd/system/*.wants "$tree"/var/{cache,lib}/apt "$tree"/var/log/* "$tree"/{dev,run,tmp}/*
  rm -f "$units"/{multi-user,local-fs,timers}.target.wants/* "$tree"/etc/{hostname,machine-id,resolv.conf}
  for unit in "$units"/sysinit.target.wants/* "$units"/sockets.target.wants/*; do
    case ${unit##*/} in
    systemd-journald* | systemd-tmpfiles-setup.service | systemd-sysctl.service | systemd-modules-load.service | \
      dev-mqueue.mount | dev-hugepages.mount | dbus.socket) ;;
    *) rm "$unit" ;;
    esac
  done
  ln -s ../dbus.service "$units/multi-user.target.wants/dbus.service"
  # It registers formats with the kernel, which is everybody's.
  ln -s /dev/null "$tree/etc/systemd/system/systemd-binfmt.service"
  : >"$tree/etc/machine-id"
  # The kernel's log is the host's.
  mkdir -p "$tree/etc/systemd/journald.conf.d"
  printf '[Journal]\nReadKMsg=no\nForwardToConsole=no\n' >"$tree/etc/systemd/journald.conf.d/kind.conf"
  pack "$tree" "$out/base.tar"
  rm -rf --one-file-system "$tree"
}

# kube-proxy calls iptables or nft, and modprobe.
proxy_base() {
  local out=$1 made=$1/proxy.made tree=$1/proxy.made/tree
  . "$repo/hack/image-parts/debian.sh"
  say "fetching the packages of kube-proxy's image"
  apt_prepare "$made/apt"
  debian_tree "$made/apt" "$tree" '' base-files base-passwd dash coreutils libc-bin iptables nftables kmod
  # What update-alternatives would do.
  for program in ip{,6}tables{,-save,-restore}; do
    ln -sf "${program/tables/tables-nft}" "$tree/usr/sbin/$program"
  done
  ln -sf dash "$tree/usr/bin/sh"
  rm -rf "$tree"/usr/share/{bash-completion,bug,lintian,zoneinfo} "$tree"/usr/lib/*/gconv "$tree"/usr/lib/*/perl*
  pack "$tree" "$out/proxy.tar"
  rm -rf "$made"
}

build_parts() {
  node_base "$1"
  proxy_base "$1"
}

# pack TREE OUT: the same tree gives the same bytes.
pack() {
  tar -c -C "$1" --sort=name --mtime=@1767225600 --numeric-owner --xattrs --xattrs-include='*' -f "$2" .
}

# archive OUT NAME CONFIG LAYER...: an image as `docker save` writes it, from layers' tars.
archive() {
  local out=$1 name=$2 config=$3 work layer
  shift 3
  work=$(mktemp -d "$(dirname "$out")/archive.XXXXXX")
  for layer; do sha256sum <"$layer" | cut -c1-64; done >"$work/digests"
  jq -n --arg architecture "$(dpkg --print-architecture)" --argjson config "$config" --rawfile digests "$work/digests" '
    {architecture: $architecture, os: "linux", created: "2026-01-01T00:00:00Z", config: $config,
      rootfs: {type: "layers", diff_ids: [$digests | splits("\n") | select(. != "") | "sha256:" + .]}}' >"$work/config.json"
  local layers=()
  while read -r digest; do
    mkdir "$work/$digest"
    ln -L "$1" "$work/$digest/layer.tar" 2>/dev/null || cp "$1" "$work/$digest/layer.tar"
    layers+=("$digest/layer.tar")
    shift
  done <"$work/digests"
  jq -n --arg name "$name" '[{Config: "config.json", RepoTags: [$name], Layers: $ARGS.positional}]' \
    --args "${layers[@]}" >"$work/manifest.json"
  tar -c -C "$work" --sort=name --mtime=@1767225600 --owner=0 --group=0 -f "$out" manifest.json config.json "${layers[@]}"
  rm -rf "$work"
}

# program_image OUT NAME USER PROGRAM [BASE.tar]: an image of one program.
program_image() {
  local out=$1 name=$2 user=$3 program=$4 base=${5:-} tree config
  tree=$(mktemp -d "$(dirname "$out")/tree.XXXXXX")
  chmod 0755 "$tree"
  install -D -m 0755 "$program" "$tree/usr/local/bin/$(basename "$program")"
  install -d -m 1777 "$tree/tmp"
  config=$(jq -n --arg program "/usr/local/bin/$(basename "$program")" --arg user "$user" '{
    Entrypoint: [$program], User: $user, WorkingDir: "/",
    Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}')
  pack "$tree" "$out.layer"
  archive "$out" "$name" "$config" ${base:+"$base"} "$out.layer"
  rm -rf "$tree" "$out.layer"
}

# control_plane PARTS KUBERNETES KIND OUT: an archive for each image that kubeadm asks for, by what it
# says itself.
control_plane() {
  local parts=$1 kubernetes=$2 kind=$3 out=$4 name short
  gcc -static -Os -s -o "$out/pause" "$repo/hack/image-parts/programs/pause.c"
  while read -r name; do
    short=${name##*/} && short=${short%:*}
    say "packing $name"
    case $short in
    kube-proxy) program_image "$out/$short.tar" "$name" '' "$kind/kube-proxy" "$parts/proxy.tar" ;;
    etcd) program_image "$out/$short.tar" "$name" '' "$kind/etcd" ;;
    coredns) program_image "$out/$short.tar" "$name" 65532:65532 "$kind/coredns" ;;
    pause) program_image "$out/$short.tar" "$name" 65535:65535 "$out/pause" ;;
    *) program_image "$out/$short.tar" "$name" '' "$kubernetes/$short" ;;
    esac
  done < <("$kind/kubeadm" config images list --kubernetes-version "$("$kind/kubeadm" version -o short)")
  rm "$out/pause"
}
