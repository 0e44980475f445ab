# kubectl cp of 1 GiB into a container and back, compared by digest.
pod target <<END
containers: [{name: main, image: $busybox, command: [sleep, "3600"], volumeMounts: [{name: data, mountPath: /data}]}]
volumes: [{name: data, emptyDir: {}}]
END
ready pod/target
# Bytes that do not repeat, made in a second.
openssl enc -aes-128-ctr -pass pass:insula -nosalt </dev/zero 2>/dev/null | head -c 1073741824 >"$work/file" || true
want=$(sha256sum <"$work/file")
patience=300 k cp "$work/file" target:/data/file
same "the digest in the container" "$want" "$(k exec target -- sha256sum /data/file | sed 's,/data/file,-,')"
rm "$work/file"
patience=300 k cp target:/data/file "$work/back"
same "the digest of what came back" "$want" "$(sha256sum <"$work/back")"
