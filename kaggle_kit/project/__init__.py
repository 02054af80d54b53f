"""`kit.toml` as frozen, typed objects."""

from kaggle_kit.project.config import Model, Notebook, Project, find_project, load_project

__all__ = ["Model", "Notebook", "Project", "find_project", "load_project"]
