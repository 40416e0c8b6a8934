"""What people look at: the year page, the plots, and the wording of numbers and dates."""
