# kubectl exec, attach, port-forward and debug, with and without a terminal.
# quick
pod target <<END
containers:
- {name: main, image: $agnhost, args: [netexec, --http-port=8080]}
- {name: echo, image: $busybox, stdin: true, command: [sh, -c, "while read line; do echo you said \$line; done"]}
END
ready pod/target
same "output" hello "$(k exec target -c main -- echo hello)"
status=0
k exec target -c main -- sh -c 'exit 7' 2>/dev/null || status=$?
same "the exit code" 7 "$status"
same "input" 100000 "$(head -c 100000 /dev/zero | k exec -i target -c main -- wc -c)"
same "standard error apart" err "$(k exec target -c main -- sh -c 'echo out; echo err >&2' 2>&1 >/dev/null)"
# script(1) gives it a terminal; the size is the one that is set there. It travels on a stream of its own
# and may come after the command has begun.
sized="tty; until stty size | grep -x '33 111'; do sleep 0.1; done"
terminal=$(script -qec "stty rows 33 cols 111; timeout --foreground 20 '$kubectl' -n '$namespace' exec -it target -c main -- sh -c \"$sized\"" /dev/null </dev/null)
has "exec -it" '/dev/pts/0' "$terminal"
has "exec -it" '33 111' "$terminal"

same "attach" "you said hello" "$( (echo hello; sleep 2) | timeout 10 "$kubectl" -n "$namespace" attach -i target -c echo --quiet 2>/dev/null | head -n 1 || true)"

"$kubectl" -n "$namespace" port-forward target 18090:8080 >"$work/forward" 2>&1 &
forward=$!
eventually 20 "the forwarded port" grep -q '^Forwarding from 127' "$work/forward"
for _ in 1 2 3 4 5; do same "who answers the forwarded port" target "$(get http://127.0.0.1:18090/hostname)"; done
kill "$forward" && wait "$forward" || true

k debug target --image="$busybox" --target=main --container=debugger --profile=general -- \
  sh -c 'tr "\0" " " </proc/1/cmdline; echo; sleep 3600' >/dev/null 2>&1
seen() { grep -q 'agnhost netexec' <<<"$(k logs target -c debugger)"; }
eventually 60 "the target's first process in a debug container's /proc" seen
