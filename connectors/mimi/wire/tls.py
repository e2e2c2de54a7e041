"""TLS presentation language (RFC 8446 3) with the variable-size vectors of MLS (RFC 9420 2.1.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, Generic, TypeVar

import msgspec

from bridgekit.contract.errors import PeerMisbehaved

T = TypeVar("T")
E = TypeVar("E", bound=IntEnum)
S = TypeVar("S", bound=msgspec.Struct)

_LONGEST = 1 << 30


class Record(msgspec.Struct, frozen=True):
    """A struct as a value, with its fields in their order on the wire."""


class Reader:
    """Octets, and how far they were read."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._at = 0

    def take(self, size: int) -> bytes:
        """The next `size` octets. Raises PeerMisbehaved where there are fewer."""
        end = self._at + size
        if end > len(self._octets):
            raise PeerMisbehaved("The other side sent a body that ends too early.")
        taken = self._octets[self._at : end]
        self._at = end
        return taken

    def number(self, size: int) -> int:
        """A number of `size` octets, the highest first."""
        return int.from_bytes(self.take(size))

    def length(self) -> int:
        """The length of a vector (RFC 9420 2.1.2): the two highest bits say how long the number is."""
        first = self.number(1)
        prefix, value = first >> 6, first & 0x3F
        if prefix == 3:
            raise PeerMisbehaved("The other side sent a body with a length that no vector can have.")
        if prefix:
            size = (1 << prefix) - 1
            value = value << 8 * size | self.number(size)
            if value < (64 if prefix == 1 else 1 << 14):
                raise PeerMisbehaved(
                    "The other side sent a body with a length that is not in its shortest form."
                )
        return value

    @property
    def is_done(self) -> bool:
        """Whether all was read."""
        return self._at == len(self._octets)


class Codec(Generic[T]):
    """How one type stands on the wire. `kind` is that type, where a `choice` must tell it from others."""

    kind: type[Any] | None = None

    def read(self, reader: Reader) -> T:
        """The next value. Raises PeerMisbehaved."""
        raise NotImplementedError

    def write(self, value: T, out: bytearray) -> None:
        """Append the value's octets. Raises ValueError for what cannot be written."""
        raise NotImplementedError

    def decode(self, octets: bytes) -> T:
        """The value that `octets`, all of them, stand for. Raises PeerMisbehaved, and nothing else."""
        reader = Reader(octets)
        value = self.read(reader)
        if not reader.is_done:
            raise PeerMisbehaved("The other side sent a body with something behind its end.")
        return value

    def encode(self, value: T) -> bytes:
        """The octets of `value`. Raises ValueError for what cannot be written."""
        out = bytearray()
        self.write(value, out)
        return bytes(out)


class _Number(Codec[int]):
    def __init__(self, size: int) -> None:
        self._size = size

    def read(self, reader: Reader) -> int:
        return reader.number(self._size)

    def write(self, value: int, out: bytearray) -> None:
        try:
            out += value.to_bytes(self._size)
        except OverflowError:
            raise ValueError(f"{value} does not fit into {self._size} octets") from None


U8, U16, U32, U64 = _Number(1), _Number(2), _Number(4), _Number(8)


class _Bool(Codec[bool]):
    def read(self, reader: Reader) -> bool:
        value = reader.number(1)
        if value > 1:
            raise PeerMisbehaved("The other side sent a body with something that is neither true nor false.")
        return value == 1

    def write(self, value: bool, out: bytearray) -> None:
        out.append(value)


BOOL = _Bool()


class _Enum(Codec[E]):
    def __init__(self, kind: type[E], number: Codec[int]) -> None:
        self._kind, self._number = kind, number

    def read(self, reader: Reader) -> E:
        value = self._number.read(reader)
        try:
            return self._kind(value)
        except ValueError:
            raise PeerMisbehaved(
                f"The other side sent a {self._kind.__name__} of {value}, which nobody here knows."
            ) from None

    def write(self, value: E, out: bytearray) -> None:
        self._number.write(int(value), out)


def enum(kind: type[E], number: Codec[int] = U8) -> Codec[E]:
    """One of the known values of `kind`."""
    return _Enum(kind, number)


