"""What the subcommands of `python -m data_prep` take, and how they answer."""
