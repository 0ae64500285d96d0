"""What Modelyard knows, drawn: HTML and SVG made of messages, for reports, notebooks and the console. Standard library only."""
