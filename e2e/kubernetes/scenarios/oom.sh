# A container over its memory limit is killed, and the cluster says so.
# quick
# bears restarts
apply <<END
apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec:
  restartPolicy: Never
  containers: [{name: main, image: $busybox, command: [sh, -c, "exec tail /dev/zero"], resources: {limits: {memory: 32Mi}}}]
END
eventually 60 "the pod to fail" is Failed pod greedy .status.phase
same "the reason" OOMKilled "$(field pod greedy .status.containerStatuses[0].state.terminated.reason)"
same "the exit code" 137 "$(field pod greedy .status.containerStatuses[0].state.terminated.exitCode)"
