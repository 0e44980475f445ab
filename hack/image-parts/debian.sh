# Debian 13 packages and sources, fetched with an apt configuration of our own so that neither
# the machine's release nor its lists matter. Sourced by hack/images.

# Prepares DIR to fetch into; sets the array apt_options.
apt_prepare() {
  local dir=$1
  mkdir -p "$dir"/{lists/partial,archives/partial,etc}
  : >"$dir/etc/nothing-installed"
  printf "%s $(debian_archive) trixie main\n" deb deb-src >"$dir/etc/sources.list"
  apt_options=(
    -q -o "Dir::State=$dir" -o "Dir::State::lists=$dir/lists"
    -o "Dir::State::status=$dir/etc/nothing-installed"
    -o "Dir::Cache=$dir" -o "Dir::Cache::archives=$dir/archives"
    -o "Dir::Etc::sourcelist=$dir/etc/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
    -o APT::Sandbox::User=root -o APT::Install-Recommends=false
    -o APT::Update::Error-Mode=any -o Acquire::Languages=none -o Acquire::Retries=3 -o Debug::NoLocking=true
  )
  run_quietly apt_get "${apt_options[@]}" update
}

# debian_tree DIR TREE BASE PACKAGE...: unpacks the packages and all they depend on into TREE,
# without documentation and without what the tree BASE ('' for none) already has.
# No package's script is run: what they would do is done by the recipe.
debian_tree() {
  local dir=$1 tree=$2 base=$3 file
  shift 3
  # It lists what it would have to fetch: everything, if told to fetch to an empty place.
  apt-get "${apt_options[@]}" -o "Dir::Cache::archives=$dir/etc" -y --print-uris install "$@" |
    sed -n "s/^'[^']*' \([^ ]*\.deb\) .*/\1/p" >"$tree.debs"
  run_quietly apt_get "${apt_options[@]}" -y --download-only install "$@"
  # Files that a package has in /lib belong in /usr/lib.
  mkdir -p "$tree/usr"
  for file in bin sbin lib lib64; do
    mkdir -p "$tree/usr/$file"
    ln -sfn "usr/$file" "$tree/$file"
  done
  while read -r file; do
    if [ -n "$base" ] && grep -qxF "$file" "$base.debs"; then continue; fi
    dpkg-deb --fsys-tarfile "$dir/archives/$file" |
      tar -x -C "$tree" --numeric-owner --keep-directory-symlink --exclude='./usr/share/doc/?*' \
        --exclude='./usr/share/man/?*' --exclude='./usr/share/locale/?*' \
        --exclude='./usr/share/info/?*' --exclude='./usr/lib/systemd/?*'
  done <"$tree.debs"
}
