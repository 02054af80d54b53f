"""The half sentence that turns "unknown" into "did you mean"."""

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from kaggle_kit.suggest import did_you_mean, first_problem


class Inner(BaseModel):
    """A table."""

    model_config = ConfigDict(extra="forbid")
    size: int
    colour: str = "red"

    @model_validator(mode="after")
    def _fits(self) -> "Inner":
        if self.size == 13:
            raise ValueError("Thirteen is no size")
        return self


class Outer(BaseModel):
    """A file with one table, a family of tables, and an optional one."""

    model_config = ConfigDict(extra="forbid", strict=True)
    inner: Inner | None = None
    family: dict[str, Inner] = {}
    value: int | str = 0

    @model_validator(mode="after")
    def _fits(self) -> "Outer":
        if self.value == 13:
            raise ValueError("Thirteen is no value")
        return self


def problem(body: object) -> str:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(body)
    return first_problem(caught.value, Outer)


def test_the_nearest_name():
    """The nearest of the known names is offered."""
    assert did_you_mean("tokn", ["token", "title"]) == "; did you mean 'token'?"


@pytest.mark.parametrize("known", [[], ["title", "model"]])
def test_nothing_near(known):
    """Where nothing is near, nothing is said."""
    assert did_you_mean("zzz", known) == ""


@pytest.mark.parametrize("body", [{"inner": {"siz": 1}}, {"inner": {"size": 1, "siz": 1}}])
def test_an_unknown_key_of_an_optional_table(body):
    """The keys of an optional table are known, and a misspelt key comes before the missing one that it is."""
    assert problem(body) == "unknown key 'inner.siz'; did you mean 'size'? (known: colour, size)"


def test_an_unknown_key_in_a_family():
    """A table of a family is named by its key."""
    assert problem({"family": {"x": {"size": 1, "color": "b"}}}).startswith(
        "unknown key 'family.x.color'; did you mean 'colour'?"
    )


def test_a_missing_key():
    """A missing key is named with its place."""
    assert problem({"inner": {}}) == "the key 'inner.size' is missing"


def test_a_value_of_no_kind():
    """A value that is none of several kinds is told once, without pydantic's inner names."""
    assert problem({"value": [1]}) == "value = [1]: a text, a number, true or false should be here"


def test_a_check_of_a_table():
    """A check of a whole table names it, without its contents."""
    assert problem({"family": {"x": {"size": 13}}}) == "family.x: thirteen is no size"


def test_a_check_of_the_whole():
    """A check of the whole file speaks for itself, without the file's contents."""
    assert problem({"value": 13}) == "Thirteen is no value"


def test_a_file_that_is_no_table():
    """What is no table at all is an error too."""
    assert problem([1])
