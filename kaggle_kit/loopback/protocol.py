"""What the protocol's calls say: replies, refusals, pages and references, and what Kaggle is believed to accept.

The rules are taken from the checks of the official client 2.2.5, its documentation and its issue threads; none of them
was tested against the real service.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


Json = dict[str, Any]
DEFAULT_PAGE = 20
LARGEST_PAGE = 200


@dataclass(frozen=True)
class Answer:
    """An HTTP answer that is sent as it stands."""

    status: int = 200
    body: Json = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):  # noqa: N818 - it is an answer of the server, no failure of it
    """A request that the server does not carry out. It ends as JSON with `code` and `message`, as Kaggle's do."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    def answer(self) -> Answer:
        """The refusal as it is sent."""
        return Answer(self.status, {"code": self.status, "message": self.message})


def page(items: Sequence[Any], request: Json) -> tuple[list[Any], str]:
    """The page of `items` that a request asks for, and the token of the next one or an empty text.

    The token is the index of the page's first item. Requests name a page by token, or by number from 1.
    """
    size = min(int(request.get("pageSize") or DEFAULT_PAGE), LARGEST_PAGE)
    token = str(request.get("pageToken") or "")
    if token and not token.isdecimal():
        raise Refusal(400, f"the page token {token!r} is not one of this server's")

    start = int(token) if token else (max(int(request.get("page") or 1), 1) - 1) * size
    following = start + size
    return list(items[start:following]), str(following) if following < len(items) else ""


_REFERENCE = re.compile(r"[^/\s]+/[^/\s]+")


def owner_of(ref: str) -> str:
    """The OWNER of a reference."""
    return ref.partition("/")[0]


def reference(owner: object, slug: object) -> str:
    """OWNER/SLUG. Raises Refusal if one of the two is missing."""
    joined = f"{owner or ''}/{slug or ''}"
    if not _REFERENCE.fullmatch(joined):
        raise Refusal(400, f"{joined!r} is not of the form OWNER/SLUG")
    return joined


def version_asked(label: object) -> int | None:
    """The number in a version label `vN`, or None if no version was asked. A bare number is answered with 404."""
    if not label:
        return None
    text = str(label)
    if not re.fullmatch(r"v[1-9]\d*", text):
        raise Refusal(404, f"no version is called {text!r}; versions are called v1, v2 …")
    return int(text[1:])


SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
DATASET_SLUG_CHARACTERS = (3, 50)
KERNEL_SLUG_CHARACTERS = (5, 50)
MODEL_SLUG_CHARACTERS = (1, 50)
DATASET_TITLE_CHARACTERS = (6, 50)
KERNEL_TITLE_CHARACTERS = (5, 50)
SUBTITLE_CHARACTERS = (20, 80)

DATASET_LICENCES = frozenset({
    "CC0-1.0", "CC-BY-3.0", "CC-BY-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-3.0", "CC-BY-NC-SA-4.0", "CC-BY-ND-4.0",
    "CC-BY-NC-ND-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "ODbL-1.0", "DbCL-1.0", "PDDL", "ODC-BY-1.0", "apache-2.0",
    "GPL-2.0", "GPL-3.0", "LGPL-3.0", "AGPL-3.0", "FDL-1.3", "MIT", "CDLA-Permissive-1.0", "CDLA-Sharing-1.0",
    "copyright-authors", "reddit-api", "world-bank", "EU-ODP-Legal-Notice", "US-Government-Works", "other", "unknown",
})  # fmt: skip
# Models' licences are written in long form by the client's own template ("Apache 2.0").
MODEL_LICENCES = frozenset({
    "Apache 2.0", "MIT", "CC0: Public Domain", "Attribution 4.0 International (CC BY 4.0)", "CC BY-SA 4.0",
    "CC BY-NC-SA 4.0", "BSD-3-Clause", "GPL 2", "GNU Lesser General Public License 3.0", "Gemma",
    "LLAMA 2 Community License Agreement", "RAIL (specified in description)", "Other (specified in description)",
}) | DATASET_LICENCES  # fmt: skip

FRAMEWORK_PREFIX = "MODEL_FRAMEWORK_"
FRAMEWORKS = frozenset({
    "TENSOR_FLOW_1", "TENSOR_FLOW_2", "TF_LITE", "TF_JS", "PY_TORCH", "JAX", "FLAX", "PAX", "MAX_TEXT", "GEMMA_CPP",
    "GGML", "GGUF", "CORAL", "SCIKIT_LEARN", "MXNET", "ONNX", "KERAS", "TRANSFORMERS", "API", "OTHER",
    "TENSOR_RT_LLM", "TRITON", "VLLM",
})  # fmt: skip

DEFAULT_GPU = "NvidiaTeslaT4"
MACHINE_SHAPES = frozenset({
    "NvidiaTeslaT4", "NvidiaL4", "NvidiaL4X1", "NvidiaTeslaA100", "NvidiaH100", "NvidiaRtxPro6000", "TpuV5E8",
    "TpuV6E8",
})  # fmt: skip
# What the service gives instead of a shape that it no longer has; an empty text is a machine without accelerator.
RETIRED_SHAPES = {
    "NvidiaTeslaP100": "NvidiaTeslaT4",
    "TpuV38": "TpuV5E8",
    "Tpu1VmV38": "TpuV5E8",
    "TpuV232": "",
    "TpuV2256": "",
}


def complaint_of(*complaints: str) -> str:
    """The first complaint that is one, or an empty text."""
    return next(filter(None, complaints), "")


def slug_complaint(slug: str, characters: tuple[int, int]) -> str:
    """Why this cannot be a slug, or an empty text."""
    low, high = characters
    if not SLUG.fullmatch(slug):
        return f"the slug {slug!r} may hold lower-case letters, digits and single hyphens only"
    return "" if low <= len(slug) <= high else f"the slug {slug!r} must have {low} to {high} characters"


def length_complaint(name: str, text: str, characters: tuple[int, int]) -> str:
    """Why this text's length is wrong, or an empty text."""
    low, high = characters
    return "" if low <= len(text) <= high else f"the {name} must have {low} to {high} characters, it has {len(text)}"


def machine(shape: str, *, gpu: bool, tpu: bool) -> str:
    """The machine that a run gets: what was asked, or silently another where that is retired or not known."""
    if shape in MACHINE_SHAPES:
        return shape
    if shape in RETIRED_SHAPES:
        return RETIRED_SHAPES[shape]
    if gpu:
        return DEFAULT_GPU
    return "TpuV5E8" if tpu else ""


def framework_of(value: object) -> str:
    """A framework as references write it, `transformers`; an empty text if it is not known.

    Clients write MODEL_FRAMEWORK_PY_TORCH, PY_TORCH or pyTorch.
    """
    letters = str(value).removeprefix(FRAMEWORK_PREFIX).replace("_", "").lower()
    return letters if letters in {name.replace("_", "").lower() for name in FRAMEWORKS} else ""


def framework_enum(framework: str) -> str:
    """A framework as the protocol's replies write it: MODEL_FRAMEWORK_PY_TORCH."""
    return next(FRAMEWORK_PREFIX + name for name in FRAMEWORKS if name.replace("_", "").lower() == framework)
