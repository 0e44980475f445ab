# A stock busybox from Debian's source package. Debian's own build prefers applets to programs on
# PATH and leaves some out, so that it does not behave like the image everybody knows.
# Sourced by hack/images.

# busybox_tree DIR TREE: builds in DIR, installs the applets into TREE as hard links.
busybox_tree() {
  local dir=$1 tree=$2 applet
  mkdir -p "$dir/busybox"
  (
    cd "$dir/busybox"
    run_quietly apt_get "${apt_options[@]}" source --download-only busybox
    tar -xf busybox_*.orig.tar.* --strip-components=1
    run_quietly make -s defconfig
    # tc does not build with today's kernel headers.
    sed -i 's/^# CONFIG_STATIC is not set$/CONFIG_STATIC=y/; s/^CONFIG_TC=y$/# CONFIG_TC is not set/' .config
    # Whatever that opens up is answered by its default.
    make -s oldconfig < <(yes '') >/dev/null 2>&1
    run_quietly make -s "-j$(nproc)" busybox
  )
  mkdir -p "$tree"/{bin,dev,etc,home,root,usr/sbin,var/spool/mail,var/www,tmp}
  chmod 1777 "$tree/tmp"
  chmod 0700 "$tree/root"
  cp "$dir/busybox/busybox" "$tree/bin/busybox"
  "$tree/bin/busybox" --list | while read -r applet; do
    [ "$applet" = busybox ] || ln "$tree/bin/busybox" "$tree/bin/$applet"
  done
  cp "$parts_source"/busybox-etc/* "$tree/etc/"
}
