#!/bin/sh
# A machine for one test: systemd as process 1 of namespaces of its own, on an overlay of this machine's root
# whose upper layer is a tmpfs. Nothing that happens in it is seen outside.
#
#   boot.sh outer FOLDER NAME BINARIES UNITS   in new mount, pid, uts, ipc and net namespaces
#   boot.sh inner …                            the same, once in a control group and its namespace
#   boot.sh clean NAME                         removes the control group, in a new mount namespace
set -eu
stage=$1
shift

# The control groups of version 2, wherever this machine has them mounted, or not at all.
groups() {
  mount -t cgroup2 cgroup2 "$1"
  parent=$1$(sed -n 's/^0:://p' /proc/self/cgroup)
}

case $stage in
outer)
  folder=$1
  name=$2
  mount -t tmpfs -o size=1g,mode=755 tmpfs "$folder"
  mkdir "$folder/upper" "$folder/work" "$folder/root" "$folder/groups"
  groups "$folder/groups"
  mkdir "$parent/$name"
  echo 0 >"$parent/$name/cgroup.procs"
  umount "$folder/groups"
  exec unshare --cgroup /bin/sh "$0" inner "$@"
  ;;
inner)
  folder=$1
  name=$2
  binaries=$3
  units=$4
  root=$folder/root
  mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" "$root"
  mount -t proc proc "$root/proc"
  mount -t sysfs sysfs "$root/sys"
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
  mount -t tmpfs -o mode=755 tmpfs "$root/dev"
  for node in null zero full random urandom tty; do
    touch "$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
  done
  mkdir "$root/dev/pts" "$root/dev/shm"
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
  ln -s pts/ptmx "$root/dev/ptmx"
  ln -s /proc/self/fd "$root/dev/fd"
  mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
  mount -t tmpfs -o mode=755 tmpfs "$root/run"
  mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
  for binary in versiond versionctl demo-child-a demo-child-b; do
    touch "$root/usr/bin/$binary"
    mount --bind "$binaries/$binary" "$root/usr/bin/$binary"
  done
  # As a package installs them; what this machine has of its own is not of the test.
  rm -rf "$root/etc/systemd/system/versiond.service" "$root/etc/systemd/system/versiond.service.d"
  mkdir -p "$root/usr/lib/systemd/system" "$root/usr/share/doc/versiond"
  cp "$units/versiond.service" "$root/usr/lib/systemd/system/"
  cp "$units/../README.md" "$root/usr/share/doc/versiond/"
  rm -rf "$root/etc/versiond" "$root/var/lib/versiond"
  mkdir "$root/etc/versiond"
  # Only what every unit waits for: not the services that happen to be enabled on this machine.
  printf '[Unit]\nRequires=basic.target\nAfter=basic.target\n' >"$root/usr/lib/systemd/system/versiond-test.target"
  hostname versiond-test
  mkdir "$root/outside"
  cd "$root"
  pivot_root . outside
  umount -l /outside
  rmdir /outside
  # As a machine's root is, and as whoever starts a systemd in a container sees to: a unit's mounts reach its processes.
  mount --make-rshared /
  exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=versiond-test \
    /lib/systemd/systemd --system --unit=versiond-test.target --show-status=no --log-target=console
  ;;
clean)
  mount -t tmpfs tmpfs /mnt
  groups /mnt
  find "$parent/$1" -depth -type d -exec rmdir {} \;
  ;;
esac
