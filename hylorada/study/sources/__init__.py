"""What a name of a model or a text stands for, and how it is got."""
