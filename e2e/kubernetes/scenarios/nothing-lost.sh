# The runtime, kubelet or the whole node dies while 50 pods are made and 50 others removed: afterwards every
# pod that should run runs once, and no process, mount, cgroup, interface, address or image is left over,
# lost or doubled. ($rounds times each: e2e/kubernetes/run --rounds N nothing-lost)
# insula alone: what must be whole afterwards is what Insula keeps on the disk
# quick
many=50
pod old <<END
containers: [{name: main, image: $busybox, command: [sleep, "3600"]}]
END
workload DaemonSet mapped <<END
containers: [{name: main, image: $agnhost, args: [netexec, --http-port=8080], ports: [{containerPort: 8080, hostPort: 18084}]}]
END
for name in even odd; do
  workload Deployment "$name" "replicas: 0" <<END
containers: [{name: main, image: $busybox, command: [sleep, "3600"]}]
END
done

images() { "$crictl" --timeout 10s images -o json | jq -r '.images[] | .id, .repoTags[], .repoDigests[]' | sort; }
invariants() { "$here/invariants.py" "$kubectl" "$crictl"; }
hold() { local broken && broken=$(invariants) && [ -z "$broken" ]; }
all_ready() { is "$many" deployment "$1" .status.readyReplicas; }
none_of() { [ -z "$(k get pods -l "app=$1" -o name)" ]; }
answers() { [ "$(get http://10.200.0.2:18084/hostname)" = "$(k get pods -l app=mapped -o 'jsonpath={.items[0].metadata.name}')" ]; }
old() { field pod old '.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount'; }

settled() { # MADE REMOVED
  eventually 110 "all $many pods of $1" all_ready "$1"
  eventually 60 "the end of the pods of $2" none_of "$2"
  eventually 60 "the invariants" hold || { invariants && return 1; }
}

round() { # NUMBER VICTIM MADE REMOVED
  local began=$SECONDS before
  before=$(old)
  k scale "deployment/$4" --replicas=0 >/dev/null
  k scale "deployment/$3" --replicas="$many" >/dev/null
  # At another moment in each round; the work takes some eight seconds.
  sleep "$(($1 * 7 % 6)).$(($1 * 3 % 10))"
  if [ "$2" = node ]; then
    export power_losses=$((power_losses + 1))
    "$repo/hack/kube" reboot
  else
    "$repo/hack/kube" stop "$2"
    sleep "$(($1 % 3))"
    "$repo/hack/kube" start "$2"
  fi
  settled "$3" "$4"
  same "the images" "$images" "$(images)"
  eventually 30 "the pod behind the host's port" answers
  if [ "$2" = node ]; then
    [ "$before" != "$(old)" ] || fail "the pod that ran before the reboot is told to run on"
  else
    same "the pod that ran before" "$before" "$(old)"
  fi
  echo "round $1 of $2: $((SECONDS - began)) s"
}

ready pod/old
k scale deployment/odd --replicas="$many" >/dev/null
settled odd even
eventually 30 "the pod behind the host's port" answers
images=$(images)
made=even removed=odd power_losses=0
for victim in insula kubelet node; do
  for number in $(seq "$rounds"); do
    round "$number" "$victim" "$made" "$removed"
    read -r made removed <<<"$removed $made"
  done
done
