#!/bin/busybox sh
# Mounts the disk, and over it a file system in memory that takes what is written; then runs init.

/bin/busybox mount -t proc proc /proc
mount -t devtmpfs devtmpfs /dev
for module in /modules/*.ko; do
    insmod "$module"
done
mount -t erofs -o ro /dev/vda /lower
mount -t tmpfs tmpfs /upper
mkdir /upper/data /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work overlay /root
mount -o move /dev /root/dev
mount -o move /proc /root/proc
# Without /proc, busybox cannot find itself.
exec /bin/busybox switch_root /root /usr/sbin/init
