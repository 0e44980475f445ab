# The steps of hack/crictl-walk, sourced by it: the life of images, pods and containers in order.

gives "help lists commands" 'runp' help
gives "completion" 'crictl' completion
gives "config reads its file" "$CONTAINER_RUNTIME_ENDPOINT" config --get runtime-endpoint
gives "version" '^RuntimeApiVersion: +v1$' version
holds "info: ready, and the network too" \
  '[.status.conditions[] | select(.type == "RuntimeReady" or .type == "NetworkReady") | .status] == [true, true]' info
gives "runtime-config names a cgroup driver" 'CGROUPFS|SYSTEMD' runtime-config
gives "update-runtime-config" '' update-runtime-config --pod-cidr 192.0.2.0/24

# Images
gives "pull" 'Image is up to date|sha256' pull "$busybox"
refuses "pull of an unknown image" 'NotFound|not found' pull docker.io/library/no-such-image:1
gives "images" 'e2e-test-images/busybox +1\.29-2' images
gives "images with digests" 'DIGEST' images --digests
gives "images by name" 'busybox' images "$busybox"
image=$("$program" --config "$work/crictl.yaml" images -q "$busybox" | head -n 1)
holds "inspecti by name" ".status.id == \"$image\"" inspecti "$busybox"
holds "inspecti by id" '.status.repoTags | index("'"$busybox"'") != null' inspecti "$image"
holds "imagefsinfo" '.status.imageFilesystems[0].usedBytes.value | tonumber > 0' imagefsinfo

# What happens from here on, until the end
echo events >>"$work/walked"
"$program" --config "$work/crictl.yaml" events -o json >"$work/events" 2>&1 </dev/null &
listener=$!

# A pod
gives "runp" '^[0-9a-f]{32,}$' runp "$(pod_file first)"
pod=$(cat "$work/output")
refuses "runp of an unknown handler" 'handler' runp --runtime no-such-handler "$(pod_file second)"
gives "pods" 'Ready +first +walk' pods
gives "pods by a short id" "$pod" pods -q --id "${pod:0:12}"
gives "pods by label" "$pod" pods -q --label walk=first
lacks "pods by another label" "$pod" pods -q --label walk=other
gives "pods by state" "$pod" pods -q --state ready
holds "inspectp: state, address, annotations" '.status | .state == "SANDBOX_READY" and
  (.network.ip | length) > 0 and .annotations.note == "kept"' inspectp "$pod"

# A container in it
gives "create" '^[0-9a-f]{32,}$' create "$pod" \
  "$(container_file main 'echo out; echo err >&2; hostname; cat /etc/resolv.conf; trap "exit 7" TERM; while :; do sleep 0.1; done')" "$work/first.json"
container=$(cat "$work/output")
gives "ps -a: created" 'Created +main' ps -a
gives "start" "$container" start "$container"
gives "ps: running" 'Running +main' ps
gives "ps by pod" "$container" ps -q --pod "$pod"
gives "ps by a name" "$container" ps -q --name main
holds "inspect: state, image, log path" '.status | .state == "CONTAINER_RUNNING" and .imageId == "'"$image"'"
  and (.logPath | endswith("main.log")) and .resources.linux.memoryLimitInBytes == "67108864"' inspect "$container"
gives "exec --sync" '^walker$' exec --sync "$container" hostname
refuses "exec --sync: an exit code" 'exit code 3|exited with 3' exec --sync "$container" sh -c 'exit 3'
refuses "exec --sync: a timeout" 'DeadlineExceeded|timed out' exec --sync --timeout 1 "$container" sleep 30
echo piped >"$work/input"
for transport in spdy websocket; do
  gives "exec over $transport" '^walker$' exec --transport "$transport" "$container" hostname
  refuses "exec over $transport: an exit code" 'exit (code|status) 3|exited with 3' \
    exec --transport "$transport" "$container" sh -c 'exit 3'
  input=$work/input gives "exec -i over $transport" '^6$' exec --transport "$transport" -i "$container" wc -c
done
gives "create: one that speaks late" '^[0-9a-f]{32,}$' create "$pod" \
  "$(container_file late 'for i in $(seq 10); do sleep 1; echo late; done')" "$work/first.json"
