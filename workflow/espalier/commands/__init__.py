"""Commands for people, beside the stages that rules call: `python -m espalier trace` and `verify`."""
