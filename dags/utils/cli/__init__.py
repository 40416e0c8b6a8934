"""The commands of `python -m utils`. They call `pipeline`. Only this package imports typer and rich."""
