# kubectl logs: to the end with -f, of the container before with --previous, of a part, of all containers.
# quick
apply <<END
apiVersion: v1
kind: Pod
metadata: {name: talker}
spec:
  restartPolicy: Never
  containers:
  - {name: slow, image: $busybox, command: [sh, -c, "for i in 1 2 3 4 5; do echo line \$i; echo error \$i >&2; sleep 1; done"]}
  - {name: long, image: $busybox, command: [sh, -c, "head -c 100000 /dev/zero | tr '\\\\0' x; echo; seq 20000"]}
---
apiVersion: v1
kind: Pod
metadata: {name: crasher}
spec:
  containers: [{name: main, image: $busybox, command: [sh, -c, "if [ -e /data/was ]; then echo second; sleep 3600; fi; touch /data/was; echo first; exit 3"], volumeMounts: [{name: data, mountPath: /data}]}]
  volumes: [{name: data, emptyDir: {}}]
END
eventually 60 "the slow container" is true pod talker '.status.containerStatuses[?(@.name=="slow")].started'
followed=$(k logs -f talker -c slow)
same "what -f heard until the end" $'error 1\nerror 2\nerror 3\nerror 4\nerror 5\nline 1\nline 2\nline 3\nline 4\nline 5' "$(sort <<<"$followed")"
same "--tail" "20000" "$(k logs talker -c long --tail=1)"
same "a line longer than a log's parts" 100000 "$(k logs talker -c long | head -n 1 | tr -d '\n' | wc -c)"
same "all lines" 20001 "$(k logs talker -c long | wc -l)"
same "--limit-bytes" 10 "$(k logs talker -c long --limit-bytes=10 | wc -c)"
eventually 60 "a restart" is 1 pod crasher '.status.containerStatuses[0].restartCount'
eventually 30 "the second container" is true pod crasher '.status.containerStatuses[0].started'
same "--previous" first "$(k logs crasher --previous)"
eventually 30 "the present one's line" [ "$(k logs crasher)" = second ]
same "its exit code" 3 "$(field pod crasher '.status.containerStatuses[0].lastState.terminated.exitCode')"
