# kubectl drain empties the node, kubectl uncordon fills it again.
workload Deployment web "replicas: 3" <<END
containers: [{name: web, image: $nginx, readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}}]
END
k rollout status deployment/web --timeout=100s
"$kubectl" drain "$node" --ignore-daemonsets --delete-emptydir-data --force --timeout=100s
eventually 30 "no pod in the runtime" no_pods
same "pods that wait for a node" 3 "$(k get pods --field-selector=status.phase=Pending -o name | wc -l)"
"$kubectl" uncordon "$node"
k rollout status deployment/web --timeout=100s
