"""Hypothesis strategies for message headers, made from their type descriptions: a new field is covered by itself."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
from hypothesis import strategies as st
from msgspec import inspect as mi

from common import messages as m

#: Every header that crosses a process boundary.
HEADERS: tuple[type[m.Head], ...] = (
    m.Frame,
    m.News,
    *dict.fromkeys(
        kind for union in (m.ToSink, m.ToProducer, m.ToBroker, m.ToWorker, m.ToResults) for kind in get_args(union)
    ),
)
#: Longest text and list that is drawn; the declared limits are tested by hand.
SHORT = 6


def header(kind: type[m.Head]) -> st.SearchStrategy[Any]:
    """Valid instances of ``kind`` of this protocol version."""
    return _struct(kind).map(lambda made: msgspec.structs.replace(made, v=m.VERSION))


def _struct(kind: type[Any]) -> st.SearchStrategy[Any]:
    described = mi.type_info(kind)
    assert isinstance(described, mi.StructType)
    return st.builds(kind, **{field.name: _of(field.type) for field in described.fields})


def _of(one: mi.Type) -> st.SearchStrategy[Any]:
    if isinstance(one, mi.Metadata):
        return _of(one.type)
    if isinstance(one, mi.StructType):
        return _struct(one.cls)
    if isinstance(one, mi.StrType):
        return st.text(st.characters(codec="utf-8"), min_size=one.min_length or 0, max_size=SHORT)
    if isinstance(one, mi.IntType):
        return st.integers(one.ge if one.ge is not None else -(2**63), one.le if one.le is not None else 2**63 - 1)
    if isinstance(one, mi.FloatType):
        return st.floats(one.ge, one.le, allow_nan=False, allow_infinity=False)
    if isinstance(one, mi.BoolType):
        return st.booleans()
    if isinstance(one, mi.NoneType):
        return st.none()
    if isinstance(one, mi.LiteralType):
        return st.sampled_from(sorted(one.values, key=str))
    if isinstance(one, mi.ListType):
        return st.lists(_of(one.item_type), min_size=one.min_length or 0, max_size=SHORT)
    if isinstance(one, mi.DictType):
        return st.dictionaries(_of(one.key_type), _of(one.value_type), max_size=SHORT)
    if isinstance(one, mi.TupleType):
        return st.tuples(*map(_of, one.item_types))
    if isinstance(one, mi.UnionType):
        return st.one_of(*map(_of, one.types))
    raise AssertionError(f"no strategy for {one}: add one here")
