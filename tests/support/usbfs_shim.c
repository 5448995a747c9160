/* Lets a program take pseudo-terminals for USB device nodes (LD_PRELOAD).
 *
 * A pseudo-terminal polls as usbfs does: not writable while its output is stopped (nothing to
 * reap), writable when it goes on, POLLERR | POLLHUP when the other end is closed (unplugged).
 * What it cannot do, ioctl and read, is asked of tests/support/usb_emulator.py, over a socket named
 * by the number of the pseudo-terminal in the folder $USBFS_SHIM.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

enum { IOCTL = 1, READ = 2, DONE = 3, PEEK = 4, POKE = 5 };

struct message {
    uint64_t kind, first, second;
};

static struct {
    dev_t device;
    int connection;
} known[8];
static unsigned known_count;

/* The connection for a descriptor; -1 if it is none of the emulator's. */
static int connection_of(int fd)
{
    const char *folder = getenv("USBFS_SHIM");
    struct stat status;
    if (folder == NULL || fstat(fd, &status) != 0 || !S_ISCHR(status.st_mode) ||
        major(status.st_rdev) < 136 || major(status.st_rdev) > 143)
        return -1;
    for (unsigned i = 0; i < known_count; i++)
        if (known[i].device == status.st_rdev)
            return known[i].connection;

    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/%u", folder,
             (major(status.st_rdev) - 136) * 256 + minor(status.st_rdev));
    int connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection < 0 || known_count == sizeof known / sizeof *known ||
        connect(connection, (struct sockaddr *)&address, sizeof address) != 0) {
        close(connection);
        return -1;
    }
    known[known_count].device = status.st_rdev;
    known[known_count++].connection = connection;
    return connection;
}

static int transfer(int connection, uint64_t address, uint64_t size, int sending)
{
    char *memory = (char *)address;
    while (size > 0) {
        ssize_t count = sending ? send(connection, memory, size, MSG_NOSIGNAL)
                                : recv(connection, memory, size, MSG_WAITALL);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return -1;
        memory += count;
        size -= (uint64_t)count;
    }
    return 0;
}

static long ask(int connection, struct message message)
{
    if (transfer(connection, (uint64_t)&message, sizeof message, 1) != 0)
        goto gone;
    while (transfer(connection, (uint64_t)&message, sizeof message, 0) == 0) {
        if (message.kind == DONE) {
            errno = (int)message.second;
            return (long)message.first;
        }
        if (transfer(connection, message.first, message.second, message.kind == PEEK) != 0)
            break;
    }
gone:
    errno = ENODEV;
    return -1;
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);

    int connection;
    if (((request >> 8) & 0xff) == 'U' && (connection = connection_of(fd)) >= 0)
        return (int)ask(connection, (struct message){IOCTL, (uint32_t)request, (uint64_t)argument});
    static int (*real)(int, unsigned long, ...);
    if (real == NULL)
        real = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
    return real(fd, request, argument);
}

ssize_t read(int fd, void *buffer, size_t size)
{
    int connection = connection_of(fd);
    if (connection >= 0)
        return ask(connection, (struct message){READ, (uint64_t)buffer, size});
    static ssize_t (*real)(int, void *, size_t);
    if (real == NULL)
        real = (ssize_t(*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    return real(fd, buffer, size);
}

/* A terminal cannot seek; whoever reads a device node wants its beginning. */
static off64_t seek(int fd, off64_t offset, int whence)
{
    if (connection_of(fd) >= 0)
        return 0;
    static off64_t (*real)(int, off64_t, int);
    if (real == NULL)
        real = (off64_t(*)(int, off64_t, int))dlsym(RTLD_NEXT, "lseek64");
    return real(fd, offset, whence);
}

off_t lseek(int fd, off_t offset, int whence) { return seek(fd, offset, whence); }
off64_t lseek64(int fd, off64_t offset, int whence) { return seek(fd, offset, whence); }
