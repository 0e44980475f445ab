# Init containers in order, a sidecar that lives as long as the pod, and a Job that ends in spite of one.
# quick
# bears restarts
apply <<END
apiVersion: batch/v1
kind: Job
metadata: {name: ordered}
spec:
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 5
      volumes: [{name: shared, emptyDir: {}}]
      initContainers:
      - {name: first, image: $busybox, command: [sh, -c, "echo first >>/shared/order"], volumeMounts: [{name: shared, mountPath: /shared}]}
      - name: sidecar
        image: $busybox
        restartPolicy: Always
        command: [sh, -c, "trap 'echo told to end; exit 0' TERM; echo sidecar >>/shared/order; touch /shared/up; while :; do sleep 0.1; done"]
        startupProbe: {exec: {command: [test, -e, /shared/up]}, periodSeconds: 1}
        volumeMounts: [{name: shared, mountPath: /shared}]
      - {name: second, image: $busybox, command: [sh, -c, "echo second >>/shared/order"], volumeMounts: [{name: shared, mountPath: /shared}]}
      containers:
      - {name: main, image: $busybox, command: [sh, -c, "echo main >>/shared/order; cat /shared/order"], volumeMounts: [{name: shared, mountPath: /shared}]}
END
k wait --for=condition=Complete job/ordered --timeout=100s
same "the order" $'first\nsidecar\nsecond\nmain' "$(k logs job/ordered -c main)"
pod=$(k get pods -l job-name=ordered -o 'jsonpath={.items[0].metadata.name}')
eventually 30 "the sidecar's end" is 0 pod "$pod" '.status.initContainerStatuses[?(@.name=="sidecar")].state.terminated.exitCode'
same "what the sidecar said" "told to end" "$(k logs "$pod" -c sidecar)"