class _Fixed(Codec[bytes]):
    def __init__(self, size: int) -> None:
        self._size = size

    def read(self, reader: Reader) -> bytes:
        return reader.take(self._size)

    def write(self, value: bytes, out: bytearray) -> None:
        if len(value) != self._size:
            raise ValueError(f"{len(value)} octets where {self._size} belong")
        out += value


def fixed(size: int) -> Codec[bytes]:
    """`size` octets without a length."""
    return _Fixed(size)


class _Opaque(Codec[bytes]):
    def read(self, reader: Reader) -> bytes:
        return reader.take(reader.length())

    def write(self, value: bytes, out: bytearray) -> None:
        write_length(len(value), out)
        out += value


OPAQUE = _Opaque()
"""`opaque x<V>`"""


class _Utf8(Codec[str]):
    def read(self, reader: Reader) -> str:
        raw = OPAQUE.read(reader)
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            raise PeerMisbehaved("The other side sent a body with text that is not UTF-8.") from None
        if "\0" in text:
            raise PeerMisbehaved("The other side sent a body with text that has a NUL in it.")
        return text

    def write(self, value: str, out: bytearray) -> None:
        if "\0" in value:
            raise ValueError("a NUL in a text")
        OPAQUE.write(value.encode(), out)


UTF8 = _Utf8()
"""`opaque x<V>` that is text: UTF-8 without NUL (draft-ietf-mimi-protocol 7.6, UTF8String)."""


class _Vector(Codec[tuple[T, ...]]):
    def __init__(self, item: Codec[T], least: int) -> None:
        self._item, self._least = item, least

    def read(self, reader: Reader) -> tuple[T, ...]:
        inner = Reader(reader.take(reader.length()))
        found: list[T] = []
        while not inner.is_done:
            found.append(self._item.read(inner))
        if len(found) < self._least:
            raise PeerMisbehaved("The other side sent a body with an empty list where something belongs.")
        return tuple(found)

    def write(self, value: tuple[T, ...], out: bytearray) -> None:
        if len(value) < self._least:
            raise ValueError("an empty list where something belongs")
        inner = bytearray()
        for item in value:
            self._item.write(item, inner)
        write_length(len(inner), out)
        out += inner


def vector(item: Codec[T], *, least: int = 0) -> Codec[tuple[T, ...]]:
    """`T x<V>`: its length counts octets."""
    return _Vector(item, least)


class _Optional(Codec[T | None]):
    def __init__(self, item: Codec[T]) -> None:
        self._item = item

    def read(self, reader: Reader) -> T | None:
        return self._item.read(reader) if BOOL.read(reader) else None

    def write(self, value: T | None, out: bytearray) -> None:
        out.append(value is not None)
        if value is not None:
            self._item.write(value, out)


def optional(item: Codec[T]) -> Codec[T | None]:
    """`optional<T>` (RFC 9420 2.1.1)."""
    return _Optional(item)


class _Struct(Codec[S]):
    kind: type[S]

    def __init__(self, kind: type[S], codecs: Mapping[str, Codec[Any]]) -> None:
        if tuple(codecs) != kind.__struct_fields__:
            raise TypeError(f"{kind.__name__} has the fields {kind.__struct_fields__}")
        self.kind = kind
        self.fields = tuple(codecs.items())

    def read(self, reader: Reader) -> S:
        return self.kind(*[codec.read(reader) for _, codec in self.fields])

    def write(self, value: S, out: bytearray) -> None:
        for name, codec in self.fields:
            codec.write(getattr(value, name), out)


def struct(kind: type[S], /, **codecs: Codec[Any]) -> _Struct[S]:
    """A struct: a codec for each field of `kind`, in the order of the wire, which is also the order of the fields."""
    return _Struct(kind, codecs)


class _Choice(Codec[T]):
    def __init__(self, tag: Codec[int], variants: Mapping[int, Codec[Any]]) -> None:
        self._tag, self._variants = tag, variants
        self._tags = {variant.kind: number for number, variant in variants.items()}

    def read(self, reader: Reader) -> T:
        value: T = _variant(self._variants, self._tag.read(reader)).read(reader)
        return value

    def write(self, value: T, out: bytearray) -> None:
        number = _tag(self._tags, value)
        self._tag.write(number, out)
        self._variants[number].write(value, out)


