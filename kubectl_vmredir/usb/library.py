"""libusbredirhost and libusb, through cffi in ABI mode: no compiler is needed to install us.

:class:`RedirHost` is what they do for one device, without a socket: bytes of the guest go in,
buffers of the library come out. Sources: usbredirhost.h of usbredir 0.8 to 0.15, libusb.h of
libusb 1.0.24 and later.
"""

from __future__ import annotations

import functools
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from kubectl_vmredir import __version__
from kubectl_vmredir.errors import DeviceLost, RemoteProtocolError, UsbError, UsbUnavailable
from kubectl_vmredir.usb.noting import note

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

CData = Any
"""What cffi hands out; it has no types."""

LIBUSB: Final = "libusb-1.0.so.0"
LIBUSBREDIRHOST: Final = "libusbredirhost.so.1"

INSTALL_HINT: Final = (
    "Install it, on Debian and Ubuntu with:\n"
    "  sudo apt install libusbredirhost1 libusb-1.0-0\n"
    "on Fedora with:\n"
    "  sudo dnf install usbredir libusb1"
)

BUFFER_COST_BYTES: Final = 256
"""What a buffer that waits takes besides its bytes, about."""

_BUFFERS_AT_ONCE: Final = 64
_ERRORS_AND_WARNINGS: Final = 2  # usbredirparser_warning
_ERROR: Final = 1  # usbredirparser_error
_WRITE_CALLBACK_OWNS_BUFFER: Final = 1  # usbredirhost_fl_write_cb_owns_buffer
_NO_DEVICE_DISCOVERY: Final = 2  # LIBUSB_OPTION_NO_DEVICE_DISCOVERY
_INTERRUPTED: Final = -10  # LIBUSB_ERROR_INTERRUPTED

_DEFINITIONS: Final = """
typedef struct libusb_context libusb_context;
typedef struct libusb_device_handle libusb_device_handle;
struct libusb_pollfd { int fd; short events; };
struct timeval { long tv_sec; long tv_usec; };
int libusb_set_option(libusb_context *, int, ...);
int libusb_init(libusb_context **);
void libusb_exit(libusb_context *);
int libusb_wrap_sys_device(libusb_context *, intptr_t, libusb_device_handle **);
const struct libusb_pollfd **libusb_get_pollfds(libusb_context *);
void libusb_free_pollfds(const struct libusb_pollfd **);
void libusb_set_pollfd_notifiers(libusb_context *, void (*)(int, short, void *),
    void (*)(int, void *), void *);
int libusb_handle_events_timeout_completed(libusb_context *, struct timeval *, int *);
const char *libusb_error_name(int);

struct usbredirhost;
struct usbredirhost *usbredirhost_open_full(libusb_context *, libusb_device_handle *,
    void (*log)(void *, int, const char *), int (*read)(void *, uint8_t *, int),
    int (*write)(void *, uint8_t *, int), void (*flush)(void *), void *(*alloc_lock)(void),
    void (*lock)(void *), void (*unlock)(void *), void (*free_lock)(void *),
    void *priv, const char *version, int verbose, int flags);
void usbredirhost_set_buffered_output_size_cb(struct usbredirhost *, uint64_t (*)(void *));
int usbredirhost_set_device(struct usbredirhost *, libusb_device_handle *);
void usbredirhost_close(struct usbredirhost *);
int usbredirhost_read_guest_data(struct usbredirhost *);
int usbredirhost_write_guest_data(struct usbredirhost *);
void usbredirhost_free_write_buffer(struct usbredirhost *, uint8_t *);
"""


@dataclass(frozen=True, slots=True)
class Libraries:
    """cffi's ffi and the two libraries."""

    ffi: CData
    usb: CData
    redirhost: CData


@functools.cache
def load(libusb: str = LIBUSB, libusbredirhost: str = LIBUSBREDIRHOST) -> Libraries:
    """Load the libraries, by name.

    Raises:
        UsbUnavailable: If one is missing.
    """
    import cffi  # not for those who only ask what is plugged in

    ffi = cffi.FFI()
    ffi.cdef(_DEFINITIONS)
    return Libraries(ffi, _load(ffi, libusb), _load(ffi, libusbredirhost))


