# Certificates and configuration files of the cluster of hack/kube. Sourced by kube-cluster.sh.

# certificate NAME USER GROUP [EXTENSION]: signed by the cluster's own authority; Kubernetes takes a
# certificate's common name for the user and its organisation for the group.
certificate() {
  local key=$dir/pki/$1.key
  run_quietly openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/O=$3/CN=$2" \
    -keyout "$key" -out "$dir/pki/$1.csr"
  run_quietly openssl x509 -req -days 30 -in "$dir/pki/$1.csr" -CA "$dir/pki/ca.crt" -CAkey "$dir/pki/ca.key" \
    -CAcreateserial -extfile <(echo "${4:-keyUsage=digitalSignature}") -out "$dir/pki/$1.crt"
}

write_certificates() {
  mkdir -p "$dir/pki"
  run_quietly openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
    -subj '/CN=insula test cluster' -keyout "$dir/pki/ca.key" -out "$dir/pki/ca.crt"
  certificate apiserver kube-apiserver kubernetes \
    "subjectAltName=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:$node_address,IP:10.96.0.1"
  certificate admin kubernetes-admin system:masters
  certificate kubelet "system:node:$node" system:nodes
  certificate kube-controller-manager system:kube-controller-manager kubernetes
  certificate kube-scheduler system:kube-scheduler kubernetes
  run_quietly openssl ecparam -name prime256v1 -genkey -noout -out "$dir/pki/service-accounts.key"
  run_quietly openssl ec -in "$dir/pki/service-accounts.key" -pubout -out "$dir/pki/service-accounts.pub"
}

kubeconfig() {
  cat >"$dir/$1.kubeconfig" <<END
apiVersion: v1
kind: Config
clusters:
- {name: insula, cluster: {server: "https://127.0.0.1:6443", certificate-authority: $dir/pki/ca.crt}}
users:
- {name: $1, user: {client-certificate: $dir/pki/$1.crt, client-key: $dir/pki/$1.key}}
contexts:
- {name: insula, context: {cluster: insula, user: $1}}
current-context: insula
END
}

# What the pods may have of the machine's memory: with a small share a test can exhaust it.
pods_memory=$((4 * 1024 * 1024)) # KiB

kubelet_configuration() {
  local total
  total=$(awk '/^MemTotal:/ { print $2 }' /proc/meminfo)
  cat <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $dir/pki/ca.crt}
authorization: {mode: Webhook}
containerRuntimeEndpoint: $CONTAINER_RUNTIME_ENDPOINT
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
# cAdvisor does not know this runtime: everything is asked of the CRI.
featureGates: {PodAndContainerStatsFromCRI: true}
serializeImagePulls: false
maxPods: ${INSULA_KUBE_PODS:-110}
staticPodPath: $dir/static-pods
volumePluginDir: $dir/volume-plugins
systemReserved: {memory: $((total > pods_memory ? total - pods_memory : 0))Ki}
evictionPressureTransitionPeriod: 10s
# The disk is the machine's, and others use it.
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, nodefs.inodesFree: 1%, imagefs.available: 1%, imagefs.inodesFree: 1%}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
END
}

write_configuration() {
  local name
  for name in admin kubelet kube-controller-manager kube-scheduler; do kubeconfig "$name"; done
  kubelet_configuration >"$dir/kubelet.yaml"
}
