#!/bin/sh
# Process 1: what systemd does on a real workstation, as far as USB devices need it.
#
# It runs once, before the state of the VM is saved. So it also does what the packages' maintainer
# scripts would have done, and loads into memory what the tests will use.

export PATH=/usr/local/bin:/usr/sbin:/usr/bin LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1

mount -t sysfs sysfs /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
chmod 1777 /tmp /dev/shm
mkdir -p /run/user /home/user /root
install -d -m 700 -o user -g user /run/user/1000 /home/user

ldconfig
depmod
/usr/lib/systemd/systemd-udevd --daemon
udevadm trigger --type=subsystems --action=add
udevadm trigger --type=devices --action=add
# Drivers that udev would load at the first plug of their device.
modprobe -a $(cat /etc/modules)
# A virtual disk spins up in no time: without this its first second is a wait for nothing.
echo 0 >/sys/module/usb_storage/parameters/delay_use
udevadm settle

ip link set lo up
for path in /sys/class/net/e*; do
    [ -e "$path" ] || continue
    name=${path##*/}
    ip link set "$name" up
    ip address add 10.0.2.15/24 dev "$name"
    ip route add default via 10.0.2.2
done

# Read what the program imports, so that the first command need not wait for the disk.
python3 -c 'import asyncio, cffi, click, httpx, picows, pyudev, usb.core, yaml' || true

python3 /usr/local/lib/vmredir/agent.py /dev/virtio-ports/agent /dev/console
echo "the agent has ended"
