"""What a project may use of the disk: its own folder, and what its user has allowed."""

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.errors import ProjectError, UsageError
from kaggle_kit.places import allow, allowed, asked, homes, inside, inside_whole, is_outside, read_config


@pytest.fixture(autouse=True)
def _user(tmp_path, monkeypatch):
    """A user who has allowed nothing yet."""
    monkeypatch.setenv("KIT_CONFIG_DIR", str(tmp_path / "config"))


@pytest.fixture
def root(tmp_path):
    """A project's folder; beside it the user's own, with a secret."""
    (tmp_path / "user" / "deep").mkdir(parents=True)
    (tmp_path / "user" / "secret.txt").write_text("secret")
    (tmp_path / "project" / "models").mkdir(parents=True)
    (tmp_path / "project" / "kit.toml").write_text('owner = "ada"\n')
    return tmp_path / "project"


OUT = {
    "two dots": "../user/secret.txt",
    "two dots further on": "models/../../user",
    "absolute": "/etc/passwd",
    "a link to a file": "file-link",
    "a link to a folder": "folder-link",
    "below a link": "folder-link/secret.txt",
    "a link to a link": "again",
    "nothing outside": "../nothing",
    "a link to nothing outside": "dangling",
}


@pytest.mark.parametrize("case", OUT)
def test_what_leaves_the_project_is_refused(root, case):
    """By itself or through a link: the error names the path, where it leads, and the two ways out."""
    user = root.parent / "user"
    (root / "file-link").symlink_to(user / "secret.txt")
    (root / "folder-link").symlink_to("../user")
    (root / "again").symlink_to("folder-link")
    (root / "dangling").symlink_to(user / "not-there")
    with pytest.raises(ProjectError, match=r"outside of the project.*outside = \[.*kit allow") as refusal:
        inside(root, OUT[case], key="models.x.path")
    assert OUT[case].split("/")[-1] in str(refusal.value)


def test_the_link_on_the_way_is_named(root):
    """Where a folder on the way is a link, the error says which."""
    (root / "models" / "mine").symlink_to(root.parent / "user")
    with pytest.raises(ProjectError, match=rf"by the link {root}/models/mine\)"):
        inside(root, "models/mine/deep/x")


@pytest.mark.parametrize("path", ["models", "models/..", "new/deep/file", ".", "models/../kit.toml", "in-link", "a~b"])
def test_what_stays_in_the_project_is_used(root, path):
    """Whatever its form, and whether it is there or not; a link within the project is one of its places."""
    (root / "in-link").symlink_to("models")
    assert inside(root, path, key="x") == root / path
    assert inside(root, root / path) == root / path


def test_a_project_behind_a_link(root):
    """The project's own folder may be reached by a link."""
    (root.parent / "short").symlink_to(root)
    assert inside(root.parent / "short", "models") == root.parent / "short" / "models"


@pytest.mark.parametrize("path", ["~/x", "~", "a\0b", "circle"])
def test_a_path_that_leads_nowhere(root, path):
    """~ is no home folder in kit.toml, a NUL is in no name, and links in a circle end in an error."""
    (root / "circle").symlink_to("circle-2")
    (root / "circle-2").symlink_to("circle")
    with pytest.raises(ProjectError, match=r"kit\.toml: x = "):
        inside(root, path, key="x")


def test_only_what_is_listed_and_allowed_is_used(root):
    """Neither the stranger's word in kit.toml nor the user's for other folders is enough; both together are."""
    user = (root.parent / "user").resolve()
    (root / "kit.toml").write_text('outside = ["../user/deep"]\n')
    with pytest.raises(ProjectError, match=r"you have not allowed it.*kit allow \.\./user/deep$"):
        inside(root, "../user/deep/model")
    allow(root, [user])
    with pytest.raises(ProjectError, match="you have not allowed it"):
        inside(root, "../user/deep/model")
    allow(root, [user / "deep"])
    assert inside(root, "../user/deep/model")
    with pytest.raises(ProjectError, match="outside of the project"):
        inside(root, "../user/secret.txt")
    allow(root, [])
    with pytest.raises(ProjectError, match="you have not allowed it"):
        inside(root, "../user/deep/model")


