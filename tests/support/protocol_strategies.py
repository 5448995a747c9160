"""Hypothesis strategies for usbredir: packets that may be sent, streams of them, chunkings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hypothesis import strategies as st

from kubectl_vmredir.model import UsbClass
from kubectl_vmredir.protocol.constants import (
    ALL_CAPS,
    ENDPOINT_COUNT,
    INPUT,
    NO_CAPS,
    Cap,
    PacketType,
    Side,
    Status,
    TransferType,
    UsbSpeed,
    agree,
)
from kubectl_vmredir.protocol.control import (
    AllocBulkStreams,
    AltSettingStatus,
    BulkReceivingStatus,
    BulkStreamsStatus,
    CancelDataPacket,
    ConfigurationStatus,
    DeviceDisconnect,
    DeviceDisconnectAck,
    FilterReject,
    FreeBulkStreams,
    GetAltSetting,
    GetConfiguration,
    InterruptReceivingStatus,
    IsoStreamStatus,
    Reset,
    SetAltSetting,
    SetConfiguration,
    StartBulkReceiving,
    StartInterruptReceiving,
    StartIsoStream,
    StopBulkReceiving,
    StopInterruptReceiving,
    StopIsoStream,
)
from kubectl_vmredir.protocol.data import (
    BufferedBulkPacket,
    BulkPacket,
    ControlPacket,
    InterruptPacket,
    IsoPacket,
)
from kubectl_vmredir.protocol.description import (
    DeviceConnect,
    Endpoint,
    EpInfo,
    FilterFilter,
    Hello,
    Interface,
    InterfaceInfo,
)
from kubectl_vmredir.protocol.filter import ANY, FilterRule
from kubectl_vmredir.protocol.layout import LAYOUTS, MAX_BULK_SIZE, MAX_TRANSFER_SIZE
from kubectl_vmredir.protocol.packets import Packet, encode_packet

u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFF_FFFF)
statuses = u8.map(Status)
inputs = st.integers(INPUT, 0xFF)
caps = st.integers(0, ALL_CAPS).map(Cap)
"""What one side may announce; see :func:`agree` for what becomes of two."""

payloads = st.one_of(st.binary(max_size=40), st.sampled_from([511, 512, 4097]).map(bytes))

versions = st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=63)
hellos = st.builds(Hello, version=versions, caps=caps)

filter_rules = st.builds(
    FilterRule,
    device_class=st.integers(ANY, 0xFF),
    vendor_id=st.integers(ANY, 0xFFFF),
    product_id=st.integers(ANY, 0xFFFF),
    device_version_bcd=st.integers(ANY, 0xFFFF),
    allow=st.booleans(),
)

usb_classes = st.builds(UsbClass, base=u8, sub=u8, protocol=u8)
interfaces = st.builds(Interface, number=u8, usb_class=usb_classes)


def endpoint_infos(agreed: Cap) -> st.SearchStrategy[Endpoint]:
    """What ep_info can say of an endpoint under these caps."""
    return st.builds(
        Endpoint,
        type=st.sampled_from(TransferType),
        interval=u8,
        interface=u8,
        max_packet_size=u16 if Cap.EP_INFO_MAX_PACKET_SIZE in agreed else st.just(0),
        max_streams=u32 if Cap.BULK_STREAMS in agreed else st.just(0),
    )


def ep_infos(agreed: Cap) -> st.SearchStrategy[EpInfo]:
    """All endpoints; a few kinds of them, so that it stays cheap to draw."""
    few = st.lists(endpoint_infos(agreed), min_size=1, max_size=4)
    return st.builds(
        lambda kinds, order: EpInfo(tuple(kinds[index % len(kinds)] for index in order)),
        few,
        st.permutations(range(ENDPOINT_COUNT)),
    )


def device_connects(agreed: Cap) -> st.SearchStrategy[DeviceConnect]:
    """A device, with a version where the caps have room for one."""
    return st.builds(
        DeviceConnect,
        speed=st.sampled_from(UsbSpeed),
        device_class=u8,
        device_subclass=u8,
        device_protocol=u8,
        vendor_id=u16,
        product_id=u16,
        device_version_bcd=u16 if Cap.CONNECT_DEVICE_VERSION in agreed else st.just(0),
    )


@st.composite
def transfers(
    draw: st.DrawFn, sender: Side, agreed: Cap, packet_class: Callable[..., Packet]
) -> Packet:
    """A data packet with an endpoint, a length and a status: bulk, iso, interrupt, buffered."""
    carrying = draw(st.booleans())
    if packet_class in (IsoPacket, BufferedBulkPacket):
        carrying = True
    if packet_class is InterruptPacket and sender is Side.GUEST:
        carrying = True
    to_guest = carrying is (sender is Side.HOST)
    endpoint = draw(st.integers(0, INPUT - 1)) | (INPUT if to_guest else 0)
    data = draw(payloads) if carrying else b""
    wide = packet_class is BulkPacket and Cap.BULK_LENGTH_32BITS in agreed
    wanted = st.integers(0, MAX_BULK_SIZE if wide else MAX_TRANSFER_SIZE)
    length = len(data) if carrying else draw(wanted)
    fields = {"endpoint": endpoint, "status": draw(statuses), "length": length, "data": data}
    if packet_class in (BulkPacket, BufferedBulkPacket):
        fields["stream_id"] = draw(u32)
    return packet_class(**fields)


@st.composite
def control_transfers(draw: st.DrawFn, sender: Side) -> ControlPacket:
    """A control transfer in either direction."""
    carrying = draw(st.booleans())
    to_guest = carrying is (sender is Side.HOST)
    data = draw(payloads) if carrying else b""
    return ControlPacket(
        endpoint=INPUT if to_guest else 0,
        request=draw(u8),
        requesttype=draw(u8),
        status=draw(statuses),
        value=draw(u16),
        index=draw(u16),
        length=len(data) if carrying else draw(u16),
        data=data,
    )


def bodies(packet_type: PacketType, sender: Side, agreed: Cap) -> st.SearchStrategy[Packet]:
    """Packets of one type that this side may send under these agreed caps."""
    match packet_type:
        case PacketType.HELLO:
            return hellos
        case PacketType.DEVICE_CONNECT:
            return device_connects(agreed)
        case PacketType.INTERFACE_INFO:
            return st.builds(InterfaceInfo, st.lists(interfaces, max_size=32).map(tuple))
        case PacketType.EP_INFO:
            return ep_infos(agreed)
        case PacketType.FILTER_FILTER:
            return st.builds(FilterFilter, st.lists(filter_rules, max_size=5).map(tuple))
        case PacketType.CONTROL_PACKET:
            return control_transfers(sender)
        case PacketType.BULK_PACKET:
            return transfers(sender, agreed, BulkPacket)
        case PacketType.ISO_PACKET:
            return transfers(sender, agreed, IsoPacket)
        case PacketType.INTERRUPT_PACKET:
            return transfers(sender, agreed, InterruptPacket)
        case PacketType.BUFFERED_BULK_PACKET:
            return transfers(sender, agreed, BufferedBulkPacket)
        case _:
            return _FIXED[packet_type]


_FIXED: dict[PacketType, st.SearchStrategy[Packet]] = {
    PacketType.DEVICE_DISCONNECT: st.just(DeviceDisconnect()),
    PacketType.RESET: st.just(Reset()),
    PacketType.SET_CONFIGURATION: st.builds(SetConfiguration, u8),
    PacketType.GET_CONFIGURATION: st.just(GetConfiguration()),
    PacketType.CONFIGURATION_STATUS: st.builds(ConfigurationStatus, statuses, u8),
    PacketType.SET_ALT_SETTING: st.builds(SetAltSetting, u8, u8),
    PacketType.GET_ALT_SETTING: st.builds(GetAltSetting, u8),
    PacketType.ALT_SETTING_STATUS: st.builds(AltSettingStatus, statuses, u8, u8),
    PacketType.START_ISO_STREAM: st.builds(StartIsoStream, u8, u8, u8),
    PacketType.STOP_ISO_STREAM: st.builds(StopIsoStream, u8),
    PacketType.ISO_STREAM_STATUS: st.builds(IsoStreamStatus, statuses, u8),
    PacketType.START_INTERRUPT_RECEIVING: st.builds(StartInterruptReceiving, inputs),
    PacketType.STOP_INTERRUPT_RECEIVING: st.builds(StopInterruptReceiving, inputs),
    PacketType.INTERRUPT_RECEIVING_STATUS: st.builds(InterruptReceivingStatus, statuses, inputs),
    PacketType.ALLOC_BULK_STREAMS: st.builds(AllocBulkStreams, u32, u32),
    PacketType.FREE_BULK_STREAMS: st.builds(FreeBulkStreams, u32),
    PacketType.BULK_STREAMS_STATUS: st.builds(BulkStreamsStatus, u32, u32, statuses),
    PacketType.CANCEL_DATA_PACKET: st.just(CancelDataPacket()),
    PacketType.FILTER_REJECT: st.just(FilterReject()),
    PacketType.DEVICE_DISCONNECT_ACK: st.just(DeviceDisconnectAck()),
    PacketType.START_BULK_RECEIVING: st.builds(
        StartBulkReceiving, u32, st.integers(0, MAX_BULK_SIZE), inputs, u8
    ),
    PacketType.STOP_BULK_RECEIVING: st.builds(StopBulkReceiving, u32, inputs),
    PacketType.BULK_RECEIVING_STATUS: st.builds(BulkReceivingStatus, u32, inputs, statuses),
}


def sendable(sender: Side, agreed: Cap) -> list[PacketType]:
    """The types, hello apart, that this side may send under these agreed caps."""
    return [
        packet_type
        for packet_type, layout in LAYOUTS.items()
        if packet_type is not PacketType.HELLO
        and sender in layout.senders
        and layout.needs in agreed
    ]


def packets(sender: Side, agreed: Cap) -> st.SearchStrategy[Packet]:
    """Packets other than hello that this side may send under these agreed caps."""
    return st.sampled_from(sendable(sender, agreed)).flatmap(
        lambda packet_type: bodies(packet_type, sender, agreed)
    )


def ids(agreed: Cap) -> st.SearchStrategy[int]:
    """Packet ids of the agreed width."""
    return st.integers(0, (1 << 64 if Cap.IDS_64BITS in agreed else 1 << 32) - 1)


@dataclass(frozen=True)
class Stream:
    """All that one side says in a conversation, beginning with its hello."""

    sender: Side
    own_caps: Cap
    hello: Hello
    rest: tuple[tuple[int, Packet], ...]

    @property
    def agreed(self) -> Cap:
        """The agreed capabilities."""
        return agree(self.own_caps, self.hello.caps)

    @property
    def wire(self) -> list[bytes]:
        """Its packets as bytes."""
        return [
            encode_packet(self.hello, packet_id=0, caps=NO_CAPS),
            *(
                encode_packet(packet, packet_id=packet_id, caps=self.agreed)
                for packet_id, packet in self.rest
            ),
        ]


@st.composite
def streams(draw: st.DrawFn, *, max_packets: int = 8) -> Stream:
    """Draw a conversation of either side."""
    sender = draw(st.sampled_from(Side))
    # All caps most of the time: that is what QEMU and libusbredirhost speak.
    own_caps, hello_caps = (draw(st.just(ALL_CAPS) | caps) for _ in range(2))
    agreed = agree(own_caps, hello_caps)
    rest = draw(
        st.lists(st.tuples(ids(agreed), packets(sender, agreed)), max_size=max_packets).map(tuple)
    )
    return Stream(sender, own_caps, Hello(draw(versions), hello_caps), rest)


def chunked(data: bytes, sizes: list[int]) -> Iterator[memoryview]:
    """Cut ``data`` into chunks of these sizes, again and again from the first one."""
    view = memoryview(data)
    position = 0
    while position < len(view):
        for size in sizes:
            yield view[position : position + size]
            position += size


chunk_sizes = st.lists(st.sampled_from([1, 2, 11, 12, 15, 16, 26, 27, 100, 5000]), min_size=1)
"""Sizes around those of headers and heads, and larger ones."""
