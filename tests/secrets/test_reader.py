"""Secrets are found whatever stands between name and value, told without being shown, and nothing else is one."""

import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from planted_secrets import FORMS, FRAMES, HEX, NAMED, NOT_FOR, SYNTAXES, WORD, filled, noise

from kaggle_kit.secrets import ALLOWED, LineMask, find_secrets, mask
from kaggle_kit.secrets.values import is_hex, is_keylike, is_placeholder, is_random, is_uuid

CELLS = re.split(r"(?m)^%% (?:code|markdown|output|config)\n", Path(__file__).with_name("cells.txt").read_text())[1:]
SEED = 8


def notebook(*sources: str, lists: bool = True) -> str:
    """A notebook with these cells, as Jupyter writes it, or with each source as one text."""
    cells = [
        {"cell_type": "code", "metadata": {}, "source": text.splitlines(keepends=True) if lists else text}
        for text in sources
    ]
    return json.dumps({"cells": cells, "nbformat": 4}, indent=1)


def kinds(text: str) -> set[str]:
    """The kinds found in a text."""
    return {found.kind for found in find_secrets(text)}


def planted_forms():
    """Kind, value and text of every known form in every frame."""
    chance = random.Random(SEED)
    for kind, make in FORMS.items():
        for frame in FRAMES:
            value = make(chance)
            yield kind.partition(":")[0], value, frame.format(value)


def planted_names():
    """Value and text of every named secret in every syntax."""
    chance = random.Random(SEED)
    for name, make in NAMED.items():
        for title, syntax in SYNTAXES.items():
            value = make(chance)
            if title not in NOT_FOR.get(name, ()):
                yield value, filled(syntax, name, value)


def test_no_false_alarm_in_two_hundred_cells():
    """Cells, outputs and files as notebooks have them hold no secret, by themselves and in a notebook."""
    alarms = [cell for cell in CELLS if find_secrets(cell) or find_secrets(notebook(cell))]
    assert len(CELLS) >= 200
    assert alarms == []


def test_every_known_form_is_found():
    """All of more than five hundred planted values are found, in plain text and in both forms of a notebook."""
    planted = list(planted_forms())
    missed = [
        text
        for kind, _, text in planted
        if not all(kind in kinds(form) for form in (text, notebook(f"a\n{text}\n"), notebook(text, lists=False)))
    ]
    assert len(planted) > 500
    assert missed == []


def test_every_named_value_is_found():
    """All of more than six hundred values are found by the name near them, whatever stands between."""
    planted = list(planted_names())
    missed = [
        text
        for _, text in planted
        if not all(find_secrets(form) for form in (text, notebook(f"a\n{text}\n"), notebook(text, lists=False)))
    ]
    assert len(planted) > 600
    assert missed == []


@pytest.mark.parametrize(
    "text",
    [
        "api_key: >-\n  {word}\n",
        "a:\n  api_key: |+\n    {word}\n  b: 1\n",
        'client = Client(\n    api_key\n    =\n    "{word}",\n)',
        "<tr><td>API key</td><td>{word}</td></tr>",
        "!pip install git+https://{word}@git.example.net/a/b.git",
        "remote = 'https://{hex}@git.example.net/a/b'",
        "!docker login -u ada -p {word} registry.example.net",
        "!sshpass -p '{word}' ssh ada@host.example.net",
        "!mysql -uada -p{word} shop",
        'store = dict(host="x", token="{hex}", port=1)',
        "!tool --token {hex} --fast",
    ],
)
def test_values_where_syntax_hides_them(text):
    """Blocks of YAML, a name on a line of its own, tables of pages, addresses and commands: found, and masked."""
    chance = random.Random(SEED)
    word, digits = noise(chance, WORD, 40), noise(chance, HEX, 40)
    planted = text.format(word=word, hex=digits)
    value = word if word in planted else digits
    assert all(find_secrets(form) for form in (planted, notebook(planted), notebook(planted, lists=False)))
    assert value not in mask(planted)


@pytest.mark.parametrize(
    "text",
    [
        'row = {{"token": "{hex}"}}',
        "!docker run -p 8080:8080 image",
        "!git clone https://git@git.example.net/a/b.git",
        "!pip install git+https://${{TOKEN}}@git.example.net/a/b.git",
        "<td>token</td><td>Hello</td>",
        "API key\n=======\nWhere to get one.",
    ],
)
def test_what_looks_like_those_and_is_none(text):
    """A table's rows, ports, user names and variables are no secrets."""
    assert find_secrets(text.format(hex=noise(random.Random(SEED), HEX, 32))) == ()


