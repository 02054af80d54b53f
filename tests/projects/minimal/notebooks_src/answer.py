# %% [markdown] name="title"
# # Best answer
#
# Which one is it?

# %% name="parameters" tags=["parameters"]
token_budget: int = 128
time_limit_hours: float = 9.0
margin_minutes: float = 15.0
greeting: str = "hello"
verbose: bool = False

# %% name="labels"
labels = {"first": "A", "second": "B"}
prior = {"first": 0.75, "second": 0.25}

# %% name="prompt"
row_format = "text"
fields = {"question": 1}
template = "{question}\n"
