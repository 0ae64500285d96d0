"""What runs in the exporter's own processes: the graphs, their proof, and the measuring of candidates. torch lives here."""
