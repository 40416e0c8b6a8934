"""`python -m utils`: the commands. They call `pipeline`; typer and rich appear nowhere else."""
