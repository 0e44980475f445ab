# A pod that uses up the node's memory for pods is evicted, and the others stay.
pod modest <<END
containers: [{name: main, image: $busybox, command: [sleep, "3600"], resources: {requests: {memory: 32Mi}, limits: {memory: 32Mi}}}]
END
pod greedy <<END
containers:
- name: main
  image: $busybox
  command: [sh, -c, "dd if=/dev/zero of=/memory/fill bs=1M count=4000; sleep 3600"]
  volumeMounts: [{name: memory, mountPath: /memory}]
volumes: [{name: memory, emptyDir: {medium: Memory}}]
END
ready pod/modest
eventually 100 "the pod to be evicted" is Evicted pod greedy .status.reason
has "the message" 'low on resource: memory' "$(field pod greedy .status.message)"
same "the modest pod" true "$(field pod modest .status.containerStatuses[0].ready)"
pressure() { is "$1" node "$node" '.status.conditions[?(@.type=="MemoryPressure")].status'; }
eventually 60 "the end of the pressure" pressure False
