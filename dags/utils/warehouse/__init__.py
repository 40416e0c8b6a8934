"""The parts of `db_handler`, one module per noun, with all SQL of the warehouse. Other modules use `DBHandler`."""
