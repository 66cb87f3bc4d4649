"""Exit codes are a contract (DESIGN §9)."""

from __future__ import annotations

import pytest

from common import errors
from common.errors import Exit, HeadraceError, PeerError


@pytest.mark.parametrize(
    ("name", "code"),
    [("UsageError", 2), ("SourceError", 3), ("OutputError", 4), ("ModelError", 5), ("LinkError", 6)],
)
def test_exit_codes(name: str, code: int) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, HeadraceError)
    assert kind("x").exit_code == code


def test_the_tree_at_the_head_of_the_module_names_every_error() -> None:
    drawn = errors.__doc__ or ""
    kinds = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, Exception)]
    assert len(kinds) == 7
    assert all(kind.__name__ in drawn for kind in kinds)


def test_codes_that_no_error_carries() -> None:
    assert (Exit.OK, Exit.INCOMPLETE, Exit.CRASH, Exit.INTERRUPTED) == (0, 1, 70, 130)


def test_a_peers_error_is_not_the_users() -> None:
    error = PeerError("header", "bad")
    assert not isinstance(error, HeadraceError)
    assert (error.kind, error.detail, str(error)) == ("header", "bad", "header: bad")
