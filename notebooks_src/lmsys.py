# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] name="title"
# # LMSYS – Chatbot Arena: which answer does a person prefer?
#
# One forward pass a row: the model reads the conversation and both answers, and the probabilities of its next token
# being "A", "B" or "tie" are the submission.

# %% name="parameters" tags=["parameters"]
# Tokens of one prompt at most.
token_budget: int = 1024
# The competition's limit, and how long before it the submission must stand.
time_limit_hours: float = 9.0
margin_minutes: float = 5.0

# %% name="labels"
# The submission's columns, what the model says for each, and how often each won in train.csv: the fallback.
labels = {"winner_model_a": "A", "winner_model_b": "B", "winner_tie": "tie"}
prior = {"winner_model_a": 0.349, "winner_model_b": 0.342, "winner_tie": 0.309}

# %% name="swap"
# When time is left, rows are scored again with the answers exchanged, the nearest to undecided first, and averaged.
swap = {"response_a": "response_b", "winner_model_a": "winner_model_b"}

# %% name="prompt"
# A cell of test.csv is a JSON list of turns. The fields share what the template leaves of the token budget.
row_format = "turns"
fields = {"prompt": 20, "response_a": 40, "response_b": 40}
template = """Two assistants answered the same person. Say which answer the person prefers:
A, B, or tie.

[Prompt]
{prompt}

[Answer A]
{response_a}

[Answer B]
{response_b}

[Preferred]
"""
