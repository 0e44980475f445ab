# A Deployment is rolled out, updated, updated to an image that does not exist, and rolled back.
# quick
# bears restarts
workload Deployment web "replicas: 3" <<END
containers:
- name: web
  image: $nginx
  env: [{name: VERSION, value: "1"}]
  readinessProbe: {httpGet: {port: 80, path: /}, periodSeconds: 1}
END
k rollout status deployment/web --timeout=100s
same "the number of ready pods" 3 "$(field deployment web .status.readyReplicas)"

k set env deployment/web VERSION=2 >/dev/null
k rollout status deployment/web --timeout=100s
for pod in $(k get pods -l app=web --field-selector=status.phase=Running -o name); do
  [ -z "$(k get "$pod" -o 'jsonpath={.metadata.deletionTimestamp}')" ] || continue
  same "VERSION in $pod" 2 "$(k exec "$pod" -- printenv VERSION)"
done

# The old pods go on serving while the new one cannot be had.
k set image deployment/web "web=$nginx-does-not-exist" >/dev/null
waits() { k get pods -l app=web -o 'jsonpath={.items[*].status.containerStatuses[*].state.waiting.reason}' | grep -qE 'ErrImagePull|ImagePullBackOff'; }
eventually 60 "a pod that cannot get its image" waits
same "the number of ready pods meanwhile" 3 "$(field deployment web .status.readyReplicas)"
k rollout undo deployment/web >/dev/null
k rollout status deployment/web --timeout=100s
three() { [ "$(k get pods -l app=web -o name | wc -l)" = 3 ]; }
eventually 60 "three pods, and no other" three
