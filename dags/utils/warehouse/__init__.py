"""The parts of `db_handler`, one noun each, which it alone uses: all SQL but that of the tables' history lives here."""
