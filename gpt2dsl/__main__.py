"""``python -m gpt2dsl``."""

from gpt2dsl.cli.main import main

if __name__ == "__main__":
    main()
