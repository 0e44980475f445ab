# Shared by the scripts of hack/: sourced, never run.
# Sets repo (the checkout) and cache (what does not depend on the checkout).

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/insula
mkdir -p "$cache"

# A line of progress. Standard output is for results only.
say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }

die() { say "$*"; exit 1; }

# Prints the comment at the top of the calling script and leaves, if asked for help.
help_if_asked() {
  case ${1:-} in
  -h | --help)
    sed -n '2,/^[^#]/{s/^# \{0,1\}//p;}' "$0"
    exit 0
    ;;
  esac
}

# hash_of PATH...: a short name for the content of files and directories.
hash_of() {
  (
    cd "$repo"
    for path in "$@"; do find "${path#"$repo"/}" -type f -not -name '*.pyc' -print0; done |
      LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-16
  )
}

# once DIR COMMAND...: makes DIR by COMMAND, which is given a scratch directory as its last
# argument; DIR appears whole or not at all, and two runs at a time make it once. To be called as a
# statement of its own, never after `||` or in `if`: the command must end at its first failure.
once() {
  local dir=$1 scratch
  shift
  [ -d "$dir" ] && return
  mkdir -p "$(dirname "$dir")"
  exec {once_lock}>"$dir.lock"
  flock "$once_lock"
  if [ ! -d "$dir" ]; then
    scratch=$(mktemp -d "$dir.XXXXXX")
    # In the background: inside `||` bash would go on after a failed command.
    ("$@" "$scratch") 1>&2 &
    wait $! || { rm -rf "$scratch"; die "cannot make $dir: '$*' failed"; }
    chmod 0755 "$scratch"
    mv -T "$scratch" "$dir"
  fi
  exec {once_lock}>&-
}

# run_quietly COMMAND...: runs it and shows its output only if it fails.
run_quietly() {
  local log status=0
  log=$(mktemp)
  "$@" >"$log" 2>&1 || status=$?
  [ "$status" -eq 0 ] || tail -n 60 "$log" >&2
  rm -f "$log"
  return "$status"
}

# apt_get ARGUMENT...: one at a time. Where apt is told to keep no archives, as in container images, an
# update takes away what another run has just fetched, wherever that one keeps its lists. A service that a
# package starts does not keep the lock.
apt_get() { flock --close "$cache/apt.lock" apt-get "$@"; }

# The archive that this machine's own Debian packages come from.
debian_archive() {
  local archive
  archive=$(apt-get indextargets --format '$(LABEL)|$(REPO_URI)' 'Created-By: Packages' |
    sed -n 's/^Debian|//p' | head -n 1)
  [ -n "$archive" ] || die "apt knows no Debian archive: run apt-get update"
  echo "${archive%/}"
}
