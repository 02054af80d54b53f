"""What another user of the machine could change is not believed."""

import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaggle_kit.errors import UsageError
from kaggle_kit.files import user_cache
from kaggle_kit.owners import own_folder, why_shared

STRANGER = 4711


@pytest.fixture
def give_away(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """A function: a path becomes another user's. Who is not root cannot give away, and becomes another user instead."""

    def give_away(path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, STRANGER, STRANGER, follow_symlinks=False)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: STRANGER)

    return give_away


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """The place of this user's cache; nothing is there yet."""
    monkeypatch.setenv("KIT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_cache_of_another_owner_stops_the_run(cache, give_away):
    """Its programs would be started: the error names the owner, and both ways out."""
    cache.mkdir()
    give_away(cache)
    with pytest.raises(UsageError, match=r"cache belongs to .*KIT_CACHE_DIR.*chown") as caught:
        user_cache()
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("mode", "who"), [(0o777, "every user"), (0o1777, "every user"), (0o703, "every user")])
def test_a_cache_that_others_can_write_stops_the_run(cache, mode, who):
    """The sticky bit does not help: anybody can add to it."""
    cache.mkdir()
    cache.chmod(mode)
    with pytest.raises(UsageError, match=f"{who} of this machine can write to {cache}"):
        user_cache()
    assert stat.S_IMODE(cache.stat().st_mode) == mode


def test_a_cache_that_a_group_can_write_stops_the_run(cache):
    """A group with a name of its own may have other members."""
    cache.mkdir()
    cache.chmod(0o770)
    if os.geteuid() == 0:
        os.chown(cache, 0, STRANGER)
    elif pwd.getpwuid(os.getuid()).pw_gid == os.getgid():
        pytest.skip("this user has only the group of its own name")
    with pytest.raises(UsageError, match=r"the group .* can write"):
        user_cache()


def test_a_users_private_group_is_the_user(cache, monkeypatch):
    """Where each user has a group of the same name, new folders are writable for it by default."""
    user = pwd.getpwuid(os.geteuid())
    cache.mkdir()
    cache.chmod(0o775)
    import grp

    own = grp.struct_group((user.pw_name, "x", cache.stat().st_gid, []))
    monkeypatch.setattr(grp, "getgrgid", lambda _: own)
    monkeypatch.setattr(pwd, "getpwuid", lambda _: pwd.struct_passwd((*user[:3], cache.stat().st_gid, *user[4:])))
    assert user_cache() == cache
    joined = grp.struct_group((user.pw_name, "x", cache.stat().st_gid, ["mallory"]))
    monkeypatch.setattr(grp, "getgrgid", lambda _: joined)
    cache.chmod(0o775)
    with pytest.raises(UsageError, match="can write"):
        user_cache()


def test_a_new_cache_is_made_for_this_user_alone(tmp_path, monkeypatch):
    """Whatever the umask, and each folder on the way with it."""
    monkeypatch.setenv("KIT_CACHE_DIR", str(tmp_path / "a" / "b"))
    before = os.umask(0)
    try:
        user_cache()
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a", tmp_path / "a" / "b")] == [0o700, 0o700]


def test_a_cache_that_others_can_read_is_closed(cache):
    """What lies deeper may be open to all: made under another umask, or unpacked so."""
    (cache / "images").mkdir(parents=True)
    (cache / "images").chmod(0o777)
    cache.chmod(0o755)
    assert user_cache() == cache
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700


def test_a_folder_below_a_sticky_one_is_taken(tmp_path, monkeypatch):
    """As /tmp/kit-cache is: nobody else can rename what is this user's there."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o1777)
    monkeypatch.setenv("KIT_CACHE_DIR", str(tmp_path / "shared" / "kit-cache"))
    assert user_cache().is_dir()


def test_a_folder_below_an_open_one_is_refused(tmp_path, monkeypatch):
    """Without the sticky bit anybody can put another folder in its place; nothing is made there."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    monkeypatch.setenv("KIT_CACHE_DIR", str(tmp_path / "shared" / "kit-cache"))
    with pytest.raises(UsageError, match="every user of this machine can write to"):
        user_cache()
    assert not (tmp_path / "shared" / "kit-cache").exists()


def test_a_home_of_another_user_is_refused(tmp_path, monkeypatch, give_away):
    """Root with a user's HOME (sudo) neither believes that user's cache nor leaves root's files in it."""
    monkeypatch.delenv("KIT_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    home = tmp_path / "ada"
    home.mkdir()
    give_away(home)
    monkeypatch.setenv("HOME", str(home))
    with pytest.raises(UsageError, match=f"{home} belongs to"):
        user_cache()
    assert list(home.iterdir()) == []


def test_a_link_of_another_user_is_refused(cache, tmp_path, give_away):
    """Though it leads to a folder of this user: whoever owns a link chooses which."""
    (tmp_path / "documents").mkdir()
    cache.symlink_to(tmp_path / "documents")
    give_away(cache)
    with pytest.raises(UsageError, match="belongs to"):
        user_cache()


def test_an_own_link_is_followed(cache, tmp_path):
    """A cache may be moved to a larger disk."""
    (tmp_path / "disk").mkdir()
    cache.symlink_to("disk")
    assert user_cache() == cache


@pytest.mark.parametrize("planted", ["file", "link to itself", "link to nothing"])
def test_what_is_no_folder_is_told(cache, planted):
    """A file, a circle, a link to nothing: an error of kit, and nothing is made."""
    if planted == "file":
        cache.write_text("x")
    else:
        cache.symlink_to(cache if planted == "link to itself" else "nowhere")
    with pytest.raises(UsageError, match=r"the cache folder .* cannot be used"):
        user_cache()


def test_a_cache_that_cannot_be_made_is_told(tmp_path, monkeypatch):
    """Below a file there can be no folder."""
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("KIT_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(UsageError, match="cannot be used"):
        user_cache()


@given(modes=st.lists(st.sampled_from([0o700, 0o755, 0o777, 0o1777, 0o707]), min_size=1, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_way_is_this_users_where_each_step_is(tmp_path_factory, modes):
    """Folders on the way may be open where they are sticky, the last one never."""
    places = [tmp_path_factory.mktemp("way")]
    for mode in modes:
        places.append(places[-1] / "next")
        places[-1].mkdir()
        places[-1].chmod(mode)
    *between, last = modes
    is_open = any(mode & 0o002 and not mode & 0o1000 for mode in between) or bool(last & 0o002)
    assert (why_shared(places[-1]) is not None) == is_open


def test_a_path_through_dots_and_links_is_walked(tmp_path):
    """`..` after a link is the folder above what the link leads to, as the system reads it."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "inner").mkdir()
    (tmp_path / "open" / "file").write_text("x")
    (tmp_path / "link").symlink_to("open/inner")
    (tmp_path / "open").chmod(0o777)
    assert "open" in str(why_shared(tmp_path / "link" / ".." / "file"))
    (tmp_path / "open").chmod(0o755)
    assert why_shared(tmp_path / "link" / ".." / "file") is None


def test_the_own_folder_is_absolute(tmp_path, monkeypatch):
    """Programs that run elsewhere are told of it."""
    monkeypatch.chdir(tmp_path)
    assert own_folder(Path("here"), what="the folder", remedy="") == tmp_path / "here"
