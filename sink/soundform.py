"""What a decoder of one sound track is set up for: read out of codec parameters and packet headers. Pure.

Two tracks of the same form can follow each other in one output: its decoder does not notice. AAC comes bare, described
by an AudioSpecificConfig (ISO/IEC 14496-3, 1.6.2.1), or with an ADTS header before each packet (1.A.2.2), as transport
streams carry it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream

#: Sampling frequency indexes of AAC (ISO/IEC 14496-3 table 1.18), in samples a second; 15: the rate follows.
AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
#: Channel configurations of AAC as FFmpeg's layouts; 0: a list of its own, 8 and more: not encoded.
AAC_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "7.1"}
#: Layouts by the number of channels, where none is named.
LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
#: AAC object types: those that a decoder of which takes plain AAC-LC (Main, LC, LTP), and those of HE-AAC (SBR, PS).
MAIN, LC, LTP = 1, 2, 4
SBR, PARAMETRIC = 5, 29
#: Longest ADTS frame with its header, in bytes: 13 bits.
ADTS_HEADER, ADTS_MAX = 7, 2**13 - 1


@dataclass(frozen=True, slots=True)
class Form:
    """One kind of packets."""

    codec: str
    #: Samples a second and channels; AAC: of its core, which HE-AAC doubles or makes stereo, and the configuration.
    rate: int
    channels: int
    #: FFmpeg's name of the channels' places.
    layout: str
    #: What else the decoder is told, without what it does not look at.
    setup: bytes = b""
    #: Most samples in one packet that the decoder is prepared for, 0 where that does not matter (FLAC, ALAC).
    block: int = 0
    #: HE-AAC: the decoder gives twice the rate.
    doubled: bool = False

    def takes(self, other: Form) -> bool:
        """Whether packets of ``other`` can go on in a track of this form."""
        return replace(other, layout=self.layout, block=self.block) == self and other.block <= self.block

    def takes_core(self, other: Form) -> bool:
        """The same, where HE-AAC's additions are not known, or may be missing: its decoders do without."""
        return self.takes(replace(other, doubled=self.doubled))

    def takes_plain(self, made: Form) -> bool:
        """Whether what an encoder makes, given these properties, can go on in a track of this form."""
        kinds = {bytes([kind, 0]) for kind in (MAIN, LC, LTP)}
        if self.codec == "aac" and {self.setup, made.setup} <= kinds:
            made = replace(made, setup=self.setup)
        return self.takes_core(made)


def form_of(track: AudioStream) -> Form:
    """The form of a track's packets, as far as its parameters tell it."""
    return form_of_context(track.codec_context)


def form_of_context(context: AudioCodecContext) -> Form:
    """The same of a decoder, or of the packets that an encoder makes."""
    extradata = bytes(context.extradata or b"")
    return describe(context.codec.canonical_name, extradata, context.sample_rate, context.channels, context.layout.name)


def describe(codec: str, extradata: bytes, rate: int, channels: int, layout: str) -> Form:
    """``layout``: FFmpeg's name, which may only count the channels."""
    plain = LAYOUTS.get(channels, layout) if "channels" in layout or not layout else layout
    form = Form(codec, rate, channels, plain)
    if codec == "aac":
        core = _config(extradata)
        if core is None:  # each packet will say it; a guess until then
            return replace(form, channels=min(channels, 7), setup=bytes([LC, 0]))
        # Without a word on it, HE-AAC shows in the rate that came out of the decoder.
        return replace(core, layout=core.layout or plain, doubled=core.doubled or rate == 2 * core.rate)
    if codec == "flac" and len(extradata) >= 18:
        return replace(form, setup=bytes([extradata[12] & 1, extradata[13] >> 4]), block=_number(extradata, 2, 2))
    if codec == "alac" and len(extradata) >= 36:
        return replace(form, setup=extradata[16:22], block=_number(extradata, 12, 4))
    if codec == "opus":
        # Gain and which channel lies where; the delay and the rate before encoding do not matter.
        return replace(form, rate=48000, setup=extradata[16:] if len(extradata) >= 19 else bytes(3))
    if codec in ("mp2", "mp3", "ac3", "eac3"):
        return form  # each packet says it
    if codec.startswith("pcm_"):
        return replace(form, setup=plain.encode())
    return replace(form, setup=extradata)


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big")


class _Bits:
    """Reads bits, the highest first. Raises ValueError at the end."""

    def __init__(self, data: bytes) -> None:
        self._value, self.left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        if count > self.left:
            raise ValueError("too short")
        self.left -= count
        return (self._value >> self.left) & ((1 << count) - 1)

    def kind(self) -> int:
        kind = self.take(5)
        return 32 + self.take(6) if kind == 31 else kind

    def rate(self) -> int:
        index = self.take(4)
        if index == 15:
            return self.take(24)
        return AAC_RATES[index] if index < len(AAC_RATES) else 0


def _config(extradata: bytes) -> Form | None:
    """An AudioSpecificConfig; None: that is none."""
    bits = _Bits(extradata[:64])
    try:
        kind, rate, channels = bits.kind(), bits.rate(), bits.take(4)
        doubled = kind in (SBR, PARAMETRIC)
        if doubled:
            bits.rate()
            kind = bits.kind()
        if not rate or kind > LTP:  # other kinds say more, and nothing can be made for them
            return Form("aac", rate, channels, "", extradata, doubled=doubled)
        short = bits.take(1)  # 960 samples instead of 1024
        if bits.take(1):
            bits.take(14)  # depends on a core coder
        bits.take(1)
    except ValueError:
        return None
    if not channels:
        return Form("aac", rate, 0, "", bytes([kind, short]) + extradata[2:], doubled=doubled)
    if bits.left >= 16 and bits.take(11) == 0x2B7 and bits.kind() == SBR:
        doubled = bool(bits.take(1))
    return Form("aac", rate, channels, AAC_LAYOUTS.get(channels, ""), bytes([kind, short]), doubled=doubled)


def is_adts(data: bytes | memoryview) -> bool:
    """Whether an AAC packet begins with an ADTS header: a bare one cannot begin with twelve ones."""
    return len(data) >= ADTS_HEADER and data[0] == 0xFF and data[1] & 0xF6 == 0xF0


def read_adts(data: bytes | memoryview) -> tuple[Form, int] | None:
    """What an ADTS header says, and its length in bytes; None: more than one frame, or none that is whole."""
    size = (data[3] & 3) << 11 | data[4] << 3 | data[5] >> 5
    head = ADTS_HEADER if data[1] & 1 else ADTS_HEADER + 2
    index = data[2] >> 2 & 15
    if data[6] & 3 or index >= len(AAC_RATES) or not head < size <= len(data):
        return None
    channels = (data[2] & 1) << 2 | data[3] >> 6
    setup = bytes([(data[2] >> 6) + 1, 0])
    return Form("aac", AAC_RATES[index], channels, AAC_LAYOUTS.get(channels, ""), setup), head


def adts_header(form: Form, size: int) -> bytes | None:
    """The header for a bare packet of ``size`` bytes; None where it cannot say this."""
    kind = form.setup[0] if len(form.setup) == 2 and not form.setup[1] else 0
    whole = size + ADTS_HEADER
    if not 1 <= kind <= LTP or form.rate not in AAC_RATES or not 1 <= form.channels <= 7 or whole > ADTS_MAX:
        return None
    bits = 0xFFF << 44 | 1 << 40 | (kind - 1) << 38 | AAC_RATES.index(form.rate) << 34 | form.channels << 30
    return (bits << 0 | whole << 13 | 0x7FF << 2).to_bytes(7, "big")