def test_another_folder_behind_the_same_name_is_not_allowed(root):
    """The user allows a folder, not a name: a link that leads elsewhere now is asked about anew."""
    (root.parent / "other").mkdir()
    (root / "kit.toml").write_text('outside = ["place"]\n')
    (root / "place").symlink_to("../other")
    allow(root, asked(root).values())
    assert inside(root, "place/x")
    (root / "place").unlink()
    (root / "place").symlink_to("../user")
    with pytest.raises(ProjectError, match="you have not allowed it"):
        inside(root, "place/secret.txt")


def test_each_project_is_allowed_by_itself(root, tmp_path):
    """What one project may use, another that lists the same may not."""
    other = tmp_path / "clone"
    other.mkdir()
    for folder in (root, other):
        (folder / "kit.toml").write_text(f'outside = ["{tmp_path}/user"]\n')
    allow(root, asked(root).values())
    assert homes(root) == (root.resolve(), (tmp_path / "user").resolve())
    assert homes(other) == (other.resolve(),)


def test_a_home_folder_may_be_listed(root, tmp_path, monkeypatch):
    """In the list ~ is the user's home: a team's kit.toml serves all of them."""
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    (root / "kit.toml").write_text('outside = ["~/deep"]\n')
    assert asked(root) == {"~/deep": (tmp_path / "user" / "deep").resolve()}


@pytest.mark.parametrize("value", ['"../user"', "[7]", '[""]', '["a\\u0000"]', "true", "{}"])
def test_a_list_of_another_kind(root, value):
    """Anything but a list of folders' names is an error of kit.toml."""
    (root / "kit.toml").write_text(f"outside = {value}\n")
    with pytest.raises(ProjectError, match=r"kit\.toml: outside = .* must be a list of folders"):
        asked(root)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2, "projects": {}}', '{"version": 1, "projects": [1]}'])
def test_a_damaged_list_of_what_is_allowed(root, text, tmp_path):
    """It is not guessed at: the error says to delete it."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "allowed.json").write_text(text)
    with pytest.raises(ProjectError, match=r"allowed\.json.*kit allow"):
        allowed(root)


def test_no_project_can_allow_itself(root, tmp_path):
    """What stands in the project's folder under the list's name counts for nothing."""
    (root / "kit.toml").write_text(f'outside = ["{tmp_path}/user"]\nallowed = ["{tmp_path}/user"]\n')
    (root / "allowed.json").write_text(f'{{"version": 1, "projects": {{"{root}": ["{tmp_path}/user"]}}}}')
    assert homes(root) == (root.resolve(),)


def test_a_folder_is_looked_through(root):
    """A link deep in a folder that leads out is refused with its name; one that stays is not."""
    (root / "models" / "deep").mkdir()
    (root / "models" / "deep" / "near").symlink_to("../../kit.toml")
    assert inside_whole(root, "models")
    (root / "models" / "deep" / "far").symlink_to(root.parent / "user" / "secret.txt")
    with pytest.raises(ProjectError, match=rf"{root}/models/deep/far is a link to .*secret\.txt, outside"):
        inside_whole(root, "models")


def test_the_cache_of_hugging_face_has_a_way(root, tmp_path):
    """A model of links into a cache elsewhere is used where that cache is listed and allowed."""
    hub = tmp_path / "hub"
    (hub / "blobs").mkdir(parents=True)
    (hub / "blobs" / "abc").write_text("{}")
    (hub / "snapshots" / "1").mkdir(parents=True)
    (hub / "snapshots" / "1" / "config.json").symlink_to("../../blobs/abc")
    (root / "models" / "config.json").symlink_to(hub / "blobs" / "abc")
    (root / "kit.toml").write_text(f'outside = ["{hub}"]\n')
    for path in ("models", str(hub / "snapshots" / "1")):
        with pytest.raises(ProjectError, match="you have not allowed it"):
            inside_whole(root, path)
    allow(root, asked(root).values())
    assert inside_whole(root, "models")
    assert inside_whole(root, str(hub / "snapshots" / "1"))


@pytest.mark.parametrize("kind", ["pipe", "socket", "link to a device"])
@pytest.mark.parametrize("place", ["models/odd", "odd"])
def test_what_a_reader_would_wait_for_is_refused(root, monkeypatch, kind, place):
    """A pipe, a socket or a device, in a folder or named itself, is an error and nothing waits."""
    monkeypatch.chdir(root)  # a socket's path may have 107 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "pipe":
            os.mkfifo(place)
        elif kind == "socket":
            listener.bind(place)
        else:
            Path(place).symlink_to("/dev/zero")
        with pytest.raises(ProjectError, match=r"odd (is neither a file nor a folder|is a link to /dev/zero)"):
            inside_whole(root, "models" if "/" in place else "odd")


def test_a_list_of_projects_is_the_users_alone(tmp_path):
    """Allowing keeps the other projects' folders."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "kit.toml").write_text('outside = ["../user"]\n')
        allow(tmp_path / name, asked(tmp_path / name).values())
    allow(tmp_path / "one", [])
    assert not allowed(tmp_path / "one")
    assert allowed(tmp_path / "two") == {(tmp_path / "user").resolve()}


