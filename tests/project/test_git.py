"""The commit that a project stands at: told rightly, and without starting what its repository's configuration names."""

import os
import subprocess
import time

import pytest

from kaggle_kit.project.git import project_commit

_NOBODY = {
    **{f"GIT_{who}_NAME": "Ada" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "ada@example.org" for who in ("AUTHOR", "COMMITTER")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


def git(folder, *words):
    """Run git in a folder, with nobody's settings; what it prints."""
    command = ["git", "-c", "protocol.file.allow=always", *words]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **_NOBODY}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A repository with a project in it, committed."""
    root = tmp_path / "repository"
    (root / "project").mkdir(parents=True)
    (root / "project" / "kit.toml").write_text('owner = "ada"\n')
    (root / "project" / "run.sh").write_text("true\n")
    git(tmp_path, "init", "-q", "-b", "main", str(root))
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    return root


def head(folder):
    """The commit as git itself tells it."""
    return git(folder, "rev-parse", "HEAD")


def test_the_commit_of_a_clean_project(repository):
    """At the repository's top and below; files that git does not know do not count."""
    (repository / "project" / "new.txt").write_text("new")
    assert project_commit(repository) == project_commit(repository / "project") == head(repository)


@pytest.mark.parametrize("how", ["changed", "as long as before", "staged", "deleted", "deleted and staged"])
def test_a_project_that_differs(repository, how):
    """A tracked file that differs from the commit, in the folder or in the index, makes a +."""
    file = repository / "project" / "kit.toml"
    if how.startswith("deleted"):
        file.unlink()
    else:
        file.write_text('owner = "eve"\n' if how == "as long as before" else "other")
    if "staged" in how:
        git(repository, "add", "-A")
    assert project_commit(repository / "project") == f"{head(repository)}+"


def test_a_file_that_was_only_touched(repository):
    """Contents decide, not times."""
    os.utime(repository / "project" / "kit.toml", (1, 1))
    assert project_commit(repository) == head(repository)


def test_packed_references_and_a_detached_head(repository):
    """Wherever git keeps what HEAD names."""
    git(repository, "pack-refs", "--all")
    assert project_commit(repository) == head(repository)
    git(repository, "checkout", "-q", "--detach")
    assert project_commit(repository) == head(repository)


def test_a_work_tree_and_a_submodule(repository, tmp_path):
    """Both have a file instead of the folder .git."""
    git(repository, "worktree", "add", "-q", str(tmp_path / "tree"))
    assert project_commit(tmp_path / "tree" / "project") == head(repository)
    git(tmp_path, "init", "-q", "-b", "main", "around")
    git(tmp_path / "around", "submodule", "--quiet", "add", str(repository), "part")
    assert project_commit(tmp_path / "around" / "part") == head(repository)


def test_a_repository_with_longer_hashes(tmp_path):
    """SHA-256 as well as SHA-1."""
    git(tmp_path, "init", "-q", "--object-format=sha256", "long")
    (tmp_path / "long" / "x").write_text("x")
    git(tmp_path / "long", "add", ".")
    git(tmp_path / "long", "commit", "-q", "-m", "first")
    assert project_commit(tmp_path / "long") == head(tmp_path / "long")
    (tmp_path / "long" / "x").write_text("y")
    assert project_commit(tmp_path / "long") == f"{head(tmp_path / 'long')}+"


def test_outside_of_any_repository(tmp_path):
    """No repository, or one without a commit, has none."""
    assert project_commit(tmp_path) is None
    git(tmp_path, "init", "-q", "empty")
    assert project_commit(tmp_path / "empty") is None


def test_without_git(repository, monkeypatch, tmp_path):
    """The commit is told without git; whether files differ is not, and is said to be unknown."""
    expected = head(repository)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert project_commit(repository) == f"{expected}?"


@pytest.fixture
def mark(tmp_path):
    """A program that leaves a mark, and the mark."""
    program, mark = tmp_path / "program", tmp_path / "mark"
    program.write_text(f"#!/bin/sh\ntouch {mark}\ncat 2>/dev/null\n")
    program.chmod(0o755)
    return program, mark


CONFIGURED = {
    "the file monitor": ("core.fsmonitor", "{program}"),
    "hooks": ("core.hooksPath", "{folder}/hooks"),
    "a pager": ("core.pager", "{program}"),
    "a pager of status": ("pager.status", "{program}"),
    "an alias": ("alias.status", "!{program}"),
    "an external diff": ("diff.external", "{program}"),
    "a text conversion": ("diff.evil.textconv", "{program}"),
    "a clean filter": ("filter.evil.clean", "{program}"),
    "a filter process": ("filter.evil.process", "{program}"),
    "a merge driver": ("merge.evil.driver", "{program}"),
    "ssh": ("core.sshCommand", "{program}"),
    "a proxy": ("core.gitProxy", "{program}"),
    "askpass": ("core.askPass", "{program}"),
    "an editor": ("core.editor", "{program}"),
    "credentials": ("credential.helper", "!{program}"),
    "signatures": ("gpg.program", "{program}"),
    "another file of settings": ("include.path", "{folder}/more"),
    "settings by the folder": ("includeIf.gitdir:**.path", "{folder}/more"),
    "other files": ("core.worktree", "{folder}"),
}


@pytest.mark.parametrize("case", CONFIGURED)
def test_no_setting_of_a_repository_starts_a_program(repository, mark, case, tmp_path):
    """A .git that came in an archive is read as data: HEAD, index and objects, and the commit is told all the same."""
    program, made = mark
    expected = head(repository)
    folder = tmp_path / "settings"
    (folder / "hooks").mkdir(parents=True)
    for name in ("post-index-change", "pre-commit", "fsmonitor-watchman", "reference-transaction"):
        (folder / "hooks" / name).symlink_to(program)
        (repository / ".git" / "hooks" / name).unlink(missing_ok=True)
        (repository / ".git" / "hooks" / name).symlink_to(program)
    (folder / "more").write_text(f"[core]\n\tfsmonitor = {program}\n")
    (repository / ".gitattributes").write_text("* filter=evil diff=evil merge=evil\n")
    key, value = CONFIGURED[case]
    with (repository / ".git" / "config").open("a") as stream:
        section, _, name = key.rpartition(".")
        first, _, second = section.partition(".")
        stream.write(f'[{first} "{second}"]\n' if second else f"[{first}]\n")
        stream.write(f'\t{name} = "{value.format(program=program, folder=folder)}"\n')
    os.utime(repository / "project" / "run.sh", (1, 1))
    assert project_commit(repository / "project") == expected
    (repository / "project" / "run.sh").write_text("fals\n")
    assert project_commit(repository / "project") == f"{expected}+"
    assert not made.exists()


def test_a_bare_repository_in_a_folder_is_none(repository, mark):
    """A folder that git takes for a bare repository, hidden in a clone, is not asked for anything."""
    program, made = mark
    hidden = repository / "project"
    git(repository, "init", "-q", "--bare", str(hidden))
    with (hidden / "config").open("a") as stream:
        stream.write(f'[core]\n\tbare = false\n\tworktree = "{hidden}"\n\tfsmonitor = "{program}"\n')
    assert project_commit(hidden) == head(repository)
    assert not made.exists()


def test_variables_do_not_lead_git_elsewhere(repository, mark, monkeypatch):
    """What a shell has set for git, and a git in the folder itself, are not for this one."""
    program, made = mark
    expected = head(repository)
    (repository / "git").symlink_to(program)
    monkeypatch.chdir(repository)
    monkeypatch.setenv("PATH", f".:{os.environ['PATH']}")
    for name, value in {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.fsmonitor",
        "GIT_CONFIG_VALUE_0": str(program),
        "GIT_EXTERNAL_DIFF": str(program),
        "GIT_DIR": "/nowhere",
        "GIT_TRACE": str(made),
    }.items():
        monkeypatch.setenv(name, value)
    assert project_commit(repository) == expected
    assert not made.exists()


@pytest.mark.parametrize("named", ["/absolute", "../other/.git", "{other}", "../../../../../etc", ""])
def test_a_file_that_leads_to_anothers_repository(repository, tmp_path, named):
    """A .git file that came with a clone names no repository that does not name it in its turn."""
    git(tmp_path, "clone", "-q", str(repository), "other")
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / ".git").write_text(f"gitdir: {named.format(other=tmp_path / 'other' / '.git')}\n")
    assert project_commit(clone) is None


