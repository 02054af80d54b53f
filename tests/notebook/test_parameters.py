"""Parameters: typed, literal, and overridden by checked values."""

import pytest

from kaggle_kit.errors import SourceError, UsageError
from kaggle_kit.notebook.parameters import Parameter, override, parse_assignments, parse_parameters

CODE = """
"A comment as a text."
# And one as such.
count: int = 3
ratio: float = -0.5
name: str = "a"
on: bool = True
"""
PARAMETERS = parse_parameters(CODE, where="here")


def test_typed_lines_are_read():
    """Each line gives its name, type and default; texts and comments are left out."""
    assert (
        Parameter("count", "int", 3),
        Parameter("ratio", "float", -0.5),
        Parameter("name", "str", "a"),
        Parameter("on", "bool", True),
    ) == PARAMETERS


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("count = 3", "'count = 3' is no parameter; write each as name: type = value"),
        ("count: int", "is no parameter"),
        ("count: list = []", "is no parameter.*bool, int, float, str"),
        ("count: int | None = 3", "is no parameter"),
        ("import os", "'import os' is no parameter"),
        ("a.b: int = 3", "is no parameter"),
        ("count: int = 3 + len('x')", "the default of count must be a plain value"),
        ("name: str = f'{1}'", "the default of name must be a plain value"),
        ("count: int = {[1]: 2}", "the default of count must be a plain value"),
        ("count: int = 3.0", "count is declared int, but its default is 3.0"),
        ("on: bool = 1", "on is declared bool, but its default is 1"),
        ("count: int = True", "count is declared int, but its default is True"),
        ("name: str = None", "name is declared str, but its default is None"),
        (f"count: int = 0x{'f' * 5000}", "but its default is a whole number of 20,000 bits"),
        ("x: float = 1e999", "x is declared float, but its default is inf"),
        (f"x: int = {'+'.join('1' * 800)}", "the default of x must be a plain value"),
    ],
)
def test_what_is_no_parameter(line, message):
    """Anything but a typed, literal default of its type is an error that says where."""
    with pytest.raises(SourceError, match=f"^here: .*{message}"):
        parse_parameters(line, where="here")


def test_a_whole_number_is_a_float_too():
    """A float's default may be written without a point."""
    assert parse_parameters("x: float = 9", where="here") == (Parameter("x", "float", 9),)


def test_overrides_keep_the_sources_order():
    """Values come back in the parameters' order, whole numbers as floats where a float is meant."""
    values = override(PARAMETERS, {"on": False, "ratio": 2, "count": 1}, where="here")
    assert list(values.items()) == [("count", 1), ("ratio", 2.0), ("on", False)]
    assert isinstance(values["ratio"], float)


@pytest.mark.parametrize("value", [1.0, "1", True])
def test_an_override_of_another_type(value):
    """A value of another type is refused, whatever it could be made into."""
    with pytest.raises(UsageError, match=f"here: the parameter count is of type int, but {value!r} was given"):
        override(PARAMETERS, {"count": value}, where="here")


@pytest.mark.parametrize("name", ["count", "ratio"])
def test_an_override_that_no_machine_holds(name):
    """A whole number beyond 64 bits fits neither an int nor a float."""
    with pytest.raises(
        UsageError, match=f"here: the parameter {name} is .*, but a whole number of 1,329 bits was given"
    ):
        override(PARAMETERS, {name: 10**400}, where="here")


def test_an_unknown_override():
    """An unknown name gets a suggestion and the list."""
    with pytest.raises(UsageError, match=r"'cont'; did you mean 'count'\?; known: count, ratio, name, on"):
        override(PARAMETERS, {"cont": 1}, where="here")


def test_an_override_where_there_are_no_parameters():
    """A source without parameters says so."""
    with pytest.raises(UsageError, match="no parameter 'x'; known: none"):
        override((), {"x": 1}, where="here")


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("count=-7", "count", -7),
        ("ratio=1e-3", "ratio", 0.001),
        ("ratio=2", "ratio", 2.0),
        ("name=7", "name", "7"),
        ("name=", "name", ""),
        ("name=a=b", "name", "a=b"),
        ("on=FALSE", "on", False),
    ],
)
def test_assignments_are_read_by_type(text, name, value):
    """The parameter's type decides what a text on the command line means."""
    assert parse_assignments(PARAMETERS, [text]) == {name: value}


def test_the_last_assignment_counts():
    """A name given twice has its last value."""
    assert parse_assignments(PARAMETERS, ["count=1", "count=2"]) == {"count": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("count", "-p count: write it as name=value"),
        ("cont=1", "there is no parameter 'cont'; did you mean 'count'"),
        ("=1", "there is no parameter ''"),
        ("count=1.5", "'1.5' is not of type int"),
        ("count=", "'' is not of type int"),
        (f"count={'9' * 400}", "a whole number has 64 bits at most"),
        ("ratio=x", "'x' is not of type float"),
        ("ratio=nan", "a number must be finite"),
        ("ratio=-inf", "a number must be finite"),
        ("on=1", "'1' is not of type bool; write true or false"),
    ],
)
def test_a_wrong_assignment(text, message):
    """The error repeats what was typed and says what was meant."""
    with pytest.raises(UsageError, match=f"-p {text}.*{message}|{message}"):
        parse_assignments(PARAMETERS, [text])
