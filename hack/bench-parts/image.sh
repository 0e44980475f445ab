# The images that pulls are measured with. Sourced by hack/bench.

# build_images DIR: pushes them to a registry whose storage is DIR/registry.
build_images() {
  local out=$1
  say "making the images for pulls (some minutes, once)"
  mkdir "$out/parts"
  python3 "$repo/hack/bench-parts/layers.py" "$out/parts"
  "$repo/hack/registry" up --dir "$out.run" --storage "$out/registry" --writable >/dev/null
  python3 "$repo/hack/image-build.py" push "$repo/hack/bench-parts/image.toml" "$out/parts" \
    "$out/registry" "$(cat "$out.run/url")" >"$out/refs.json"
  "$repo/hack/registry" down --dir "$out.run"
  rm -rf "$out/parts" "$out.run"
}

# mirror DIR URL: the registry of the large images, for the runtime whose mirrors are in DIR.
mirror() {
  local url=$2
  mkdir -p "$1/registry/certs.d/bench.insula.test"
  printf 'server = "%s"\n\n[host."%s"]\ncapabilities = ["pull", "resolve"]\n' "$url" "$url" \
    >"$1/registry/certs.d/bench.insula.test/hosts.toml"
}

# serve_images: starts their registry, which the runtimes of this run then know.
serve_images() {
  local runtime
  "$repo/hack/registry" up --dir "$INSULA_BENCH_DIR/registry" --storage "$INSULA_BENCH_IMAGES/registry" >/dev/null
  for runtime in "${runtimes[@]}"; do
    mirror "$INSULA_BENCH_DIR/$runtime-daemon" "$(cat "$INSULA_BENCH_DIR/registry/url")"
  done
}
