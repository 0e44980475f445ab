# A StatefulSet on a hostPath volume: names and data outlive its pods.
# quick
# bears restarts
mkdir -p "$work/data"
workload StatefulSet store "serviceName: store" "replicas: 2" <<END
containers:
- name: store
  image: $busybox
  command: [sh, -c, "touch /data/\$HOSTNAME; echo start >>/data/\$HOSTNAME; exec sleep 3600"]
  volumeMounts: [{name: data, mountPath: /data}]
volumes: [{name: data, hostPath: {path: "$work/data", type: Directory}}]
END
k rollout status statefulset/store --timeout=100s
same "the order of creation" "store-0 store-1" \
  "$(k get pods -l app=store --sort-by=.metadata.creationTimestamp -o 'jsonpath={.items[*].metadata.name}')"
uid=$(field pod store-1 .metadata.uid)
k delete pod store-1 --wait=true >/dev/null
another() { [ "$(field pod store-1 .metadata.uid)" != "$uid" ]; }
eventually 60 "another pod of the same name" another
ready pod/store-1
same "the file on the node" $'start\nstart' "$(cat "$work/data/store-1")"
same "the file in the other pod" start "$(k exec store-0 -- cat /data/store-0)"
