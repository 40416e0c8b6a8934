"""From the frames of a page to its figures, rows and drawings. The templates only arrange and format them."""
