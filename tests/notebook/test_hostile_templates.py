"""Templates of a stranger's: they reach neither Python's objects nor files outside, and take only so much."""

import os
import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.errors import KitError, SourceError
from kaggle_kit.notebook import template_child
from kaggle_kit.notebook.render import render
from kaggle_kit.notebook.source import read_source

NAME = "own.py.j2"
CONTEXT = {"notebook": "answer", "engine_options": {"a": 1}, "ensemble": [["other", 0.5]], "rates": {}, "kernel": None}
# What Jinja's sandbox must keep from a template, by every way to an attribute that Jinja has.
REACHING = {
    "a class's globals": "{{ cycler.__init__.__globals__.os.popen('touch MARK').read() }}",
    "a method's function": "{{ cell.__func__.__globals__['__builtins__']['open']('MARK', 'w') }}",
    "a method's object": "{{ cell.__self__.texts }}",
    "a function's globals": "{{ defines.__globals__ }}",
    "the filter attr": "{{ (cell | attr('__func__') | attr('__globals__'))['os'].system('touch MARK') }}",
    "an item": "{{ cell['__self__']['texts'] }}",
    "the filter map": "{{ ([cell] | map(attribute='__self__') | first).texts }}",
    "a format": "{{ '{0.__class__.__mro__}'.format(cell) }}",
    "a format by map": "{{ '{0.__self__.texts[title]}'.format_map({'0': cell}) }}",
    "the subclasses": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "the template itself": "{{ self.__init__.__globals__ }}",
    "the loop": "{% for x in [1] %}{{ loop.__init__.__globals__ }}{% endfor %}",
    "a macro": "{% macro m() %}{% endmacro %}{{ m.__class__.__init__.__globals__ }}",
    "a namespace": "{{ namespace.__init__.__globals__ }}",
    "a generator": "{{ ([1] | map('string')).gi_frame.f_globals }}",
    "the undefined": "{{ nothing.__class__ }}",
}


@pytest.fixture
def filled(minimal):
    """A function: the cells' texts that the template of this text makes."""

    def make(text: str):
        (minimal / "templates" / NAME).write_text(text, encoding="utf-8")
        source = read_source(minimal / "notebooks_src" / "answer.py")
        return render(source, template=NAME, project=minimal, parameters={}, context=CONTEXT)

    return make


@pytest.mark.usefixtures("filled_here")
@pytest.mark.parametrize("case", REACHING)
def test_a_template_reaches_no_object_of_pythons(filled, tmp_path, case):
    """By no way to an attribute: the build ends in an error of the template, and nothing was run."""
    with pytest.raises(SourceError, match=rf"the template {NAME}"):
        filled("{{ cells() }}" + REACHING[case].replace("MARK", str(tmp_path / "mark")))
    assert not (tmp_path / "mark").exists()


def test_a_template_cannot_change_what_it_is_given(filled):
    """Lists and dicts of the context are the next template's too."""
    for text in ("{{ ensemble.append(1) }}", "{{ engine_options.update({}) }}", "{{ engine_options.clear() }}"):
        with pytest.raises(SourceError, match="is unsafe"):
            filled(text)


@pytest.mark.parametrize("half", ["ud800", "udcff", "udfff"])
def test_a_template_that_makes_half_of_a_character(filled, half):
    """It can be neither compiled nor written: an error says so, in code and in a note."""
    for cell in ('# %% name="own"\nx = "{0}"\n', '# %% [markdown] name="own"\n# {0}\n'):
        with pytest.raises(SourceError, match="half of a character"):
            filled("{{ cells() }}\n" + cell.format(f"{{{{ '\\{half}' }}}}"))


MUCH = {
    "a long text": "{{ 'x' * 10**10 }}",
    "a long list": "{{ [1] * 10**10 }}",
    "a list of long texts": "{{ (['x' * 10**6] * 10**6) | join }}",
    "a doubled text": "{% set n = namespace(x='x') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "a centred text": "{{ 'x'.center(10**10) }}",
    "the filter center": "{{ 'x' | center(10**10) }}",
    "a format's width": "{{ '{:10000000000}'.format(1) }}",
    "a percent format's width": "{{ '%10000000000d' % 1 }}",
    "a long range": "{{ range(10**12) | list }}",
    "a filled batch": "{{ range(9) | batch(10**10, 'x') | list }}",
    "an indent": "{{ 'x' | indent(10**10, first=True) }}",
    "much output": "{% for a in range(99999) %}{% for b in range(99999) %}xxxx{% endfor %}{% endfor %}",
    "itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "an include of itself": "x{% include 'own.py.j2' %}",
}


@pytest.mark.parametrize("case", MUCH)
def test_a_template_takes_no_more_than_a_notebook_needs(filled, monkeypatch, case):
    """Memory and output are bounded: an error within seconds. Less memory is filled sooner."""
    monkeypatch.setattr("kaggle_kit.notebook.render.MEMORY_BYTES", 256 << 20)
    since = time.monotonic()
    with pytest.raises(
        SourceError, match=rf"the template {NAME} (takes|makes|fails|extends)|own.py.j2.*outside|itself"
    ):
        filled("{{ cells() }}" + MUCH[case])
    assert time.monotonic() - since < 60


ENDLESS = {
    "loops in loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a large power": "{{ 2 ** (2 ** 40) }}",
    "a filter of many steps": "{{ ('a' * 10**6) | wordwrap(1) | length }}",
}


