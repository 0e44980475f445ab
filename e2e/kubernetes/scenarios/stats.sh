# What kubectl top and an autoscaler read: /stats/summary, /metrics/resource and /metrics/cadvisor.
# quick
pod busy <<END
containers:
- name: main
  image: $busybox
  command: [sh, -c, "dd if=/dev/zero of=/dev/shm/fill bs=1M count=40 2>/dev/null; dd if=/dev/zero of=/fill bs=1M count=20 2>/dev/null; while :; do :; done"]
  resources: {limits: {memory: 128Mi, cpu: 200m}}
END
ready pod/busy
raw() { "$kubectl" get --raw "/api/v1/nodes/$node/proxy/$1"; }
# 200 millicores while it runs; half of that allows for a busy machine.
summary() {
  raw stats/summary | jq -e --arg ns "$namespace" '.pods[] | select(.podRef.namespace == $ns) |
    .containers[0] as $c | ($c.cpu.usageNanoCores > 50000000) and ($c.cpu.usageNanoCores < 300000000)
    and ($c.memory.workingSetBytes > 41943040) and ($c.memory.workingSetBytes < 134217728)
    and ($c.rootfs.usedBytes > 20000000) and (.memory.workingSetBytes >= $c.memory.workingSetBytes)
    and (.network.name == "eth0" and .network.rxBytes > 0) and (.process_stats.process_count >= 1)'
}
eventually 60 "plausible numbers in /stats/summary" summary
sample() { raw metrics/resource | grep -E "^$1\{.*namespace=\"$namespace\"" | awk '{ print $2; exit }'; }
first=$(sample container_cpu_usage_seconds_total)
more() { awk -v a="$first" -v b="$(sample container_cpu_usage_seconds_total)" 'BEGIN { exit !(b > a) }'; }
eventually 60 "a processor time that grows in /metrics/resource" more
memory() { awk -v a="$(sample "$1")" 'BEGIN { exit !(a > 41943040 && a < 134217728) }'; }
eventually 30 "the container's memory in /metrics/resource" memory container_memory_working_set_bytes
eventually 30 "the pod's memory in /metrics/resource" memory pod_memory_working_set_bytes
cadvisor() { grep -qE "^container_cpu_usage_seconds_total\{.*namespace=\"$namespace\"" <<<"$(raw metrics/cadvisor)"; }
eventually 60 "the container's processor time in /metrics/cadvisor" cadvisor
