"""libusbredirparser, the reference implementation of usbredir, loaded through cffi."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import cffi

from kubectl_vmredir.protocol.filter import FilterRule

LIBRARY = "libusbredirparser.so.1"

CData = Any
"""What cffi hands out; it has no types."""

# usbredirproto.h: the type-specific headers.
_STRUCTS = """
struct usb_redir_hello_header { char version[64]; };
struct usb_redir_device_connect_header {
    uint8_t speed; uint8_t device_class; uint8_t device_subclass; uint8_t device_protocol;
    uint16_t vendor_id; uint16_t product_id; uint16_t device_version_bcd;
};
struct usb_redir_interface_info_header {
    uint32_t interface_count; uint8_t interface[32]; uint8_t interface_class[32];
    uint8_t interface_subclass[32]; uint8_t interface_protocol[32];
};
struct usb_redir_ep_info_header {
    uint8_t type[32]; uint8_t interval[32]; uint8_t interface[32];
    uint16_t max_packet_size[32]; uint32_t max_streams[32];
};
struct usb_redir_set_configuration_header { uint8_t configuration; };
struct usb_redir_configuration_status_header { uint8_t status; uint8_t configuration; };
struct usb_redir_set_alt_setting_header { uint8_t interface; uint8_t alt; };
struct usb_redir_get_alt_setting_header { uint8_t interface; };
struct usb_redir_alt_setting_status_header { uint8_t status; uint8_t interface; uint8_t alt; };
struct usb_redir_start_iso_stream_header {
    uint8_t endpoint; uint8_t pkts_per_urb; uint8_t no_urbs;
};
struct usb_redir_stop_iso_stream_header { uint8_t endpoint; };
struct usb_redir_iso_stream_status_header { uint8_t status; uint8_t endpoint; };
struct usb_redir_start_interrupt_receiving_header { uint8_t endpoint; };
struct usb_redir_stop_interrupt_receiving_header { uint8_t endpoint; };
struct usb_redir_interrupt_receiving_status_header { uint8_t status; uint8_t endpoint; };
struct usb_redir_alloc_bulk_streams_header { uint32_t endpoints; uint32_t no_streams; };
struct usb_redir_free_bulk_streams_header { uint32_t endpoints; };
struct usb_redir_bulk_streams_status_header {
    uint32_t endpoints; uint32_t no_streams; uint8_t status;
};
struct usb_redir_start_bulk_receiving_header {
    uint32_t stream_id; uint32_t bytes_per_transfer; uint8_t endpoint; uint8_t no_transfers;
};
struct usb_redir_stop_bulk_receiving_header { uint32_t stream_id; uint8_t endpoint; };
struct usb_redir_bulk_receiving_status_header {
    uint32_t stream_id; uint8_t endpoint; uint8_t status;
};
struct usb_redir_control_packet_header {
    uint8_t endpoint; uint8_t request; uint8_t requesttype; uint8_t status;
    uint16_t value; uint16_t index; uint16_t length;
};
struct usb_redir_bulk_packet_header {
    uint8_t endpoint; uint8_t status; uint16_t length; uint32_t stream_id; uint16_t length_high;
};
struct usb_redir_iso_packet_header { uint8_t endpoint; uint8_t status; uint16_t length; };
struct usb_redir_interrupt_packet_header { uint8_t endpoint; uint8_t status; uint16_t length; };
struct usb_redir_buffered_bulk_packet_header {
    uint32_t stream_id; uint32_t length; uint8_t endpoint; uint8_t status;
};
"""

# The callbacks of struct usbredirparser in usbredirparser.h, in its order. In brackets what
# each is called with after priv: an id, a header, data.
_CALLBACKS = """
device_connect[h] device_disconnect[] reset[] interface_info[h] ep_info[h]
set_configuration[ih] get_configuration[i] configuration_status[ih] set_alt_setting[ih]
get_alt_setting[ih] alt_setting_status[ih] start_iso_stream[ih] stop_iso_stream[ih]
iso_stream_status[ih] start_interrupt_receiving[ih] stop_interrupt_receiving[ih]
interrupt_receiving_status[ih] alloc_bulk_streams[ih] free_bulk_streams[ih]
bulk_streams_status[ih] cancel_data_packet[i] control_packet[ihd] bulk_packet[ihd]
iso_packet[ihd] interrupt_packet[ihd]
*alloc_lock *lock *unlock *free_lock
hello[h] filter_reject[] filter_filter[r] device_disconnect_ack[]
start_bulk_receiving[ih] stop_bulk_receiving[ih] bulk_receiving_status[ih]
buffered_bulk_packet[ihd]
"""

_FUNCTIONS = """
struct usbredirparser *usbredirparser_create(void);
void usbredirparser_init(struct usbredirparser *, const char *, uint32_t *, int, int);
void usbredirparser_destroy(struct usbredirparser *);
int usbredirparser_peer_has_cap(struct usbredirparser *, int);
int usbredirparser_do_read(struct usbredirparser *);
int usbredirparser_has_data_to_write(struct usbredirparser *);
int usbredirparser_do_write(struct usbredirparser *);
void usbredirparser_free_packet_data(struct usbredirparser *, uint8_t *);
int usbredirfilter_string_to_rules(const char *, const char *, const char *,
    struct usbredirfilter_rule **, int *);
