"""Out of memory: how the libraries under a model say it, and giving back what they keep. Imports none of them.

torch has a type of its own for a GPU's memory, but says "DefaultCPUAllocator: can't allocate memory" as a plain
RuntimeError; onnxruntime says all as RuntimeException; a full host is a MemoryError anywhere.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

#: Causes of causes that are looked at.
MAX_CHAIN = 8
#: Most of a message that is searched, in characters.
MAX_TEXT = 10_000

#: torch.OutOfMemoryError, torch.cuda.OutOfMemoryError: one type under two names.
_TYPE = "OutOfMemoryError"
_SAYS = re.compile(
    r"out of memory|outofmemory|not enough memory|can't allocate memory|cannot allocate memory"
    r"|failed to allocate memory|failed to allocate \d+ bytes|insufficient memory|bad allocation|std::bad_alloc"
    r"|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED|CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"
    r"|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|OOM when allocating",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error``, or one that it was made of, says that memory did not suffice."""
    return any(_says_so(one) for one in _chain(error))


def release() -> None:
    """Give cached blocks of a GPU back, so that the next attempt does not fail over their pieces."""
    torch = sys.modules.get("torch")  # not imported here: where it is not in use, it keeps nothing
    try:
        if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
    except Exception:  # noqa: BLE001  a GPU in this state may raise anything; the attempt will tell
        return


def _says_so(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or any(kind.__name__ == _TYPE for kind in type(error).__mro__):
        return True
    # Of other libraries' errors only the text tells. OSError has a number: ENOMEM is 12, as "Cannot allocate memory".
    return isinstance(error, Exception) and _SAYS.search(str(error)[:MAX_TEXT]) is not None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """``error``, what it was raised from or while handling (``from None`` hides that, but keeps it), and so on."""
    one: BaseException | None = error
    for _ in range(MAX_CHAIN):
        if one is None:
            return
        yield one
        one = one.__cause__ or one.__context__
