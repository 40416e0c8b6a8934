"""The lake: keys, tables, and stores in folders and buckets."""