char *usbredirfilter_rules_to_string(const struct usbredirfilter_rule *, int, const char *,
    const char *);
int usbredirfilter_check(const struct usbredirfilter_rule *, int, uint8_t, uint8_t, uint8_t,
    uint8_t *, uint8_t *, uint8_t *, int, uint16_t, uint16_t, uint16_t, int);
void usbredirfilter_free(void *);
"""


_PARAMETERS = {
    "i": "uint64_t",
    "h": "struct usb_redir_{name}_header *",
    "d": "uint8_t *, int",
    "r": "struct usbredirfilter_rule *, int",
}

SHAPES = {
    name: shape
    for name, _, shape in (
        entry.rstrip("]").partition("[") for entry in _CALLBACKS.split() if entry[0] != "*"
    )
}
"""What each callback is called with, by the label of the packet type."""


def _parameters(name: str, *, first: str) -> str:
    kinds = [first, *(_PARAMETERS[kind].format(name=name) for kind in SHAPES[name])]
    return ", ".join(kinds)


def _definitions() -> str:
    members = []
    for entry in _CALLBACKS.split():
        name = entry.partition("[")[0]
        if name.startswith("*"):
            members.append(f"void *{name[1:]}_func;")
        else:
            members.append(f"void (*{name}_func)({_parameters(name, first='void *')});")
    senders = [
        f"void usbredirparser_send_{name}({_parameters(name, first='struct usbredirparser *')});"
        for name in SHAPES
        if name not in ("hello", "device_disconnect_ack")  # the library sends these by itself
    ]
    return f"""
    struct usbredirfilter_rule {{
        int device_class; int vendor_id; int product_id; int device_version_bcd; int allow;
    }};
    struct usbredirparser {{
        void *priv;
        void (*log_func)(void *, int, const char *);
        int (*read_func)(void *, uint8_t *, int);
        int (*write_func)(void *, uint8_t *, int);
        {" ".join(members)}
    }};
    {" ".join(senders)}
    {_FUNCTIONS}
    """


@functools.cache
def load() -> tuple[CData, CData]:
    """Return cffi's ffi and the library.

    Raises:
        RuntimeError: If the library is not installed: these tests are never skipped.
    """
    ffi = cffi.FFI()
    ffi.cdef(_STRUCTS, packed=True)
    ffi.cdef(_definitions())
    try:
        return ffi, ffi.dlopen(LIBRARY)
    except OSError as exc:
        raise RuntimeError(
            f"{LIBRARY} is missing; install it with: apt-get install libusbredirparser1"
        ) from exc


def rule_array(rules: tuple[FilterRule, ...]) -> CData:
    """Return rules as the library wants them."""
    ffi, _ = load()
    return ffi.new("struct usbredirfilter_rule[]", [dataclasses.astuple(rule) for rule in rules])


def rules_of(array: CData, count: int) -> tuple[FilterRule, ...]:
    """Return rules that the library made."""
    return tuple(
        FilterRule(
            each.device_class,
            each.vendor_id,
            each.product_id,
            each.device_version_bcd,
            each.allow != 0,
        )
        for each in (array[number] for number in range(count))
    )
