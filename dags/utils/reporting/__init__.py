"""The year page, the plots, and the wording of numbers and dates."""