@pytest.mark.parametrize("case", ENDLESS)
def test_a_template_that_never_ends_is_ended(filled, monkeypatch, case):
    """What takes years, in a loop or in one step of Python's own, is ended by the system."""
    monkeypatch.setattr("kaggle_kit.notebook.render.PROCESSOR_SECONDS", 1)
    since = time.monotonic()
    with pytest.raises(SourceError, match=rf"the template {NAME} takes more than 1 s or 1024 MB"):
        filled("{{ cells() }}" + ENDLESS[case])
    assert time.monotonic() - since < 90


def test_a_loop_of_a_notebooks_size_is_filled_in(filled):
    """A template may repeat cells as often as a notebook has any use for."""
    text = '{{ cells() }}{% for n in range(500) %}\n# %% name="c{{ n }}"\nx{{ n }} = {{ n }}\n{% endfor %}'
    assert filled(text)[-1].text == "x499 = 499"


LEAVING = ["../kit.toml", "/etc/passwd", "../../../../etc/passwd", "./../kit.toml", "..\\kit.toml", "a\0b", ""]


@pytest.mark.usefixtures("filled_here")
@pytest.mark.parametrize("name", LEAVING)
@pytest.mark.parametrize("tag", ["extends", "include", "import"])
def test_a_templates_name_stays_in_the_folder(filled, name, tag):
    """A name is looked for below templates/ and nowhere else."""
    end = " as x" if tag == "import" else ""
    with pytest.raises(SourceError, match=r"there is no template|fails"):
        filled("{% " + f"{tag} {name!r}{end}" + " %}{{ cells() }}")


@pytest.mark.parametrize("tag", ["extends", "include", "import"])
@pytest.mark.parametrize("deep", [False, True])
def test_a_template_that_links_outside_is_refused(filled, minimal, tag, deep):
    """A link in templates/ to a file of the user's is named, whichever tag leads to it."""
    (minimal.parent / "user").mkdir()
    (minimal.parent / "user" / "secret.txt").write_text('# %% name="x"\nSECRET = 1\n')
    place = minimal / "templates" / "link.j2"
    place.symlink_to(minimal.parent / "user" / "secret.txt")
    name = "link.j2"
    if deep:
        place.unlink()
        (minimal / "templates" / "folder").symlink_to(minimal.parent / "user")
        place, name = minimal / "templates" / "folder", "folder/secret.txt"
    end = " as x" if tag == "import" else ""
    with pytest.raises(KitError, match=rf"{place}.*outside of the project") as refusal:
        filled("{% " + f"{tag} {name!r}{end}" + " %}{{ cells() }}")
    assert refusal.value.exit_code == 2
    assert "SECRET" not in str(refusal.value)


def test_a_templates_folder_that_links_outside_is_refused(minimal):
    """The whole folder may not be another's."""
    (minimal / "templates").rename(minimal.parent / "others")
    (minimal / "templates").symlink_to("../others")
    source = read_source(minimal / "notebooks_src" / "answer.py")
    with pytest.raises(KitError, match=rf"{minimal}/templates is a link to {minimal.parent}/others, outside"):
        render(source, template=NAME, project=minimal, parameters={}, context=CONTEXT)


def test_a_link_within_the_project_is_a_template(filled, minimal):
    """One file may have two names."""
    (minimal / "frames").mkdir()
    (minimal / "frames" / "one.j2").write_text("{{ cells() }}")
    (minimal / "templates" / "link.j2").symlink_to("../frames/one.j2")
    assert filled("{% extends 'link.j2' %}")[0].name == "title"


def test_a_template_that_is_no_file(filled, minimal):
    """A pipe is not waited for, a device and a file without an end are not read."""
    place = minimal / "templates" / "odd.j2"
    os.mkfifo(place)
    with pytest.raises(SourceError, match=r"odd\.j2 is no regular file"):
        filled("{% extends 'odd.j2' %}")
    place.unlink()
    place.touch()
    os.truncate(place, 10 << 30)
    with pytest.raises(SourceError, match=r"odd\.j2 has 10,737,418,240 bytes"):
        filled("{% extends 'odd.j2' %}")


def test_a_templates_process_has_nothing_of_this_ones_environment(filled, monkeypatch, tmp_path):
    """No token is in it, and no variable or file of the project's leads its Python astray."""
    told, start = {}, subprocess.run

    def run(command, **options):
        told.update(options["env"])
        return start(command, **options)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv("KAGGLE_API_TOKEN", "made-up")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("sitecustomize", "jinja2", "json", "usercustomize"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')")
    assert filled("{{ cells() }}")
    assert told["PATH"]
    assert {name for name in told if name.startswith(("KAGGLE", "PYTHON", "KIT"))} == set()
    assert not (tmp_path / "mark").exists()


PIECES = [
    "{{ ",
    " }}",
    "{% ",
    " %}",
    "cell",
    ".",
    "__class__",
    "|attr('",
    "')",
    "['",
    "']",
    "for x in ",
    "if ",
    "range(9)",
]


@given(text=st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_whatever_template_ends_in_a_text_or_an_error(text):
    """No text of a template ends in another exception than kit's own."""
    import jinja2.sandbox

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        loader=jinja2.DictLoader({NAME: text}), undefined=jinja2.StrictUndefined
    )
    try:
        found = template_child._text(environment, NAME, {"cell": len}, folders=[], most=10_000)
    except SourceError as error:
        found = str(error)
    assert "<class" not in found