REFERENCES = ["ref: ../../secret", "ref: refs/../../secret", "ref: /etc/passwd", "x" * 40, "", "ref: refs/heads/a\0b"]


@pytest.mark.parametrize("text", REFERENCES)
def test_a_head_that_names_no_commit(repository, text):
    """What HEAD leads to is taken only where it is a hash, from below refs/."""
    (repository / "secret").write_text("0" * 40)
    (repository / ".git" / "HEAD").write_text(text + "\n")
    assert project_commit(repository) is None


@pytest.mark.parametrize("name", ["HEAD", "refs/heads/main", "index", "objects"])
def test_a_pipe_or_a_huge_file_holds_nothing_up(repository, name):
    """In place of any file that is read: no commit, or one of which nothing more is known, at once."""
    path = repository / ".git" / name
    path.rename(path.with_name("before"))
    since = time.monotonic()
    os.mkfifo(path)
    told = project_commit(repository)
    path.unlink()
    path.touch()
    os.truncate(path, 10 << 30)
    assert told == project_commit(repository)
    assert told is None or told.endswith("?")
    assert time.monotonic() - since < 15


def test_nothing_is_written(repository, listing):
    """The repository is as it was: no lock, no refreshed index."""
    os.utime(repository / "project" / "kit.toml", (1, 1))
    before = listing(repository)
    assert project_commit(repository)
    assert listing(repository) == before
