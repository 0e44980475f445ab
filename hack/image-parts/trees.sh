# The trees that become layers; each function fills WORK/trees/NAME. Sourced by hack/images.

busybox_parts() {
  busybox_tree "$1" "$1/trees/busybox"
}

# What every Debian-based image has below its own layer.
debian_parts() {
  local tree=$1/trees/debian
  debian_tree "$1/apt" "$tree" '' base-files base-passwd bash coreutils dash findutils grep \
    hostname libc-bin procps sed sysvinit-utils util-linux
  # What the scripts of base-files and base-passwd would do.
  rmdir "$tree"/var/{run,lock}
  ln -s /run "$tree/var/run"
  ln -s /run/lock "$tree/var/lock"
  cp "$tree/usr/share/base-passwd/passwd.master" "$tree/etc/passwd"
  cp "$tree/usr/share/base-passwd/group.master" "$tree/etc/group"
  ln -sf dash "$tree/usr/bin/sh"
  rm -rf "$tree"/usr/share/{bash-completion,bug,lintian,zoneinfo} "$tree"/usr/lib/*/gconv
}

# Perl comes along with the scripts that are never run.
without_perl() {
  rm -rf "$1"/usr/share/perl* "$1"/usr/lib/*/perl* "$1"/usr/lib/*/libperl.so.* "$1"/usr/bin/perl*
}

nginx_parts() {
  local tree=$1/trees/nginx hostnet=$1/trees/nginx-hostnet
  debian_tree "$1/apt" "$tree" "$1/trees/debian" nginx-light
  without_perl "$tree"
  rm -rf "$tree"/etc/nginx/{sites-*,snippets}
  mkdir -p "$tree"/{etc/nginx/conf.d,usr/local/bin,var/log/nginx,var/lib/nginx,run}
  cp "$parts_source/configuration/nginx.conf" "$tree/etc/nginx/nginx.conf"
  cp "$parts_source/configuration/nginx-default.conf" "$tree/etc/nginx/conf.d/default.conf"
  # As in the popular image: the logs are opened by path.
  ln -s /dev/stdout "$tree/var/log/nginx/access.log"
  ln -s /dev/stderr "$tree/var/log/nginx/error.log"
  # Tests look for text in /proc/1/cmdline, which GNU grep takes for a binary file.
  printf '#!/bin/sh\nexec /usr/bin/grep -a "$@"\n' >"$tree/usr/local/bin/grep"
  chmod 0755 "$tree/usr/local/bin/grep"
  mkdir -p "$hostnet/etc/nginx/conf.d"
  cp "$parts_source/configuration/nginx-hostnet.conf" "$hostnet/etc/nginx/conf.d/default.conf"
}

httpd_parts() {
  local tree=$1/trees/httpd
  debian_tree "$1/apt" "$tree" "$1/trees/debian" apache2-bin media-types
  without_perl "$tree"
  mkdir -p "$tree"/usr/local/apache2/{bin,conf,htdocs,logs}
  mv "$tree/usr/sbin/apache2" "$tree/usr/local/apache2/bin/httpd"
  cp "$parts_source/configuration/httpd.conf" "$tree/usr/local/apache2/conf/"
  echo '<html><body><h1>It works!</h1></body></html>' >"$tree/usr/local/apache2/htdocs/index.html"
}

redis_parts() {
  local tree=$1/trees/redis
  debian_tree "$1/apt" "$tree" "$1/trees/debian" redis-server
  mkdir -p "$tree"/{data,etc,usr/local/bin}
  cp "$parts_source/configuration/redis-entrypoint" "$tree/usr/local/bin/docker-entrypoint.sh"
  # What the scripts of redis and adduser would do.
  { cat "$1/trees/debian/etc/passwd" && echo 'redis:x:999:999::/home/redis:/bin/sh'; } >"$tree/etc/passwd"
  { cat "$1/trees/debian/etc/group" && echo 'redis:x:999:'; } >"$tree/etc/group"
  chown 999:999 "$tree/data"
}

# Layers of one or two files.
small_parts() {
  local trees=$1/trees home
  mkdir -p "$trees/pause" "$trees/nnp/usr/local/bin" "$trees/predefined-group/etc"
  gcc -static -Os -s -o "$trees/pause/pause" "$parts_source/programs/pause.c"
  gcc -static -Os -s -o "$trees/nnp/usr/local/bin/nnp" "$parts_source/programs/nnp.c"
  chmod 4755 "$trees/nnp/usr/local/bin/nnp"
  home=$trees/predefined-group
  { cat "$trees/busybox/etc/passwd" && echo 'default-user:x:1000:1000::/home/default-user:/bin/sh'; } >"$home/etc/passwd"
  { cat "$trees/busybox/etc/group" && echo 'default-user:x:1000:' &&
    echo 'group-defined-in-image:x:50000:default-user'; } >"$home/etc/group"
}
