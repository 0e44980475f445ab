# DaemonSets on the host's network, and behind a port of the host.
# quick
# bears restarts
daemon() { # NAME FIELDS CONTAINER-FIELDS ARGUMENT...
  workload DaemonSet "$1" <<END
$2
containers: [{name: main, image: $agnhost, args: [netexec, --http-port=$4, --udp-port=$4], $3}]
END
}
daemon host "hostNetwork: true" "readinessProbe: {httpGet: {port: 18081}, periodSeconds: 1}" 18081
daemon mapped "" "ports: [{containerPort: 8080, hostPort: 18082}, {containerPort: 8080, hostPort: 18083, protocol: UDP}]" 8080
k rollout status daemonset/host --timeout=100s
k rollout status daemonset/mapped --timeout=100s
same "the name of the one on the host's network" "$(hostname)" "$(get http://10.200.0.2:18081/hostname)"
address=$(k get pods -l app=host -o 'jsonpath={.items[0].status.podIP}')
same "its address" 10.200.0.2 "$address"
pod=$(k get pods -l app=mapped -o 'jsonpath={.items[0].metadata.name}')
same "who answers behind the host's port" "$pod" "$(get http://10.200.0.2:18082/hostname)"
same "who answers by the loopback address" "$pod" "$(get http://127.0.0.1:18082/hostname)"
same "who answers by UDP" "$pod" "$(python3 - <<'END'
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
s.sendto(b"hostname", ("10.200.0.2", 18083))
print(s.recv(1000).decode())
END
)"
