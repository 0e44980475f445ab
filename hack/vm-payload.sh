# The second disk of hack/vm's guest, and the suite for it. Sourced by hack/vm.

# payload DIR INTERACTIVE COMMAND...: what the second disk holds.
payload() {
  local dir=$1 interactive=$2 images tools binaries program
  shift 2
  images=$("$repo/hack/images")
  tools=$(dirname "$("$repo/hack/tool" crictl)")
  binaries=${INSULA_BIN_DIR:-$("$repo/hack/build")}
  mkdir -p "$dir"/{repo,bin/e2e-programs,cache/images} "$dir/cache/tools/$(basename "$tools")"
  install -m 0755 "$repo/hack/vm-init.sh" "$dir/init"
  tar -c -C "$repo" --exclude=./target --exclude=./.git . | tar -x -C "$dir/repo"
  install -m 0755 "$binaries/insula" "$binaries/insula-pod" "$binaries/insula-net" "$dir/bin"
  [ -z "$suite" ] || install -m 0755 "$suite" "$dir/bin/insula-e2e"
  if [ "$reboots" = yes ]; then
    mkdir "$dir/packages"
    INSULA_BIN_DIR=$binaries "$repo/hack/package" --output "$dir/packages" deb >&2
    cp "$("$repo/hack/tool" kubelet)" "$dir/bin/"
  fi
  [ "$kind" = no ] || kind_payload "$dir" "$binaries"
  cp -a "$images" "$dir/cache/images/"
  [ "$kubernetes" = no ] || payload_kubernetes "$dir"
  cp "$tools"/{crictl,critest} "$dir/cache/tools/$(basename "$tools")/"
  # The suite builds its programs where it finds no newer ones; the guest has no compiler.
  for program in "$repo"/e2e/src/programs/*.c; do
    cp "$program" "$dir/bin/e2e-programs/"
    gcc -static -O1 -o "$dir/bin/e2e-programs/$(basename "$program" .c)" "$program"
  done
  {
    echo "export INSULA_BIN_DIR=/mnt/bin INSULA_BIN=/mnt/bin/insula INSULA_REPOSITORY=$repo"
    echo 'export PATH=/mnt/bin:$PATH'
    echo "export INSULA_CGROUP_DRIVER=$driver"
    echo "exec $(printf '%q ' "$@")"
  } >"$dir/command"
  {
    printf '%s=%q\n' VM_REPO "$repo" VM_INTERACTIVE "$interactive" VM_TERM "${TERM:-dumb}" VM_SYSTEMD "$systemd" VM_SELINUX "$selinux" VM_REBOOTS "$reboots"
    read -r VM_ROWS VM_COLUMNS < <(stty size 2>/dev/null || echo 24 80)
    printf '%s=%q\n' VM_ROWS "$VM_ROWS" VM_COLUMNS "$VM_COLUMNS"
  } >"$dir/environment"
}

# What the node suite needs besides: its programs, and its images.
payload_kubernetes() {
  local program path to
  for program in etcd kubelet e2e_node.test ginkgo; do
    path=$("$repo/hack/tool" "$program")
    to=$1/cache/tools/$(basename "$(dirname "$path")")
    mkdir -p "$to"
    cp "$path" "$to/"
  done
  cp -a "$("$repo/hack/images" --kubernetes)" "$1/cache/images/"
}

# build_suite: sets suite, unless it is given.
build_suite() {
  [ -z "$suite" ] || return 0
  export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
  say "building the suite"
  (cd "$repo" && cargo build --quiet --locked -p insula-e2e --bin insula-e2e >&2)
  suite=$CARGO_TARGET_DIR/debug/insula-e2e
}

# start INTERACTIVE COMMAND...: makes the second disk, and boots with it.
start() {
  guest
  work=$(mktemp -d "${TMPDIR:-/var/tmp}/insula-vm.XXXXXX")
  payload "$work/payload" "$@"
  run_quietly mke2fs -t ext4 -m 0 -O ^has_journal -d "$work/payload" "$work/payload.disk" \
    "$(($(du -sm --apparent-size "$work/payload" | cut -f1) * 5 / 4 + 32))m"
  rm -rf "$work/payload"
  boot "$1"
}
