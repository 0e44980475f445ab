# Kubelet and the runtime are killed while pods come and go: every pod that should run runs once, and
# those that ran before have not been touched.
# quick
pod old <<END
containers: [{name: main, image: $busybox, command: [sh, -c, "while :; do date; sleep 0.2; done"]}]
END
workload Deployment many "replicas: 1" <<END
containers: [{name: main, image: $busybox, command: [sleep, "3600"]}]
END
ready pod/old
container=$(field pod old .status.containerStatuses[0].containerID)
running() { [ "$(runtime pods --state ready | wc -l)" = "$1" ] && [ "$(runtime ps | wc -l)" = "$1" ]; }
# Each is killed while pods are made, and while they are removed.
for program in "$daemon" kubelet; do
  k scale deployment/many --replicas=12 >/dev/null
  sleep 1.5
  "$repo/hack/kube" stop "$program"
  sleep 1
  "$repo/hack/kube" start "$program"
  k rollout status deployment/many --timeout=110s
  eventually 30 "13 pods with a container each after $program was killed" running 13
  k scale deployment/many --replicas=2 >/dev/null
  sleep 1.5
  "$repo/hack/kube" stop "$program"
  sleep 1
  "$repo/hack/kube" start "$program"
  eventually 100 "3 pods with a container each after $program was killed" running 3
done
# (A kubelet that finds a container which it created and never started makes another.)
same "restarts of the pod that ran before" 0 "$(field pod old .status.containerStatuses[0].restartCount)"
same "the container that ran before" "$container" "$(field pod old .status.containerStatuses[0].containerID)"
# A line every fifth of a second, with no gap of seconds.
gap=$(k logs old | while read -r line; do date -d "$line" +%s; done | awk 'NR > 1 && $1 - last > m { m = $1 - last } { last = $1 } END { print m + 0 }')
[ "$gap" -le 2 ] || fail "its log has a gap of $gap s"
