# A CronJob starts a Job by itself at the next full minute.
apply <<END
apiVersion: batch/v1
kind: CronJob
metadata: {name: minutely}
spec:
  schedule: "* * * * *"
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers: [{name: main, image: $busybox, command: [date]}]
END
succeeded() { [ -n "$(field cronjob minutely .status.lastSuccessfulTime)" ]; }
eventually 100 "a Job that succeeded" succeeded