late=$(cat "$work/output")
gives "start: one that speaks late" "$late" start "$late"
gives "attach" '^late$' attach "$late"
gives "rm: one that spoke late" "$late" rm --force "$late"
gives "logs: standard output" '^out$' logs "$container"
gives "logs: standard error" '^err$' logs "$container"
gives "logs: the pod's resolver" '^nameserver 192\.0\.2\.53$' logs "$container"
lacks "logs --tail 1" '^out$' logs --tail 1 "$container"
gives "logs --timestamps" '^20[0-9-]+T[0-9:.]+(Z|[+-][0-9:]+) out$' logs --timestamps "$container"
gives "exec: a server" '' exec --sync "$container" sh -c '(while :; do echo served | nc -l -p 80; done) >/dev/null 2>&1 &'
forwards "port-forward" '^served$' "$pod" 80
gives "logs --reopen" '' logs --reopen "$container"
gives "update" "$container" update --memory 33554432 --cpu-share 256 "$container"
holds "inspect: the new limits" '.status.resources.linux | .memoryLimitInBytes == "33554432" and .cpuShares == "256"' \
  inspect "$container"
gives "stats" "${container:0:12}" stats
holds "stats as JSON" '.stats[0] | (.cpu.usageCoreNanoSeconds.value | tonumber > 0) and
  (.memory.workingSetBytes.value | tonumber > 0)' stats -o json "$container"
gives "statsp" "${pod:0:12}" statsp
holds "statsp as JSON" '[.stats[] | select(.attributes.id == "'"$pod"'")] | length == 1' statsp -o json

holds "metricdescs: a name with its labels" '[.descriptors[] | select(.name == "container_memory_working_set_bytes")
  | .labelKeys] == [["pod", "namespace", "container", "id", "image"]]' metricdescs
holds "metricsp: the container's and the pod's" '[.podMetrics[] | select(.podSandboxId == "'"$pod"'")
  | (.metrics | length) == 8 and (.containerMetrics[0].metrics | length) > 30] == [true]' metricsp

# What a later version serves
unimplemented checkpoint --export "$work/checkpoint.tar" "$container"

# The end
gives "stop" "$container" stop --timeout 5 "$container"
holds "inspect: exited as its handler said" '.status | .state == "CONTAINER_EXITED" and .exitCode == 7' inspect "$container"
lacks "ps: no longer running" "$container" ps -q
gives "ps -a: exited" 'Exited +main' ps -a
gives "stop again" "$container" stop "$container"
gives "logs of an exited container" '^out$' logs "$container"
gives "rm" "$container" rm "$container"
refuses "inspect of a removed container" 'NotFound|not found' inspect "$container"
gives "run" '^[0-9a-f]{32,}$' run "$(container_file alone 'sleep 1000')" "$(pod_file third)"
gives "ps: the container of run" 'Running +alone' ps
gives "stopp" "$pod" stopp "$pod"
gives "pods: not ready" 'NotReady +first' pods
refuses "rmp of a pod that runs" 'running|ready|stop' rmp "$("$program" --config "$work/crictl.yaml" pods -q --name third)"
gives "rmp" "$pod" rmp "$pod"
gives "rmp --force of the rest" 'third|[0-9a-f]{12}' rmp --force --all
lacks "pods: none" . pods -q
lacks "ps -a: none" . ps -aq
gives "rmi" 'busybox' rmi "$busybox"
lacks "images: none" "$image" images -q
refuses "inspecti of a removed image" 'no such image|not found|not present' inspecti "$busybox"

# What was told meanwhile
kill "$listener" && wait "$listener" || true
cp "$work/events" "$work/output"
result "events: the whole life of a container, in order" "$(
  told=$(jq -r 'select(.containerId == "'"$container"'") | .containerEventType' "$work/events" | tr '\n' ' ')
  [ "$told" = "CONTAINER_CREATED_EVENT CONTAINER_STARTED_EVENT CONTAINER_STOPPED_EVENT CONTAINER_DELETED_EVENT " ] ||
    echo "told: $told")"
result "events: the whole life of a pod, with its state" "$(
  told=$(jq -r 'select(.containerId == "'"$pod"'") | .containerEventType + "=" + .podSandboxStatus.state' "$work/events" |
    sed 's/CONTAINER_//; s/_EVENT//; s/SANDBOX_//' | tr '\n' ' ')
  [ "$told" = "CREATED=READY STARTED=READY STOPPED=NOTREADY DELETED=NOTREADY " ] || echo "told: $told")"
