# The guest of `hack/vm kind`, and what its second disk holds. Sourced by hack/vm.

vm_kind_packages=(podman netavark aardvark-dns crun conmon) # kind's podman provider

vm_kind_guest_build() {
  vm_packages+=("${vm_kind_packages[@]}")
  vm_guest_build "$1"
  # The node's image, as an archive, as podman's layers and as a volume.
  truncate -s 16G "$1/disk"
  run_quietly resize2fs "$1/disk"
}

# kind_payload DIR BINARIES
kind_payload() {
  local dir=$1 part
  mkdir "$dir/kind"
  INSULA_BIN_DIR=$2 "$repo/hack/kind-image" --output "$dir/kind/node.tar" >&2
  install -m 0755 "$("$repo/hack/tool" kind)" "$("$repo/hack/tool" kubectl)" "$dir/bin/"
  # An image for `kind load image-archive`: the tests' own.
  part=$cache/image-parts/$(hash_of hack/image-parts hack/images)/busybox.tar
  (
    . "$repo/hack/kind-parts.sh"
    archive "$dir/kind/busybox.tar" registry.k8s.io/e2e-test-images/busybox:1.29-2 '{"Cmd": ["sh"]}' "$part"
  )
}
