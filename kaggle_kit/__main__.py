"""`python -m kaggle_kit`: the command `kit`."""

from kaggle_kit.cli.main import main

main()
