"""The lake: its keys, its tables, and the folders and buckets that hold them."""
