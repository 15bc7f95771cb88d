"""`python -m data_prep`: see `data_prep/cli.py`. Worker processes import this module too, so it imports nothing."""

if __name__ == "__main__":
    from data_prep.cli import main

    main()
