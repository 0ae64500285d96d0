"""The command line of Modelyard, over the client only."""
