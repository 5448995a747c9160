#!/bin/busybox sh
# The guest: reads every USB disk again and again, sends a line through every USB serial adapter,
# and says on the console what it saw.
#
# One line per fact, "@" and JSON; kubectl_vmredir/lab/guests/report.py reads them. Times ("t",
# "started", "ended") are seconds of uptime, with the resolution of /proc/uptime: 10 ms.
# Lines about a disk have a running number "seq", and the last ones are said again before each
# line about a pass, since the console loses bytes while the VM moves.
#
# Debian's busybox runs its applets without a file for each ("prefer applets"), so a read costs a
# fork, and no exec.

# -- the kernel's side ------------------------------------------------------------------------

# Before /proc is there, busybox cannot find itself.
/bin/busybox mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /run/disks
mkfifo /run/never

for module in /modules/*.ko; do
    insmod "$module" || echo "init: $module failed"
done
# A virtual disk spins up in no time: without this its first second is a wait for nothing.
echo 0 >/sys/module/usb_storage/parameters/delay_use
# Plugs, unplugs and resets are worth a line on the console.
echo 7 >/proc/sys/kernel/printk

# -- words ------------------------------------------------------------------------------------

CHUNK=65536

# Sets $now to the uptime, in centiseconds. The 1 in front keeps "08" from being octal.
clock() {
    read -r now _ </proc/uptime
    now=$((${now%.*} * 100 + 1${now#*.} - 100))
}

# Sets $text to centiseconds $1 as seconds.
seconds() {
    text=$(($1 % 100))
    [ $text -lt 10 ] && text=0$text
    text=$(($1 / 100)).$text
}

# Waits $1 seconds, without a fork: nobody ever writes to /run/never.
pause() {
    read -r -t "$1" _ <>/run/never
}

# Says a fact about the disk.
say() {
    seq=$((seq + 1))
    line="@{\"seq\":$seq,\"serial\":\"$serial\",$1}"
    echo "$line"
}

# Says a fact, and keeps its line to be said again; there are 6 of them.
say_fact() {
    say "$1"
    facts="$facts$line
"
    facts_kept=$((facts_kept + 1))
    if [ $facts_kept -gt 6 ]; then
        facts_kept=6
        facts=${facts#*
}
    fi
}

# -- one disk ---------------------------------------------------------------------------------

# Reads the disk with this serial number, each time it is there; its memory is the process.
# /run/disks/$serial says which block device it is now, and where that is in sysfs.
reader() {
    serial=$1 seq=0 pass=0 facts= facts_kept=0 older_pass= newer_pass= line= last=0 broken=0
    mkfifo "/run/$serial.bytes"
    while :; do
        read -r name path <"/run/disks/$serial"
        if [ -d "$path" ] && [ -b "/dev/$name" ]; then
            # Held open, so that not every read locks and unlocks the door of the drive. The first
            # tries may fail: a stick that was just reset says so once.
            {
                attached
                while [ -d "$path" ]; do
                    one_pass
                done
            } 5<"/dev/$name" || pause 0.02
        else
            pause 0.01
        fi
    done
}

attached() {
    read -r sectors <"$path/size"
    bytes=$((sectors * 512))
    chunks=$(((bytes + CHUNK - 1) / CHUNK))
    # It may have gone between two reads: then no read has failed, and there is a gap all the same.
    [ $last -gt 0 ] && broken=1
    clock
    seconds $now
    say_fact "\"event\":\"disk\",\"name\":\"$name\",\"bytes\":$bytes,\"t\":$text"
}

# One pass over the disk. It is said only if it reached the end.
one_pass() {
    pass=$((pass + 1)) chunk=0 errors=0 longest=0
    clock
    started=$now
    sha256sum <"/run/$serial.bytes" >"/run/$serial.sum" &
    exec 4>"/run/$serial.bytes"
    while [ $chunk -lt $chunks ]; do
        if dd if="/dev/$name" bs=$CHUNK skip=$chunk count=1 iflag=direct status=none >&4 2>&-; then
            good_read
            chunk=$((chunk + 1))
        else
            bad_read
            [ -d "$path" ] || break
        fi
    done
    exec 4>&-
    wait $!
    [ $chunk -eq $chunks ] || return
    read -r sum _ <"/run/$serial.sum"
    seconds $started
    from=$text
    seconds $last
    printf %s "$facts$older_pass$newer_pass"
    say "\"event\":\"pass\",\"n\":$pass,\"bytes\":$bytes,\"sha256\":\"$sum\",\"started\":$from,\"ended\":$text,\"errors\":$errors,\"max_gap_ms\":$((longest * 10))"
    older_pass=$newer_pass
    newer_pass="$line
"
}

good_read() {
    clock
    local waited=$((now - last))
    if [ $broken -eq 1 ]; then
        seconds $now
        say_fact "\"event\":\"gap\",\"ms\":$((waited * 10)),\"t\":$text"
        broken=0
    elif [ $chunk -gt 0 ] && [ $waited -gt $longest ]; then
        longest=$waited
    fi
    last=$now
}

bad_read() {
    errors=$((errors + 1))
    # Before the first good read there is nothing that could have a gap.
    [ $last -gt 0 ] && broken=1
    clock
    seconds $now
    say_fact "\"event\":\"error\",\"n\":$pass,\"offset\":$((chunk * CHUNK)),\"t\":$text"
    pause 0.02
}

# -- all disks --------------------------------------------------------------------------------

# Gives a disk that was plugged in to its reader. It is known by its serial number, if that is
# plain (the text comes from the device, and goes into names and JSON) and names no other disk.
plugged() {
    path=$(readlink -f "/sys/block/$1")
    serial= other=
    read -r serial <"${path%/*/host*}/serial"
    [ -e "/run/disks/$serial" ] && read -r _ other <"/run/disks/$serial"
    [ "$other" != "$path" ] && [ -d "$other" ] && serial=
    case $serial in
        "" | *[!A-Za-z0-9._-]*) serial=${path%/*/host*} serial=usb${serial##*/} ;;
    esac
    local known=0
    [ -e "/run/disks/$serial" ] && known=1
    echo "$1 $path" >"/run/disks/$serial"
    if [ $known -eq 0 ]; then
        reader "$serial" &
    fi
}

# -- serial adapters --------------------------------------------------------------------------

# Sends a line through a serial adapter that was plugged in, and says whether it came back.
ask_for_echo() {
    local sent="line to $1" got= right=false
    {
        # Else the terminal would echo as well, and the line go round for ever.
        stty raw -echo <&6
        echo "$sent" >&6
        read -r -t 10 got <&6
    } 6<>"/dev/$1"
    [ "$got" = "$sent" ] && right=true
    clock
    seconds $now
    echo "@{\"event\":\"echo\",\"port\":\"$1\",\"right\":$right,\"t\":$text}"
}

# -- all of them ------------------------------------------------------------------------------

clock
seconds $now
read -r _ _ kernel _ </proc/version
echo "@{\"event\":\"ready\",\"kernel\":\"$kernel\",\"t\":$text}"

seen=" "
while :; do
    for entry in /sys/block/sd* /sys/class/tty/ttyACM*; do
        name=${entry##*/}
        case $seen in
            *" $name "*) continue ;;
        esac
        if [ -b "/dev/$name" ]; then
            plugged "$name" && seen="$seen$name "
        elif [ -c "/dev/$name" ]; then
            ask_for_echo "$name" &
            seen="$seen$name "
        fi
    done
    for name in $seen; do
        [ -e "/dev/$name" ] || seen=${seen% $name *}" "${seen#* $name }
    done
    pause 0.01
done