def _load(ffi: CData, name: str) -> CData:
    try:
        return ffi.dlopen(name)
    except OSError as exc:
        raise UsbUnavailable(f"the library {name} cannot be loaded", hint=INSTALL_HINT) from exc


class Output:
    """Packets for the guest that are not sent yet: buffers of the library, as they came.

    Attributes:
        size: What they take, in bytes.
    """

    def __init__(self) -> None:
        self.size = 0
        self._buffers: deque[tuple[CData, memoryview]] = deque()
        self._sent = 0
        """Bytes of the first buffer that are gone already."""

    def __bool__(self) -> bool:
        return bool(self._buffers)

    def add(self, pointer: CData, data: memoryview) -> None:
        """Take a buffer over."""
        self._buffers.append((pointer, data))
        self.size += len(data) + BUFFER_COST_BYTES

    def send(self, to: socket.socket) -> list[CData]:
        """Send as much as the socket takes now; return the buffers to be freed.

        Raises:
            OSError: If the other side is gone.
        """
        done: list[CData] = []
        while self._buffers:
            views = [data for _, data in self._first(_BUFFERS_AT_ONCE)]
            if self._sent:
                views[0] = views[0][self._sent :]
            try:
                count = to.sendmsg(views) + self._sent
            except BlockingIOError:
                break
            while self._buffers and count >= len(self._buffers[0][1]):
                count -= len(self._buffers[0][1])
                done.append(self._pop())
            self._sent = count
        return done

    def clear(self) -> list[CData]:
        """Forget all; return the buffers to be freed."""
        self._sent = 0
        return [self._pop() for _ in range(len(self._buffers))]

    def _first(self, count: int) -> list[tuple[CData, memoryview]]:
        return [self._buffers[index] for index in range(min(count, len(self._buffers)))]

    def _pop(self) -> CData:
        pointer, data = self._buffers.popleft()
        self.size -= len(data) + BUFFER_COST_BYTES
        return pointer


