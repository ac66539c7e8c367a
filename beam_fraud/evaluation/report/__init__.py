"""Reports of evaluations: sections, and the page, the text and the figures they become."""
