"""In which order rows are scored, and which need no scoring of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kaggle_kit.runtime.governor import probe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kaggle_kit.runtime.prompts import Prompt

_SHARED_TOKENS = 64
"""Tokens beyond which two prompts that begin alike are taken to share more than the template's head."""


def copies(prompts: Mapping[str, Prompt]) -> dict[str, tuple[str, ...]]:
    """For each row that must be scored, the other rows with exactly the same prompt: they get its scores."""
    first: dict[bytes, str] = {}
    found: dict[str, list[str]] = {}
    for row_id, prompt in prompts.items():
        scored = first.setdefault(prompt.token_ids.tobytes(), row_id)
        group = found.setdefault(scored, [])
        if scored != row_id:
            group.append(row_id)
    return {row_id: tuple(others) for row_id, others in found.items()}


def scoring_order(prompts: Mapping[str, Prompt], *, probing: bool = True) -> tuple[list[list[str]], list[str]]:
    """The ids of `prompts` in the order of scoring: the chunks of a probe of all lengths, then the rest.

    The probe (none unless `probing`) lets the time of long rows be known before they come; then the shortest first, so
    that if the time runs out the most rows have been scored and the longest are left to be cut. Prompts that begin
    alike beyond the template's head stay together, where a prefix cache still holds what they share; short of that,
    ids decide.
    """
    ordered = sorted(prompts, key=lambda row_id: (len(prompts[row_id].token_ids), row_id))
    picked = probe([len(prompts[name].token_ids) for name in ordered]) if probing else []
    chunks = [[ordered[index] for index in chunk] for chunk in picked]
    chosen = {row_id for chunk in chunks for row_id in chunk}
    return chunks, _by_prefix([row_id for row_id in ordered if row_id not in chosen], prompts)


def _by_prefix(ordered: Sequence[str], prompts: Mapping[str, Prompt]) -> list[str]:
    """The same rows, each group that begins alike at the place of its shortest row."""
    heads = _common_head(ordered, prompts) + _SHARED_TOKENS
    groups: dict[bytes, list[str]] = {}
    for row_id in ordered:
        ids = prompts[row_id].token_ids
        key = ids[:heads].tobytes() if len(ids) > heads else b"#" + row_id.encode("utf-8", "surrogatepass")
        groups.setdefault(key, []).append(row_id)
    return [row_id for group in groups.values() for row_id in group]


def _common_head(ordered: Sequence[str], prompts: Mapping[str, Prompt]) -> int:
    """How many tokens all prompts begin with in common: the template's head."""
    if not ordered:
        return 0
    first = prompts[ordered[0]].token_ids
    shared = len(first)
    for row_id in ordered:
        ids = prompts[row_id].token_ids
        while shared and ids[:shared] != first[:shared]:
            shared = shared // 2 if ids[: shared // 2] != first[: shared // 2] else shared - 1
    return shared
