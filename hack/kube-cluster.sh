# The inside of hack/kube: the programs of a cluster with one node, and who keeps them running.
# Sourced by hack/kube; everything is in $dir.

programs=("$runtime" etcd kube-apiserver kube-controller-manager kube-scheduler kubelet)
. "$repo/hack/kube-node.sh"
. "$repo/hack/kube-config.sh"
. "$repo/hack/kube-reboot.sh"

pid_file() { if [ "$1" = "$runtime" ]; then echo "$dir/daemon/pid"; else echo "$dir/pid/$1"; fi; }

# The arguments of a program, one a line.
arguments_of() {
  case $1 in
  etcd)
    # Nobody reads this cluster's state after a power cut.
    printf '%s\n' --data-dir "$dir/etcd" --unsafe-no-fsync --log-level warn
    ;;
  kube-apiserver)
    printf '%s\n' --etcd-servers http://127.0.0.1:2379 --secure-port 6443 --advertise-address "$node_address" \
      --tls-cert-file "$dir/pki/apiserver.crt" --tls-private-key-file "$dir/pki/apiserver.key" \
      --client-ca-file "$dir/pki/ca.crt" --authorization-mode Node,RBAC \
      --enable-admission-plugins NodeRestriction --allow-privileged --service-cluster-ip-range 10.96.0.0/24 \
      --kubelet-client-certificate "$dir/pki/admin.crt" --kubelet-client-key "$dir/pki/admin.key" \
      --kubelet-preferred-address-types InternalIP --service-account-issuer https://kubernetes.default.svc \
      --service-account-key-file "$dir/pki/service-accounts.pub" \
      --service-account-signing-key-file "$dir/pki/service-accounts.key"
    ;;
  kube-controller-manager)
    printf '%s\n' --kubeconfig "$dir/kube-controller-manager.kubeconfig" --use-service-account-credentials \
      --service-account-private-key-file "$dir/pki/service-accounts.key" --root-ca-file "$dir/pki/ca.crt" \
      --leader-elect=false
    ;;
  kube-scheduler) printf '%s\n' --kubeconfig "$dir/kube-scheduler.kubeconfig" --leader-elect=false ;;
  kubelet)
    printf '%s\n' --config "$dir/kubelet.yaml" --kubeconfig "$dir/kubelet.kubeconfig" \
      --hostname-override "$node" --node-ip "$node_address" --v 2
    ;;
  esac
}

start_one() {
  local name=$1 program arguments
  if [ "$name" = "$runtime" ]; then
    (node_group runtime "$BASHPID" && exec "$runtime_daemon" start --dir "$dir/daemon")
    return
  fi
  mapfile -t arguments < <(arguments_of "$name")
  program=$("$repo/hack/tool" "$name")
  (
    [ "$name" != kubelet ] || node_group kubelet "$BASHPID"
    exec setsid "$program" "${arguments[@]}" >>"$dir/log/$name" 2>&1 </dev/null
  ) &
  echo $! >"$(pid_file "$name")"
}

alive() {
  local pid
  pid=$(cat "$(pid_file "$1")" 2>/dev/null) && [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null
}

# Stops a program and waits for its end; the daemon is stopped by hack/daemon.
end_one() {
  local pid
  alive "$1" || return 0
  pid=$(cat "$(pid_file "$1")")
  kill "$pid"
  for _ in $(seq 200); do
    kill -0 "$pid" 2>/dev/null || return 0
    sleep 0.1
  done
  say "$1 had to be killed: it did not end within 20 s of SIGTERM"
  kill -9 "$pid"
}

program_named() {
  [[ " ${programs[*]} " = *" ${1:-} "* ]] || die "no program is called '${1:-}': see hack/kube --help"
}

# Until it is gone, or back: what follows in a test depends on it.
stop_program() {
  program_named "$1"
  touch "$dir/stopped/$1"
  kill -9 "$(cat "$(pid_file "$1")")" || true
  wait_for "the end of $1 after SIGKILL" 10 ended "$1"
}

start_program() {
  program_named "$1"
  rm -f "$dir/stopped/$1"
  wait_for "$1 to be started" 30 alive "$1"
}

ended() { ! alive "$1"; }

# wait_for WHAT SECONDS COMMAND...
wait_for() {
  local what=$1 seconds=$2
  shift 2
  for _ in $(seq $((seconds * 5))); do
    "$@" >/dev/null 2>&1 && return
    sleep 0.2
  done
  die "waited $seconds s for $what in vain: the logs are in $dir/log"
}

node_ready() {
  [ "$(kubectl_inside get node "$node" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')" = True ]
}

kubectl_inside() { timeout 20 "$("$repo/hack/tool" kubectl)" --kubeconfig "$dir/admin.kubeconfig" "$@"; }

# Programs that end are started again until somebody wants the end.
keep_running() {
  local name
  # A pause without a process of its own.
  mkfifo "$dir/never"
  exec {never}<>"$dir/never"
  until [ -e "$dir/end" ]; do
    for name in "${programs[@]}"; do
      alive "$name" || [ -e "$dir/stopped/$name" ] || { say "starting $name again" && start_one "$name" || true; }
    done
    read -r -t 0.3 -u "$never" || true
  done
}

# What is deleted through the API is deleted by kubelet, as on a node that is drained for good.
delete_everything() {
  local kind
  rm -f "$dir"/stopped/*
  for name in "${programs[@]}"; do alive "$name" || start_one "$name"; done
  wait_for "the API server" 30 kubectl_inside get --raw /readyz
  for kind in cronjobs daemonsets,deployments,statefulsets,replicasets,replicationcontrollers,jobs pods; do
    timeout 120 "$("$repo/hack/tool" kubectl)" --kubeconfig "$dir/admin.kubeconfig" delete --all-namespaces --all \
      "$kind" --wait=true >&2 || { say "$kind: not all could be deleted" && return 1; }
  done
  wait_for "kubelet to remove every pod's directory" 60 \
    bash -c "[ -z \"\$(ls '$dir/node/var/lib/kubelet/pods' 2>/dev/null)\" ]"
}

node_end() {
  local status=0 name
  (delete_everything) || status=1
  for name in kubelet kube-scheduler kube-controller-manager kube-apiserver etcd; do end_one "$name"; done
  node_forget_kubelet
  "$runtime_daemon" down --dir "$dir/daemon" >"$dir/left" || status=1
  echo "$status" >"$dir/result"
}

node_main() {
  local name
  mkdir -p "$dir"/{pid,stopped,static-pods}
  node_network
  node_names "$dir"
  node_directories "$dir"
  node_boot
  write_certificates
  write_configuration
  STATE_ON_TMPFS=1 "$runtime_daemon" up --dir "$dir/daemon"
  node_group runtime "$(cat "$(pid_file "$runtime")")"
  for name in etcd kube-apiserver; do start_one "$name"; done
  wait_for "the API server" 60 kubectl_inside get --raw /readyz
  for name in kube-controller-manager kube-scheduler kubelet; do start_one "$name"; done
  wait_for "the node to be Ready" 60 node_ready
  touch "$dir/ready"
  keep_running
  node_end
}