@pytest.mark.parametrize("planted", [lambda: ((v, t) for _, v, t in planted_forms()), planted_names])
def test_what_is_found_is_masked(planted):
    """No planted value is left in a masked text, and a text keeps its lines."""
    for value, text in planted():
        masked = mask(text)
        shown = value in masked and "PRIVATE KEY" not in value
        assert not shown, text
        assert masked.count("\n") == text.count("\n")


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(SYNTAXES)),
    st.sampled_from(sorted(NAMED)),
    st.integers(0, 2**32),
    st.text(st.sampled_from(" \n#xyz=:,'\"()"), max_size=8),
)
def test_any_noise_under_any_name_is_found_and_not_shown(title, name, seed, before):
    """A value of no known form is found in every syntax, told with its name, and never shown."""
    assume(title not in NOT_FOR.get(name, ()))
    value = NAMED[name](random.Random(seed))
    assume(is_random(value) or is_keylike(value) or is_hex(value) or is_uuid(value) or name == "db_password")
    assume(not is_placeholder(value))
    text = f"{before}\n" + filled(SYNTAXES[title], name, value)
    found = find_secrets(text)
    assert found
    assert value not in repr(found)
    assert value not in mask(text)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ('os.environ["WANDB_API_KEY"] = "{hex40}"', "a Weights & Biases key"),
        ("os.environ['KAGGLE_KEY'] = '{hex32}'", "a Kaggle key"),
        ('{{"username":"ada","key":"{hex32}"}}', "a Kaggle key"),
        ("key: '{hex32}'", "a Kaggle key"),
        ("WANDB_API_KEY={hex40}", "a Weights & Biases key"),
        ('wandb.login(key="{hex40}")', "a Weights & Biases key"),
        ('os.environ["MY_API_KEY"] = "{word}"', "a token or password"),
        ('\\"secret\\": \\"{word}\\"', "a token or password"),
        ('password = "hunter2x!"', "a password"),
        ("POSTGRES_PASSWORD=Tr0ub4dor&3", "a password"),
    ],
)
def test_what_a_name_says_is_told(line, kind):
    """A name with `]`, `=` or `:` behind it tells what its value is, and the value makes the kind."""
    chance = random.Random(1)
    values = {"hex32": noise(chance, HEX, 32), "hex40": noise(chance, HEX, 40), "word": noise(chance, WORD, 24)}
    assert kinds(line.format(**values)) == {kind}


@pytest.mark.parametrize("name", ["eos_token", "cache_key", "primary_key", "token_sha256", "public_key", "key_name"])
def test_what_is_called_otherwise_is_no_secret(name):
    """The same value under the name of something else is none."""
    assert find_secrets(f'{name} = "{noise(random.Random(2), HEX, 40)}"') == ()


def test_a_hash_behind_a_name_of_its_own_is_none():
    """The nearest name counts: a commit beside a token is no token."""
    commit = noise(random.Random(3), HEX, 40)
    assert find_secrets(f'load(api_key=api_key, revision="{commit}")') == ()
    assert find_secrets(f'{{"api_key": null, "commit": "{commit}"}}') == ()
    assert find_secrets(f"# the API key is not here\ncommit {commit}") == ()


def test_a_line_is_told_as_it_stands_in_the_file():
    """Of a notebook that is the line of the file on which the line of the cell stands."""
    text = notebook("import os\n\n", 'x = 1\nos.environ["API_KEY"] = "' + noise(random.Random(4), WORD, 24) + '"\n')
    (found,) = find_secrets(text)
    assert "API_KEY" in text.splitlines()[found.line - 1]
    assert (found.name, str(found)) == ("API_KEY", "a token or password (API_KEY)")


def test_a_call_over_several_lines_of_a_cell_is_one():
    """Name and value stand on two lines of a notebook's list."""
    value = noise(random.Random(5), WORD, 24)
    text = notebook(f'os.environ.setdefault(\n    "API_KEY",\n    "{value}",\n)\n')
    (found,) = find_secrets(text)
    assert value in text.splitlines()[found.line - 1]


