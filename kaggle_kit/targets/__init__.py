"""Targets: the machines a notebook is built for, as data files."""

from kaggle_kit.targets.target import Fact, Freeze, Target, load_target, parse_freeze, read_freeze, target_names

__all__ = ["Fact", "Freeze", "Target", "load_target", "parse_freeze", "read_freeze", "target_names"]
