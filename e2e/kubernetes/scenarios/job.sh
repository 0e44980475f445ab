# Jobs: several completions in parallel, one that fails for good, one made from a CronJob.
# quick
# bears restarts
apply <<END
apiVersion: batch/v1
kind: Job
metadata: {name: many}
spec:
  completions: 5
  parallelism: 3
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: $busybox, command: [sh, -c, "echo done by \$HOSTNAME; sleep 1"]}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: failing}
spec:
  backoffLimit: 1
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: $busybox, command: [sh, -c, "echo giving up; exit 42"]}]
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: yearly}
spec:
  schedule: "0 0 1 1 *"
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: OnFailure
          containers: [{name: main, image: $busybox, command: [echo, happy new year]}]
END
k create job --from=cronjob/yearly now >/dev/null
k wait --for=condition=Complete job/many job/now --timeout=100s
k wait --for=condition=Failed job/failing --timeout=100s
same "completions" 5 "$(field job many .status.succeeded)"
same "lines of the five" 5 "$(k logs -l job-name=many --tail=-1 | grep -c '^done by many-')"
same "the log of the one made from the CronJob" "happy new year" "$(k logs job/now)"
pod=$(k get pods -l job-name=failing -o 'jsonpath={.items[0].metadata.name}')
same "the exit code" 42 "$(field pod "$pod" .status.containerStatuses[0].state.terminated.exitCode)"
