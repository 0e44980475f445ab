# What the scenarios are written with. Sourced by e2e/kubernetes/run.

busybox=registry.k8s.io/e2e-test-images/busybox:1.37.0-1
nginx=registry.k8s.io/e2e-test-images/nginx:1.27-0
agnhost=registry.k8s.io/e2e-test-images/agnhost:2.63.0

# kubectl in the scenario's namespace.
k() { timeout "${patience:-120}" "$kubectl" --namespace "$namespace" "$@"; }

# A manifest from standard input.
apply() { k apply -f - >/dev/null; }

# pod NAME: whoever is told to end is killed a second later. The rest of its spec is on standard input.
pod() {
  apply <<END
apiVersion: v1
kind: Pod
metadata: {name: $1}
spec:
  terminationGracePeriodSeconds: 1
$(sed 's/^/  /')
END
}

# workload KIND NAME FIELD...: a Deployment, StatefulSet or DaemonSet of such pods, with fields of its
# own. The rest of the pods' spec is on standard input.
workload() {
  apply <<END
apiVersion: apps/v1
kind: $1
metadata: {name: $2}
spec:
$(printf '  %s\n' "${@:3}")
  selector: {matchLabels: {app: $2}}
  template:
    metadata: {labels: {app: $2}}
    spec:
      terminationGracePeriodSeconds: 1
$(sed 's/^/      /')
END
}

fail() { echo "failed: $*"; exit 1; }

# eventually SECONDS WHAT COMMAND...: it succeeds within that time.
eventually() {
  local seconds=$1 what=$2 end=$((SECONDS + $1))
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || { echo "waited $seconds s in vain for $what" && return 1; }
    sleep 0.3
  done
}

# same WHAT WANT GOT
same() { [ "$2" = "$3" ] || fail "$1 is '$3', not '$2'"; }

# has WHAT PATTERN TEXT
has() { grep -qE -- "$2" <<<"$3" || fail "$1 has no '$2': $3"; }

# field KIND NAME PATH: one value out of an object.
field() { k get "$1" "$2" -o "jsonpath={$3}"; }

# is WANT KIND NAME PATH: for `eventually`.
is() { [ "$(field "$2" "$3" "$4")" = "$1" ]; }

ready() { k wait --for=condition=Ready "$@" --timeout=100s >/dev/null; }

# runtime KIND: what the runtime itself lists of this namespace.
runtime() { "$crictl" --timeout 10s "$@" --label "io.kubernetes.pod.namespace=$namespace" -q; }

# Kubelet stops a pod at once, and removes what is left of it within a minute or so.
no_pods() { [ -z "$(runtime pods --state ready)" ] && [ -z "$(runtime ps)" ]; }

# From the node, as kubelet and neighbours see it.
get() { curl -sS --max-time 5 "$@"; }

state_of_failure() {
  k get pods -o wide
  k get events --sort-by=.lastTimestamp | tail -n 15
}