@pytest.mark.parametrize("lists", [True, False])
def test_the_word_lets_a_line_pass_and_no_other(lists):
    """`not-a-secret` passes over its own line, in a cell too."""
    chance = random.Random(6)
    one, two = (f'api_key = "{noise(chance, WORD, 24)}"' for _ in range(2))
    assert find_secrets(f"{one}  # {ALLOWED}\n") == ()
    assert len(find_secrets(f"{one}  # {ALLOWED}\n{two}\n")) == 1
    assert len(find_secrets(notebook(f"a\n{one}  # {ALLOWED}\n{two}\n", lists=lists))) == 1


def test_a_name_that_is_a_secret_is_not_repeated():
    """Where the text before a value is itself a token, it is not shown as a name."""
    chance = random.Random(7)
    token = "secret_" + noise(chance, WORD, 43)
    assert token not in repr(find_secrets(f'{token} = "{noise(chance, WORD, 30)}"'))


BODY = "\n".join(noise(random.Random(9), WORD, 64) for _ in range(3))
KEY = "-----BEGIN OPENSSH " + f"PRIVATE KEY-----\n{BODY}\n-----END OPENSSH PRIVATE KEY-----"


@pytest.mark.parametrize(
    "text", [KEY, KEY.replace("\n", "\\n"), KEY.replace("\n", "\\\\n"), KEY[:150], json.dumps(KEY)]
)
def test_a_private_key_is_masked_to_its_end(text):
    """In its block, in one escaped line, and cut off: its head tells that it is one, and no line of it is shown."""
    assert "a private key" in kinds(f"x = '{text}'")
    masked = mask(f"a\n{text}\nafterwards")
    assert not any(line[:16] in masked for line in BODY.splitlines())
    assert masked.startswith("a\n")
    assert masked.endswith("afterwards")


def test_a_private_key_that_comes_line_by_line_is_masked():
    """The lines of a log that is followed are masked until the key's end, and those behind it are not."""
    hide = LineMask()
    lines = [f"{line}\n" for line in ["before", *KEY.splitlines(), "after 64 steps"]]
    shown = [hide(line) for line in lines]
    assert [shown[0], shown[-1]] == [lines[0], lines[-1]]
    assert not any(line in "".join(shown) for line in BODY.splitlines())
    assert len(shown) == len(lines)


@pytest.mark.parametrize(
    "line",
    [
        "INFO 11-24 [metrics.py:417] Avg prompt throughput: 21808.1 tokens/s, GPU KV cache usage: 4.1%",
        "model = AutoModel.from_pretrained(path, token=hf_token, key=config.cache_key)",
        'File "/x/hub.py", line 3, in hf_hub_download(repo_id, revision=revision, token=token)',
        '<div class="sk-text-repr-fallback"> basic understanding, bearer certificate',
        "KeyError: 'token_type_ids'; max_new_tokens=2048, eos_token='<|im_end|>'",
        "https://host:8000/v1/chat?tokens=3 and https://pypi.org/simple/tokenizers/",
        "password: None, api_key=os.environ['API_KEY']",
    ],
)
def test_a_log_stays_readable(line):
    """What is no secret is shown as it is."""
    assert mask(line) == line


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("Authorization: Bearer abc123def456ghi789", "abc123def456ghi789"),
        ("proxy http://ada:hunter2@10.0.0.1:3128 is down", "hunter2"),
        ("token: abcdefghijklmnopqrst", "abcdefghijklmnopqrst"),
        ("password=secretly", "secretly"),
        ("cut off: hf_AbCdEfGhIj", "AbCdEfGhIj"),
        ("ghu_AbCdEfGh0123 and ghr_AbCdEfGh0123", "AbCdEfGh0123"),
    ],
)
def test_masking_is_wider_than_telling(line, value):
    """What is cut off or is no noise is masked where its name or its beginning says what it is."""
    assert value not in mask(line)


@settings(deadline=None)
@given(st.text())
def test_any_text_is_read(text):
    """No text makes it fail, and a masked text has as many lines."""
    find_secrets(text)
    assert mask(text).count("\n") == text.count("\n")


@settings(deadline=None)
@given(st.text(st.sampled_from('{}[]"\\n:, tokenkey=\n'), max_size=200))
def test_any_half_of_json_is_read(text):
    """Broken JSON is a text like any other."""
    find_secrets("{" + text)
    mask("{" + text)
