"""What mail programs see: folders, items, changes; and tidying up."""
