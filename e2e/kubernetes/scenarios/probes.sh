# Probes of all four kinds, each as one that holds and as one that fails and restarts its container.
# quick
# bears restarts
probe() { # NAME PROBE ARGUMENT...
  local name=$1 probe=$2
  shift 2
  pod "$name" <<END
containers:
- name: main
  image: $agnhost
  args: [$(IFS=,; echo "$*")]
  readinessProbe: {$probe, periodSeconds: 1}
  livenessProbe: {$probe, periodSeconds: 1, initialDelaySeconds: 2, failureThreshold: 2}
END
}
probe exec 'exec: {command: [test, -e, /agnhost]}' pause
probe http 'httpGet: {port: 8080, path: /healthz}' netexec
probe tcp 'tcpSocket: {port: 8080}' netexec
probe grpc 'grpc: {port: 5000}' grpc-health-checking
probe exec-fails 'exec: {command: [test, -e, /no-such-file]}' pause
probe exec-hangs 'timeoutSeconds: 1, exec: {command: [sleep, "60"]}' pause
probe http-fails 'httpGet: {port: 8080, path: "/echo?code=500&msg=no"}' netexec
probe tcp-fails 'tcpSocket: {port: 8099}' netexec
probe grpc-fails 'grpc: {port: 5000, service: no-such-service}' grpc-health-checking
ready pod/exec pod/http pod/tcp pod/grpc
restarted() { [ "$(field pod "$1" .status.containerStatuses[0].restartCount)" -ge 1 ]; }
for pod in exec-fails exec-hangs http-fails tcp-fails grpc-fails; do
  eventually 60 "a restart of $pod" restarted "$pod"
  same "readiness of $pod" false "$(field pod "$pod" .status.containerStatuses[0].ready)"
done
for pod in exec http tcp grpc; do
  same "restarts of $pod" 0 "$(field pod "$pod" .status.containerStatuses[0].restartCount)"
done
