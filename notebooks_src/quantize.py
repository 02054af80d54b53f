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
# # LMSYS: a fine-tuned model, quantised to 4 bits
#
# Runs with internet, and leaves a model folder: make a dataset of this notebook's output, and attach that to the
# notebook that is handed in. The prompts that it is calibrated on are those of that notebook.

# %% name="parameters" tags=["parameters"]
# What the model is called, here and in kit.toml.
name: str = "demo-awq"
# Tokens of one calibration prompt at most: as in the notebook that will use the model.
token_budget: int = 1024
# Rows of train.csv to calibrate on, and which ones are drawn.
rows: int = 128
seed: int = 0
# Weights that share a scale and a zero point.
group_size: int = 128
# Cards that are to share the model's layers: where its MLPs do not divide so, zeros are added to them.
split: int = 1

# %% name="labels"
# As in lmsys.py: a prompt ends where the model will say one of these.
labels = {"winner_model_a": "A", "winner_model_b": "B", "winner_tie": "tie"}
prior = {"winner_model_a": 0.349, "winner_model_b": 0.342, "winner_tie": 0.309}

# %% name="prompt"
# As in lmsys.py: what the model will be asked is what it is calibrated on.
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