class RedirHost:
    """libusbredirhost with one device, all on one thread.

    Making it takes the device: kernel drivers are detached, all interfaces claimed, the device
    reset. :meth:`release` gives it back. These calls may block, as may :meth:`feed`.

    Args:
        node: Descriptor of the device node, open for reading and writing; stays the caller's.

    Attributes:
        output: What is to be sent to the guest.
        descriptors_changed: Whether :meth:`descriptors` has changed since it was last asked.

    Raises:
        UsbError: If the device cannot be had.
        UsbUnavailable: If a library is missing.
    """

    def __init__(self, node: int) -> None:
        libraries = load()
        self._ffi, self._usb, self._lib = libraries.ffi, libraries.usb, libraries.redirhost
        self.output = Output()
        self.descriptors_changed = True
        self._input = memoryview(b"")
        self._trouble = ""
        self._no_wait = self._ffi.new("struct timeval *")
        callback = self._ffi.callback
        # cffi frees what nobody holds.
        self._callbacks = (
            callback("void(void *, int, const char *)", self._log),
            callback("int(void *, uint8_t *, int)", self._read, error=-1),
            callback("int(void *, uint8_t *, int)", self._write, error=-1),
            callback("uint64_t(void *)", self._output_size),
            callback("void(int, short, void *)", self._descriptor_added),
            callback("void(int, void *)", self._descriptor_removed),
        )
        self._context = self._new_context()
        self._host = self._open(node)
        self._collect()

    def descriptors(self) -> Mapping[int, int]:
        """Return what libusb polls: events to poll for, by descriptor.

        Its timeouts are among them (a timerfd), so there is none to be kept.
        """
        self.descriptors_changed = False
        array = self._usb.libusb_get_pollfds(self._context)
        found: dict[int, int] = {}
        index = 0
        while array[index] != self._ffi.NULL:
            found[array[index].fd] = array[index].events
            index += 1
        self._usb.libusb_free_pollfds(array)
        return found

    def feed(self, data: memoryview) -> None:
        """Take bytes of the guest, all of them.

        Raises:
            DeviceLost: If the device did not outlive what it was asked for.
            RemoteProtocolError: If the guest cannot be understood, or does not want the device.
        """
        self._input = data
        status = self._lib.usbredirhost_read_guest_data(self._host)
        self._input = memoryview(b"")
        self._collect()
        match status:
            case 0:
                pass
            case -3:
                raise RemoteProtocolError("the VM does not let the device in")
            case -4:
                raise DeviceLost(self._trouble or "the device does not come back from a reset")
            case _:
                raise RemoteProtocolError("the usb-host cannot read what the VM sent")

    def handle_events(self) -> None:
        """Let libusb do what is due.

        Raises:
            UsbError: If it cannot.
        """
        status = self._usb.libusb_handle_events_timeout_completed(
            self._context, self._no_wait, self._ffi.NULL
        )
        self._collect()
        if status not in (0, _INTERRUPTED):
            raise UsbError(f"libusb failed: {self._error_name(status)}")

    def send(self, to: socket.socket) -> None:
        """Send as much of the output as the socket takes.

        Raises:
            OSError: If the other side is gone.
        """
        self._free(self.output.send(to))

    def release(self) -> None:
        """Give the device back; what the guest is told of it is in the output then."""
        self._lib.usbredirhost_set_device(self._host, self._ffi.NULL)
        self._collect()

    def close(self) -> None:
        """Close the libraries; the device was released, the output is forgotten."""
        self._free(self.output.clear())
        self._lib.usbredirhost_close(self._host)
        self._usb.libusb_exit(self._context)

    def _new_context(self) -> CData:
        # The node is open already: nothing is searched, no thread and no monitor are started.
        self._usb.libusb_set_option(self._ffi.NULL, _NO_DEVICE_DISCOVERY)
        pointer = self._ffi.new("libusb_context **")
        if (status := self._usb.libusb_init(pointer)) != 0:
            raise UsbError(f"libusb cannot start: {self._error_name(status)}")
        _, _, _, _, added, removed = self._callbacks
        self._usb.libusb_set_pollfd_notifiers(pointer[0], added, removed, self._ffi.NULL)
        return pointer[0]

    def _open(self, node: int) -> CData:
        null = self._ffi.NULL
        handle = self._ffi.new("libusb_device_handle **")
        if (status := self._usb.libusb_wrap_sys_device(self._context, node, handle)) != 0:
            raise UsbError(f"the device cannot be opened: {self._error_name(status)}")
        log, read, write, output_size, _, _ = self._callbacks
        # Without locks: all is called on one thread. The handle is the library's from here on.
        host = self._lib.usbredirhost_open_full(
            self._context, handle[0], log, read, write, null, null, null, null, null, null,
            f"kubectl-vmredir {__version__}".encode(),
            _ERRORS_AND_WARNINGS, _WRITE_CALLBACK_OWNS_BUFFER,
        )  # fmt: skip
        if host == null:
            raise UsbError(self._trouble or "libusbredirhost cannot have the device")
        # With it the library drops isochronous packets when they are not taken in time.
        self._lib.usbredirhost_set_buffered_output_size_cb(host, output_size)
        return host

    def _collect(self) -> None:
        self._lib.usbredirhost_write_guest_data(self._host)

    def _free(self, pointers: list[CData]) -> None:
        for pointer in pointers:
            self._lib.usbredirhost_free_write_buffer(self._host, pointer)

    def _error_name(self, status: int) -> str:
        return str(self._ffi.string(self._usb.libusb_error_name(status)).decode())

    # -- called by the libraries ------------------------------------------------------------

    def _log(self, _: CData, level: int, message: CData) -> None:
        text = self._ffi.string(message).decode(errors="replace")
        if level == _ERROR:
            self._trouble = text.removeprefix("usbredirhost: ").strip()
        note(text)

    def _read(self, _: CData, buffer: CData, count: int) -> int:
        piece = self._input[:count]
        self._ffi.memmove(buffer, piece, len(piece))
        self._input = self._input[count:]
        return len(piece)

    def _write(self, _: CData, buffer: CData, count: int) -> int:
        self.output.add(buffer, memoryview(self._ffi.buffer(buffer, count)))
        return count

    def _output_size(self, _: CData) -> int:
        return self.output.size

    def _descriptor_added(self, *_: CData) -> None:
        self.descriptors_changed = True

    def _descriptor_removed(self, *_: CData) -> None:
        self.descriptors_changed = True