def test_kit_toml_is_a_file_of_the_project(root, tmp_path):
    """A link to a file elsewhere, a pipe, a device and a file without an end are errors, at once."""
    config = root / "kit.toml"
    (tmp_path / "user" / "kit.toml").write_text('owner = "eve"\n')
    config.unlink()
    config.symlink_to(tmp_path / "user" / "kit.toml")
    with pytest.raises(ProjectError, match=r"kit\.toml is a link to .*user/kit\.toml, outside of the project"):
        read_config(root)
    config.unlink()
    os.mkfifo(config)
    with pytest.raises(ProjectError, match=r"kit\.toml is no regular file"):
        read_config(root)
    config.unlink()
    config.touch()
    os.truncate(config, 10 << 30)
    with pytest.raises(ProjectError, match=r"kit\.toml has 10,737,418,240 bytes"):
        read_config(root)


@given(path=st.lists(st.sampled_from(["..", ".", "a", "in", "out", "user", "", "x"]), max_size=6).map("/".join))
def test_no_path_leaves_unseen(tmp_path_factory, path):
    """Whatever is made of names, dots and links: what is used lies below the project, and what is refused does not."""
    root = tmp_path_factory.getbasetemp() / "places" / "project"
    if not root.exists():
        (root / "a").mkdir(parents=True)
        (root.parent / "user").mkdir()
        (root / "in").symlink_to("a")
        (root / "out").symlink_to("../user")
        (root / "a" / "out").symlink_to(root.parent)
        (root / "a" / "in").symlink_to("..")
    stays = os.path.realpath(root / path).startswith(os.path.realpath(root))
    try:
        assert not is_outside(root, inside(root, path))
        assert stays
    except ProjectError:
        assert not stays


def test_a_list_that_others_could_write_is_not_believed(root, tmp_path):
    """What is allowed is the user's word: a file that every user of the machine can write is not."""
    (root / "kit.toml").write_text('outside = ["../user"]\n')
    allow(root, asked(root).values())
    assert allowed(root)
    assert (tmp_path / "config").stat().st_mode & 0o777 == 0o700
    (tmp_path / "config" / "allowed.json").chmod(0o666)
    with pytest.raises(UsageError, match=r"allowed\.json cannot be used: every user of this machine can write"):
        allowed(root)