def choice(kind: type[T] | Any, tag: Codec[int], variants: Mapping[int, Codec[Any]]) -> Codec[T]:
    """A tag, and what belongs to it. `kind` is the union of the variants' kinds."""
    del kind
    return _Choice(tag, variants)


class _LateChoice(Codec[T]):
    def __init__(self, lead: int, tag: Codec[int], variants: Mapping[int, _Struct[Any]]) -> None:
        self._tag, self._variants, self._lead = tag, variants, lead
        self._tags: dict[type[Any] | None, int] = {v.kind: number for number, v in variants.items()}
        self._first = next(iter(variants.values())).fields[:lead]

    def read(self, reader: Reader) -> T:
        values = [codec.read(reader) for _, codec in self._first]
        variant = _variant(self._variants, self._tag.read(reader))
        values += [codec.read(reader) for _, codec in variant.fields[self._lead :]]
        made: T = variant.kind(*values)
        return made

    def write(self, value: T, out: bytearray) -> None:
        number = _tag(self._tags, value)
        fields = self._variants[number].fields
        for index, (name, codec) in enumerate(fields):
            if index == self._lead:
                self._tag.write(number, out)
            codec.write(getattr(value, name), out)
        if len(fields) == self._lead:
            self._tag.write(number, out)


def late_choice(
    kind: type[T] | Any, lead: int, tag: Codec[int], variants: Mapping[int, _Struct[Any]]
) -> Codec[T]:
    """Structs that share their first `lead` fields, which stand before the tag that tells them apart."""
    del kind
    return _LateChoice(lead, tag, variants)


V = TypeVar("V", bound=Codec[Any])


def _variant(variants: Mapping[int, V], number: int) -> V:
    try:
        return variants[number]
    except KeyError:
        raise PeerMisbehaved(
            f"The other side sent a body with a choice of {number}, which nobody here knows."
        ) from None


def _tag(tags: Mapping[type[Any] | None, int], value: object) -> int:
    try:
        return tags[type(value)]
    except KeyError:
        raise ValueError(f"{type(value).__name__} is none of the choices") from None


class _Prefixed(Codec[T]):
    def __init__(self, prefix: bytes, item: Codec[T], error: Callable[[bytes], PeerMisbehaved]) -> None:
        self._prefix, self._item, self._error = prefix, item, error
        self.kind = item.kind

    def read(self, reader: Reader) -> T:
        if (found := reader.take(len(self._prefix))) != self._prefix:
            raise self._error(found)
        return self._item.read(reader)

    def write(self, value: T, out: bytearray) -> None:
        out += self._prefix
        self._item.write(value, out)


def prefixed(prefix: bytes, item: Codec[T], error: Callable[[bytes], PeerMisbehaved]) -> Codec[T]:
    """Octets that are always the same, then `item`. `error` makes the exception for other octets."""
    return _Prefixed(prefix, item, error)


class _Many(Codec[tuple[T, ...]]):
    def __init__(self, item: Codec[T]) -> None:
        self._item = item

    def read(self, reader: Reader) -> tuple[T, ...]:
        found = [self._item.read(reader)]
        while not reader.is_done:
            found.append(self._item.read(reader))
        return tuple(found)

    def write(self, value: tuple[T, ...], out: bytearray) -> None:
        if not value:
            raise ValueError("nothing to write")
        for item in value:
            self._item.write(item, out)


def many(item: Codec[T]) -> Codec[tuple[T, ...]]:
    """One or more, one behind the other, up to the end."""
    return _Many(item)


def write_length(length: int, out: bytearray) -> None:
    """The length of a vector in its shortest form (RFC 9420 2.1.2)."""
    if length < 1 << 6:
        out.append(length)
    elif length < 1 << 14:
        out += (length | 0x4000).to_bytes(2)
    elif length < _LONGEST:
        out += (length | 0x8000_0000).to_bytes(4)
    else:
        raise ValueError(f"{length} octets are more than a vector can hold")
