"""Keys, tokens and passwords: one catalogue, found in what is sent and masked in what is shown."""

from kaggle_kit.secrets.reader import ALLOWED, LineMask, find_secrets, mask

__all__ = ["ALLOWED", "LineMask", "find_secrets", "mask"]
