"""Documents of anybody's making become text, in a process of their own (`sandbox`), by one module for each family."""
