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
